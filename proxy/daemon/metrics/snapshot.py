"""Values of metrics at one moment, and how those of several processes become those of the whole."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from proxy.daemon.metrics.families import FAMILIES, Family, Sort

LONGEST_PIECE: Final = 65_536
"""Bytes of the values in one piece of a snapshot, as JSON."""

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order of its declaration."""

Numbers = tuple[float, ...]
"""A value: one number, or of a histogram how many fell in each bucket (that of infinity last) and
the sum of what was observed."""


@attrs.frozen
class Snapshot:
    """Values at one moment.

    Attributes:
        values: by the name of a metric, what it has for each combination of labels.
    """

    values: Mapping[str, Mapping[Labels, Numbers]]

    def lasting(self) -> "Snapshot":
        """Return what is to be counted on when the process is gone: counters and histograms."""
        values = self.values.items()
        kept = {name: it for name, it in values if FAMILIES[name].sort is not Sort.GAUGE}
        return Snapshot(kept)


def pieces(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Write a snapshot as objects of JSON which `read_piece` reads, each of bounded size.

    A value whose labels alone are longer than that is left out.
    """
    for name, series in snapshot.values.items():
        part: list[object] = []
        size = 0
        for labels, numbers in series.items():
            value = [list(labels), list(numbers)]
            octets = len(json.dumps(value))
            if octets > LONGEST_PIECE:
                continue
            if size + octets > LONGEST_PIECE:
                yield {"family": name, "series": part}
                part, size = [], 0
            part.append(value)
            size += octets
        yield {"family": name, "series": part}


def read_piece(structure: object) -> Snapshot:
    """Read what `pieces` has written; `merge` makes the whole of them.

    Raises:
        ValueError: It is something else; the message says what is wrong.
    """
    match structure:
        case {"family": str(name), "series": list(series)}:
            return Snapshot({name: _read(name, series)})
        case _:
            raise ValueError("no part of a snapshot of metrics")


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Make one of the snapshots of several processes, each value by the rule of its metric.

    The order of the snapshots does not matter; of none comes one without values.
    """
    merged: dict[str, dict[Labels, Numbers]] = {}
    for snapshot in snapshots:
        for name, series in snapshot.values.items():
            combine = FAMILIES[name].rule.combine
            into = merged.setdefault(name, {})
            for labels, numbers in series.items():
                there = into.get(labels)
                into[labels] = numbers if there is None else tuple(map(combine, there, numbers))
    return Snapshot(merged)


def width(family: Family) -> int:
    """How many numbers a value of a metric has."""
    # Each bound has its bucket; infinity has one, and then there is the sum.
    return len(family.bounds) + 2 if family.sort is Sort.HISTOGRAM else 1


def _read(name: str, series: list[Any]) -> dict[Labels, Numbers]:
    family = FAMILIES.get(name)
    if family is None:
        raise ValueError(f"there is no metric {name!r}")
    found = {}
    for each in series:
        match each:
            case [list(labels), list(numbers)] if (
                len(labels) == len(family.labels)
                and all(isinstance(label, str) for label in labels)
                and len(numbers) == width(family)
                and all(map(_is_number, numbers))
            ):
                found[tuple(labels)] = tuple(map(float, numbers))
            case _:
                raise ValueError(f"{name}: a value that it cannot have")
    return found


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
