"""The workers' lives: who is started when, who tells of alerts, and what ends them."""

import io
import signal
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from proxy.daemon.log import Log
from proxy.daemon.workers import crew as crews
from proxy.daemon.workers.crew import (
    CLOSING,
    FIRST_PAUSE,
    LONGEST_ALONE,
    LONGEST_PAUSE,
    LOOKS,
    MOST_ALERTS,
    MOST_FAILURES,
    MOST_RELOADING,
    MOST_SILENT,
    WELL,
    Crew,
    StartError,
)


@attrs.define(eq=False)
class FakeWorker:
    """A process that does nothing, and writes down what it is told."""

    reactor: Any
    number: int
    ready: Callable[[Any], None] = attrs.field(kw_only=True)
    alerted: Callable[[Mapping[str, Any]], None] = attrs.field(kw_only=True)
    ending: Callable[[Any], None] = attrs.field(kw_only=True)
    ended: Callable[[Any, str], None] = attrs.field(kw_only=True)
    told: list[str] = attrs.field(factory=list)
    signals: list[int] = attrs.field(factory=list)
    is_ready: bool = False
    is_ending: bool = False
    failure: tuple[int, str] | None = None
    silent: int = 0
    reloading: int | None = None
    sessions: int = 0
    closed: "Deferred[None]" = attrs.field(factory=lambda: succeed(None))
    pid: int = 4711
    started: str = "2026-11-22T12:00:00+00:00"

    def say(self, name: str, **more: object) -> None:
        self.told.append(name)

    def close(self) -> "Deferred[None]":
        self.told.append("close")
        return self.closed

    def stop(self) -> None:
        self.is_ending = True
        self.told.append("stop")

    def tell(self, alert: Mapping[str, Any]) -> bool:
        self.told.append(f"alert {alert['text']}")
        return True

    def kill(self, number: int) -> None:
        self.signals.append(number)

    def rise(self) -> None:
        self.is_ready = True
        self.ready(self)

    def end(self, why: str = "exit code 0") -> None:
        self.is_ready = False
        self.ended(self, why)


