"""Snapshots as Prometheus reads them (text format 0.0.4)."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.daemon.metrics import families
from proxy.daemon.metrics.families import FAMILIES, Family, Sort
from proxy.daemon.metrics.snapshot import Labels, Numbers, Snapshot

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"


def expose(snapshot: Snapshot) -> bytes:
    """Return a snapshot as text: that of one process, or of several as `merge` has made it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposed(snapshot))
    return generate_latest(registry)


class _Exposed(Collector):
    """A snapshot, as a registry collects it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: the registry has no other collector."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each metric that has a value."""
        values = self._snapshot.values
        for family in FAMILIES.values():
            series = values.get(family.name)
            if series:
                yield _metric(family, series)
        upstream = _up(values)
        if upstream:
            yield _metric(families.UP, upstream)


def _up(values: Mapping[str, Mapping[Labels, Numbers]]) -> dict[Labels, Numbers]:
    """Whether each server could be connected to when it was last tried, by any process."""
    never: Numbers = (0.0,)
    successes = values.get(families.LAST_SUCCESS.name, {})
    failures = values.get(families.LAST_FAILURE.name, {})
    return {
        labels: (float(successes.get(labels, never) > failures.get(labels, never)),)
        for labels in sorted({*successes, *failures})
    }


def _metric(family: Family, series: Mapping[Labels, Numbers]) -> Metric:
    labels = family.labels
    if family.sort is Sort.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
        for each, numbers in sorted(series.items()):
            histogram.add_metric(each, _buckets(family, numbers), numbers[-1])
        return histogram
    kind = CounterMetricFamily if family.sort is Sort.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=labels)
    for each, (number,) in sorted(series.items()):
        metric.add_metric(each, number)
    return metric


def _buckets(family: Family, numbers: Numbers) -> list[tuple[str, float]]:
    """How many observations are at most each bound."""
    total = 0.0
    buckets = []
    for bound, count in zip((*map(str, family.bounds), "+Inf"), numbers[:-1], strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
