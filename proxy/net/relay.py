"""The relay: after negotiation, bytes pass from socket to socket and nothing else happens.

Bytes are read into one buffer that all relays share, through OpenSSL's own functions; what the
other socket does not take at once is kept, and until it is taken nothing more is read. No parser,
no queue, no callback.
"""

from proxy.net import openssl
from proxy.net.joined import Joined
from proxy.net.openssl import (
    BUFFER,
    PIECES,
    RECORD,
    VIEW,
    WANT_READ,
    WANT_WRITE,
    ZERO_RETURN,
)


class Relay(Joined):
    """Two joined sockets, the wire under TLS."""

    __slots__ = ()

    def _on_wire(self, events: int) -> None:
        if self._blocked or self._starved:
            self._blocked = self._starved = False
            self._watch_wire()
        if self._to_wire and not self._flush_to_wire():
            if self._wire is not None:
                self._note_wire(events)
            return
        if self._to_legacy or self._to_legacy_done:
            self._rest_wire(events)
            return
        ssl = self._ssl
        count = openssl.read(ssl, BUFFER, RECORD)
        if count <= 0:
            self._wire_read_failed(count)
            return
        if count == RECORD:
            count = self._gather(count)
        self._pass_read(count)

    def _gather(self, count: int) -> int:
        """A full record has been read: more is likely, so read some before sending."""
        ssl = self._ssl
        for piece in PIECES[1:]:
            more = openssl.read(ssl, piece, RECORD)
            if more <= 0:
                if openssl.get_error(ssl, more) not in (WANT_READ, WANT_WRITE):
                    # Seen again at the next read, after what came before it has passed.
                    openssl.clear_errors()
                break
            count += more
            if more < RECORD:
                break
        return count

    def _wire_read_failed(self, result: int) -> None:
        error = openssl.get_error(self._ssl, result)
        if error == WANT_READ:
            return
        if error == WANT_WRITE:
            self._blocked = True
            self._watch_wire()
            return
        openssl.clear_errors()
        if error == ZERO_RETURN:
            self._wire_closed()
        else:
            self._wire_lost("connection lost")

    def _on_legacy(self, events: int) -> None:
        count = self._read_legacy(events)
        if not count:
            return
        ssl = self._ssl
        if count <= RECORD:
            written = openssl.write(ssl, BUFFER, count)
            if written == count:
                return
            done = max(written, 0)
        else:
            done = 0
            for piece in PIECES:
                written = openssl.write(ssl, piece, min(count - done, RECORD))
                if written <= 0:
                    break
                done += written
                if done == count:
                    return
                if written < RECORD:
                    break
        if written <= 0 and not self._wire_write_failed(written):
            return
        self._keep_for_wire(bytes(VIEW[done:count]))

    def _wire_write_failed(self, result: int) -> bool:
        """Whether writing goes on later; otherwise the session has ended."""
        error = openssl.get_error(self._ssl, result)
        if error in (WANT_WRITE, WANT_READ):
            self._starved = error == WANT_READ
            return True
        openssl.clear_errors()
        self.end(self._away(wire=True, why="connection lost"))
        return False

    def _flush_to_wire(self) -> bool:
        """Write what the wire has not taken; whether all of it is gone."""
        while self._to_wire:
            piece = self._to_wire[:RECORD]
            written = openssl.write(self._ssl, piece, len(piece))
            if written <= 0:
                if self._wire_write_failed(written):
                    self._watch_wire()
                    self._watch_legacy()
                return False
            self._to_wire = self._to_wire[written:]
        return self._wire_flushed()

    def _notify_wire(self) -> None:
        """Send ``close_notify``; a peer that is gone need not get it."""
        if openssl.shutdown(self._ssl) < 0:
            openssl.clear_errors()

    def _say(self, last_words: bytes) -> None:
        """Write to the wire what it takes at once."""
        if openssl.write(self._ssl, last_words, len(last_words)) <= 0:
            openssl.clear_errors()
