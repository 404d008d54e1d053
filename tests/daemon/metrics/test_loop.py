"""The event loop's delay."""

from twisted.internet.task import Clock

from proxy.daemon.metrics.loop import INTERVAL, STUCK, LoopDelay


class Time:
    """A loop that a test holds up."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.late = 0.0
        self.seen: list[float] = []
        self.delay = LoopDelay(
            self.clock, self.seen.append, lambda: self.clock.seconds() + self.late
        )
        self.delay.start()

    def turn(self) -> None:
        self.clock.advance(INTERVAL)


def test_a_loop_in_time_has_no_delay() -> None:
    time = Time()
    time.turn()
    time.turn()
    assert time.seen == [0.0, 0.0]


def test_what_holds_the_loop_up_is_seen() -> None:
    time = Time()
    time.late += 0.5
    time.turn()
    time.turn()
    assert time.seen == [0.5, 0.0]
    assert not time.delay.stuck


def test_a_clock_that_is_early_makes_no_negative_delay() -> None:
    time = Time()
    time.late -= 0.2
    time.turn()
    assert time.seen == [0.0]


def test_a_loop_that_was_stuck_is_not_trusted_for_a_while() -> None:
    time = Time()
    time.late += STUCK
    time.turn()
    assert time.delay.stuck
    time.clock.advance(STUCK)
    assert not time.delay.stuck


def test_it_stops() -> None:
    time = Time()
    time.delay.stop()
    time.delay.stop()
    assert time.clock.getDelayedCalls() == []
