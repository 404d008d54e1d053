"""A division in operation: one connection of a server of ours, and those to its branches.

A branch is a session like any other, on a pair of sockets of which this end is ours.
"""

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import attrs
from twisted.python.failure import Failure

from proxy.net.client_hello import Hello
from proxy.net.deadlines import Armed, Deadlines
from proxy.net.hub import Hub
from proxy.net.leg import Leg
from proxy.net.summary import Standing, Summary
from proxy.net.tls import describe
from proxy.session import ceilings
from proxy.session.commands import Deadline, Severity
from proxy.session.division import (
    Close,
    Division,
    EndBranch,
    EndTrunk,
    OpenBranch,
    Order,
    ToBranch,
    ToTrunk,
)
from proxy.session.hooks import TLSFacts, View
from proxy.xmpp.errors import Condition, StreamError

Begin = Callable[[socket.socket], None]
"""Makes a session of a connected socket, for whatever comes from there."""

_TRUNK: Final = ""
"""No domain's: our server's own connection, among those that may be full."""


class _End:
    """The protocol of one of a divider's legs.

    Args:
        received: takes what comes.
        ended: told once, in words, that nothing more does.
        gone: told last, when nothing is left of the leg.
    """

    def __init__(
        self,
        received: Callable[[bytes], None],
        ended: Callable[[str], None],
        gone: Callable[[], None],
    ) -> None:
        self._received = received
        self._ended: Callable[[str], None] | None = ended
        self._gone = gone

    def dismiss(self) -> None:
        """Tell no more that nothing comes."""
        self._ended = None

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
        self._end("connection closed")

    def connectionLost(self, reason: Failure) -> None:
        """Tell of it."""
        self._end(describe(reason.value))
        self._gone()

    def _end(self, reason: str) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(reason)


class _Throttle:
    """Has the trunk wait while one of the legs cannot take more.

    Args:
        trunk: the leg that waits.
        full: the legs that cannot, each by the domain of its branch.
        domain: which one this is about.
    """

    def __init__(self, trunk: Leg, full: set[str], domain: str) -> None:
        self._trunk = trunk
        self._full = full
        self._domain = domain

    def pauseProducing(self) -> None:
        """This leg is full."""
        self._full.add(self._domain)
        self._trunk.pauseProducing()

    def resumeProducing(self) -> None:
        """This leg takes more, or nothing any more."""
        self._full.discard(self._domain)
        if not self._full:
            self._trunk.resumeProducing()

    def stopProducing(self) -> None:
        """Do not wait for this leg."""
        self.resumeProducing()


@attrs.frozen
class _Branch:
    leg: Leg
    end: _End
    throttle: _Throttle


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
        self._reason = ""  # why our server's stream is to end
        self._over: str | None = None  # why all has ended
        self._up = self._down = 0
        self._full: set[str] = set()
        self._legs = 1
        self._branches: dict[str, _Branch] = {}
        self._timer: Armed | None = deadlines.arm(Deadline.NEGOTIATION, self._expired)
        end = _End(self._received, self._trunk_ended, self._gone)
        trunk = self._trunk = Leg(hub, connection, end, peek=False)
        # Who does not read the answers must not ask on.
        trunk.registerProducer(_Throttle(trunk, self._full, _TRUNK), streaming=True)
        trunk.write(waiting)

    def start(self, rest: bytes) -> None:
        """Begin, with what our server has sent behind its header."""
        self._trunk.start()
        if rest:
            self._received(rest)

    @property
    def standing(self) -> Standing:
        """How far it has come."""
        return Standing(
            over=self._over is not None,
            server=None,
            seconds=time.monotonic() - self._started,
            passed=(self._up, self._down),
        )

    @property
    def passed(self) -> tuple[int, int]:
        """Nothing: the bytes are those of the branches, each a session of its own."""
        return 0, 0

    @property
    def stalled(self) -> bool:
        """Whether bytes wait that a branch or our server does not take."""
        return bool(self._full)

    def shut_down(self) -> None:
        """End the session because the daemon ends."""
        self.end(StreamError(Condition.SYSTEM_SHUTDOWN, "the proxy is shutting down"))

    def end(self, error: StreamError) -> None:
        """End the session, telling our server why."""
        self._perform(self._division.shut_down(error))

    # What the legs tell

    def _received(self, data: bytes) -> None:
        self._up += len(data)
        self._perform(self._division.received(data))

    def _branch_received(self, domain: str, data: bytes) -> None:
        self._perform(self._division.branch_received(domain, data))

    def _branch_ended(self, domain: str, reason: str) -> None:
        self._perform(self._division.branch_ended(domain, reason))

    def _trunk_ended(self, reason: str) -> None:
        self._end(self._reason or f"the client went away: {reason}")

    def _gone(self) -> None:
        self._legs -= 1
        self._settle()

    def _expired(self, deadline: Deadline) -> None:
        self._timer = None
        if deadline is Deadline.ENDING:
            self._end(self._reason)
        else:
            late = "no domain was asked for in time"
            self.end(StreamError(Condition.CONNECTION_TIMEOUT, late))

    # What the division orders

    def _perform(self, orders: Iterable[Order]) -> None:
        for order in orders:
            if self._over is not None:
                return
            match order:
                case ToTrunk(data):
                    self._down += len(data)
                    self._trunk.write(data)
                case OpenBranch(domain):
                    self._open(domain)
                case ToBranch(domain, data):
                    branch = self._branches.get(domain)
                    if branch is not None:
                        branch.leg.write(data)
                case EndBranch(domain):
                    self._leave(domain)
                case EndTrunk(reason):
                    self._reason = reason
                    self._arm(Deadline.ENDING)
                case Close(reason):
                    self._end(reason)

    def _open(self, domain: str) -> None:
        """Make a branch."""
        try:
            ours, its = socket.socketpair()
        except OSError as error:
            self._branch_ended(domain, describe(error))
            return
        for each in (ours, its):
            each.setblocking(False)
        received, ended = (
            partial(told, domain) for told in (self._branch_received, self._branch_ended)
        )
        end = _End(received, ended, self._gone)
        leg = Leg(self._hub, ours, end, peek=False)
        throttle = _Throttle(self._trunk, self._full, domain)
        leg.registerProducer(throttle, streaming=True)
        self._legs += 1
        self._branches[domain] = _Branch(leg, end, throttle)
        self._disarm()
        leg.start()
        self._begin(its)

    def _leave(self, domain: str) -> None:
        """Close the leg to a branch; another one to the same domain has nothing to do with it."""
        branch = self._branches.pop(domain, None)
        if branch is None:
            return
        self._close(branch)
        branch.throttle.stopProducing()
        if not self._branches and not self._reason:
            self._arm(Deadline.NEGOTIATION)

    @staticmethod
    def _close(branch: _Branch) -> None:
        branch.end.dismiss()
        branch.leg.loseConnection()

    def _arm(self, deadline: Deadline) -> None:
        self._disarm()
        self._timer = self._deadlines.arm(deadline, self._expired)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.disarm()

    # The end

    def _end(self, reason: str) -> None:
        """Close everything; the session is over when all is closed."""
        if self._over is not None:
            return
        self._over = reason
        self._disarm()
        self._trunk.loseConnection()
        for branch in self._branches.values():
            self._close(branch)
        self._branches.clear()
        self._settle()

    def _settle(self) -> None:
        """Tell that the session is over, once nothing is left of it."""
        if self._over is None or self._legs or self._closed is None:
            return
        closed, self._closed = self._closed, None
        reason = self._over
        if self._division.dropped:
            reason += f"; stanzas dropped meanwhile: {self._division.dropped}"
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
