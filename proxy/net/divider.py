"""A division in operation: one connection of a server of ours, and those to its branches.

A branch is a session like any other, on a pair of sockets of which this end is ours.
"""

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial

from twisted.python.failure import Failure

from proxy.net.client_hello import Hello
from proxy.net.deadlines import Armed, Deadlines
from proxy.net.hub import Hub
from proxy.net.leg import Leg
from proxy.net.summary import Summary
from proxy.net.tls import describe
from proxy.session import ceilings
from proxy.session.commands import Deadline, Severity
from proxy.session.division import Division, EndBranch, EndTrunk, Order, ToBranch, ToTrunk
from proxy.session.hooks import TLSFacts, View
from proxy.xmpp.errors import Condition, StreamError

Begin = Callable[[socket.socket], None]
"""Makes a session of a connected socket, for whatever comes from there."""


class _End:
    """The protocol of one of a divider's legs.

    Args:
        received: takes what comes.
        ended: told, in words, that nothing more does.
    """

    def __init__(self, received: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        self._received = received
        self._ended = ended

    def makeConnection(self, _transport: object) -> None:
        """Nothing to do: the divider has made the leg."""

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        self._received(data)

    def dataPeeked(self, data: bytes) -> int:
        """Take all of it: there is no TLS here."""
        self._received(data)
        return len(data)

    def dataTaken(self) -> None:
        """Nothing to do."""

    def helloReceived(self, _hello: Hello) -> None:
        """There is no TLS here."""

    def tlsEstablished(self, _facts: TLSFacts) -> None:
        """There is no TLS here."""

    def tlsFailed(self, _reason: str) -> None:
        """There is no TLS here."""

    def readConnectionLost(self) -> None:
        """Tell of it."""
        self._ended("connection closed")

    def connectionLost(self, reason: Failure) -> None:
        """Tell of it."""
        self._ended(describe(reason.value))


class _Throttle:
    """Has the trunk wait while a branch cannot take more."""

    def __init__(self, trunk: Leg, full: set[str], domain: str) -> None:
        self._trunk = trunk
        self._full = full
        self._domain = domain

    def pauseProducing(self) -> None:
        """This branch is full."""
        self._full.add(self._domain)
        self._trunk.pauseProducing()

    def resumeProducing(self) -> None:
        """This branch takes more."""
        self._full.discard(self._domain)
        if not self._full:
            self._trunk.resumeProducing()

    def stopProducing(self) -> None:
        """This branch takes nothing any more."""
        self.resumeProducing()


class Divider:
    """One connection, divided.

    Args:
        hub: watches the sockets.
        deadlines: those of the listener.
        connection: our server's socket.
        waiting: what is still to be written to it.
        header: the header of its stream.
        view: the session as it stands.
        started: when it began, by the monotonic clock.
        begin: makes a branch.
        closed: told once, with the summary, when all is over.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        deadlines: Deadlines,
        connection: socket.socket,
        waiting: bytes,
        header: bytes,
        view: View,
        started: float,
        begin: Begin,
        closed: Callable[["Divider", Summary], None],
    ) -> None:
        self.view = view
        self._hub = hub
        self._deadlines = deadlines
        self._division = Division(header, ceilings.AUTHENTICATED_CLIENT)
        self._started = started
        self._begin = begin
        self._closed: Callable[[Divider, Summary], None] | None = closed
        self._reason = ""
        self._up = self._down = 0
        self._full: set[str] = set()
        self._branches: dict[str, Leg] = {}
        self._timer: Armed | None = deadlines.arm(Deadline.NEGOTIATION, self._expired)
        self._trunk: Leg | None = Leg(
            hub, connection, _End(self._received, self._trunk_ended), peek=False
        )
        self._trunk.write(waiting)

    def start(self, rest: bytes) -> None:
        """Begin, with what our server has sent behind its header."""
        if self._trunk is not None:
            self._trunk.start()
        if rest:
            self._received(rest)

    def shut_down(self) -> None:
        """End the session because the daemon ends."""
        error = StreamError(Condition.SYSTEM_SHUTDOWN, "the proxy is shutting down")
        self._perform(self._division.shut_down(error))
        self._end("system-shutdown: the proxy is shutting down")

    def _received(self, data: bytes) -> None:
        self._up += len(data)
        self._perform(self._division.received(data))

    def _branch_received(self, domain: str, data: bytes) -> None:
        self._perform(self._division.branch_received(domain, data))

    def _branch_ended(self, domain: str, reason: str) -> None:
        self._perform(self._division.branch_ended(domain, reason))

    def _trunk_ended(self, reason: str) -> None:
        self._end(self._reason or f"the client went away: {reason}")

    def _expired(self, deadline: Deadline) -> None:
        self._timer = None
        if deadline is Deadline.ENDING:
            self._end(self._reason)
        else:
            error = StreamError(Condition.CONNECTION_TIMEOUT, "no domain was asked for in time")
            self._perform(self._division.shut_down(error))

    def _perform(self, orders: Iterable[Order]) -> None:
        for order in orders:
            match order:
                case ToTrunk(data):
                    self._down += len(data)
                    if self._trunk is not None:
                        self._trunk.write(data)
                case ToBranch(domain, data):
                    self._branch(domain).write(data)
                case EndBranch(domain):
                    self._full.discard(domain)
                    leg = self._branches.pop(domain, None)
                    if leg is not None:
                        leg.loseConnection()
                case EndTrunk(reason):
                    self._reason = reason
                    self._arm(Deadline.ENDING)

    def _branch(self, domain: str) -> Leg:
        """Return the leg to a branch, which is made if there is none."""
        leg = self._branches.get(domain)
        if leg is None:
            ours, its = socket.socketpair()
            for end in (ours, its):
                end.setblocking(False)
            leg = Leg(
                self._hub,
                ours,
                _End(partial(self._branch_received, domain), partial(self._branch_ended, domain)),
                peek=False,
            )
            self._branches[domain] = leg
            if self._trunk is not None:
                leg.registerProducer(_Throttle(self._trunk, self._full, domain), streaming=True)
            if self._timer is not None:
                self._timer.disarm()
                self._timer = None
            leg.start()
            self._begin(its)
        return leg

    def _arm(self, deadline: Deadline) -> None:
        if self._timer is not None:
            self._timer.disarm()
        self._timer = self._deadlines.arm(deadline, self._expired)

    def _end(self, reason: str) -> None:
        """Close everything, and tell that the session is over."""
        if self._closed is None:
            return
        closed, self._closed = self._closed, None
        if self._timer is not None:
            self._timer.disarm()
            self._timer = None
        trunk, self._trunk = self._trunk, None
        if trunk is not None:
            trunk.loseConnection()
        branches, self._branches = self._branches, {}
        for leg in branches.values():
            leg.loseConnection()
        closed(self, self._summary(reason))

    def _summary(self, reason: str) -> Summary:
        return Summary(
            view=self.view,
            seconds=time.monotonic() - self._started,
            from_client=self._up,
            from_server=self._down,
            reason=reason,
            severity=Severity.INFO,
            server=None,
        )
