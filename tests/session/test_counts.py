"""Counts of one process, and what keeps their keys apart."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.session.counts import LocalCounts, Section, delimited

TEXTS = st.text("a1,;\u00e9\ud800", max_size=4)
KEYS = st.lists(TEXTS, max_size=4).map(tuple)


@given(st.lists(st.tuples(KEYS, st.integers(-3, 3))))
def test_what_is_counted_is_the_sum_of_what_was_added(
    additions: list[tuple[tuple[str, ...], int]],
) -> None:
    counts, expected = LocalCounts(), Counter[tuple[str, ...]]()
    for key, amount in additions:
        counts.add(*key, amount=amount)
        expected[key] += amount
        assert counts.total(*key) == expected[key]
    assert len(counts) == sum(amount != 0 for amount in expected.values())


def test_one_is_added_unless_it_is_said_how_many() -> None:
    counts = LocalCounts()
    counts.add("a")
    counts.add("a", amount=2)
    assert counts.total("a") == 3
    assert counts.total("b") == 0


@given(KEYS, KEYS)
def test_attack_no_two_keys_are_the_same_however_they_are_divided(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert (delimited(one) == delimited(other)) is (one == other)


def test_sections_have_their_keys_for_themselves() -> None:
    counts = LocalCounts()
    one, other = Section(counts, "plugins", "one"), Section(counts, "plugins", "other")
    one.add("a", amount=2)
    other.add("a")
    assert (one.total("a"), other.total("a"), counts.total("a")) == (2, 1, 0)
    again = Section(Section(counts, "plugins"), "one")
    assert again.total("a") == 2
    again.add("a", amount=-2)
    other.add("a", amount=-1)
    assert len(counts) == 0
