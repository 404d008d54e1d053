"""A reactor whose time passes only while a test turns it.

Where the machine stands still, or other programs have it, the deadlines of what is tested would be
over before anybody could have kept them. Here they are not: a turn of the reactor counts for no
longer than the test has asked it to wait, however long it took.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from proxy.net.hub import Hub
from tests.net.conftest import Turning


class Steady:
    """A reactor with a time of its own; all else is the real one's.

    Args:
        reactor: the real one, which watches descriptors.

    Attributes:
        advance: lets so many seconds pass at once, which nobody has to wait for.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._clock = Clock()
        self.seconds = self._clock.seconds
        self.callLater = self._clock.callLater
        self.getDelayedCalls = self._clock.getDelayedCalls
        self.advance = self._clock.advance

    def iterate(self, delay: float) -> None:
        """Turn it: wait for descriptors, for ``delay`` at most, and do what is due."""
        began = time.monotonic()
        self._reactor.iterate(delay)
        self.advance(min(delay, time.monotonic() - began))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class SteadyTurning(Turning):
    """A steady reactor that a test turns by hand, and a hub on it."""

    reactor: Any

    def __init__(self) -> None:
        super().__init__()
        self.hub.close()
        self.reactor = Steady(self.reactor)
        self.hub = Hub(self.reactor)


@pytest.fixture
def turning() -> Iterator[SteadyTurning]:
    """Takes the place of the fixture of this name in the modules that import it."""
    turning = SteadyTurning()
    yield turning
    turning.stop()
