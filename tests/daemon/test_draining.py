"""Sessions are ended one after another, over a time or quicker."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from proxy.daemon.draining import EACH, RENEWED, STOPPING, Drain, Session, age, lasts, shown_for
from proxy.daemon.stopping import GRACE, PAUSE, Stopping
from proxy.net.divider import Divider
from proxy.session.hooks import Address, TLSFacts, TLSRule, View
from proxy.session.kinds import Kind
from proxy.xmpp.errors import StreamError

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


class Ended:
    """A session that goes as soon as it is told to, or after its client has closed."""

    def __init__(self, live: set[Session], *, lingers: bool = False) -> None:
        self.told: list[StreamError] = []
        self._live = live
        self._lingers = lingers
        live.add(cast("Session", self))

    def end(self, error: StreamError) -> None:
        self.told.append(error)
        if not self._lingers:
            self.go()

    def go(self) -> None:
        self._live.discard(cast("Session", self))


def some(live: set[Session], count: int, **how: bool) -> list[Ended]:
    return [Ended(live, **how) for _ in range(count)]


def draining(
    clock: Clock, sessions: list[Ended], live: set[Session], seconds: float
) -> tuple[Drain, list[float]]:
    """Begin to drain; the list gets the time at which that is over."""
    drain = Drain(clock, cast("list[Session]", sessions), live, RENEWED, seconds)
    over: list[float] = []
    drain.start().addCallback(lambda _: over.append(clock.seconds()))
    return drain, over


def count(sessions: list[Ended]) -> int:
    return sum(bool(each.told) for each in sessions)


def test_many_are_ended_evenly() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 5_000)
    drain, over = draining(clock, sessions, live, 10)
    assert drain.seconds == 10
    for second in range(1, 10):
        clock.pump([0.01] * 100)
        assert abs(count(sessions) - 500 * second) <= 10
    clock.pump([0.01] * 110)
    assert count(sessions) == 5_000
    assert over
    assert over[0] <= 10.1
    assert {tuple(each.told) for each in sessions} == {(RENEWED,)}


class Division(Divider):
    """The stream that its branches, sessions of their own, are parts of."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    def end(self, _error: StreamError) -> None:
        self.order.append("division")


class Branch:
    def __init__(self, order: list[str]) -> None:
        self.order = order

    def end(self, _error: StreamError) -> None:
        self.order.append("branch")


def test_a_division_is_told_before_its_branches() -> None:
    """It says to our server why; without them it could only end."""
    order: list[str] = []
    sessions = [Branch(order), Division(order), Branch(order)]
    live = cast("set[Session]", set(sessions))
    Drain(Clock(), cast("list[Session]", sessions), live, RENEWED, 0).start()
    assert order == ["division", "branch", "branch"]


def test_few_do_not_take_all_the_time() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 10)
    drain, over = draining(clock, sessions, live, 10)
    assert drain.seconds == pytest.approx(10 * EACH)
    clock.pump([0.005] * 41)
    assert over
    assert over[0] <= 0.2 + 0.005
    assert count(sessions) == 10


def test_a_drain_may_take_no_time() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 100)
    _, over = draining(clock, sessions, live, 0)
    assert (over, count(sessions)) == ([0], 100)
    assert lasts(100, 0) == 0


def test_those_that_are_gone_are_passed_over() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 100)
    _, over = draining(clock, sessions, live, 10)
    for each in sessions[1:]:
        each.go()
    clock.advance(EACH)
    assert over == [EACH]
    assert count(sessions) == 1


def test_a_session_that_fails_to_end_keeps_no_other() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 3)

    def broken(_error: StreamError) -> None:
        raise RuntimeError("broken")

    cast("Any", sessions[0]).end = broken
    _, over = draining(clock, sessions, live, 0)
    assert over == [0]
    assert [len(each.told) for each in sessions] == [0, 1, 1]


def stopping(clock: Clock, live: set[Session]) -> tuple[Stopping, list[float]]:
    over: list[float] = []
    return Stopping(clock, live, lambda: over.append(clock.seconds())), over


def test_stopping_without_sessions_takes_no_time() -> None:
    clock, live = Clock(), set[Session]()
    ending, over = stopping(clock, live)
    ending.end_all(10)
    assert over == [0]
    assert clock.getDelayedCalls() == []


