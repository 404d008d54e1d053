"""Asking all legacy servers, never too many of them and never too often."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from proxy.daemon.metrics.behind import AT_ONCE, EVERY, PATIENCE, Asked, Behind, LegacyServers
from proxy.daemon.metrics.legacy import Outcome
from proxy.session.hooks import Address
from proxy.session.kinds import Kind

GOOD = Outcome("", 0.01)


def behind(number: int) -> Behind:
    return Behind(f"{number}.example", Kind.C2S, Address("127.0.0.1", 5000 + number))


@attrs.define
class Asking:
    """Servers that answer when the test says so."""

    number: int
    clock: Clock = attrs.field(factory=Clock)
    going: list[Deferred[Outcome]] = attrs.field(factory=list)
    total: int = 0
    servers: LegacyServers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        servers = [behind(number) for number in range(self.number)]
        self.servers = LegacyServers(self.clock, servers, self.ask)

    def ask(self, _reactor: Any, _server: Behind) -> Deferred[Outcome]:
        self.total += 1
        given_up = Outcome("given up")
        asking: Deferred[Outcome] = Deferred(lambda cancelled: cancelled.callback(given_up))
        self.going.append(asking)
        return asking

    def found(self) -> list[tuple[Asked, ...]]:
        found: list[tuple[Asked, ...]] = []
        self.servers.asked().addCallback(found.append)
        return found

    def answer(self) -> None:
        going, self.going = self.going, []
        for each in going:
            each.callback(GOOD)


def test_every_server_is_asked_a_few_at_a_time() -> None:
    asking = Asking(AT_ONCE + 1)
    found = asking.found()
    assert asking.total == AT_ONCE
    asking.answer()
    assert asking.total == AT_ONCE + 1
    assert not found
    asking.answer()
    assert found[0] == tuple(Asked(behind(number), GOOD) for number in range(AT_ONCE + 1))


def test_who_asks_meanwhile_and_soon_after_gets_the_same_answers() -> None:
    asking = Asking(1)
    first, second = asking.found(), asking.found()
    asking.answer()
    assert first == second == asking.found()
    assert first
    assert asking.total == 1
    asking.clock.advance(EVERY)
    asking.found()
    assert asking.total == 2


def test_patience_ends() -> None:
    asking = Asking(AT_ONCE + 2)
    found = asking.found()
    asking.clock.advance(PATIENCE)
    problems = [asked.outcome.problem for asked in found[0]]
    assert problems == ["given up"] * AT_ONCE + ["was not asked: others have taken too long"] * 2


def test_servers_that_answer_at_once() -> None:
    clock = Clock()
    servers = LegacyServers(clock, [behind(1)], lambda _reactor, _server: succeed(GOOD))
    found: list[tuple[Asked, ...]] = []
    servers.asked().addCallback(found.append)
    assert found == [(Asked(behind(1), GOOD),)]


def test_without_servers_there_is_nothing_to_ask() -> None:
    asking = Asking(0)
    assert asking.found() == [()]
    assert asking.clock.getDelayedCalls() == []


def test_a_stop_leaves_nothing_behind() -> None:
    asking = Asking(AT_ONCE + 1)
    found = asking.found()
    asking.servers.stop()
    assert found
    assert asking.clock.getDelayedCalls() == []
