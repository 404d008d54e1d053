"""Decisions for tests."""

from collections.abc import Callable


class NeverDecided:
    """A decision that nobody ever takes (a `proxy.trust.undecided.Decision`)."""

    def wait(self, _told: Callable[[bool], None]) -> Callable[[], None]:
        return lambda: None