def test_stopping_waits_for_the_last_one() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 2, lingers=True)
    ending, over = stopping(clock, live)
    ending.end_all(10)
    clock.pump([EACH] * 3)
    assert [each.told for each in sessions] == [[STOPPING, STOPPING], [STOPPING, STOPPING]]
    sessions[0].go()
    ending.closed()
    assert over == []
    sessions[1].go()
    ending.closed()
    assert over == [clock.seconds()]
    assert clock.getDelayedCalls() == []


def test_last_words_get_time_to_arrive() -> None:
    clock, live, quiet = Clock(), set[Session](), [False]
    over: list[float] = []
    ending = Stopping(clock, live, lambda: over.append(clock.seconds()), lambda: quiet[0])
    some(live, 1)
    ending.end_all(10)
    clock.pump([PAUSE] * 3)
    assert over == []
    quiet[0] = True
    clock.advance(PAUSE)
    assert over == [4 * PAUSE]
    assert clock.getDelayedCalls() == []


def test_stopping_waits_for_nobody_for_ever() -> None:
    clock, live = Clock(), set[Session]()
    some(live, 1, lingers=True)
    ending, over = stopping(clock, live)
    ending.end_all(10)
    clock.advance(GRACE)
    assert over == [GRACE]


def test_what_begins_meanwhile_ends_too() -> None:
    clock, live = Clock(), set[Session]()
    some(live, 10)
    ending, over = stopping(clock, live)
    ending.end_all(10)
    clock.advance(EACH)
    (late,) = some(live, 1)
    clock.pump([EACH] * 12)
    assert late.told == [STOPPING]
    ending.closed()
    assert over


def test_a_second_signal_waits_for_nobody() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 1_000, lingers=True)
    ending, over = stopping(clock, live)
    ending.hurry()
    assert (ending.begun, count(sessions)) == (False, 0)
    ending.end_all(10)
    clock.advance(EACH)
    assert count(sessions) < 10
    ending.hurry()
    assert count(sessions) == 1_000
    assert over == [EACH]
    ending.hurry()
    assert clock.getDelayedCalls() == []


def test_stopping_supersedes_other_drains() -> None:
    clock, live = Clock(), set[Session]()
    sessions = some(live, 100)
    ending, over = stopping(clock, live)
    assert ending.end(cast("list[Session]", sessions), RENEWED, 10).count == 100
    ending.end_all(0)
    assert over == [0]
    assert {each.told[0] for each in sessions[1:]} == {STOPPING}
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("0s", 0),
        ("30m", 1_800),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2030-01-31T11:00", 3_600),
        ("2030-01-31T11:00:00Z", 3_600),
        ("2030-01-31T12:00:00+01:00", 3_600),
        ("2030-01-30", 129_600),
    ],
)
def test_ages(text: str, seconds: float) -> None:
    assert age(text, NOW) == seconds


@pytest.mark.parametrize("text", ["soon", "1", "1w", "-1h", "h", "1.5h", "٣h", "2030-13-01"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match=r"^allowed: an age as 30m"):
        age(text, NOW)


def test_a_time_to_come_is_no_age() -> None:
    with pytest.raises(ValueError, match=r"^the time is yet to come$"):
        age("2030-02-01", NOW)


TLS = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "x25519", "", None, False, False)


@pytest.mark.parametrize(
    ("known", "domain"),
    [
        ({"tls": TLS, "domain": "a.example"}, "a.example"),
        ({"domain": "a.example"}, ""),
        ({"tls": TLS, "domain": None}, ""),
        ({"outward": True, "server_tls": TLS, "domain": "b.example"}, ""),
        (
            {"outward": True, "kind": Kind.S2S, "server_tls": TLS, "origin": "a.example"},
            "a.example",
        ),
        ({"outward": True, "kind": Kind.S2S, "origin": "a.example"}, ""),
    ],
)
def test_whose_certificate_a_session_shows(known: dict[str, Any], domain: str) -> None:
    class Seen:
        view = View("a", "c2s", TLSRule.REQUIRED, Address("127.0.0.1", 1), **known)

    assert shown_for(cast("Session", Seen())) == domain
