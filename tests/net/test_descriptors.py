"""Accepting stops before descriptors run out, and when the system has none to give."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from proxy.net import descriptors as room
from proxy.net.connector import Connector
from proxy.net.descriptors import CALM, LARGEST, PART, PAUSE, RESERVE, Descriptors
from proxy.net.listener import Listener
from tests.net.conftest import Turning
from tests.servers.program import HOST

WANTING = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


@attrs.define
class FakeHub:
    """What descriptors know of a hub."""

    clock: Clock = attrs.field(factory=Clock)
    watched: int = 0
    number: int = 0

    @property
    def callLater(self) -> Callable[..., Any]:
        return self.clock.callLater

    def fileno(self) -> int:
        return self.number


@attrs.define(eq=False)
class FakeListener:
    """Counts how often it goes on."""

    times: int = 0

    def go_on(self) -> None:
        self.times += 1


@attrs.define
class Set:
    """Descriptors under a limit, and what they are told."""

    hub: FakeHub
    descriptors: Descriptors
    spent: int
    sessions: int = 0

    def limit(self, allowed: int) -> None:
        self.descriptors.limit(lambda: self.sessions, allowed=allowed)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Twenty descriptors are open, and the next one that is given has the hub's number."""
    names = [str(number) for number in range(20)]
    system = SimpleNamespace(listdir=lambda _: names, dup=lambda number: number, close=lambda _: ())
    monkeypatch.setattr(room, "os", system)
    hub = FakeHub()
    return Set(hub, Descriptors(hub), len(names))  # type: ignore[arg-type]


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is logged."""
    told: list[str] = []

    note: Any = lambda event: told.append(event["log_format"].format(**event))  # noqa: E731
    globalLogPublisher.addObserver(note)
    yield told
    globalLogPublisher.removeObserver(note)


def test_without_a_limit_there_is_room(limited: Set) -> None:
    limited.sessions = 10**6
    assert limited.descriptors.scarcity() == ""
    assert not limited.descriptors.is_late(10**6)


@pytest.mark.parametrize(
    ("allowed", "most"),
    [
        (1024, (1024 - 20 - RESERVE) // 2),
        (4096, (4096 - 20 - 4096 // PART) // 2),
        (1_000_000, (1_000_000 - 20 - LARGEST) // 2),
        (60, 10),
        (21, 0),
        (10, 0),
    ],
)
def test_each_session_counts_with_all_that_it_needs(limited: Set, allowed: int, most: int) -> None:
    limited.limit(allowed)
    if most:
        limited.sessions = most - 1
        assert limited.descriptors.scarcity() == ""
    limited.sessions = most
    scarcity = f"too few of {allowed} file descriptors are left beside {most} sessions"
    assert limited.descriptors.scarcity() == scarcity


def test_what_sessions_have_beyond_that_counts_too(limited: Set) -> None:
    limited.limit(120)
    limited.sessions = 1
    limited.hub.watched = 48
    assert limited.descriptors.scarcity() == ""
    limited.hub.watched = 49
    assert (
        limited.descriptors.scarcity()
        == "too few of 120 file descriptors are left beside 1 session"
    )


def test_high_numbers_say_that_few_are_left(limited: Set) -> None:
    limited.limit(120)
    assert not limited.descriptors.is_late(69)
    assert limited.descriptors.is_late(70)


def test_a_pause_lasts_until_there_is_room(limited: Set, told: list[str]) -> None:
    one, two = FakeListener(), FakeListener()
    clock, descriptors = limited.hub.clock, limited.descriptors
    limited.limit(120)
    limited.sessions = 25
    for listener in (one, two):
        descriptors.pause(listener, descriptors.scarcity())
    trouble = "accepting pauses: too few of 120 file descriptors are left beside 25 sessions"
    assert descriptors.trouble == trouble
    clock.pump([PAUSE] * 10)
    assert (one.times, two.times) == (0, 0)
    limited.sessions = 24
    limited.hub.number = 70
    clock.pump([PAUSE] * 10)
    assert (one.times, two.times) == (0, 0)
    limited.hub.number = 69
    clock.advance(PAUSE)
    assert (one.times, two.times) == (1, 1)
    assert descriptors.trouble == ""
    assert told == [trouble]


def test_pauses_that_follow_each_other_are_told_once(limited: Set, told: list[str]) -> None:
    listener = FakeListener()
    clock, descriptors = limited.hub.clock, limited.descriptors
    for _ in range(5):
        descriptors.pause(listener, "for a reason")
        clock.advance(PAUSE)
        clock.advance(CALM / 2)
    assert listener.times == 5
    assert told == ["accepting pauses: for a reason"]
    clock.advance(CALM)
    assert told[1:] == ["accepting goes on (it has paused: 5)"]
    descriptors.pause(listener, "for another one")
    assert told[2:] == ["accepting pauses: for another one"]


def test_who_has_stopped_does_not_go_on(limited: Set) -> None:
    one, two = FakeListener(), FakeListener()
    descriptors = limited.descriptors
    descriptors.pause(one, "for a reason")
    descriptors.pause(two, "for a reason")
    descriptors.forget(one)
    limited.hub.clock.advance(PAUSE)
    assert (one.times, two.times) == (0, 1)
    descriptors.pause(two, "for a reason")
    descriptors.stop()
    assert not limited.hub.clock.getDelayedCalls()


def test_a_pause_after_one_whose_listener_has_stopped_is_the_same_pause(limited: Set) -> None:
    limited.limit(RESERVE * 4)
    limited.sessions = RESERVE * 4
    first, second = FakeListener(), FakeListener()
    limited.descriptors.pause(first)
    limited.descriptors.forget(first)
    limited.descriptors.pause(second)
    assert len(limited.hub.clock.getDelayedCalls()) == 1
    limited.sessions = 0
    limited.hub.clock.advance(PAUSE)
    assert (first.times, second.times) == (0, 1)
    limited.descriptors.stop()
    assert not limited.hub.clock.getDelayedCalls()


class Wanting(socket.socket):
    """A listening socket of a system that has no descriptor to give, for some time."""

    code = 0
    times = 0

    def accept(self) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(self.code, os.strerror(self.code))
        return super().accept()


@pytest.mark.parametrize("code", WANTING, ids=errno.errorcode.get)
def test_a_system_that_has_none_to_give_is_asked_again(
    turning: Turning, told: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(room, "PAUSE", 0.01)
    listening = Wanting()
    listening.setblocking(False)
    listening.bind((HOST, 0))
    listening.listen()
    listening.code, listening.times = code, 3
    taken: list[socket.socket] = []
    listener = Listener(
        turning.hub, HOST, 0, lambda connection, _: taken.append(connection), passed=listening
    )
    listener.start()
    with socket.create_connection((HOST, listener.port)):
        turning.until(lambda: taken)
    taken[0].close()
    assert listening.times == 0
    assert told == [f"accepting pauses: {os.strerror(code)}"]
    listener.stop()


def test_a_listener_that_pauses_can_be_stopped(
    turning: Turning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PAUSE", 1000)
    listening = Wanting()
    listening.setblocking(False)
    listening.bind((HOST, 0))
    listening.listen()
    listening.code, listening.times = errno.ENFILE, 10**6
    listener = Listener(turning.hub, HOST, 0, lambda *_: None, passed=listening)
    listener.start()
    with socket.create_connection((HOST, listener.port)):
        turning.until(lambda: turning.hub.descriptors.trouble)
        before = listening.times
        turning.turn()
        assert listening.times == before
    listener.stop()
    listener.go_on()
    assert turning.hub.watched == 0


@pytest.mark.parametrize("code", WANTING, ids=errno.errorcode.get)
def test_a_connection_that_the_system_cannot_open_fails_in_words(
    turning: Turning, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def exhausted(*_: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    reasons: list[str] = []
    connector = Connector(turning.reactor, HOST, 1, lambda _: None, reasons.append)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", exhausted)
        connector.start()
    turning.until(lambda: reasons)
    assert reasons == [os.strerror(code)]
