"""Snapshots: written, read and merged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.daemon.metrics import families
from proxy.daemon.metrics.families import FAMILIES, Family, Rule
from proxy.daemon.metrics.snapshot import (
    Labels,
    Numbers,
    Snapshot,
    merge,
    pieces,
    read_piece,
    width,
)
from proxy.daemon.metrics.tally import MOST_SERIES, OTHER, Tally
from tests.daemon.metrics.fakes import Counted


def one(family: Family, value: float, *labels: str) -> Snapshot:
    return Snapshot({family.name: {labels: (value,)}})


def series(family: Family) -> st.SearchStrategy[dict[Labels, Numbers]]:
    labels = st.tuples(*[st.sampled_from(["a", 'b"\n', "\u2028"])] * len(family.labels))
    # Whole numbers: their sums do not depend on the order.
    number = st.integers(0, 10**9).map(float)
    return st.dictionaries(labels, st.tuples(*[number] * width(family)), max_size=3)


snapshots = st.fixed_dictionaries(
    {}, optional={family.name: series(family) for family in FAMILIES.values()}
).map(Snapshot)


def sent(snapshot: Snapshot) -> Snapshot:
    """A snapshot that has gone from one process to another."""
    return merge(read_piece(json.loads(json.dumps(each))) for each in pieces(snapshot))


@given(snapshots)
def test_what_is_written_is_read_again(snapshot: Snapshot) -> None:
    assert sent(snapshot) == snapshot


@given(snapshots, st.integers(1, 400))
def test_no_piece_is_too_long(snapshot: Snapshot, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("proxy.daemon.metrics.snapshot.LONGEST_PIECE", longest)
        written = list(pieces(snapshot))
        kept = merge(map(read_piece, written))
    for piece in written:
        assert sum(len(json.dumps(value)) for value in piece["series"]) <= longest
    for name, series in snapshot.values.items():
        for labels, numbers in series.items():
            fits = len(json.dumps([labels, numbers])) <= longest
            assert kept.values[name].get(labels) == (numbers if fits else None)


@given(snapshots)
def test_what_counts_when_a_process_is_gone(snapshot: Snapshot) -> None:
    lasting = snapshot.lasting()
    for name, series in snapshot.values.items():
        is_gauge = FAMILIES[name].sort is families.Sort.GAUGE
        assert lasting.values.get(name) == (None if is_gauge else series)


@given(st.lists(snapshots, min_size=2, max_size=4))
def test_the_order_of_processes_does_not_matter(several: list[Snapshot]) -> None:
    first, *rest = several
    assert merge(several) == merge(reversed(several)) == merge([first, merge(rest)])


def test_values_become_one_by_the_rule_of_their_metric() -> None:
    for family, values, merged in (
        (families.SESSIONS, (2, 3), 5),
        (families.ENDED, (2, 3), 5),
        (families.PENDING, (2, 3), 3),
        (families.READY, (1, 0), 1),
        (families.DESCRIPTORS, (0.5, 0.25), 0.5),
    ):
        labels = ("x",) * len(family.labels)
        parts = [one(family, float(value), *labels) for value in values]
        assert merge(parts) == one(family, merged, *labels)


def test_histograms_add_up() -> None:
    numbers = tuple(map(float, range(width(families.LOOP_DELAY))))
    part = Snapshot({families.LOOP_DELAY.name: {(): numbers}})
    merged = merge([part, part]).values[families.LOOP_DELAY.name][()]
    assert merged == tuple(2 * number for number in numbers)


def test_what_only_one_process_has_stays() -> None:
    merged = merge([one(families.ENDED, 1, "a", "late"), one(families.ENDED, 2, "b", "late")])
    assert merged.values == {families.ENDED.name: {("a", "late"): (1,), ("b", "late"): (2,)}}
    assert merge([]) == Snapshot({})


def test_counters_only_add() -> None:
    for family in FAMILIES.values():
        if family.sort is not families.Sort.GAUGE:
            assert family.rule is Rule.ADD


def test_a_real_snapshot_can_be_sent() -> None:
    snapshot = Counted().snapshot()
    assert sent(snapshot) == snapshot


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"family": "bascule_ready"}',
        '{"family": ["bascule_ready"], "series": []}',
        '{"family": "bascule_nothing", "series": []}',
        '{"family": "bascule_ready", "series": 1}',
        '{"family": "bascule_ready", "series": [[[], [1, 2]]]}',
        '{"family": "bascule_ready", "series": [[["x"], [1]]]}',
        '{"family": "bascule_ready", "series": [[[], ["1"]]]}',
        '{"family": "bascule_ready", "series": [[[], [true]]]}',
        '{"family": "bascule_ready", "series": [[[], [NaN]]]}',
        '{"family": "bascule_ready", "series": [[[], [Infinity]]]}',
        '{"family": "bascule_certificates", "series": [[[1], [1]]]}',
    ],
)
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_piece(json.loads(text))


def test_refusals_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"\Athere is no metric 'a\\nb'\Z"):
        read_piece({"family": "a\nb", "series": []})


# Counting


def test_series_are_bounded() -> None:
    tally = Tally()
    for number in range(MOST_SERIES + 10):
        tally.add(families.STARTED, str(number))
        tally.put(families.PENDING, value=float(number))
    found = tally.values()
    assert len(found[families.STARTED.name]) == MOST_SERIES + 1
    assert found[families.STARTED.name][(OTHER,)] == (10,)
    assert found[families.PENDING.name] == {(): (MOST_SERIES + 9,)}


def test_gauges_without_room_share_the_greatest() -> None:
    tally = Tally()
    for number in range(MOST_SERIES):
        tally.put(families.LAST_SUCCESS, "c2s", str(number), value=1.0)
    for value in (7.0, 9.0, 8.0):
        tally.put(families.LAST_SUCCESS, "c2s", f"more{value}", value=value)
    assert tally.values()[families.LAST_SUCCESS.name][OTHER, OTHER] == (9.0,)


def test_an_observation_falls_in_the_first_bucket_that_is_wide_enough() -> None:
    tally = Tally()
    bounds = families.LOOP_DELAY.bounds
    for value in (bounds[0], bounds[0] + 1e-6, bounds[-1] * 2):
        tally.observe(families.LOOP_DELAY, value=value)
    *counts, total = tally.values()[families.LOOP_DELAY.name][()]
    assert counts == [1, 1, *[0] * (len(bounds) - 2), 1]
    assert total == pytest.approx(2 * bounds[0] + 2 * bounds[-1], abs=1e-4)
