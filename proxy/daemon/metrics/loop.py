"""How long things wait for the event loop: the delay that it adds to what is relayed.

Now and then a timer runs out, at moments that have nothing to do with traffic. How late it is
called is how long bytes that had come at that moment would have waited until the proxy turned to
them: the rest of what it was busy with. So the latency of the relay is measured without touching
the relay. What it cannot show is below a millisecond, for timers are no finer.
"""

import time
from collections.abc import Callable
from typing import Any, Final

INTERVAL: Final = 0.25
"""Seconds from one look to the next."""

STUCK: Final = 5.0
"""Seconds of delay after which the daemon does not count as ready for as long again."""


class LoopDelay:
    """Looks at the event loop's delay for as long as it runs.

    Args:
        reactor: calls later.
        observed: takes each delay, in seconds.
        clock: tells the time, in seconds; it must not jump.
    """

    def __init__(
        self,
        reactor: Any,
        observed: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._observed = observed
        self._clock = clock
        self._due = 0.0
        self._stuck_until = 0.0
        self._call: Any = None

    def start(self) -> None:
        """Begin."""
        self._due = self._clock() + INTERVAL
        self._call = self._reactor.callLater(INTERVAL, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def stuck(self) -> bool:
        """Whether the loop was stuck not long ago."""
        return self._clock() < self._stuck_until

    def _look(self) -> None:
        now = self._clock()
        # Where the time of day has jumped ahead, the timer is early.
        delay = max(0.0, now - self._due)
        if delay >= STUCK:
            self._stuck_until = now + STUCK
        self._observed(delay)
        self.start()
