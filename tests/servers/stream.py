"""A stream spoken by hand, for what no library says."""

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from tests.servers.program import HOST

STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
SECONDS = 60.0


class Stream:
    """The client's end of one connection; everything waits for `SECONDS` at most.

    Args:
        connection: a connected socket.
        domain: what the stream headers are addressed to.
    """

    def __init__(self, connection: socket.socket, domain: str) -> None:
        connection.settimeout(SECONDS)
        self.connection = connection
        self._domain = domain
        self._buffer = b""

    def send(self, text: str | bytes) -> None:
        """Send text as it is."""
        self.connection.sendall(text.encode() if isinstance(text, str) else text)

    def send_header(self, version: str | None = "1.0") -> None:
        """Send a stream header; without a version as before RFC 3920."""
        said = f" version='{version}'" if version else ""
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{self._domain}'{said} xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )

    def read_until(self, pattern: str) -> str:
        """Read to the end of the first match of a regular expression and return all up to there.

        Raises:
            AssertionError: if the stream ends before that; with what came.
            TimeoutError: if nothing came for too long.
        """
        compiled = re.compile(pattern.encode(), re.DOTALL)
        while not (match := compiled.search(self._buffer)):
            chunk = self.connection.recv(65536)
            assert chunk, f"the stream ended before {pattern!r}: {self._buffer!r}"
            self._buffer += chunk
        read, self._buffer = self._buffer[: match.end()], self._buffer[match.end() :]
        return read.decode()

    def read_to_end(self) -> str:
        """Read until the peer closes and return all that was not read before."""
        while chunk := self.connection.recv(65536):
            self._buffer += chunk
        read, self._buffer = self._buffer, b""
        return read.decode()

    def secure(self, context: ssl.SSLContext) -> None:
        """Turn the connection to TLS; certificate and name are checked.

        Raises:
            ssl.SSLError: if that fails.
        """
        assert not self._buffer, f"plaintext left over: {self._buffer!r}"
        self.connection = context.wrap_socket(self.connection, server_hostname=self._domain)


def tls_context(authority: Path) -> ssl.SSLContext:
    """Return what a careful client uses: TLS 1.2 and later, ALPN ``xmpp-client``."""
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols(["xmpp-client"])
    return context


@contextlib.contextmanager
def plaintext(port: int, domain: str) -> Iterator[Stream]:
    """Connect without TLS; nothing is sent."""
    connection = socket.create_connection((HOST, port), timeout=SECONDS)
    stream = Stream(connection, domain)
    try:
        yield stream
    finally:
        stream.connection.close()


@contextlib.contextmanager
def starttls(port: int, domain: str, authority: Path) -> Iterator[Stream]:
    """Connect and secure the connection by STARTTLS; the new stream is not begun."""
    with plaintext(port, domain) as stream:
        stream.send_header()
        stream.read_until("</stream:features>")
        stream.send(STARTTLS)
        stream.read_until("<proceed [^>]*/>")
        stream.secure(tls_context(authority))
        yield stream


@contextlib.contextmanager
def direct(port: int, domain: str, authority: Path) -> Iterator[Stream]:
    """Connect with direct TLS; the stream is not begun."""
    with plaintext(port, domain) as stream:
        stream.secure(tls_context(authority))
        yield stream
