"""The hub: sockets of many sessions, one reader of the reactor."""

import socket
from asyncio import CancelledError
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.task import Clock

from proxy.net import hub as hubs
from proxy.net.hub import BUSY, HUNG_UP, IN, LONGEST, OUT, Hub
from tests.net.conftest import Turning

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


class Watched:
    """Notes the events it is called with."""

    def __init__(self, connection: socket.socket, hub: Hub | None = None) -> None:
        self._connection = connection
        self._hub = hub
        self.seen: list[int] = []
        self.failed: list[str] = []
        self.fault: BaseException | None = None

    def fileno(self) -> int:
        return self._connection.fileno()

    def ready(self, events: int) -> None:
        self.seen.append(events)
        if self.fault is not None:
            raise self.fault
        if events & IN:
            self._connection.recv(100)

    def fail(self, reason: str) -> None:
        self.failed.append(reason)
        if self._hub is not None:
            self._hub.forget(self.fileno())


def test_what_is_watched_is_called(turning: Turning, pair: Pair) -> None:
    ours, theirs = pair
    watched = Watched(ours)
    turning.hub.watch(ours.fileno(), watched.ready, IN)
    turning.turn()
    assert not watched.seen
    theirs.send(b"x")
    turning.until(lambda: watched.seen)
    assert watched.seen == [IN]
    turning.hub.change(ours.fileno(), OUT)
    turning.until(lambda: OUT in watched.seen)
    turning.hub.forget(ours.fileno())
    watched.seen.clear()
    theirs.send(b"x")
    turning.turn()
    assert not watched.seen
    turning.hub.forget(ours.fileno())  # twice does no harm


def test_readers_and_writers_come_and_go(turning: Turning, pair: Pair) -> None:
    ours, theirs = pair
    watched = Watched(ours)
    turning.hub.addReader(watched)
    turning.hub.addWriter(watched)
    theirs.send(b"x")
    turning.until(lambda: IN | OUT in watched.seen)
    turning.hub.removeWriter(watched)
    watched.seen.clear()
    turning.turn()
    assert not watched.seen
    theirs.send(b"x")
    turning.until(lambda: watched.seen)
    assert watched.seen == [IN]
    turning.hub.removeReader(watched)
    turning.hub.removeReader(watched)
    theirs.send(b"x")
    turning.turn()
    assert watched.seen == [IN]


def test_a_peer_that_closes_is_told_of_to_who_does_not_read(turning: Turning, pair: Pair) -> None:
    ours, theirs = pair
    watched = Watched(ours)
    turning.hub.addHangUp(watched)
    theirs.send(b"x")
    turning.turn()
    assert not watched.seen
    theirs.shutdown(socket.SHUT_WR)
    turning.until(lambda: watched.seen)
    assert watched.seen[0] == HUNG_UP
    turning.hub.removeHangUp(watched)
    watched.seen.clear()
    turning.turn()
    assert not watched.seen


@pytest.mark.parametrize(
    "fault", [RuntimeError, SystemExit, KeyboardInterrupt, CancelledError, GeneratorExit]
)
def test_a_fault_in_one_session_is_not_the_others(
    turning: Turning, pair: Pair, fault: type[BaseException]
) -> None:
    ours, theirs = pair
    faulty, sound = Watched(ours, turning.hub), Watched(theirs)
    faulty.fault = fault("made up")
    turning.hub.watch(ours.fileno(), faulty.ready, IN)
    turning.hub.watch(theirs.fileno(), sound.ready, IN)
    theirs.send(b"x")
    ours.send(b"x")
    turning.until(lambda: sound.seen and faulty.failed)
    assert len(faulty.failed) == 1
    turning.turn()
    assert len(faulty.seen) == 1


def test_a_session_may_forget_another_in_the_same_turn(turning: Turning, pair: Pair) -> None:
    """As a relay does that ends: the event of its other socket is dropped."""
    calls = []

    class Relay:
        def ready(self, _events: int) -> None:
            calls.append("called")
            for each in pair:
                turning.hub.forget(each.fileno())

    relay = Relay()
    for each in pair:
        turning.hub.watch(each.fileno(), relay.ready, IN)
        each.send(b"x")
    turning.turn()
    assert calls == ["called"]