class Scene:
    """A crew of fakes on a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.made: list[FakeWorker] = []
        self.left: list[int] = []
        self.risen: list[int] = []
        self.log = io.StringIO()
        self.beginning: Callable[[Any], None] = self.made.append
        self.crew = Crew(
            self.clock,
            Log(self.log),
            begin=self._begin,
            left=self.left.append,
            risen=lambda worker: self.risen.append(worker.number),
        )

    def _begin(self, worker: Any) -> None:
        self.beginning(worker)

    def start(self, number: int = 2) -> "Deferred[None]":
        return self.crew.want(number)

    def started(self, number: int = 2) -> None:
        self.start(number)
        for worker in self.made:
            worker.rise()

    def states(self) -> dict[int, str]:
        return {each.number: each.state for each in self.crew.facts()}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(crews, "Worker", FakeWorker)
    return Scene()


def fired(deferred: "Deferred[None]") -> bool:
    return bool(deferred.called)


def alert(text: str) -> dict[str, Any]:
    return {"text": text}


def test_all_are_started_and_then_it_is_ready(scene: Scene) -> None:
    ready = scene.start()
    assert scene.states() == {1: "starting", 2: "starting"}
    scene.made[0].rise()
    assert not fired(ready)
    scene.made[1].rise()
    assert fired(ready)
    assert scene.states() == {1: "running", 2: "running"}
    assert scene.risen == [1, 2]


def test_one_that_ends_is_started_anew_the_later_the_more_often(scene: Scene) -> None:
    scene.started()
    pauses = []
    for _ in range(12):
        scene.made[-1].end("killed by signal 11")
        [waiting] = [each for each in scene.crew.facts() if each.state == "waiting"]
        assert waiting.seconds is not None
        pauses.append(waiting.seconds)
        scene.clock.advance(waiting.seconds)
        scene.made[-1].rise()
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert scene.crew.facts()[1].restarts == 12
    assert "worker ended: killed by signal 11" in scene.log.getvalue()


def test_what_was_is_forgotten_when_it_has_run_well(scene: Scene) -> None:
    scene.started()
    for _ in range(3):
        scene.made[-1].end("exit code 1")
        scene.clock.advance(LONGEST_PAUSE)
        scene.made[-1].rise()
    for _ in range(int(WELL)):
        scene.clock.advance(1)
        for worker in scene.made:
            worker.silent = 0
    scene.made[-1].end("exit code 1")
    assert scene.crew.facts()[1].seconds == FIRST_PAUSE


def test_what_a_process_shared_is_cleared_before_another_takes_its_place(scene: Scene) -> None:
    scene.started()
    scene.made[0].end("killed by signal 9")
    assert scene.left == [1]
    assert len(scene.made) == 2
    scene.clock.advance(FIRST_PAUSE)
    assert [worker.number for worker in scene.made] == [1, 2, 1]


def test_one_that_cannot_begin_at_the_first_start_stops_it(scene: Scene) -> None:
    ready = scene.start()
    failures: list[Any] = []
    ready.addErrback(failures.append)
    scene.made[0].failure = (78, "the keyring is damaged")
    scene.made[0].end()
    error = failures[0].value
    assert isinstance(error, StartError)
    assert (error.code, str(error)) == (78, "worker 1 could not begin: the keyring is damaged")


def test_one_that_only_ever_crashes_at_the_first_start_stops_it_too(scene: Scene) -> None:
    failures: list[Any] = []
    scene.start().addErrback(failures.append)
    for _ in range(MOST_FAILURES):
        assert not failures
        scene.made[-1].end("killed by signal 11")
        scene.clock.advance(LONGEST_PAUSE)
    assert failures[0].value.code == 70


def test_later_one_that_cannot_begin_is_tried_again(scene: Scene) -> None:
    scene.started()
    scene.made[0].end("killed by signal 9")
    scene.clock.advance(FIRST_PAUSE)
    scene.made[-1].failure = (78, "the keyring is damaged")
    scene.made[-1].end()
    assert scene.states() == {1: "waiting", 2: "running"}
    assert "worker ended: the keyring is damaged" in scene.log.getvalue()


def test_one_that_says_nothing_is_ended_so_that_its_log_shows_where_it_is(scene: Scene) -> None:
    scene.started()
    stuck, well = scene.made
    for _ in range(MOST_SILENT):
        assert not stuck.signals
        scene.clock.advance(LOOKS)
        well.silent = 0
    assert stuck.signals == [signal.SIGABRT]
    scene.clock.advance(LOOKS)
    assert stuck.signals == [signal.SIGABRT, signal.SIGKILL]
    assert not well.signals
    assert "worker is stuck, and is ended" in scene.log.getvalue()


def test_one_of_them_tells_of_alerts_and_another_when_it_is_gone(scene: Scene) -> None:
    scene.started()
    first, second = scene.made
    scene.crew.tell(alert("a"))
    assert first.told == ["speak", "alert a"]
    first.end("killed by signal 9")
    assert second.told == ["speak"]
    scene.crew.tell(alert("b"))
    assert second.told == ["speak", "alert b"]


def test_alerts_wait_for_somebody_who_tells_of_them(scene: Scene) -> None:
    scene.start()
    for number in range(MOST_ALERTS + 50):
        scene.crew.tell(alert(str(number)))
    scene.made[0].rise()
    assert scene.made[0].told == ["speak", *(f"alert {number}" for number in range(MOST_ALERTS))]


def test_fewer_are_wanted(scene: Scene) -> None:
    scene.started(3)
    scene.crew.want(1)
    assert [worker.told[-1:] for worker in scene.made] == [["speak"], ["stop"], ["stop"]]
    assert scene.states() == {1: "running", 2: "ending", 3: "ending"}
    scene.made[1].end()
    scene.made[2].end()
    scene.clock.advance(LONGEST_PAUSE)
    assert scene.states() == {1: "running"}
    assert len(scene.made) == 3


def test_one_that_waits_to_be_started_is_not_wanted_any_more(scene: Scene) -> None:
    scene.started()
    scene.made[1].end("killed by signal 9")
    scene.crew.want(1)
    scene.clock.advance(LONGEST_PAUSE)
    assert scene.states() == {1: "running"}
    assert len(scene.made) == 2


def test_the_one_that_tells_may_be_the_one_that_goes(scene: Scene) -> None:
    scene.started()
    scene.made[0].end("killed by signal 9")  # now the second one tells
    scene.clock.advance(FIRST_PAUSE)
    scene.made[-1].rise()
    scene.crew.want(1)
    scene.made[1].end()
    scene.crew.tell(alert("a"))
    assert scene.made[-1].told == ["speak", "alert a"]


def test_one_that_ends_by_itself_leaves_telling_to_another(scene: Scene) -> None:
    scene.started()
    first, second = scene.made
    first.is_ending = True
    first.ending(first)
    scene.crew.tell(alert("a"))
    assert (first.told, second.told) == (["speak"], ["speak", "alert a"])
    assert scene.states() == {1: "ending", 2: "running"}
    assert [each.number for each in scene.crew.serving()] == [2]


def test_one_that_is_replaced_leaves_telling_to_another(scene: Scene) -> None:
    scene.started()
    scene.crew.renew(scene.made[0], "the keyring is damaged")  # type: ignore[arg-type]
    assert scene.made[0].told == ["speak", "stop"]
    assert scene.made[1].told == ["speak"]
    assert [each.number for each in scene.crew.serving()] == [2]


def test_one_that_never_takes_up_a_conf_is_ended(scene: Scene) -> None:
    scene.started()
    stuck, well = scene.made
    stuck.reloading = 0
    for _ in range(MOST_RELOADING):
        assert not stuck.signals
        scene.clock.advance(LOOKS)
        stuck.silent = well.silent = 0
    assert stuck.signals == [signal.SIGABRT]
    assert not well.signals


def test_one_that_cannot_be_told_to_begin_is_ended_and_started_anew(scene: Scene) -> None:
    scene.started()

    def full(worker: FakeWorker) -> None:
        scene.made.append(worker)
        raise OSError(24, "Too many open files")

    scene.beginning = full
    scene.made[1].end("killed by signal 9")
    scene.clock.advance(FIRST_PAUSE)
    assert scene.made[2].signals == [signal.SIGKILL]
    assert "worker cannot be told to begin: Too many open files" in scene.log.getvalue()
    scene.beginning = scene.made.append
    scene.made[2].end("killed by signal 9")
    scene.clock.advance(2 * FIRST_PAUSE)
    scene.made[3].rise()
    assert scene.states() == {1: "running", 2: "running"}


def test_fewer_are_wanted_than_are_still_being_started(scene: Scene) -> None:
    ready = scene.start(3)
    scene.made[0].rise()
    assert not fired(ready)
    scene.crew.want(1)
    assert fired(ready)


def test_it_has_stopped_when_all_have_ended(scene: Scene) -> None:
    scene.started()
    scene.made[1].end("killed by signal 9")
    stopped = scene.crew.stop()
    assert scene.made[0].told[-1] == "stop"
    assert not fired(stopped)
    scene.made[0].end()
    assert fired(stopped)
    scene.clock.advance(LONGEST_PAUSE)
    assert len(scene.made) == 2
    assert not scene.clock.getDelayedCalls()


def test_a_stop_while_they_start(scene: Scene) -> None:
    scene.start()
    stopped = scene.crew.stop()
    for worker in scene.made:
        worker.rise()
        worker.end()
    assert fired(stopped)
    assert not scene.clock.getDelayedCalls()


def test_hurried_ones_that_do_not_end_are_killed(scene: Scene) -> None:
    scene.started()
    scene.crew.stop()
    scene.crew.hurry()
    assert [worker.told[-1] for worker in scene.made] == ["hurry", "hurry"]
    scene.clock.advance(LOOKS)
    assert all(worker.signals == [signal.SIGKILL] for worker in scene.made)


def test_no_process_can_be_started(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.started()

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(crews, "Worker", full)
    scene.made[0].end("killed by signal 9")
    scene.clock.advance(FIRST_PAUSE)
    assert scene.states() == {1: "waiting", 2: "running"}
    assert "no process can be started: Resource temporarily unavailable" in scene.log.getvalue()
    monkeypatch.setattr(crews, "Worker", FakeWorker)
    scene.clock.advance(LONGEST_PAUSE)
    assert scene.states() == {1: "starting", 2: "running"}


def test_all_accept_no_more_before_any_ends_its_sessions(scene: Scene) -> None:
    scene.started()
    scene.made[0].closed = Deferred()
    scene.crew.stop()
    assert [worker.told[-1] for worker in scene.made] == ["close", "close"]
    scene.made[0].closed.callback(None)
    assert [worker.told[-1] for worker in scene.made] == ["stop", "stop"]


def test_one_that_does_not_say_so_holds_up_nothing(scene: Scene) -> None:
    scene.started()
    scene.made[0].closed = Deferred()
    scene.crew.stop()
    scene.clock.advance(CLOSING)
    assert [worker.told[-1] for worker in scene.made] == ["stop", "stop"]
    failed: list[Any] = []
    scene.made[0].closed.addErrback(failed.append)
    assert not failed  # it is nobody's to tell of


def test_while_nobody_serves_one_is_started_soon_however_often_it_has_ended(scene: Scene) -> None:
    """Else whoever knows what ends a worker keeps everybody away."""
    scene.started()
    for _ in range(9):
        for worker in scene.made[-2:]:
            worker.end("killed by signal 11")
        assert max(each.seconds or 0 for each in scene.crew.facts()) <= LONGEST_PAUSE
        assert min(each.seconds or 0 for each in scene.crew.facts()) <= LONGEST_ALONE
        scene.clock.advance(LONGEST_PAUSE)
        for worker in scene.made[-2:]:
            worker.rise()
