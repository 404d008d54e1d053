"""Draining: many sessions are ended one after another, so that not all connect again at once."""

import math
import re
from collections import deque
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.session.kinds import Kind
from proxy.xmpp.errors import Condition, StreamError

EACH: Final = 0.02
"""Seconds that one session takes at most, where there are few."""

STEP: Final = 0.01
"""Seconds between steps at least; where there are many sessions each step ends some."""

CERTIFICATE: Final = "certificate"
"""What stands, in place of an age, for sessions under a certificate that was replaced since."""

STOPPING: Final = StreamError(Condition.SYSTEM_SHUTDOWN, "the proxy is shutting down")
"""Sent when the daemon ends."""

RENEWED: Final = StreamError(Condition.RESET, "connect again: what this was set up with is old")
"""Sent to streams that have lasted too long (RFC 6120, section 4.9.3.16)."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_log = Logger()

Session = Bridge | Divider


def age(text: str, now: datetime) -> float:
    """Read how old a session must be to be ended: an age, or a time before which it began.

    Args:
        text: as ``90s``, ``30m``, ``12h`` or ``7d``; or a time as ISO 8601 has it, in UTC unless
            it says otherwise.
        now: the present, with a time zone.

    Returns:
        Seconds.

    Raises:
        ValueError: ``text`` is neither, or the time is yet to come; the message says what is
            allowed.
    """
    found = _AGE.fullmatch(text)
    if found is not None:
        return float(int(found[1]) * _UNITS[found[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        allowed = f"30m, 12h or 7d, a time as 2030-01-31T12:00, or {CERTIFICATE}"
        raise ValueError(f"allowed: an age as {allowed}") from error
    seconds = (now - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds()
    if seconds < 0:
        raise ValueError("the time is yet to come")
    return seconds


def shown_for(session: Session) -> str:
    """Return the domain of ours whose certificate a session shows; empty if it shows none."""
    view = session.view
    if not view.outward:
        return view.domain or "" if view.tls else ""
    return view.origin or "" if view.kind is Kind.S2S and view.server_tls else ""


def lasts(count: int, seconds: float) -> float:
    """Return the seconds within which so many sessions are ended, of those that are allowed."""
    return min(seconds, count * EACH)


class Drain:
    """Ends sessions one after another.

    Args:
        reactor: tells the time and calls later.
        sessions: which.
        live: those that there are; the others are passed over.
        error: what their clients are told.
        seconds: how long it may take.
    """

    def __init__(
        self,
        reactor: Any,
        sessions: Iterable[Session],
        live: Collection[Session],
        error: StreamError,
        seconds: float,
    ) -> None:
        self._reactor = reactor
        # A division first: once its branches are gone, it would end without saying why.
        self._left = deque(sorted(sessions, key=lambda each: not isinstance(each, Divider)))
        self._live = live
        self._error = error
        self.count: Final = len(self._left)
        """How many sessions there were."""
        self.seconds: Final = lasts(self.count, seconds)
        """How long it takes."""
        self._began = 0.0
        self._next: Any = None
        self._done: Deferred[None] = Deferred()

    def start(self) -> "Deferred[None]":
        """Begin; fires when all are told that they end, which takes them a moment longer."""
        self._began = self._reactor.seconds()
        self._step()
        return self._done

    def hurry(self) -> None:
        """End those that are left at once."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._end(self.count)
            self._finish()

    def stop(self) -> None:
        """End no more of them."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _step(self) -> None:
        self._next = None
        if self.seconds > 0:
            passed = (self._reactor.seconds() - self._began) / self.seconds
            # One at once, the last when the time is over.
            self._end(math.ceil(self.count * passed) if passed > 0 else 1)
        else:
            self._end(self.count)
        while self._left and self._left[0] not in self._live:
            self._left.popleft()
        if self._left:
            pause = max(STEP, self.seconds / self.count)
            self._next = self._reactor.callLater(pause, self._step)
        else:
            self._finish()

    def _end(self, due: int) -> None:
        """End so many of all."""
        while self._left and self.count - len(self._left) < due:
            session = self._left.popleft()
            if session in self._live:
                try:
                    session.end(self._error)
                except Exception:  # noqa: BLE001 - one session's fault is not the others'
                    _log.failure("fault in ending a session")

    def _finish(self) -> None:
        if not self._done.called:
            self._done.callback(None)