def test_an_event_of_a_socket_that_is_gone_is_not_that_of_the_next_with_its_number(
    turning: Turning, pair: Pair
) -> None:
    hub = turning.hub
    calls: list[str] = []

    def instead_of(this: socket.socket, other: socket.socket) -> Callable[[int], None]:
        def call(_events: int) -> None:
            calls.append("old")
            hub.forget(this.fileno())
            hub.forget(other.fileno())
            hub.watch(other.fileno(), lambda _events: calls.append("new"), IN)

        return call

    one, two = pair
    hub.watch(one.fileno(), instead_of(one, two), IN)
    hub.watch(two.fileno(), instead_of(two, one), IN)
    one.send(b"x")
    two.send(b"x")
    hub.doRead()
    assert calls == ["old"]
    hub.doRead()
    assert calls == ["old", "new"]
    hub.forget(one.fileno())
    hub.forget(two.fileno())


@pytest.fixture
def many() -> Iterator[list[Pair]]:
    """As many sockets as make a hub look again at once, and one more."""
    pairs = [socket.socketpair() for _ in range(BUSY + 1)]
    for each in pairs:
        each[0].setblocking(False)
    yield pairs
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_what_has_come_while_many_were_served_is_served_before_the_reactors_turn(
    turning: Turning, many: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "monotonic", Clock().seconds)  # it stands still
    *first, last = many
    late = Watched(last[0])
    turning.hub.watch(last[0].fileno(), late.ready, IN)

    class Telling(Watched):
        def ready(self, events: int) -> None:
            super().ready(events)
            last[1].send(b"x")

    served = [Telling(ours) for ours, _ in first]
    for watched, (_, theirs) in zip(served, first, strict=True):
        turning.hub.watch(watched.fileno(), watched.ready, IN)
        theirs.send(b"x")
    turning.hub.doRead()
    assert all(watched.seen == [IN] for watched in served)
    assert late.seen == [IN]


@pytest.mark.parametrize(("seconds", "times"), [(LONGEST, 1), (LONGEST / 3, 3), (0.0, 100)])
def test_those_that_are_never_quiet_let_the_reactor_have_its_turn_in_time(
    turning: Turning,
    many: list[Pair],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    times: int,
) -> None:
    """However long each of them takes; else a few could keep everything else waiting."""
    clock = Clock()
    monkeypatch.setattr(hubs, "monotonic", clock.seconds)
    calls: list[int] = []

    def call(_events: int) -> None:  # it reads nothing
        calls.append(1)
        if len(calls) % len(many) == 0:
            clock.advance(seconds)
        if len(calls) == times * len(many):
            clock.advance(LONGEST)

    for ours, theirs in many:
        turning.hub.watch(ours.fileno(), call, IN)
        theirs.send(b"x")
    turning.hub.doRead()
    assert len(calls) == times * len(many)


def test_some_at_a_time_are_served_and_all_in_turn(
    turning: Turning, monkeypatch: pytest.MonkeyPatch, many: list[Pair]
) -> None:
    monkeypatch.setattr(hubs, "AT_ONCE", 4)
    calls: list[int] = []
    for number, (ours, theirs) in enumerate(many):
        turning.hub.watch(ours.fileno(), lambda _, number=number: calls.append(number), IN)  # type: ignore[misc]
        theirs.send(b"x")
    for _ in range(3):
        turning.hub.doRead()
    assert len(calls) == 12
    assert set(calls) == set(range(len(many)))


def test_a_hub_that_is_closed_while_it_serves_many_looks_no_more(
    turning: Turning, many: list[Pair]
) -> None:
    hub = Hub(turning.reactor)
    calls: list[int] = []

    def close_at_last(events: int) -> None:
        calls.append(events)
        if len(calls) == len(many):
            hub.close()

    for ours, theirs in many:
        hub.watch(ours.fileno(), close_at_last, IN)
        theirs.send(b"x")
    hub.doRead()
    assert len(calls) == len(many)
