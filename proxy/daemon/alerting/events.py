"""Events: an alert that is met again and again is told once, and again when it goes on for long."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

import attrs

from proxy.daemon.alerting.told import Told, bounded, moment
from proxy.trust.keyring.alerts import Alert

MOST: Final = 1_024
"""Events that are remembered; of more, those that were told longest ago are forgotten."""

Clock = Callable[[], float]
"""Seconds: since 1970, or of a clock that is never set."""


@attrs.frozen
class Met:
    """An event as `bascule status` shows it.

    Attributes:
        alert: the alert, as it was met last.
        first: when it was met first.
        last: when it was met last.
        told: when it was told last.
        count: how often it was met, in all.
    """

    alert: Alert
    first: datetime
    last: datetime
    told: datetime
    count: int


@attrs.define
class _Event:
    alert: Alert
    first: float
    last: float
    told: float
    since: float  # of the clock that is never set, when it was told
    count: int = 1
    untold: int = 0  # how often it was met since


class Events:
    """Which alerts are one event, and which of them are due to be told.

    Args:
        repeat: seconds after which an event that goes on is told again.
        clock: the time of day.
        monotonic: a clock that is never set.
    """

    def __init__(self, repeat: float, clock: Clock, monotonic: Clock) -> None:
        self._repeat = repeat
        self._clock = clock
        self._monotonic = monotonic
        self._events: OrderedDict[str, _Event] = OrderedDict()

    def meet(self, alert: Alert) -> Told | None:
        """Take note of an alert; return it as it is to be told, ``None`` if it has been told."""
        alert = bounded(alert)  # which is kept
        now, elapsed = self._clock(), self._monotonic()
        event = self._events.get(alert.key)
        if event is None:
            event = self._events[alert.key] = _Event(alert, now, now, now, elapsed)
            if len(self._events) > MOST:
                self._events.popitem(last=False)
            return Told.of(alert, now, 1)
        event.alert, event.last = alert, now
        event.count += 1
        event.untold += 1
        if 0 <= elapsed - event.since < self._repeat:
            return None
        told = Told.of(alert, now, event.untold)
        event.told, event.since, event.untold = now, elapsed, 0
        self._events.move_to_end(alert.key)
        return told

    def recent(self, most: int) -> list[Met]:
        """Return the events that were told last, at most ``most``, in the order of telling."""
        return [
            Met(
                event.alert,
                moment(event.first),
                moment(event.last),
                moment(event.told),
                event.count,
            )
            for event in list(self._events.values())[-most:]
        ]
