"""Deadlines of many sessions: each is told in its turn, whatever another does."""

from asyncio import CancelledError

import pytest
from twisted.internet.task import Clock

from proxy.net.deadlines import Deadlines
from proxy.session.commands import Deadline

KIND = Deadline.NEGOTIATION


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
