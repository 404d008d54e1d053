"""An allowance: so many alerts an hour, and one that sums up the others."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from proxy.daemon.alerting.events import Clock

WINDOW: Final = 3_600.0
"""Seconds."""

Over = Callable[[Mapping[str, int]], None]
"""Told how many were over the limit, by kind, when their hour ends."""


class Allowance:
    """How many may be told in an hour, which begins with the first of them.

    What sums up the others of an hour counts as the first of the next one.

    Args:
        most: how many, at least 1.
        reactor: says when an hour ends.
        monotonic: measures it.
        over: told of the others, when their hour ends.
    """

    def __init__(self, most: int, reactor: IReactorTime, monotonic: Clock, over: Over) -> None:
        self._most = most
        self._reactor = reactor
        self._monotonic = monotonic
        self._over = over
        self._began: float | None = None
        self._spent = 0
        self._others: Counter[str] = Counter()
        self._timer: IDelayedCall | None = None

    def spend(self, kind: str) -> bool:
        """Whether another one may be told; if not, it is counted by its kind."""
        if self._left() <= 0:
            self._end()
        if self._began is None:
            self._began = self._monotonic()
        if self._spent < self._most:
            self._spent += 1
            return True
        self._others[kind] += 1
        if self._timer is None:
            self._timer = self._reactor.callLater(self._left(), self._due)
        return False

    def stop(self) -> None:
        """End the hour now."""
        self._end()
        self._cancel()

    def _left(self) -> float:
        """Return the seconds until the hour ends; a clock that was set ends it at once."""
        if self._began is None:
            return WINDOW
        elapsed = self._monotonic() - self._began
        return WINDOW - elapsed if elapsed >= 0 else 0.0

    def _due(self) -> None:
        self._timer = None
        left = self._left()
        if left > 1:  # the reactor's clock was set
            self._timer = self._reactor.callLater(left, self._due)
        else:
            self._end()

    def _end(self) -> None:
        self._cancel()
        self._began, self._spent = None, 0
        if self._others:
            others, self._others = self._others, Counter()
            self._began, self._spent = self._monotonic(), 1
            self._over(others)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
