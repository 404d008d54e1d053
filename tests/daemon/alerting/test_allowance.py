"""So many an hour, and one for the rest."""

from collections.abc import Mapping

from twisted.internet.task import Clock

from proxy.daemon.alerting.allowance import WINDOW, Allowance


class Spending:
    def __init__(self, most: int) -> None:
        self.clock = Clock()
        self.summed: list[Mapping[str, int]] = []
        self.allowance = Allowance(most, self.clock, self.clock.seconds, self.summed.append)

    def spend(self, times: int, kind: str = "change") -> int:
        return sum(self.allowance.spend(kind) for _ in range(times))


def test_what_is_within_the_limit_passes_and_the_rest_is_summed_up_at_the_end() -> None:
    spending = Spending(3)
    assert spending.spend(2) == 2
    spending.clock.advance(WINDOW / 2)
    assert spending.spend(5) == 1
    assert spending.spend(2, "unknown") == 0
    spending.clock.advance(WINDOW / 2 - 1)
    assert not spending.summed
    spending.clock.advance(1)
    assert spending.summed == [{"change": 4, "unknown": 2}]
    assert not spending.clock.getDelayedCalls()


def test_the_sum_counts_as_the_first_of_the_next_hour() -> None:
    spending = Spending(3)
    spending.spend(9)
    spending.clock.advance(WINDOW)
    assert spending.spend(9) == 2
    spending.clock.advance(WINDOW)
    assert spending.summed == [{"change": 6}, {"change": 7}]


def test_a_flood_of_days_passes_the_limit_in_no_hour() -> None:
    spending = Spending(3)
    passed = 0
    for _ in range(4 * 24):
        passed += spending.spend(10)
        spending.clock.advance(WINDOW / 4)
    assert passed + len(spending.summed) <= 3 * 25


def test_an_hour_without_more_ends_without_a_word() -> None:
    spending = Spending(3)
    assert spending.spend(3) == 3
    spending.clock.advance(WINDOW)
    assert spending.spend(3) == 3
    assert not spending.summed


def test_the_hour_ends_with_the_next_one_if_the_timer_is_late() -> None:
    """The reactor's timers follow the time of day, which can be set back."""
    elapsed = [0.0]
    clock, summed = Clock(), list[Mapping[str, int]]()
    allowance = Allowance(1, clock, lambda: elapsed[0], summed.append)
    assert [allowance.spend("a") for _ in range(3)] == [True, False, False]
    elapsed[0] = WINDOW
    assert allowance.spend("b") is False  # the sum was the first
    assert summed == [{"a": 2}]


def test_the_hour_lasts_if_the_timer_is_early() -> None:
    elapsed = [0.0]
    clock, summed = Clock(), list[Mapping[str, int]]()
    allowance = Allowance(1, clock, lambda: elapsed[0], summed.append)
    assert [allowance.spend("a") for _ in range(2)] == [True, False]
    elapsed[0] = 10.0
    clock.advance(WINDOW)
    assert not summed
    elapsed[0] = WINDOW
    clock.advance(WINDOW)
    assert summed == [{"a": 1}]


def test_stopping_sums_up_and_leaves_no_timer() -> None:
    spending = Spending(1)
    spending.spend(3)
    spending.allowance.stop()
    assert spending.summed == [{"change": 2}]
    assert not spending.clock.getDelayedCalls()
