"""Deadlines of many sessions at little cost.

A deadline of one kind always lasts equally long, so those that are armed later expire later: the
queue of each kind is in order by itself, and one timer of the reactor is enough for its head.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import Logger

from proxy.session.commands import Deadline

_log = Logger()

Expired = Callable[[Deadline], None]


class Armed:
    """A deadline that runs; `disarm` makes it forget whom to tell."""

    __slots__ = ("_queue", "at", "expired")

    def __init__(self, at: float, expired: Expired, queue: "deque[Armed]") -> None:
        self.at = at
        self.expired: Expired | None = expired
        self._queue = queue
        queue.append(self)

    def disarm(self) -> None:
        """Tell nobody."""
        self.expired = None
        queue = self._queue
        # Most are disarmed in the order in which they were armed, and need not wait for their time.
        while queue and queue[0].expired is None:
            queue.popleft()


class Deadlines:
    """The deadlines of all sessions of a listener.

    Args:
        reactor: tells the time (``seconds``) and calls later.
        seconds: how long each kind lasts.
    """

    def __init__(self, reactor: Any, seconds: Mapping[Deadline, float]) -> None:
        self._reactor = reactor
        self._seconds: Final = dict(seconds)
        self._queues: dict[Deadline, deque[Armed]] = {kind: deque() for kind in seconds}
        self._timed: set[Deadline] = set()  # those for which a timer of the reactor runs

    def arm(self, kind: Deadline, expired: Expired) -> Armed:
        """Call ``expired`` with ``kind`` when its time is over, unless it is disarmed before."""
        seconds = self._seconds[kind]
        armed = Armed(self._reactor.seconds() + seconds, expired, self._queues[kind])
        if kind not in self._timed:
            self._timed.add(kind)
            self._reactor.callLater(seconds, self._look, kind)
        return armed

    def _look(self, kind: Deadline) -> None:
        """Call those whose time is over, and look again when the next one's is."""
        queue = self._queues[kind]
        now = self._reactor.seconds()
        over: list[Armed] = []
        while queue and (queue[0].expired is None or queue[0].at <= now):
            over.append(queue.popleft())
        if queue:
            self._reactor.callLater(queue[0].at - now, self._look, kind)
        else:
            self._timed.discard(kind)
        for armed in over:
            if armed.expired is not None:
                try:
                    armed.expired(kind)
                except BaseException:  # noqa: BLE001 - one session's fault is not the others'
                    _log.failure("fault in a session")
