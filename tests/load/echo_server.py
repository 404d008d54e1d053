"""A legacy server for thousands: it lets everybody log in, then sends back all that comes."""

import re
import socket
from contextlib import suppress
from typing import Final

from tests.load.loop import READ, WRITE, Loop
from tests.net.legacy import BIND, BOUND, HEADER, MECHANISMS, SUCCESS
from tests.servers.program import HOST

FOOTER: Final = b"</stream:stream>"
BACKLOG: Final = 4096

_STREAM: Final = re.compile(rb"<stream:stream [^>]*>", re.DOTALL)
_LOGIN: Final = (
    (_STREAM, HEADER + MECHANISMS),
    (re.compile(rb"</auth>"), SUCCESS),
    (_STREAM, HEADER.replace(b"legacy-1", b"legacy-2") + BIND),
    (re.compile(rb"</iq>"), BOUND),
)


class EchoServer:
    """Listens on 127.0.0.1.

    Args:
        loop: watches its sockets; it has been started.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop: Final = loop
        self.connections: Final[set[_Connection]] = set()
        """Those that there are now."""
        self._listening = socket.create_server((HOST, 0), backlog=BACKLOG)
        self._listening.setblocking(False)
        self.port: Final[int] = self._listening.getsockname()[1]
        loop.call(lambda: loop.watch(self._listening, READ, self._ready))

    def close(self) -> None:
        """Close everything; the loop has ended."""
        self._listening.close()
        for each in self.connections:
            each.socket.close()

    def _ready(self, _events: int) -> None:
        with suppress(BlockingIOError):
            while True:
                accepted, _ = self._listening.accept()
                self.connections.add(_Connection(self, accepted))


class _Connection:
    def __init__(self, server: EchoServer, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = accepted
        self._server = server
        self._step = 0
        self._read = b""
        self._out = bytearray()
        self._events = READ
        server.loop.watch(accepted, READ, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & READ and not self._receive():
                self._close()
                return
            self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _receive(self) -> bool:
        """Answer what has come; returns whether more may come."""
        data = self.socket.recv(65536)
        if self._step < len(_LOGIN):
            self._read += data
            while self._step < len(_LOGIN):
                pattern, answer = _LOGIN[self._step]
                match = pattern.search(self._read)
                if match is None:
                    return bool(data)
                self._read = self._read[match.end() :]
                self._out += answer
                self._step += 1
            self._out += self._read
        else:
            self._out += data
        return bool(data)

    def _flush(self) -> None:
        if self._out:
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                sent = 0
            del self._out[:sent]
        events = READ | (WRITE if self._out else 0)
        if events != self._events:
            self._events = events
            self._server.loop.change(self.socket, events, self._ready)

    def _close(self) -> None:
        self._server.loop.forget(self.socket)
        self._server.connections.discard(self)
        self.socket.close()
