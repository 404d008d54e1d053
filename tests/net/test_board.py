"""Counts in shared memory, against what plain dictionaries make of the same."""

import errno
import fcntl
import mmap
import os
from collections import Counter
from typing import NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.net.board import LAYOUT, MOST_WORKERS, Board, Layout, SharedCounts
from tests.net.boards import KEY, SMALL, attached, board, rows

NUMBERS = st.integers(0, 3)
KEYS = st.integers(0, 11).map(str)


class Model(RuleBasedStateMachine):
    """A board so small that windows are full: what is not published counts for its own process."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board.create(SMALL)
        self.workers: dict[int, SharedCounts] = {}
        self.shares: dict[int, Counter[str]] = {}

    def teardown(self) -> None:
        self.board.close()

    @rule(number=NUMBERS, key=KEYS, amount=st.integers(-2, 3))
    def add(self, number: int, key: str, amount: int) -> None:
        if number not in self.workers:
            self.workers[number] = attached(self.board, number, SMALL)
            self.shares[number] = Counter()
        self.workers[number].add(key, amount=amount)
        self.shares[number][key] += amount
        if self.shares[number][key] and not published(self.workers[number], key):
            assert is_full(self.workers[number], key)

    @rule(number=NUMBERS)
    def die(self, number: int) -> None:
        if self.workers.pop(number, None) is not None:
            del self.shares[number]
            self.board.clear(number)

    @invariant()
    def totals_are_right(self) -> None:
        for number, worker in self.workers.items():
            for key in map(str, range(12)):
                shown = sum(
                    shares[key]
                    for other, shares in self.shares.items()
                    if other == number or published(self.workers[other], key)
                )
                assert worker.total(key) == shown

    @invariant()
    def rows_are_used_for_what_is_counted_and_none_is_wasted(self) -> None:
        for number, worker in self.workers.items():
            counted = {key for key, share in self.shares[number].items() if share}
            assert len(worker) == len(counted)
            shown = {key for key in counted if published(worker, key)}
            assert rows(worker) == len(shown)
            if not counted:
                assert rows(worker) == 0


def published(worker: SharedCounts, key: str) -> bool:
    """Whether a key has a row."""
    return worker._find((key,))[0] in worker._rows


def is_full(worker: SharedCounts, key: str) -> bool:
    """Whether all rows that a key might have are others'."""
    slot = worker._find((key,))[2] % SMALL.slots
    return all(worker._taken[slot : slot + SMALL.window])


Model.TestCase.settings = settings(stateful_step_count=40)
TestModel = Model.TestCase


def test_a_key_without_a_row_counts_in_its_own_process_and_gets_a_row_when_there_is_one() -> None:
    with board(Layout(slots=1, window=2)) as made:
        one, other = (attached(made, number, Layout(slots=1, window=2)) for number in (0, 1))
        for key in "abc":
            one.add(key)
        assert [one.total(key) for key in "abc"] == [1, 1, 1]
        assert [other.total(key) for key in "abc"] == [1, 1, 0]
        one.add("a", amount=-1)
        one.add("c")
        assert [other.total(key) for key in "abc"] == [0, 1, 2]
        one.add("c", amount=-2)
        assert (len(one), rows(one)) == (1, 1)


def test_a_key_that_never_had_a_row_is_forgotten_like_others() -> None:
    with board(Layout(slots=1, window=1)) as made:
        one = attached(made, 0, Layout(slots=1, window=1))
        one.add("a")
        one.add("b")
        one.add("b", amount=-1)
        assert (len(one), one.total("b"), one.total("a")) == (1, 0, 1)


@pytest.mark.parametrize("amount", [1, -1, 2**31 - 1, 1 - 2**31])
def test_amounts_of_either_sign(amount: int) -> None:
    with board() as made:
        one, other = attached(made, 0), attached(made, 1)
        one.add("a", amount=amount)
        assert other.total("a") == amount
        other.add("a", amount=-amount)
        assert one.total("a") == 0


def test_what_is_too_large_to_be_shown_is_shown_as_the_largest() -> None:
    with board() as made:
        one, other = attached(made, 0), attached(made, 1)
        one.add("a", amount=10**12)
        one.add("b", amount=-(10**12))
        assert (one.total("a"), other.total("a")) == (10**12, 2**31 - 1)
        assert (one.total("b"), other.total("b")) == (-(10**12), 1 - 2**31)


def test_all_workers_that_there_may_be() -> None:
    with board() as made:
        workers = [attached(made, number) for number in range(MOST_WORKERS)]
        for worker in workers:
            worker.add("a")
        assert {worker.total("a") for worker in workers} == {MOST_WORKERS}


def test_a_worker_can_publish_tens_of_thousands_of_keys() -> None:
    with board() as made:
        one = attached(made, 0)
        for number in range(60_000):
            one.add(str(number))
        assert len(one) - len(one._rows) < 60


def test_only_what_is_used_takes_room() -> None:
    with board() as made:
        attached(made, 3).add("a")
        assert os.fstat(made.descriptor).st_blocks * 512 <= 4 * mmap.PAGESIZE


def test_a_worker_that_has_been_cleared_away_counts_no_more() -> None:
    with board() as made:
        one, other = attached(made, 0), attached(made, 1)
        one.add("a")
        other.add("a")
        made.clear(0)
        assert other.total("a") == 1
        again = attached(made, 0)
        assert again.total("a") == 1
        again.add("a")
        assert other.total("a") == 2


def test_a_region_that_has_not_been_cleared_is_not_given_away() -> None:
    with board() as made:
        attached(made, 0)
        with pytest.raises(ValueError, match="worker 0 is there already"):
            attached(made, 0)


