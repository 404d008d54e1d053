"""How sessions are ended by the daemon: those that are too old, or all of them when it stops."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from proxy.daemon.draining import STOPPING, Drain, Session
from proxy.xmpp.errors import StreamError

GRACE: Final = 5.0
"""Seconds that sessions get to end when all are told to."""

ANSWERED: Final = 0.2
"""Seconds that who has asked for the end gets to take the answer."""

PAUSE: Final = 0.05
"""Seconds between looks whether last words have arrived."""


class Stopping:
    """Ends sessions.

    Args:
        reactor: tells the time and calls later.
        live: those that there are; it changes while they begin and end.
        stopped: called once, when the last has ended, or the time for that is over.
        quiet: whether all last words have arrived, for sessions end when they are sent.
    """

    def __init__(
        self,
        reactor: Any,
        live: Collection[Session],
        stopped: Callable[[], None],
        quiet: Callable[[], bool] = lambda: True,
    ) -> None:
        self._reactor = reactor
        self._live = live
        self._stopped: Callable[[], None] | None = stopped
        self._quiet = quiet
        self._drains: set[Drain] = set()
        self._last: Drain | None = None
        self._grace: Any = None
        self._look: Any = None
        self._over = False

    @property
    def begun(self) -> bool:
        """Whether all sessions are to end."""
        return self._last is not None

    def end(self, sessions: Iterable[Session], error: StreamError, seconds: float) -> Drain:
        """End some sessions, one after another; the others go on."""
        drain = Drain(self._reactor, sessions, self._live, error, seconds)
        self._drains.add(drain)
        drain.start().addCallback(lambda _: self._drains.discard(drain))
        return drain

    def end_all(self, seconds: float) -> None:
        """End all sessions, one after another, and whatever begins meanwhile."""
        for drain in self._drains:
            drain.stop()
        self._drains.clear()
        self._last = Drain(self._reactor, tuple(self._live), self._live, STOPPING, seconds)
        self._last.start().addCallback(self._told)

    def hurry(self) -> None:
        """Wait for none of them any more."""
        if self._last is not None and not self._over:
            self._last.hurry()
            self._finish()

    def closed(self) -> None:
        """Take note that a session is over."""
        if self._live or self._last is None or self._over:
            return
        if self._grace is None:
            self._last.hurry()  # there is nobody left to be told
        elif self._quiet():
            self._finish()
        elif self._look is None:
            self._look = self._reactor.callLater(PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self.closed()

    def _told(self, _result: object) -> None:
        """All are told that they end."""
        if self._over:
            return
        # What is armed first is there when the last one ends at once.
        self._grace = self._reactor.callLater(GRACE, self._finish)
        for session in tuple(self._live):
            session.end(STOPPING)  # most of them know; some have begun meanwhile
        if self._grace is not None:
            self.closed()

    def _finish(self) -> None:
        for timer in (self._grace, self._look):
            if timer is not None and timer.active():
                timer.cancel()
        self._grace = self._look = None
        self._over = True
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped()
