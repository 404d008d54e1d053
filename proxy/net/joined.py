"""Two joined sockets: what a relay is, whatever its client's leg speaks.

Each direction is a read, a write, and what the other socket has not taken yet. Until that is taken
nothing more is read. A direction that its sender has closed is closed behind what has passed, and
the other one goes on for a while.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import attrs

from proxy.net.hub import GONE, HUNG_UP, IN, OUT, Hub
from proxy.net.leg import close_politely
from proxy.net.openssl import VIEW
from proxy.xmpp.errors import FOOTER, StreamError
from proxy.xmpp.meter import Meter

HALF_CLOSED: Final = 30.0
"""Seconds for which one direction may outlive the other."""

_UNWATCHED: Final = -1


@attrs.frozen
class Sockets:
    """What is joined.

    Attributes:
        client: the client's socket.
        tls: OpenSSL's object for its TLS, as pyOpenSSL keeps it; None if it has none. The relay
            needs no more of pyOpenSSL's connection, and many sessions mind what that weighs.
        server: the server's socket.
    """

    client: socket.socket
    tls: Any
    server: socket.socket


class Joined(ABC):
    """Two joined sockets.

    Args:
        hub: watches the sockets.
        sockets: what is joined.
        meter: counts what goes to the server; None if nobody counts.
        ended: called once, with the reason, when both sockets are closed.

    Attributes:
        up: bytes that came from the client.
        down: bytes that came from the server.
    """

    __slots__ = (
        "_blocked",
        "_client",
        "_client_descriptor",
        "_client_watched",
        "_ended",
        "_half_closed",
        "_hub",
        "_last",
        "_measure",
        "_reason",
        "_receive",
        "_send",
        "_server",
        "_server_descriptor",
        "_server_watched",
        "_ssl",
        "_to_client",
        "_to_client_done",
        "_to_server",
        "_to_server_done",
        "down",
        "up",
    )

    def __init__(
        self,
        hub: Hub,
        sockets: Sockets,
        meter: Meter | None,
        ended: Callable[[str], None],
    ) -> None:
        client, server = sockets.client, sockets.server
        self._hub = hub
        self._client: socket.socket | None = client
        self._ssl = sockets.tls
        self._server: socket.socket | None = server
        self._send = server.send
        self._receive = server.recv_into
        self._measure = None if meter is None else meter.feed
        self._ended = ended
        self._client_descriptor = client.fileno()
        self._server_descriptor = server.fileno()
        self._to_server = b""  # what the server has not taken yet
        self._to_client = b""
        self._to_server_done = False  # the client has closed its direction
        self._to_client_done = False
        self._blocked = False  # whether reading from the client waits until it can be written to
        self._half_closed: Any = None
        self._reason = ""
        self._last = ord(">")
        self.up = 0
        self.down = 0
        self._client_watched = self._server_watched = IN
        hub.watch(self._client_descriptor, self._on_client, IN)
        hub.watch(self._server_descriptor, self._on_server, IN)

    def begin(self, to_server: bytes, to_client: bytes) -> None:
        """Pass on what was left by the negotiation, then everything that comes.

        Args:
            to_server: bytes from the client, which the meter has not seen.
            to_client: bytes for the client.
        """
        if to_client:
            self._pass_to_client(to_client)
        if to_server and self._client is not None:
            self._pass_to_server(to_server)

    def wait(self, to_server: bytes, to_client: bytes) -> None:
        """Take over bytes that the legs had not got rid of yet; called before `begin`."""
        self._to_server = to_server
        self._to_client = to_client

    # What the client's leg speaks

    @abstractmethod
    def _on_client(self, events: int) -> None:
        """Act on the client's socket: read, and send on."""

    @abstractmethod
    def _on_server(self, events: int) -> None:
        """Act on the server's socket: read, and write on."""

    @abstractmethod
    def _flush_to_client(self) -> bool:
        """Write what the client has not taken; whether all of it is gone."""

    @abstractmethod
    def _notify_client(self) -> None:
        """Say on the client's leg that nothing more follows."""

    @abstractmethod
    def _say(self, last_words: bytes) -> None:
        """Write to the client what it takes at once."""

    # From the client

    def _send_on(self, count: int) -> None:
        """Send what has just been read to the server."""
        self.up += count
        try:
            sent = self._send(VIEW[:count])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._server_takes_no_more(error)
            return
        if sent < count:
            self._to_server = bytes(VIEW[sent:count])
            self._watch_server()
            self._watch_client()

    def _pass_to_server(self, data: bytes) -> None:
        if self._measure is not None:
            try:
                self._measure(data)
            except StreamError as error:
                self.refuse(error)
                return
        self.up += len(data)
        self._to_server += data
        self._flush_to_server()

    def _flush_to_server(self) -> bool:
        """Send what the server has not taken; whether all of it is gone."""
        try:
            sent = self._send(self._to_server)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._server_takes_no_more(error)
            return True
        self._to_server = self._to_server[sent:]
        if not self._to_server and self._to_server_done:
            self._shut_server()
        if self._client is None:
            return False
        self._watch_server()
        self._watch_client()
        return not self._to_server

    # From the server

    def _read_server(self, events: int) -> int:
        """Read from the server: how many bytes there are to be passed on."""
        if self._to_server:
            self._flush_to_server()
            if self._client is None:
                return 0
        if self._to_client or self._to_client_done:
            self._rest_server(events)
            return 0
        try:
            count = self._receive(VIEW)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.end(f"the server went away: {error.strerror}")
            return 0
        if not count:
            self._server_closed()
            return 0
        self.down += count
        self._last = VIEW[count - 1]
        return count

    def _pass_to_client(self, data: bytes) -> None:
        self.down += len(data)
        self._last = data[-1]
        self._to_client += data
        self._flush_to_client()

    def _client_flushed(self) -> bool:
        """Go on after writing to the client; whether all is gone and the session goes on."""
        if not self._to_client and self._to_client_done:
            self._shut_client()
        if self._client is None:
            return False
        self._watch_client()
        self._watch_server()
        return not self._to_client

    # Watching

    def _watch_client(self) -> None:
        if self._blocked:
            wanted = OUT
        else:
            wanted = OUT if self._to_client else 0
            if not self._to_server and not self._to_server_done:
                wanted |= IN
            elif self._half_closed is None:
                wanted |= HUNG_UP
        if wanted != self._client_watched:
            self._client_watched = self._set(
                self._client_descriptor, self._on_client, self._client_watched, wanted
            )

    def _watch_server(self) -> None:
        wanted = OUT if self._to_server else 0
        if not self._to_client and not self._to_client_done:
            wanted |= IN
        elif self._half_closed is None:
            wanted |= HUNG_UP  # it would be read too late, or never
        if wanted != self._server_watched:
            self._server_watched = self._set(
                self._server_descriptor, self._on_server, self._server_watched, wanted
            )

    def _set(self, descriptor: int, call: Callable[[int], None], before: int, wanted: int) -> int:
        if before == _UNWATCHED:
            if wanted:
                self._hub.watch(descriptor, call, wanted)
                return wanted
            return _UNWATCHED
        self._hub.change(descriptor, wanted)
        return wanted

    def _rest_client(self, events: int) -> None:
        """Stop watching a client that is gone while its last bytes cannot be passed on yet."""
        if events & GONE:
            if self._to_server_done:
                self.end(self._reason or "the client went away: connection lost")
            else:
                self._hub.forget(self._client_descriptor)
                self._client_watched = _UNWATCHED
                self._limit_half_closed()
        else:
            self._note_client(events)

    def _note_client(self, events: int) -> None:
        """Give a client that has closed its time, though its last bytes cannot be read yet."""
        if events & HUNG_UP:
            self._limit_half_closed()
        self._watch_client()

    def _rest_server(self, events: int) -> None:
        """As `_rest_client`, for the server."""
        if events & GONE:
            self._hub.forget(self._server_descriptor)
            self._server_watched = _UNWATCHED
            self._limit_half_closed()
        else:
            if events & HUNG_UP:
                self._limit_half_closed()
            self._watch_server()

    # Closing

    def _server_takes_no_more(self, error: OSError) -> None:
        """What the client sends is lost; what the server has still sent is not."""
        self._to_server = b""
        self._to_server_done = True
        self._reason = self._reason or f"the server went away: {error.strerror}"
        self._limit_half_closed()
        self._watch_server()
        self._watch_client()

    def _client_closed(self) -> None:
        """The client has closed its direction: pass that on, and let the other one go on."""
        self._to_server_done = True
        self._reason = self._reason or "the client closed the connection"
        self._limit_half_closed()
        self._watch_client()
        if not self._to_server:
            self._shut_server()

    def _server_closed(self) -> None:
        """As `_client_closed`, for the server."""
        self._to_client_done = True
        self._reason = self._reason or "the server closed the connection"
        self._limit_half_closed()
        self._watch_server()
        if not self._to_client:
            self._shut_client()

    def _shut_server(self) -> None:
        if self._to_client_done and not self._to_client:
            self.end(self._reason)
            return
        assert self._server is not None  # noqa: S101 - not ended
        try:
            self._server.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(self._reason)

    def _shut_client(self) -> None:
        assert self._client is not None  # noqa: S101 - not ended
        self._notify_client()
        if self._to_server_done and not self._to_server:
            self.end(self._reason)
            return
        try:
            self._client.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(self._reason)

    def _limit_half_closed(self) -> None:
        """One side is done; what the other has still to take or to say has its time."""
        if self._half_closed is None:
            self._half_closed = self._hub.callLater(HALF_CLOSED, self._too_long)

    def _too_long(self) -> None:
        self._half_closed = None
        self.end(self._reason or "the client went away: connection lost")

    def refuse(self, error: StreamError) -> None:
        """Tell the client why, and end.

        The server has got the first part of a stanza at most, and gets no end of stream. The error
        is sent if it can stand between stanzas, which the end of a tag is taken for: the last byte
        that came from the server. Else the connection is closed without a word.
        """
        client = self._client
        if client is None:
            return
        if self._last == ord(">") and not self._to_client and not self._to_client_done:
            self._say(error.serialise() + FOOTER)
        if not self._to_client_done:
            self._notify_client()
        self._hub.forget(self._client_descriptor)
        close_politely(self._hub, client)
        self._client = None
        self._finish(str(error))

    def fail(self, reason: str) -> None:
        """End, because the code of this session has failed."""
        self.end(reason)

    def end(self, reason: str) -> None:
        """Close both sockets."""
        if self._client is None:
            return
        self._hub.forget(self._client_descriptor)
        self._client.close()
        self._client = None
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        self._hub.forget(self._server_descriptor)
        if self._half_closed is not None:
            self._half_closed.cancel()
            self._half_closed = None
        if self._server is not None:
            self._server.close()
        self._server = self._ssl = self._measure = None
        self._send = self._receive = None  # type: ignore[assignment]
        ended, self._ended = self._ended, None  # type: ignore[assignment]
        ended(reason)
