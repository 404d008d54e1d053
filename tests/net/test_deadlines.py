"""Deadlines of many sessions: each is told in its turn, whatever another does."""

import gc
from asyncio import CancelledError

import pytest
from twisted.internet.task import Clock

from proxy.net.deadlines import Armed, Deadlines
from proxy.session.commands import Deadline

KIND = Deadline.NEGOTIATION


def _armed() -> int:
    """Return how many deadlines are in memory, disarmed ones too."""
    return sum(isinstance(each, Armed) for each in gc.get_objects())


@pytest.mark.parametrize(
    "fault", [RuntimeError, SystemExit, KeyboardInterrupt, CancelledError, GeneratorExit]
)
def test_a_fault_in_one_session_is_not_the_others(fault: type[BaseException]) -> None:
    clock = Clock()
    deadlines = Deadlines(clock, {KIND: 10.0})
    told: list[str] = []

    def fail(_kind: Deadline) -> None:
        told.append("faulty")
        raise fault

    deadlines.arm(KIND, fail)
    deadlines.arm(KIND, lambda _kind: told.append("sound"))
    clock.advance(5)
    deadlines.arm(KIND, lambda _kind: told.append("later"))
    clock.advance(5)
    assert told == ["faulty", "sound"]
    clock.advance(5)
    assert told == ["faulty", "sound", "later"]


def test_one_that_is_disarmed_is_not_told() -> None:
    clock = Clock()
    deadlines = Deadlines(clock, {KIND: 10.0})
    told: list[str] = []
    armed = deadlines.arm(KIND, lambda _kind: told.append("disarmed"))
    deadlines.arm(KIND, lambda kind: told.append(kind.value))
    armed.disarm()
    clock.advance(10)
    assert told == [KIND.value]


def test_those_disarmed_in_order_take_no_memory_and_one_timer_is_enough() -> None:
    clock = Clock()
    deadlines = Deadlines(clock, {KIND: 10.0})
    told: list[str] = []
    before = _armed()
    for number in range(100):
        clock.advance(0.01)
        first = deadlines.arm(KIND, lambda _kind: told.append("disarmed"))
        second = deadlines.arm(KIND, lambda _kind: told.append("disarmed"))
        second.disarm()
        assert not told, number
        first.disarm()
    del first, second
    assert _armed() == before
    assert len(clock.getDelayedCalls()) == 1
    deadlines.arm(KIND, lambda _kind: told.append("armed"))
    clock.advance(9.5)
    assert not told
    clock.advance(0.5)
    assert told == ["armed"]
    clock.advance(20)
    assert not clock.getDelayedCalls()
