"""The relay between two plaintext legs, for listeners that let clients pass without TLS."""

from contextlib import suppress

from proxy.net.joined import Joined
from proxy.net.openssl import VIEW


class PlainRelay(Joined):
    """Two joined sockets, neither under TLS."""

    __slots__ = ()

    def _on_wire(self, events: int) -> None:
        if self._to_wire and not self._flush_to_wire():
            if self._wire is not None:
                self._note_wire(events)
            return
        if self._to_legacy or self._to_legacy_done or self._wire is None:
            self._rest_wire(events)
            return
        try:
            count = self._wire.recv_into(VIEW)
        except BlockingIOError:
            return
        except OSError as error:
            self._wire_lost(error.strerror)
            return
        if not count:
            self._wire_closed()
            return
        self._pass_read(count)

    def _on_legacy(self, events: int) -> None:
        count = self._read_legacy(events)
        if not count or self._wire is None:
            return
        try:
            sent = self._wire.send(VIEW[:count])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.end(self._away(wire=True, why=error.strerror))
            return
        if sent < count:
            self._keep_for_wire(bytes(VIEW[sent:count]))

    def _flush_to_wire(self) -> bool:
        if self._wire is None:
            return False
        try:
            sent = self._wire.send(self._to_wire)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.end(self._away(wire=True, why=error.strerror))
            return False
        self._to_wire = self._to_wire[sent:]
        return self._wire_flushed()

    def _notify_wire(self) -> None:
        """Nothing is said but the end of the TCP direction."""

    def _say(self, last_words: bytes) -> None:
        if self._wire is not None:
            with suppress(OSError):
                self._wire.send(last_words)
