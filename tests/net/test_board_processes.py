"""Counts of processes that die: real ones, killed by the kernel."""

import time
from itertools import count

from tests.net.board_worker import Worker
from tests.net.boards import CROWDED, attached, board

PATIENCE = 60.0
"""Seconds that a process has to be seen at work."""


def test_processes_count_together_and_what_one_has_counted_goes_with_it() -> None:
    with board(CROWDED) as made, Worker(made, 0) as one, Worker(made, 1) as other:
        one.add("a", 3)
        other.add("a", 4)
        other.add("b", 1)
        assert (one.total("a"), other.total("a"), one.total("b")) == (7, 7, 1)
        one.add("a", -2)
        assert other.total("a") == 5
        other.kill()
        # Nobody has noticed yet.
        assert (one.total("a"), one.total("b")) == (5, 1)
        made.clear(1)
        assert (one.total("a"), one.total("b")) == (1, 0)
        with Worker(made, 1) as again:
            again.add("b", 9)
            assert (one.total("b"), again.total("a")) == (9, 1)


def test_a_reader_never_sees_another_keys_count_while_rows_change_hands() -> None:
    """Each key is counted to a number of its own or not at all."""
    with board(CROWDED) as made:
        reader = attached(made, 2, CROWDED)
        for _ in range(3):
            with Worker(made, 0) as writer:
                writer.add("lasting", 5)
                writer.churn()
                seen, end = set[int](), time.monotonic() + PATIENCE
                for turn in count():
                    name = turn % 50
                    total = reader.total("churned", str(name))
                    assert total in (0, name + 1)
                    assert reader.total("lasting") == 5
                    seen.add(total)
                    if turn > 10_000 and len(seen) > 20:
                        break
                    assert time.monotonic() < end, "it does not count"
                writer.kill()
            assert reader.total("lasting") == 5
            made.clear(0)
            assert reader.total("lasting") == 0
            assert {reader.total("churned", str(name)) for name in range(50)} == {0}
