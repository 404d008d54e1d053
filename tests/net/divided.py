"""A divided connection by itself: our server at one end, at the other the test for each branch."""

import contextlib
import socket
from collections.abc import Callable
from typing import Self

from proxy.net.deadlines import Deadlines
from proxy.net.divider import Divider
from proxy.net.summary import Summary
from proxy.session.commands import Deadline
from proxy.session.hooks import Address, TLSRule, View
from proxy.session.kinds import Kind
from tests.net.conftest import Turning
from tests.net.server_streams import DIALBACK, SERVER, answer, result
from tests.servers.program import HOST

LOCAL, ONE, TWO, THREE = "legacy.example", "one.example", "two.example", "three.example"
UNADDRESSED = (
    f"<stream:stream xmlns='{SERVER}' xmlns:stream='http://etherx.jabber.org/streams' {DIALBACK}>"
)

MOST = 2 << 20
"""Bytes that may be under way, those that the kernel holds included."""


def told(sender: str, to: str) -> str:
    """The answer to a request, as our server is told of it."""
    return f'<db:result {DIALBACK} from="{sender}" to="{to}" type=\'valid\'/>'


class Ends:
    """A divider, our server's plain socket, and one for each branch.

    Attributes:
        legacy: our server's end.
        branches: the other ends of the branches, in the order in which they were made.
        closed: the summaries.
        got: what each end has got since that was last asked about.
        rest: what our server has still to say of an element that it has begun.
    """

    def __init__(self, turning: Turning, seconds: dict[Deadline, float], rest: bytes) -> None:
        self._turning = turning
        with socket.create_server((HOST, 0)) as listening:
            self.legacy = socket.create_connection(listening.getsockname(), timeout=20)
            ours, _ = listening.accept()
        for each in (self.legacy, ours):
            each.setblocking(False)
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                each.setsockopt(socket.SOL_SOCKET, buffer, 65_536)
        self.branches: list[socket.socket] = []
        self.closed: list[Summary] = []
        self.rest = b""
        self.got: dict[socket.socket, bytes] = {}
        self.divider: Divider | None = Divider(
            hub=turning.hub,
            deadlines=Deadlines(turning.reactor, seconds),
            connection=ours,
            waiting=b"waiting",
            header=UNADDRESSED.encode(),
            view=View("session", "out", TLSRule.NONE, Address(HOST, 1), Kind.S2S, outward=True),
            started=0.0,
            begin=self.branches.append,
            closed=lambda divider, summary: self.closed.append(summary),
        )
        self.divider.start(rest)

    def says(self, text: str | bytes) -> Self:
        """Have our server say something that is not too long for the kernel."""
        self.legacy.sendall(text.encode() if isinstance(text, str) else text)
        return self

    def hears(self, connection: socket.socket, text: str | bytes) -> None:
        """Wait until an end has got something, and nothing else since it was last asked."""
        expected = text.encode() if isinstance(text, str) else text
        self._turning.until(lambda: len(self.read(connection)) >= len(expected))
        assert self.got.pop(connection) == expected

    def read(self, connection: socket.socket) -> bytes:
        """Return what an end has got since it was last asked with `hears`."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            self.got[connection] = self.got.get(connection, b"") + connection.recv(1 << 20)
        return self.got.get(connection, b"")

    def ended(self, connection: socket.socket) -> bool:
        """Whether an end is told that nothing more comes, behind what it has got."""
        try:
            data = connection.recv(1 << 20)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        self.got[connection] = self.got.get(connection, b"") + data
        return not data

    def made(self, count: int) -> socket.socket:
        """Wait until so many branches have been made; return the last one."""
        self._turning.until(lambda: len(self.branches) >= count)
        assert len(self.branches) == count
        return self.branches[-1]

    def proved(self, *domains: str) -> list[socket.socket]:
        """Have our domain proved to others; return their branches."""
        found = []
        for domain in domains:
            self.says(result(LOCAL, domain))
            branch = self.made(len(self.branches) + 1)
            self.hears(branch, UNADDRESSED + result(LOCAL, domain))
            branch.sendall((UNADDRESSED + answer(domain, LOCAL)).encode())
            self.hears(self.legacy, told(domain, LOCAL))
            found.append(branch)
        return found

    def stuffed(self, data: bytes) -> int:
        """Have our server say something again and again until it gets stuck; return how much."""
        sent, idle, left = 0, 0, memoryview(self.rest or data)
        while idle < 10:
            assert sent < 4 * MOST, "nothing stops it"
            try:
                count = self.legacy.send(left)
            except BlockingIOError:
                idle += 1
                self._turning.turn(3)
                continue
            sent, idle, left = sent + count, 0, left[count:] or memoryview(data)
        self.rest = bytes(left)
        return sent

    def goes_on(self, text: str, meanwhile: Callable[[], object]) -> None:
        """Have our server finish what it has begun, and say something else."""
        left = self.rest + text.encode()
        self.rest = b""
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[self.legacy.send(left) :]
            meanwhile()
            self._turning.turn(1)

    def summary(self) -> Summary:
        """Wait for the end; return what is told of it, once."""
        self._turning.until(lambda: self.closed)
        self._turning.turn(3)
        (summary,) = self.closed
        return summary

    def close(self) -> None:
        for each in (self.legacy, *self.branches):
            each.close()
