"""How several workers take up another conf: one tries it, and what it dies of the others do not."""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from proxy.daemon.check import Report
from proxy.daemon.control.facts import Reloaded
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.workers import crew as crews
from proxy.daemon.workers.crew import FIRST_PAUSE
from proxy.daemon.workers.supervisor import Supervisor
from tests.daemon.conf_fakes import conf_of, content, forward_table, policy_table

NUMBER = 3


@attrs.define(eq=False)
class Process:
    """A worker's process that does what a test says."""

    reactor: Any
    number: int
    ready: Callable[[Any], None] = attrs.field(kw_only=True)
    alerted: Callable[[Mapping[str, Any]], None] = attrs.field(kw_only=True)
    ending: Callable[[Any], None] = attrs.field(kw_only=True)
    ended: Callable[[Any, str], None] = attrs.field(kw_only=True)
    told: list[str] = attrs.field(factory=list)
    is_ready: bool = False
    is_ending: bool = False
    is_gone: bool = False
    failure: tuple[int, str] | None = None
    silent: int = 0
    reloading: int | None = None
    sessions: int = 0
    pid: int = 4711
    started: str = "2026-11-22T12:00:00+00:00"
    fault: OSError | None = None
    asked: "Deferred[Reloaded] | None" = None

    def hand(self, named: Sequence[tuple[str, int]]) -> None:
        if self.fault is not None:
            raise self.fault
        assert all(os.fstat(descriptor) for _, descriptor in named)

    def begin(self, conf: int, board: int, **_more: object) -> None:
        assert os.fstat(conf)
        assert os.fstat(board)

    def reload(self, conf: int) -> "Deferred[Reloaded]":
        assert os.fstat(conf)
        self.told.append("reload")
        self.asked = Deferred()
        return self.asked

    def answer(self, *mistakes: str) -> None:
        assert self.asked is not None
        asked, self.asked = self.asked, None
        asked.callback(Reloaded(mistakes))

    def say(self, name: str, **_more: object) -> None:
        self.told.append(name)

    def close(self) -> "Deferred[None]":
        return succeed(None)

    def stop(self) -> None:
        self.is_ending = True
        self.told.append("stop")

    def kill(self, number: int) -> None:
        self.told.append(f"signal {number}")

    def rise(self) -> None:
        self.is_ready = True
        self.ready(self)

    def die(self) -> None:
        self.is_ready = False
        self.is_gone = True
        if self.asked is not None:
            self.answer("the worker has ended meanwhile")
        self.ended(self, "killed by signal 11")


@attrs.define
class Source:
    """A conf that a test replaces."""

    conf: Conf
    path: Path = Path("/etc/bascule/bascule.toml")

    def read(self) -> Report:
        return Report(self.conf, (), (), ())


class Reactor(MemoryReactorClock):
    """A reactor whose threads are done at once."""

    def getThreadPool(self) -> "Reactor":
        return self

    def callInThreadWithCallback(
        self, tell: Callable[[bool, object], None], work: Callable[[], object]
    ) -> None:
        tell(True, work())

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        call(*arguments)


def conf(directory: Path, **more: Any) -> Conf:
    places = {"state_directory": str(directory), "control_socket": str(directory / "control")}
    return conf_of(
        content(
            bascule={"workers": NUMBER, **places},
            domain=[],
            listener=[forward_table(address="127.0.0.1:0")],
            policy=[policy_table(domain="*", level="secure")],
            **more,
        )
    )


