"""Clients that do what no honest client does: TLS by hand, in pieces, and logins by rote."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from tests.net.front import DOMAIN
from tests.servers.program import HOST
from tests.servers.stream import SECONDS, STARTTLS, Stream, plaintext, tls_context

PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
FOOTER = "</stream:stream>"
SECRET = "AGFsaWNlAGV4Y2VlZGluZ2x5c2VjcmV0"
AUTH = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{SECRET}</auth>"
BIND = (
    "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    "<resource>x</resource></bind></iq>"
)
ALERT = 0x15
HANDSHAKE = 0x16


class HandTLS:
    """The client's side of TLS with its records in the hand.

    Args:
        context: how to speak TLS.
        name: the server name to indicate; None for none.
        session: a session to resume.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        name: str | None = DOMAIN,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname=name, session=session
        )

    def hello(self) -> bytes:
        """Return the ClientHello."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def finish(self, connection: socket.socket) -> None:
        """Go on with the handshake to its end."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._exchange(connection)
            else:
                connection.sendall(self.outgoing.read())
                return

    def send(self, connection: socket.socket, data: str | bytes) -> None:
        self.tls.write(data.encode() if isinstance(data, str) else data)
        connection.sendall(self.outgoing.read())

    def read(self, connection: socket.socket) -> bytes:
        """Return some bytes; none when the peer has closed in good order."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._exchange(connection)
            except ssl.SSLZeroReturnError:
                return b""

    def read_until(self, connection: socket.socket, end: bytes) -> bytes:
        read = b""
        while end not in read:
            data = self.read(connection)
            assert data, f"the stream ended before {end!r}: {read!r}"
            read += data
        return read

    def _exchange(self, connection: socket.socket) -> None:
        out = self.outgoing.read()
        if out:
            connection.sendall(out)
        data = connection.recv(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()


def lax_context() -> ssl.SSLContext:
    """Return a context that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_all(connection: socket.socket) -> bytes:
    """Read until the peer closes or resets."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


def offered(stream: Stream) -> None:
    """Get to the offer of STARTTLS."""
    stream.send_header()
    stream.read_until("</stream:features>")


def proceeding(stream: Stream) -> None:
    """Get to where TLS begins."""
    offered(stream)
    stream.send(STARTTLS)
    stream.read_until("<proceed [^>]*/>")


def await_proceed(connection: socket.socket) -> None:
    """Read ``<proceed/>``, and nothing of what may have come with it."""
    read = b""
    while len(read) < len(PROCEED):
        data = connection.recv(len(PROCEED) - len(read))
        assert data, f"the stream ended: {read!r}"
        read += data
    assert read == PROCEED


def secure(stream: Stream, authority: Path, domain: str = DOMAIN) -> None:
    """Turn to TLS; what ends without ``close_notify`` will raise `ssl.SSLEOFError`."""
    stream.connection = tls_context(authority).wrap_socket(
        stream.connection, server_hostname=domain, suppress_ragged_eofs=False
    )


def log_in(stream: Stream) -> None:
    """Log in over an open connection, TLS and all done."""
    stream.send_header()
    stream.read_until("</stream:features>")
    stream.send(AUTH)
    stream.read_until("<success [^>]*/>|</success>")
    stream.send_header()
    stream.read_until("</stream:features>")
    stream.send(BIND)
    stream.read_until("</iq>")


@contextlib.contextmanager
def logged_in(
    port: int, authority: Path, way: str = "starttls", domain: str = DOMAIN
) -> Iterator[Stream]:
    """Give a client that is logged in by STARTTLS, direct TLS or plaintext."""
    with plaintext(port, domain) as stream:
        if way == "starttls":
            proceeding(stream)
        if way != "plaintext":
            secure(stream, authority, domain)
        log_in(stream)
        yield stream


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Give a bare connection."""
    with socket.create_connection((HOST, port), timeout=SECONDS) as connection:
        yield connection
