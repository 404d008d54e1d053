"""How many connections are accepted, so that descriptors do not run out.

A session that is accepted has one descriptor and will need another for its server, so accepting
stops long before the limit: what is left is for the servers of sessions that have begun, and a
reserve for everything else, such as DNS, files that a reload reads, and the control socket. Clients
wait in the kernel meanwhile.
"""

import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from proxy.net.hub import Hub

RESERVE: Final = 64
"""Descriptors that sessions leave to others, at the least."""

PART: Final = 16
"""One of so many descriptors is left to others, where that is more than `RESERVE`."""

LARGEST: Final = 512
"""Descriptors that are left to others at the most: however many sessions there are, few begin at
any time."""

EACH: Final = 2
"""Descriptors that a session takes."""

PAUSE: Final = 0.5
"""Seconds without accepting before it is looked whether there is room again."""

CALM: Final = 10.0
"""Seconds without a pause after which it is told that accepting goes on."""

_log = Logger()


class Accepts(Protocol):
    """What accepts connections."""

    def go_on(self) -> None:
        """Accept again."""


class Descriptors:
    """Watches over the descriptors of one hub.

    Without `limit` there is room for every connection, until the system itself has none.

    Args:
        hub: what watches the sockets of sessions; tells the time.
    """

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._sessions: Callable[[], int] = lambda: 0
        self._spent = 0
        self._most: int | None = None
        self._allowed = 0
        self._resting: dict[Accepts, None] = {}
        self._timer: Any = None
        self._calm: Any = None
        self._pauses = 0  # since it was told of
        self.trouble = ""
        """Why nothing is accepted now, in words; empty if it is."""

    def limit(self, sessions: Callable[[], int], *, allowed: int | None = None) -> None:
        """Have sessions leave enough to others, by what is open now and what may be.

        Args:
            sessions: returns how many sessions there are.
            allowed: how many descriptors this process may have; None for the system's word.
        """
        if allowed is None:
            allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if allowed == resource.RLIM_INFINITY:
                return
        self._sessions = sessions
        self._allowed = allowed
        self._spent = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
        free = max(allowed - self._spent, 0)
        self._most = free - min(max(RESERVE, allowed // PART), LARGEST, free // 2)

    def scarcity(self) -> str:
        """Say why no connection should be accepted now; empty if one should.

        Sessions count with all that they will need, and with what they have if that is more: a
        stream that is divided has further descriptors for each of its branches.
        """
        if self._most is None:
            return ""
        sessions = self._sessions()
        if max(EACH * sessions, self._hub.watched) + EACH <= self._most:
            return ""
        return self._full(sessions)

    def is_late(self, descriptor: int) -> bool:
        """Whether a descriptor that was just given has a number that says that few are left.

        The system gives the lowest number that is free, so that all below it are taken. This counts
        what nobody has foreseen, such as many lookups at once.
        """
        return self._most is not None and descriptor >= self._spent + self._most

    def pause(self, listener: Accepts, reason: str = "") -> None:
        """Have a listener that accepts no more go on when there is room.

        Args:
            listener: the listener; several may pause at once.
            reason: why, in words, unless it is that few descriptors are left.
        """
        self.trouble = f"accepting pauses: {reason or self._full(self._sessions())}"
        if self._calm is not None:
            self._calm.cancel()
            self._calm = None
        if self._timer is None:
            if not self._pauses:
                _log.warn("{trouble}", trouble=self.trouble)
            self._pauses += 1
            self._timer = self._hub.callLater(PAUSE, self._look)
        self._resting[listener] = None

    def forget(self, listener: Accepts) -> None:
        """Leave a listener alone that has stopped."""
        self._resting.pop(listener, None)

    def stop(self) -> None:
        """Let nobody go on any more."""
        for call in (self._timer, self._calm):
            if call is not None:
                call.cancel()
        self._timer = self._calm = None
        self._resting.clear()

    def _full(self, sessions: int) -> str:
        each = f"{sessions} session{'s' * (sessions != 1)}"
        return f"too few of {self._allowed} file descriptors are left beside {each}"

    def _look(self) -> None:
        """Let listeners go on, if there is room."""
        if self._resting and (self.scarcity() or self._is_late()):
            self._timer = self._hub.callLater(PAUSE, self._look)
            return
        self._timer = None
        self.trouble = ""
        self._calm = self._hub.callLater(CALM, self._calmed)
        resting, self._resting = self._resting, {}
        for listener in resting:
            listener.go_on()

    def _is_late(self) -> bool:
        """Whether the next descriptor would say that few are left, or there is none."""
        try:
            descriptor = os.dup(self._hub.fileno())
        except OSError:
            return True
        os.close(descriptor)
        return self.is_late(descriptor)

    def _calmed(self) -> None:
        self._calm = None
        pauses, self._pauses = self._pauses, 0
        _log.warn("accepting goes on (it has paused: {pauses})", pauses=pauses)
