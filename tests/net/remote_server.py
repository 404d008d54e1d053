"""A server of a remote domain, which does as it is told up to TLS and writes down what it gets."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.program import HOST

SECONDS = 10.0

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams' id='remote-1' version='1.0'>"
)
OFFER = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    b"</stream:features>"
)
NO_OFFER = b"<stream:features/>"
PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
FAILURE = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"
STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"


class RemoteServer:
    """Serves any number of connections.

    Args:
        files: certificate and key; without them it never speaks TLS.
        direct: whether TLS begins with the first byte.
        features: what follows its stream header.
        answer: what it says to ``<starttls/>``.
        host: where it listens.
        port: likewise; 0 takes any.

    Attributes:
        plain: for each connection, what came before TLS.
        inside: for each connection that came to TLS, what came inside; None unless it ended with
            close_notify.
        spoken: set when something has come inside TLS.
    """

    def __init__(
        self,
        files: tuple[Path, Path] | None = None,
        *,
        direct: bool = False,
        features: bytes = OFFER,
        answer: bytes = PROCEED,
        host: str = HOST,
        port: int = 0,
    ) -> None:
        self.plain: list[bytes] = []
        self.inside: list[bytes | None] = []
        self.spoken = threading.Event()
        self._direct = direct
        self._features = features
        self._answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if files is not None:
            self._context.load_cert_chain(*files)
            self._context.set_alpn_protocols(["xmpp-client"])
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family)
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.settle()

    def settle(self) -> None:
        """Wait until every connection is over."""
        for thread in self._threads[1:]:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                thread = threading.Thread(target=self._take, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _take(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        with connection, contextlib.suppress(OSError):
            if self._direct:
                self.plain.append(b"")
                self._take_tls(connection)
            elif self._take_plain(connection):
                self._take_tls(connection)

    def _take_plain(self, connection: socket.socket) -> bool:
        number = len(self.plain)
        self.plain.append(b"")
        if not self._read_until(connection, number, b"/streams'>"):
            return False
        connection.sendall(HEADER + self._features)
        if not self._read_until(connection, number, STARTTLS):
            return False
        connection.sendall(self._answer)
        if self._answer == PROCEED:
            return True
        self._read_until(connection, number, b"\0")
        return False

    def _read_until(self, connection: socket.socket, number: int, needle: bytes) -> bool:
        while needle not in self.plain[number]:
            data = connection.recv(65536)
            if not data:
                return False
            self.plain[number] += data
        return True

    def _take_tls(self, connection: socket.socket) -> None:
        with self._context.wrap_socket(
            connection, server_side=True, suppress_ragged_eofs=False
        ) as tls:
            number = len(self.inside)
            self.inside.append(None)
            got = b""
            while data := tls.recv(65536):  # raises unless close_notify comes
                got += data
                self.spoken.set()
            self.inside[number] = got
