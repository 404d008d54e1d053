"""The generations of a service: the one that holds, and those of which sessions are left."""

from typing import Any, Final

from proxy.daemon.generation import Generation
from proxy.trust.revocation import RevocationLists

WAITS: Final = 1.0
"""Seconds between looks at connections that have not said yet whose they are."""


class Generations:
    """One generation that holds, and older ones until nothing is left of them.

    Args:
        reactor: calls later.
        first: the one that holds first.

    Attributes:
        current: the one that holds.
    """

    def __init__(self, reactor: Any, first: Generation) -> None:
        self.current = first
        self._reactor = reactor
        self._retired: list[Generation] = []
        self._sweeping: Any = None

    def all(self) -> list[Generation]:
        """Return those of which sessions are left, the current one first."""
        return [self.current, *self._retired]

    def follow(self, generation: Generation) -> None:
        """Have another one hold from now on."""
        self._retired.append(self.current)
        self.current = generation
        self.sweep_later()

    def renew(self, revocation: RevocationLists) -> None:
        """Have what was read for the current one hold for sessions of older ones as well."""
        for each in self._retired:
            each.trust.renew(revocation)

    def sweep_later(self) -> None:
        """Give up those that nothing is left of; to be called when anything has ended."""
        if self._retired and self._sweeping is None:
            self._sweeping = self._reactor.callLater(0, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        if any(each.accepting.waits for each in self._retired):
            # Nobody tells of those that go without a word.
            self._sweeping = self._reactor.callLater(WAITS, self._sweep)
        for generation in [each for each in self._retired if each.idle]:
            self._retired.remove(generation)
            generation.close()

    def close(self) -> None:
        """Give up all."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for generation in self.all():
            generation.close()
        self._retired.clear()