class Scene:
    """A supervisor of processes that are not there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.directory = directory
        self.made: list[Process] = []

        def make(*arguments: Any, **named: Any) -> Process:
            self.made.append(Process(*arguments, **named))
            return self.made[-1]

        monkeypatch.setattr(crews, "Worker", make)
        self.reactor = Reactor()  # type: ignore[no-untyped-call]
        self.log = io.StringIO()
        self.source = Source(conf(directory))
        self.supervisor = Supervisor(
            self.source.conf, self.reactor, Log(self.log), None, self.source
        )
        self.supervisor.start()
        self.supervisor.ready()
        for process in self.made:
            process.rise()

    def reload(self) -> list[Reloaded]:
        """Reload another conf; return what will have come of it."""
        self.source.conf = conf(self.directory, deadlines={"drain": 7.0})
        outcome: list[Reloaded] = []
        self.supervisor.reload().addCallback(outcome.append)
        return outcome

    def reloaded(self) -> list[int]:
        """Return who was told to reload, by their places in the order in which they were made."""
        return [number for number, each in enumerate(self.made) if "reload" in each.told]

    def stop(self) -> None:
        self.supervisor.stop()
        for process in self.made:
            if not process.is_gone:
                process.die()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(monkeypatch, tmp_path)
    yield scene
    scene.stop()


def test_one_tries_it_and_then_the_others_take_it_up(scene: Scene) -> None:
    outcome = scene.reload()
    assert scene.reloaded() == [0]
    scene.made[0].answer()
    assert scene.reloaded() == [0, 1, 2]
    assert not outcome
    scene.made[1].answer()
    scene.made[2].answer()
    assert [each.mistakes for each in outcome] == [()]


def test_what_the_first_refuses_nobody_else_is_told_of(scene: Scene) -> None:
    outcome = scene.reload()
    scene.made[0].answer("the plugin objects")
    assert scene.reloaded() == [0]
    assert [each.mistakes for each in outcome] == [("the plugin objects",)]
    assert len(scene.made) == NUMBER


def test_a_conf_that_kills_who_tries_it_is_refused_and_kills_nobody_else(scene: Scene) -> None:
    outcome = scene.reload()
    scene.made[0].die()
    assert scene.reloaded() == [0]
    assert [each.mistakes for each in outcome] == [("the worker has ended meanwhile",)]
    scene.reactor.advance(FIRST_PAUSE)
    assert [each.number for each in scene.made] == [1, 2, 3, 1]
    assert not any(each.is_ending for each in scene.made)


def test_one_that_was_to_end_anyway_says_nothing_of_the_conf(scene: Scene) -> None:
    outcome = scene.reload()
    scene.made[0].is_ending = True
    scene.made[0].die()
    assert scene.reloaded() == [0, 1]
    scene.made[1].answer()
    scene.made[2].answer()
    assert [each.mistakes for each in outcome] == [()]


def test_another_one_that_cannot_take_it_up_is_replaced(scene: Scene) -> None:
    outcome = scene.reload()
    scene.made[0].answer()
    scene.made[1].answer("no memory")
    scene.made[2].answer()
    assert [each.mistakes for each in outcome] == [()]
    assert [each.is_ending for each in scene.made] == [False, True, False]
    assert "worker is replaced: no memory" in scene.log.getvalue()


def test_another_one_that_cannot_be_told_of_it_is_replaced_too(scene: Scene) -> None:
    outcome = scene.reload()
    scene.made[1].fault = OSError(24, "Too many open files")
    scene.made[0].answer()
    scene.made[2].answer()
    assert [each.mistakes for each in outcome] == [()]
    assert [each.is_ending for each in scene.made] == [False, True, False]
    assert "worker is replaced: it cannot be told: Too many open files" in scene.log.getvalue()
    again = scene.reload()
    scene.made[0].answer()
    scene.made[2].answer()
    assert [each.mistakes for each in again] == [()]


def test_another_one_that_dies_of_it_is_not_replaced_twice(scene: Scene) -> None:
    outcome = scene.reload()
    scene.made[0].answer()
    scene.made[1].die()
    scene.made[2].answer()
    assert [each.mistakes for each in outcome] == [()]
    assert "worker is replaced" not in scene.log.getvalue()
    scene.reactor.advance(FIRST_PAUSE)
    assert [each.number for each in scene.made] == [1, 2, 3, 2]


def test_one_that_cannot_even_try_it_has_changed_nothing(scene: Scene) -> None:
    scene.made[0].fault = OSError(24, "Too many open files")
    outcome = scene.reload()
    assert scene.reloaded() == []
    assert len(outcome) == 1
    assert "Too many open files" in outcome[0].mistakes[0]
    scene.made[0].fault = None
    again = scene.reload()
    for process in scene.made:
        process.answer()
    assert [each.mistakes for each in again] == [()]
