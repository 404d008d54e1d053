"""Where it is counted: a few dictionaries, so that to count costs as little as it can."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from proxy.daemon.metrics.families import Family
from proxy.daemon.metrics.snapshot import Labels, Numbers, width

MOST_SERIES: Final = 2_000
"""How many combinations of labels one metric may have; what comes beyond that is `OTHER`."""

OTHER: Final = "other"
"""The value of labels for whatever has none of its own."""


class Tally:
    """Values of metrics, as they grow.

    No label of a metric should have many values. Should one have them all the same, the metric
    goes on with `MOST_SERIES` of them, and memory and scrapes stay as small as they were.
    """

    def __init__(self) -> None:
        self._singles: dict[Family, dict[Labels, float]] = {}
        self._histograms: dict[Family, dict[Labels, list[float]]] = {}

    def add(self, family: Family, *labels: str, amount: float = 1) -> None:
        """Add to a counter."""
        series = self._singles.setdefault(family, {})
        if labels not in series:
            labels = _room(series, labels)
        series[labels] = series.get(labels, 0.0) + amount

    def put(self, family: Family, *labels: str, value: float) -> None:
        """Set a gauge; where there is no room for it, the greatest of all such."""
        series = self._singles.setdefault(family, {})
        if labels not in series:
            room = _room(series, labels)
            if room != labels:
                series[room] = max(series.get(room, value), value)
                return
        series[labels] = value

    def observe(self, family: Family, *labels: str, value: float) -> None:
        """Add an observation to a histogram."""
        series = self._histograms.setdefault(family, {})
        if labels not in series:
            labels = _room(series, labels)
        numbers = series.get(labels)
        if numbers is None:
            numbers = series[labels] = [0.0] * width(family)
        numbers[bisect_left(family.bounds, value)] += 1
        numbers[-1] += value

    def values(self) -> dict[str, dict[Labels, Numbers]]:
        """Return a copy of all values, as a snapshot has them."""
        found: dict[str, dict[Labels, Numbers]] = {
            family.name: {labels: (value,) for labels, value in series.items()}
            for family, series in self._singles.items()
        }
        for family, series in self._histograms.items():
            found[family.name] = {labels: tuple(numbers) for labels, numbers in series.items()}
        return found


def _room(series: Mapping[Labels, object], labels: Labels) -> Labels:
    """Return under which labels something new is kept."""
    return labels if len(series) < MOST_SERIES else (OTHER,) * len(labels)
