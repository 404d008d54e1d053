"""An allowance: so many alerts an hour, and one that sums up the others."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from proxy.daemon.alerting.events import Clock
from proxy.daemon.alerting.told import Others
from proxy.trust.keyring.room import family

WINDOW: Final = 3_600.0
"""Seconds."""

Over = Callable[[Others], None]
"""Told of those that were over the limit, when their hour ends."""


class Allowance:
    """How many may be told in an hour, which begins with the first of them.

    One domain may have its share of them, and domains that may be one owner's (`family`) no more
    than half of what others have left, rounded up: a stranger can only spend their own part. What
    sums up the others of an hour counts as the first of the next one.

    Args:
        most: how many, at least 1.
        share: how many of them may be about one domain, at least 1.
        reactor: says when an hour ends.
        monotonic: measures it.
        over: told of the others, when their hour ends.
    """

    def __init__(
        self, most: int, share: int, reactor: IReactorTime, monotonic: Clock, over: Over
    ) -> None:
        self._most = most
        self._share = share
        self._reactor = reactor
        self._monotonic = monotonic
        self._over = over
        self._began: float | None = None
        self._spent = 0
        self._domains: Counter[str] = Counter()
        self._families: Counter[str] = Counter()
        self._others = Others()
        self._timer: IDelayedCall | None = None

    def spend(self, kind: str, domain: str) -> bool:
        """Whether another one may be told; if not, it is counted by its kind and domain."""
        if self._left() <= 0:
            self._end()
        if self._began is None:
            self._began = self._monotonic()
        if self._allows(domain):
            self._spent += 1
            self._domains[domain] += 1
            self._families[family(domain)] += 1
            return True
        self._others.add(kind, domain)
        if self._timer is None:
            self._timer = self._reactor.callLater(self._left(), self._due)
        return False

    def stop(self) -> None:
        """End the hour now."""
        self._end()
        self._cancel()

    def _allows(self, domain: str) -> bool:
        return (
            self._spent < self._most
            and self._domains[domain] < self._share
            and self._families[family(domain)] < self._part(family(domain))
        )

    def _part(self, owner: str) -> int:
        """Return how many may be about one owner's domains: half of what others have left."""
        left = self._most - (self._spent - self._families[owner])
        return max(1, (left + 1) // 2)

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
        self._domains.clear()
        self._families.clear()
        if self._others.kinds:
            others, self._others = self._others, Others()
            self._began, self._spent = self._monotonic(), 1
            self._over(others)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
