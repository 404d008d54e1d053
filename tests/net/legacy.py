"""A legacy server that speaks plaintext XMPP by rote and writes down every byte it gets."""

import contextlib
import queue
import re
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.servers.program import HOST

SECONDS = 20.0

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams' id='legacy-1' from='example.com' "
    b"version='1.0'>"
)
MECHANISMS = (
    b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
BIND = b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>"
BOUND = (
    b"<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    b"<jid>alice@example.com/x</jid></bind></iq>"
)

_STREAM = rb"<stream:stream [^>]*>"


class Connection:
    """One connection that the legacy server has accepted; everything waits `SECONDS` at most.

    Attributes:
        got: every byte that has been read from it.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        self.socket = connection
        self.got = b""
        self._read = 0

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, pattern: bytes) -> bytes:
        """Read to the end of a match of a regular expression; return what was not read before."""
        compiled = re.compile(pattern, re.DOTALL)
        while not (match := compiled.search(self.got, self._read)):
            if not self._receive():
                raise EOFError(f"the proxy closed before {pattern!r}: {self.got!r}")
        start, self._read = self._read, match.end()
        return self.got[start : match.end()]

    def read(self, size: int) -> bytes:
        """Read exactly this many bytes."""
        parts = [self.got[self._read : self._read + size]]
        left = size - len(parts[0])
        self._read += len(parts[0])
        while left:
            part = self.socket.recv(min(left, 1 << 20))
            assert part, f"the proxy closed {left} bytes early"
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def read_to_end(self) -> bytes:
        """Read until the proxy closes its direction; return what was not read before."""
        while self._receive():
            pass
        start, self._read = self._read, len(self.got)
        return self.got[start:]

    def _receive(self) -> bool:
        data = self.socket.recv(65536)
        self.got += data
        return bool(data)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        reset(self.socket)


def reset(connection: socket.socket) -> None:
    """Close a socket with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


Script = Callable[[Connection], None]


def features(connection: Connection) -> None:
    """Open the stream and offer PLAIN."""
    connection.read_until(_STREAM)
    connection.send(HEADER + MECHANISMS)


def login(connection: Connection) -> None:
    """Let a client log in whatever it says."""
    features(connection)
    connection.read_until(rb"</auth>")
    connection.send(SUCCESS)
    connection.read_until(_STREAM)
    connection.send(HEADER.replace(b"legacy-1", b"legacy-2") + BIND)
    connection.read_until(rb"</iq>")
    connection.send(BOUND)


def silence(_connection: Connection) -> None:
    """Say nothing."""


class LegacyServer:
    """Accepts connections and runs `script` on each, in a thread of its own.

    A connection whose script is over waits in `established` for the test to go on with.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        self.script: Script = login
        self.connections: list[Connection] = []
        self.established: queue.Queue[Connection] = queue.Queue()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
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
        self.forget()

    def forget(self) -> None:
        """Be as new: close all connections, log in the next ones."""
        self.script = login
        for connection in self.connections:
            connection.close()
        self.connections = []
        self.established = queue.Queue()

    def next(self) -> Connection:
        """Wait for a connection whose script is over."""
        return self.established.get(timeout=SECONDS)

    @property
    def heard(self) -> bytes:
        """Every byte of every connection that has been read."""
        return b"".join(connection.got for connection in self.connections)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                connection = Connection(accepted)
                self.connections.append(connection)
                arguments = (connection, self.script, self.established)
                threading.Thread(target=_serve, args=arguments, daemon=True).start()


def _serve(connection: Connection, script: Script, established: "queue.Queue[Connection]") -> None:
    with contextlib.suppress(OSError, EOFError):
        script(connection)
        established.put(connection)