@pytest.mark.parametrize("number", [-1, MOST_WORKERS])
def test_there_are_no_other_workers(number: int) -> None:
    with board() as made:
        with pytest.raises(ValueError, match="no worker"):
            attached(made, number)
        with pytest.raises(ValueError, match="no worker"):
            made.clear(number)


def test_nobody_changes_the_size_of_a_board_and_programs_do_not_inherit_it() -> None:
    with board() as made:
        assert not os.get_inheritable(made.descriptor)
        for size in (0, 2 * LAYOUT.size):
            with pytest.raises(PermissionError):
                os.ftruncate(made.descriptor, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(made.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_worker_goes_on_when_descriptors_are_closed() -> None:
    with board() as made:
        one, other = attached(made, 0), attached(made, 1)
    one.add("a")
    assert other.total("a") == 1


@pytest.mark.parametrize("size", [0, LAYOUT.size - 1, LAYOUT.size])
def test_attack_what_is_no_board_is_none(size: int) -> None:
    descriptor = os.memfd_create("other")
    try:
        os.ftruncate(descriptor, size)
        with pytest.raises(ValueError, match="not that of a board"):
            Board.attach(descriptor, KEY, 0)
    finally:
        os.close(descriptor)


def test_kernels_that_do_not_know_of_memory_that_cannot_be_executed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = os.memfd_create

    def old(name: str, flags: int) -> int:
        if flags & 0x0008:
            raise OSError(errno.EINVAL, "Invalid argument")
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    with board() as made:
        one, other = attached(made, 0), attached(made, 1)
        one.add("a")
        assert other.total("a") == 1


def test_a_board_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENFILE, "Too many open files in system")

    monkeypatch.setattr(os, "memfd_create", full)
    with pytest.raises(OSError, match="Too many"):
        Board.create()


def test_a_board_that_cannot_be_sealed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = list[int]()

    def refuse(descriptor: int, *_: object) -> NoReturn:
        descriptors.append(descriptor)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(PermissionError):
        Board.create()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])


# What strangers try


def test_attack_keys_cannot_be_chosen_to_collide() -> None:
    """Keys that meet in one window under one secret are scattered under another."""
    layout = Layout(slots=64, window=4)
    with board(layout) as known, board(layout) as unknown:
        mine = attached(known, 0, layout)
        chosen = [str(n) for n in range(4000) if mine._find((str(n),))[2] % layout.slots == 0]
        chosen = chosen[:32]
        for key in chosen:
            mine.add(key)
        assert len(mine._rows) == layout.window
        theirs = attached(unknown, 0, layout, b"unknown" * 5)
        for key in chosen:
            theirs.add(key)
        assert len(theirs._rows) > 2 * layout.window


def test_attack_a_window_that_is_full_hides_nothing_of_what_was_there() -> None:
    layout = Layout(slots=1, window=4)
    with board(layout) as made:
        one, other = (attached(made, number, layout) for number in (0, 1))
        one.add("victim")
        for number in range(100):
            one.add(str(number))
            other.add(str(number))
        assert other.total("victim") == 1
        assert one.total("99") == 1


# What a reader may meet while another process writes


def test_a_row_that_is_given_to_another_key_while_it_is_read_counts_for_nothing() -> None:
    """The reader has found the digest, and reads the word when another's is there already."""
    with board() as made:
        one, reader = attached(made, 0), attached(made, 1)
        one.add("a", amount=7)
        row = one._rows[one._find(("a",))[0]]
        _, tag, _ = one._find(("b",))
        one._words[row] = tag << 32 | 9
        assert reader.total("a") == 0


def test_a_row_whose_word_has_not_arrived_yet_counts_for_nothing() -> None:
    with board() as made:
        one, reader = attached(made, 0), attached(made, 1)
        one.add("a", amount=7)
        one._words[one._rows[one._find(("a",))[0]]] = 0
        assert reader.total("a") == 0


def test_a_row_that_is_given_up_counts_for_nothing_even_for_whoever_has_found_it() -> None:
    with board() as made:
        one, reader = attached(made, 0), attached(made, 1)
        one.add("a", amount=7)
        digest = one._find(("a",))[0]
        row = one._rows[digest]
        one.add("a", amount=-7)
        one._show(row, digest)  # as the reader has seen it
        assert reader.total("a") == 0


@pytest.mark.parametrize("written", [0, 1, 8, 15])
def test_a_digest_that_is_half_written_is_nobodys(written: int) -> None:
    with board() as made:
        one, reader = attached(made, 0), attached(made, 1)
        one.add("a", amount=7)
        digest = one._find(("a",))[0]
        one._show(one._rows[digest], digest[:written] + bytes(16 - written))
        assert reader.total("a") == 0
        one._show(one._rows[digest], digest)
        assert reader.total("a") == 7


def test_a_digest_across_two_rows_is_nobodys() -> None:
    """The second half of one and the first of the next may look like a third."""
    layout = Layout(slots=1, window=4)
    with board(layout) as made:
        one, reader = (attached(made, number, layout) for number in (0, 1))
        one.add("a", amount=7)
        digest = one._find(("a",))[0]
        one._show(0, b"x" * 8 + digest[:8])
        one._show(1, digest[8:] + b"x" * 8)
        assert reader.total("a") == 0
        one._show(3, digest)
        one._words[3] = one._words[0]
        assert reader.total("a") == 7


def test_the_last_window_of_a_region_does_not_reach_into_the_next() -> None:
    layout = Layout(slots=2, window=64)
    with board(layout) as made:
        one, other = (attached(made, number, layout) for number in (0, 1))
        for number in range(200):
            one.add(str(number))
        assert 64 <= rows(one) <= layout.rows
        assert rows(other) == 0
        assert made.descriptor >= 0
        assert [other.total(str(number)) for number in range(64)] == [1] * 64
