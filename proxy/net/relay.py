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
from proxy.xmpp.errors import StreamError


class Relay(Joined):
    """Two joined sockets, the client's under TLS."""

    __slots__ = ()

    def _on_client(self, events: int) -> None:
        if self._blocked:
            self._blocked = False
            self._watch_client()
        if self._to_client and not self._flush_to_client():
            if self._client is not None:
                self._note_client(events)
            return
        if self._to_server or self._to_server_done:
            self._rest_client(events)
            return
        ssl = self._ssl
        count = openssl.read(ssl, BUFFER, RECORD)
        if count <= 0:
            self._client_read_failed(count)
            return
        if count == RECORD:
            count = self._gather(count)
        if self._measure is not None:
            try:
                self._measure(VIEW[:count].tobytes())
            except StreamError as error:
                self.refuse(error)
                return
        self._send_on(count)

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

    def _client_read_failed(self, result: int) -> None:
        error = openssl.get_error(self._ssl, result)
        if error == WANT_READ:
            return
        if error == WANT_WRITE:
            self._blocked = True
            self._watch_client()
            return
        openssl.clear_errors()
        if error == ZERO_RETURN:
            self._client_closed()
        else:
            self.end(self._reason or "the client went away: connection lost")

    def _on_server(self, events: int) -> None:
        count = self._read_server(events)
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
        if written <= 0 and not self._client_write_failed(written):
            return
        self._to_client = bytes(VIEW[done:count])
        self._watch_client()
        self._watch_server()

    def _client_write_failed(self, result: int) -> bool:
        """Whether writing goes on later; otherwise the session has ended."""
        if openssl.get_error(self._ssl, result) in (WANT_WRITE, WANT_READ):
            return True
        openssl.clear_errors()
        self.end("the client went away: connection lost")
        return False

    def _flush_to_client(self) -> bool:
        """Write what the client has not taken; whether all of it is gone."""
        while self._to_client:
            piece = self._to_client[:RECORD]
            written = openssl.write(self._ssl, piece, len(piece))
            if written <= 0:
                if self._client_write_failed(written):
                    self._watch_client()
                    self._watch_server()
                return False
            self._to_client = self._to_client[written:]
        return self._client_flushed()

    def _notify_client(self) -> None:
        """Send ``close_notify``; a client that is gone need not get it."""
        if openssl.shutdown(self._ssl) < 0:
            openssl.clear_errors()

    def _say(self, last_words: bytes) -> None:
        """Write to the client what it takes at once."""
        if openssl.write(self._ssl, last_words, len(last_words)) <= 0:
            openssl.clear_errors()
