"""Revocation lists that are read while another conf is taken up are not given to the wrong one."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from proxy.daemon import renewing
from proxy.daemon.generation import Generation
from proxy.daemon.renewing import Renewal, seen
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.revocation import RevocationLists
from tests.authority import Authority
from tests.trust.revoking import crl


class Kept:
    """What a generation was given."""

    def __init__(self) -> None:
        self.given: list[RevocationLists | None] = []

    def renew(self, revocation: RevocationLists | None) -> list[Exception]:
        self.given.append(revocation)
        return []


def generation(*files: Path) -> tuple[Generation, Kept]:
    policy = Policy(Pattern("*"), Level.SECURE, crl_files=files)
    conf = SimpleNamespace(policies=(policy,), domains=(), listeners=())
    kept = Kept()
    return cast("Generation", SimpleNamespace(conf=conf, trust=kept)), kept


class Threads(Clock):
    """A reactor whose threads are done when the test says so."""

    def getThreadPool(self) -> None:
        return None


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Deferred[Any], Any]]:
    """The readings under way, and what will come of them."""
    under_way: list[tuple[Deferred[Any], Any]] = []

    def read(_reactor: object, _pool: object, work: Any, *about: Any) -> Deferred[Any]:
        under_way.append((Deferred(), work(*about)))
        return under_way[-1][0]

    monkeypatch.setattr(renewing, "deferToThreadPool", read)
    return under_way


def replaced(path: Path, authority: Authority, at: int) -> None:
    path.write_bytes(crl(authority))
    os.utime(path, (at, at))


def test_lists_that_come_late_are_not_those_of_the_next_conf(
    tmp_path: Path, authority: Authority, reading: list[tuple[Deferred[Any], Any]]
) -> None:
    first, second = tmp_path / "first.crl", tmp_path / "second.crl"
    for path in (first, second):
        replaced(path, authority, 1)
    old, _ = generation(first)
    generations = [old]
    clock = Threads()
    renewal = Renewal(clock, None, lambda: generations, 1.0)
    renewal.adopt(old.conf, seen(old.conf))
    renewal.watch.start()
    replaced(first, authority, 2)
    clock.pump([1] * 3)
    [(under_way, lists)] = reading
    new, given = generation(first, second)
    generations.insert(0, new)
    renewal.adopt(new.conf, seen(new.conf))
    under_way.callback(lists)
    assert given.given == []
    replaced(second, authority, 3)
    clock.pump([1] * 3)
    under_way, lists = reading[-1]
    under_way.callback(lists)
    assert [set(each.files) for each in given.given if each] == [{first, second}]
    renewal.stop()


def test_every_generation_gets_what_was_read(
    tmp_path: Path, authority: Authority, reading: list[tuple[Deferred[Any], Any]]
) -> None:
    """Each takes of it what is in its own conf's files."""
    first, second = tmp_path / "first.crl", tmp_path / "second.crl"
    for path in (first, second):
        replaced(path, authority, 1)
    new, _ = generation(first)
    old, given = generation(first, second)
    clock = Threads()
    renewal = Renewal(clock, None, lambda: [new, old], 1.0)
    renewal.adopt(new.conf, seen(new.conf))
    renewal.watch.start()
    replaced(first, authority, 2)
    clock.pump([1] * 3)
    [(under_way, lists)] = reading
    under_way.callback(lists)
    assert given.given == [lists]
    renewal.stop()
