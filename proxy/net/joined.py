"""Two joined sockets: what a relay is, whatever its wire speaks.

One of them is the wire, which leads to the modern world and may be under TLS; the other is the
legacy side, in plaintext. Behind a reverse listener the client is on the wire, behind a forward
listener the server is.

Each direction is a read, a write, and what the other socket has not taken yet. Until that is taken
nothing more is read. A direction that its sender has closed is closed behind what has passed, and
the other one goes on for a while.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs

from proxy.net.hub import GONE, HUNG_UP, IN, OUT, Hub
from proxy.net.leg import close_politely
from proxy.net.openssl import VIEW
from proxy.session.commands import Side
from proxy.xmpp.errors import FOOTER, StreamError
from proxy.xmpp.meter import Meter

HALF_CLOSED: Final = 30.0
"""Seconds for which one direction may outlive the other."""

_UNWATCHED: Final = -1


@attrs.frozen
class Sockets:
    """What is joined.

    Attributes:
        wire: the socket that may be under TLS.
        tls: OpenSSL's object for its TLS, as pyOpenSSL keeps it; None if it has none. The relay
            needs no more of pyOpenSSL's connection, and many sessions mind what that weighs.
        legacy: the other socket.
        client_on_wire: whether the wire leads to the client, or else to the server.
    """

    wire: socket.socket
    tls: Any
    legacy: socket.socket
    client_on_wire: bool = True


class Joined(ABC):
    """Two joined sockets.

    Args:
        hub: watches the sockets.
        sockets: what is joined.
        meter: counts what comes from the client; None if nobody counts.
        ended: called once, with the reason, when both sockets are closed.

    Attributes:
        from_wire: bytes that came from the wire.
        from_legacy: bytes that came from the legacy side.
    """

    __slots__ = (
        "_blocked",
        "_client_on_wire",
        "_ended",
        "_half_closed",
        "_hub",
        "_last",
        "_legacy",
        "_legacy_descriptor",
        "_legacy_watched",
        "_measure",
        "_reason",
        "_receive",
        "_send",
        "_ssl",
        "_starved",
        "_to_legacy",
        "_to_legacy_done",
        "_to_wire",
        "_to_wire_done",
        "_wire",
        "_wire_descriptor",
        "_wire_watched",
        "from_legacy",
        "from_wire",
    )

    def __init__(
        self,
        hub: Hub,
        sockets: Sockets,
        meter: Meter | None,
        ended: Callable[[str], None],
    ) -> None:
        wire, legacy = sockets.wire, sockets.legacy
        self._hub = hub
        self._client_on_wire = sockets.client_on_wire
        self._wire: socket.socket | None = wire
        self._ssl = sockets.tls
        self._legacy: socket.socket | None = legacy
        self._send = legacy.send
        self._receive = legacy.recv_into
        self._measure = None if meter is None else meter.feed
        self._ended = ended
        self._wire_descriptor = wire.fileno()
        self._legacy_descriptor = legacy.fileno()
        self._to_legacy = b""  # what the legacy side has not taken yet
        self._to_wire = b""
        self._to_legacy_done = False  # the wire has closed its direction
        self._to_wire_done = False
        self._blocked = False  # whether reading from the wire waits until it can be written to
        self._starved = False  # whether writing to the wire waits until it can be read from
        self._half_closed: Any = None
        self._reason = ""
        self._last = ord(">")  # the last byte that came from the server
        self.from_wire = 0
        self.from_legacy = 0
        self._wire_watched = self._legacy_watched = IN
        hub.watch(self._wire_descriptor, self._on_wire, IN)
        hub.watch(self._legacy_descriptor, self._on_legacy, IN)

    @property
    def passed(self) -> tuple[int, int]:
        """How many bytes came from the client and from the server."""
        if self._client_on_wire:
            return self.from_wire, self.from_legacy
        return self.from_legacy, self.from_wire

    @property
    def stalled(self) -> bool:
        """Whether bytes wait that a side does not take."""
        return bool(self._to_wire or self._to_legacy)

    def begin(self, to_server: bytes, to_client: bytes) -> None:
        """Pass on what was left by the negotiation, then everything that comes.

        Args:
            to_server: bytes from the client, which the meter has not seen.
            to_client: bytes for the client.
        """
        to_wire, to_legacy = to_client, to_server
        if not self._client_on_wire:
            to_wire, to_legacy = to_server, to_client
        if to_wire:
            self._pass_to_wire(to_wire)
        if to_legacy and self._wire is not None:
            self._pass_to_legacy(to_legacy)

    def wait(self, to_wire: bytes, to_legacy: bytes) -> None:
        """Take over bytes that the legs had not got rid of yet; called before `begin`."""
        self._to_wire = to_wire
        self._to_legacy = to_legacy

    # What the wire speaks

    @abstractmethod
    def _on_wire(self, events: int) -> None:
        """Act on the wire: read, and send on."""

    @abstractmethod
    def _on_legacy(self, events: int) -> None:
        """Act on the legacy side: read, and write on."""

    @abstractmethod
    def _flush_to_wire(self) -> bool:
        """Write what the wire has not taken; whether all of it is gone."""

    @abstractmethod
    def _notify_wire(self) -> None:
        """Say on the wire that nothing more follows."""

    @abstractmethod
    def _say(self, last_words: bytes) -> None:
        """Write to the wire what it takes at once."""

    # From the wire

    def _pass_read(self, count: int) -> None:
        """Send on what has just been read."""
        self.from_wire += count
        data: bytes | memoryview = VIEW[:count]
        if not self._client_on_wire:
            self._last = data[-1]
        elif self._measure is not None:
            data = bytes(data)
            try:
                self._measure(data)
            except StreamError as error:
                self.refuse(error)
                return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._legacy_takes_no_more(error)
            return
        if sent < count:
            self._hub.stalled[Side.SERVER if self._client_on_wire else Side.CLIENT] += 1
            self._to_legacy = bytes(data[sent:])
            self._watch_legacy()
            self._watch_wire()

    def _counted(self, data: bytes) -> bool:
        """Whether the meter lets pass what comes from the client; else the session has ended."""
        if self._measure is not None:
            try:
                self._measure(data)
            except StreamError as error:
                self.refuse(error)
                return False
        return True

    def _pass_to_legacy(self, data: bytes) -> None:
        if self._client_on_wire and not self._counted(data):
            return
        self.from_wire += len(data)
        if not self._client_on_wire:
            self._last = data[-1]
        self._to_legacy += data
        self._flush_to_legacy()

    def _flush_to_legacy(self) -> bool:
        """Send what the legacy side has not taken; whether all of it is gone."""
        try:
            sent = self._send(self._to_legacy)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._legacy_takes_no_more(error)
            return True
        self._to_legacy = self._to_legacy[sent:]
        if not self._to_legacy and self._to_legacy_done:
            self._shut_legacy()
        if self._wire is None:
            return False
        self._watch_legacy()
        self._watch_wire()
        return not self._to_legacy

    # From the legacy side

    def _read_legacy(self, events: int) -> int:
        """Read from the legacy side: how many bytes there are to be passed on."""
        stalled = self._to_legacy or self._to_wire or self._to_wire_done
        if stalled and not self._reads_legacy(events):
            return 0
        try:
            count = self._receive(VIEW)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._legacy_lost(error)
            return 0
        if not count:
            self._legacy_closed()
            return 0
        self.from_legacy += count
        if self._client_on_wire:
            self._last = VIEW[count - 1]
        elif self._measure is not None and not self._counted(VIEW[:count].tobytes()):
            return 0
        return count

    def _reads_legacy(self, events: int) -> bool:
        """Pass on what the legacy side can take now; whether the wire can take more."""
        if self._to_legacy:
            self._flush_to_legacy()
            if self._wire is None:
                return False
        if self._to_wire or self._to_wire_done:
            self._rest_legacy(events)
            return False
        return True

    def _pass_to_wire(self, data: bytes) -> None:
        if not self._client_on_wire and not self._counted(data):
            return
        self.from_legacy += len(data)
        if self._client_on_wire:
            self._last = data[-1]
        self._to_wire += data
        self._flush_to_wire()

    def _keep_for_wire(self, data: bytes) -> None:
        """Keep what the wire does not take now; until it does, nothing more is read for it."""
        self._hub.stalled[Side.CLIENT if self._client_on_wire else Side.SERVER] += 1
        self._to_wire = data
        self._watch_wire()
        self._watch_legacy()

    def _wire_flushed(self) -> bool:
        """Go on after writing to the wire; whether all is gone and the session goes on."""
        if not self._to_wire and self._to_wire_done:
            self._shut_wire()
        if self._wire is None:
            return False
        self._watch_wire()
        self._watch_legacy()
        return not self._to_wire

    # Watching

    def _watch_wire(self) -> None:
        if self._blocked:
            wanted = OUT
        else:
            wanted = OUT if self._to_wire and not self._starved else 0
            if self._starved or not (self._to_legacy or self._to_legacy_done):
                wanted |= IN
            elif self._half_closed is None:
                wanted |= HUNG_UP
        if wanted != self._wire_watched:
            self._wire_watched = self._set(
                self._wire_descriptor, self._on_wire, self._wire_watched, wanted
            )

    def _watch_legacy(self) -> None:
        wanted = OUT if self._to_legacy else 0
        if not self._to_wire and not self._to_wire_done:
            wanted |= IN
        elif self._half_closed is None:
            wanted |= HUNG_UP  # it would be read too late, or never
        if wanted != self._legacy_watched:
            self._legacy_watched = self._set(
                self._legacy_descriptor, self._on_legacy, self._legacy_watched, wanted
            )

    def _set(self, descriptor: int, call: Callable[[int], None], before: int, wanted: int) -> int:
        if before == _UNWATCHED:
            if wanted:
                self._hub.watch(descriptor, call, wanted)
                return wanted
            return _UNWATCHED
        self._hub.change(descriptor, wanted)
        return wanted

    def _rest_wire(self, events: int) -> None:
        """Stop watching a wire that is gone while its last bytes cannot be passed on yet."""
        if events & GONE:
            if self._to_legacy_done:
                self._wire_lost("connection lost")
            else:
                self._hub.forget(self._wire_descriptor)
                self._wire_watched = _UNWATCHED
                self._limit_half_closed()
        else:
            self._note_wire(events)

    def _note_wire(self, events: int) -> None:
        """Give a wire that has closed its time, though its last bytes cannot be read yet."""
        if events & HUNG_UP:
            self._limit_half_closed()
        self._watch_wire()

    def _rest_legacy(self, events: int) -> None:
        """As `_rest_wire`, for the legacy side."""
        if events & GONE:
            self._hub.forget(self._legacy_descriptor)
            self._legacy_watched = _UNWATCHED
            self._limit_half_closed()
        else:
            if events & HUNG_UP:
                self._limit_half_closed()
            self._watch_legacy()

    # Closing

    def _legacy_takes_no_more(self, error: OSError) -> None:
        """What the wire sends is lost; what the legacy side has still sent is not."""
        self._to_legacy = b""
        self._to_legacy_done = True
        self._reason = self._reason or self._away(wire=False, why=error.strerror)
        self._limit_half_closed()
        self._watch_legacy()
        self._watch_wire()

    def _wire_closed(self) -> None:
        """The wire has closed its direction: pass that on, and let the other one go on."""
        self._to_legacy_done = True
        self._reason = self._reason or self._closed(wire=True)
        self._limit_half_closed()
        self._watch_wire()
        if not self._to_legacy:
            self._shut_legacy()

    def _legacy_closed(self) -> None:
        """As `_wire_closed`, for the legacy side."""
        self._to_wire_done = True
        self._reason = self._reason or self._closed(wire=False)
        self._limit_half_closed()
        self._watch_legacy()
        if not self._to_wire:
            self._shut_wire()

    def _shut_legacy(self) -> None:
        if self._to_wire_done and not self._to_wire:
            self.end(self._reason)
            return
        assert self._legacy is not None  # noqa: S101 - not ended
        try:
            self._legacy.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(self._reason)

    def _shut_wire(self) -> None:
        assert self._wire is not None  # noqa: S101 - not ended
        self._notify_wire()
        if self._to_legacy_done and not self._to_legacy:
            self.end(self._reason)
            return
        try:
            self._wire.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(self._reason)

    def _limit_half_closed(self) -> None:
        """One side is done; what the other has still to take or to say has its time."""
        if self._half_closed is None:
            self._half_closed = self._hub.callLater(HALF_CLOSED, self._too_long)

    def _too_long(self) -> None:
        self._half_closed = None
        self._wire_lost("connection lost")

    # What the log is told

    def _wire_lost(self, why: str | None) -> None:
        self.end(self._reason or self._away(wire=True, why=why))

    def _legacy_lost(self, error: OSError) -> None:
        self.end(self._reason or self._away(wire=False, why=error.strerror))

    def _away(self, *, wire: bool, why: str | None) -> str:
        if wire is self._client_on_wire:
            return f"the client went away: {why}"
        return f"the server went away: {why}"

    def _closed(self, *, wire: bool) -> str:
        if wire is self._client_on_wire:
            return "the client closed the connection"
        return "the server closed the connection"

    # The end

    def refuse(self, error: StreamError) -> None:
        """Tell the client why, and end.

        The server has got the first part of a stanza at most, and gets no end of stream. The error
        is sent if it can stand between stanzas, which the end of a tag is taken for: the last byte
        that came from the server. Else the connection is closed without a word.
        """
        if self._wire is None or self._legacy is None:
            return
        last_words = error.serialise() + FOOTER if self._last == ord(">") else b""
        if not self._client_on_wire:
            self._refuse_legacy(self._legacy, last_words)
        elif last_words and not self._to_wire and not self._to_wire_done:
            self._say(last_words)
        if not self._to_wire_done:
            self._notify_wire()
        self._hub.forget(self._wire_descriptor)
        if self._client_on_wire:
            close_politely(self._hub, self._wire)
        else:
            self._wire.close()
        self._wire = None
        self._finish(str(error))

    def _refuse_legacy(self, client: socket.socket, last_words: bytes) -> None:
        if last_words and not self._to_legacy and not self._to_legacy_done:
            with suppress(OSError):
                client.send(last_words)
        self._hub.forget(self._legacy_descriptor)
        close_politely(self._hub, client)
        self._legacy = None

    def fail(self, reason: str) -> None:
        """End, because the code of this session has failed."""
        self.end(reason)

    def end(self, reason: str) -> None:
        """Close both sockets."""
        if self._wire is None:
            return
        self._hub.forget(self._wire_descriptor)
        self._wire.close()
        self._wire = None
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        self._hub.forget(self._legacy_descriptor)
        if self._half_closed is not None:
            self._half_closed.cancel()
            self._half_closed = None
        if self._legacy is not None:
            self._legacy.close()
        self._legacy = self._ssl = self._measure = None
        self._send = self._receive = None  # type: ignore[assignment]
        ended, self._ended = self._ended, None  # type: ignore[assignment]
        ended(reason)
