"""A web site that says what a test wants, by HTTPS on loopback, in a thread of its own."""

import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from OpenSSL import SSL

from tests.servers.program import HOST


def document(content: Any, *fields: str, status: str = "200 OK") -> bytes:
    """An answer with a JSON document, and with more header fields."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status}", *(fields or ("Content-Type: application/json",))]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


class WebSite:
    """Answers every request with the next of its answers, the last one for ever.

    Args:
        files: its certificate and key.
        answers: what it sends after the header of a request, byte for byte.
        pause: seconds between the header of a request and the answer.
        pieces: how many bytes of an answer go out at a time, with a short rest after each; 0 for
            all at once.
        polite: whether TLS is closed as it should.

    Attributes:
        connections: how many came.
        received: what came under TLS, of each connection on which that was established.
    """

    def __init__(
        self,
        files: tuple[Path, Path],
        *answers: bytes,
        pause: float = 0.0,
        pieces: int = 0,
        polite: bool = True,
    ) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate_chain_file(str(files[0]))
        self._context.use_privatekey_file(str(files[1]))
        self.answers = list(answers)
        self._pause = pause
        self._pieces = pieces
        self._polite = polite
        self._listening = socket.create_server((HOST, 0))
        self._listening.settimeout(20)
        self._over = threading.Event()
        self._at_hand: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self.received: list[bytearray] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for each in (self._listening, self._at_hand):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def requests(self) -> list[str]:
        """The first lines of the requests."""
        return [each.partition(b"\r\n")[0].decode() for each in self.received]

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(None)  # the kernel waits, and not Python: OpenSSL reads itself
            self._at_hand = connection
            with contextlib.suppress(OSError, SSL.Error), connection:
                if not self._over.is_set():
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        tls = SSL.Connection(self._context, connection)
        tls.set_accept_state()
        tls.do_handshake()
        request = bytearray()
        self.received.append(request)
        while b"\r\n\r\n" not in request:
            request += tls.recv(4096)
        if self._over.wait(self._pause):
            return
        self._send(tls, self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        if self._polite:
            tls.shutdown()
            with contextlib.suppress(SSL.Error):
                tls.recv(1)

    def _send(self, tls: SSL.Connection, answer: bytes) -> None:
        if not self._pieces:
            tls.sendall(answer)
            return
        for begin in range(0, len(answer), self._pieces):
            if self._over.is_set():
                return
            tls.sendall(answer[begin : begin + self._pieces])
            time.sleep(0.01)
