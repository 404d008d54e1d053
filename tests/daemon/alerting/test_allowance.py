"""So many an hour, and one for the rest."""

from collections import Counter
from itertools import count

from twisted.internet.task import Clock

from proxy.daemon.alerting.allowance import WINDOW, Allowance
from proxy.daemon.alerting.told import Others


class Spending:
    """An allowance that is spent on domains of different owners, unless one is named."""

    def __init__(self, most: int, share: int = 1_000) -> None:
        self.clock = Clock()
        self.over: list[Others] = []
        self.allowance = Allowance(most, share, self.clock, self.clock.seconds, self.over.append)
        self._strangers = map("d{}.test".format, count())

    @property
    def summed(self) -> list[Counter[str]]:
        return [others.kinds for others in self.over]

    def spend(self, times: int, kind: str = "change", domain: str | None = None) -> int:
        """Spend on that domain, or on another one each time."""
        return sum(
            self.allowance.spend(kind, domain or next(self._strangers)) for _ in range(times)
        )


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
    clock, summed = Clock(), list[Others]()
    allowance = Allowance(1, 1, clock, lambda: elapsed[0], summed.append)
    assert [allowance.spend("a", "x.example") for _ in range(3)] == [True, False, False]
    elapsed[0] = WINDOW
    assert allowance.spend("b", "y.example") is False  # the sum was the first
    assert [others.kinds for others in summed] == [{"a": 2}]


def test_the_hour_lasts_if_the_timer_is_early() -> None:
    elapsed = [0.0]
    clock, summed = Clock(), list[Others]()
    allowance = Allowance(1, 1, clock, lambda: elapsed[0], summed.append)
    assert [allowance.spend("a", "x.example") for _ in range(2)] == [True, False]
    elapsed[0] = 10.0
    clock.advance(WINDOW)
    assert not summed
    elapsed[0] = WINDOW
    clock.advance(WINDOW)
    assert [others.kinds for others in summed] == [{"a": 1}]


def test_stopping_sums_up_and_leaves_no_timer() -> None:
    spending = Spending(1)
    spending.spend(3)
    spending.allowance.stop()
    assert spending.summed == [{"change": 2}]
    assert not spending.clock.getDelayedCalls()


def test_one_domain_spends_its_share_and_nobody_elses() -> None:
    spending = Spending(20, share=3)
    assert spending.spend(25, domain="evil.example") == 3
    assert spending.spend(2, domain="victim.test") == 2
    spending.clock.advance(WINDOW)
    assert spending.over[0].domains == {"evil.example": 22}
    assert spending.spend(25, domain="evil.example") == 3, "an hour has a share of its own"


def test_what_one_owner_may_have_spends_half() -> None:
    spending = Spending(20, share=3)
    passed = sum(spending.spend(1, domain=f"d{number}.evil.example") for number in range(500))
    assert passed == 10
    assert spending.spend(1, domain="victim.test") == 1
    spending = Spending(1, share=3)
    assert spending.spend(2, domain="evil.example") == 1, "of one, half is one"


def test_all_together_have_a_bound() -> None:
    assert Spending(20, share=3).spend(500) == 20
