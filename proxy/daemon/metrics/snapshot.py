"""Values of metrics at one moment, and how those of several processes become those of the whole."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import attrs

from proxy.daemon.metrics.families import FAMILIES, Family, Sort

FORMAT: Final = 1
"""What says in JSON how the rest is written; another one is not understood."""

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

    def to_json(self) -> str:
        """Write it as one line of JSON, which `from_json` reads."""
        families = {
            name: [[list(labels), list(numbers)] for labels, numbers in series.items()]
            for name, series in self.values.items()
        }
        return json.dumps({"format": FORMAT, "families": families}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` has written.

        Raises:
            ValueError: It is something else; the message says what is wrong.
        """
        match json.loads(text):
            case {"format": 1, "families": dict(families)}:
                return cls({name: _read(name, series) for name, series in families.items()})
            case _:
                raise ValueError(f"not a snapshot of metrics in format {FORMAT}")


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


def _read(name: str, series: Any) -> dict[Labels, Numbers]:
    family = FAMILIES.get(name)
    if family is None:
        raise ValueError(f"there is no metric {name!r}")
    found = {}
    for each in series if isinstance(series, list) else (series,):
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
