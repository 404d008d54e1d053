"""The relay between two plaintext legs, for listeners that let clients pass without TLS."""

from contextlib import suppress

from proxy.net.joined import Joined
from proxy.net.openssl import VIEW
from proxy.xmpp.errors import StreamError


class PlainRelay(Joined):
    """Two joined sockets, neither under TLS."""

    __slots__ = ()

    def _on_client(self, events: int) -> None:
        if self._to_client and not self._flush_to_client():
            if self._client is not None:
                self._note_client(events)
            return
        if self._to_server or self._to_server_done or self._client is None:
            self._rest_client(events)
            return
        try:
            count = self._client.recv_into(VIEW)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(self._reason or f"the client went away: {error.strerror}")
            return
        if not count:
            self._client_closed()
            return
        if self._measure is not None:
            try:
                self._measure(VIEW[:count].tobytes())
            except StreamError as error:
                self.refuse(error)
                return
        self._send_on(count)

    def _on_server(self, events: int) -> None:
        count = self._read_server(events)
        if count:
            self._to_client = bytes(VIEW[:count])
            self._flush_to_client()

    def _flush_to_client(self) -> bool:
        if self._client is None:
            return False
        try:
            sent = self._client.send(self._to_client)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.end(f"the client went away: {error.strerror}")
            return False
        self._to_client = self._to_client[sent:]
        return self._client_flushed()

    def _notify_client(self) -> None:
        """Nothing is said but the end of the TCP direction."""

    def _say(self, last_words: bytes) -> None:
        if self._client is not None:
            with suppress(OSError):
                self._client.send(last_words)
