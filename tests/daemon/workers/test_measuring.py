"""The metrics and the health of several workers, each with metrics of its own."""

import json
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from proxy.daemon.control.answering import Items
from proxy.daemon.control.facts import WorkerFacts, WorkerState
from proxy.daemon.control.protocol import LONGEST_ANSWER, Arguments, Code, RefusedError, item_line
from proxy.daemon.metrics import families
from proxy.daemon.metrics.counting import Metrics
from proxy.daemon.metrics.exposition import expose
from proxy.daemon.metrics.health import Health
from proxy.daemon.metrics.snapshot import Snapshot, pieces, read_piece
from proxy.daemon.metrics.tally import MOST_SERIES
from proxy.daemon.workers.measured import METRICS, TROUBLES, Measured
from proxy.daemon.workers.measuring import Measuring
from tests.daemon.metrics.fakes import NAMES, FakeSources, Session
from tests.daemon.workers.fakes import Crew, FakeWorker, waits
from tests.net.conftest import Turning

STARTED = families.STARTED.name
SESSIONS = families.SESSIONS.name


T = TypeVar("T")


class Measured3(Turning):
    """Three workers that count."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[int, FakeSources] = {}
        self.metrics: dict[int, Metrics] = {}
        self.crew = Crew(self.reactor, self._more)
        self.measuring = Measuring(self.reactor, self.crew.there, self.crew.facts)

    def _more(self, number: int) -> Any:
        sources = self.sources[number] = FakeSources()
        metrics = self.metrics[number] = Metrics(NAMES, sources, self.reactor)
        return Measured(lambda: metrics).commands()

    def __getitem__(self, number: int) -> FakeWorker:
        return self.crew.workers[number - 1]

    def open(self, number: int, sessions: int) -> None:
        for _ in range(sessions):
            self.metrics[number].session_opened("c2s")
            self.sources[number].going |= {Session()}

    def snapshot(self, silent: int = 0) -> Snapshot:
        return self._had(self.measuring.snapshot(), silent)

    def health(self, silent: int = 0) -> Health:
        return self._had(self.measuring.health(), silent)

    def _had(self, deferred: Deferred[T], silent: int) -> T:
        found: list[T] = []
        deferred.addCallback(found.append)
        if silent:
            self.until(lambda: len(waits(self.reactor)) == silent)
            for each in waits(self.reactor):
                each.reset(0)
        self.until(lambda: found)
        return found[0]

    def value(self, snapshot: Snapshot, name: str, *labels: str) -> float | None:
        numbers = snapshot.values.get(name, {}).get(labels)
        return None if numbers is None else numbers[0]

    def stop(self) -> None:
        self.crew.stop()
        self.turn(3)
        super().stop()


@pytest.fixture
def three() -> Iterator[Measured3]:
    three = Measured3()
    yield three
    three.stop()


def states(three: Measured3, snapshot: Snapshot) -> dict[str, float | None]:
    name = families.WORKERS.name
    return {each.value: three.value(snapshot, name, each.value) for each in WorkerState}


def test_what_all_have_is_added(three: Measured3) -> None:
    for number in (1, 2, 3):
        three.open(number, number)
    found = three.snapshot()
    assert three.value(found, STARTED, "c2s") == 6
    assert three.value(found, SESSIONS, "c2s", "negotiating") == 6
    assert three.value(found, families.READY.name) == 1
    assert three.value(found, families.RESTARTS.name) == 0
    assert states(three, found) == dict.fromkeys(("starting", "silent", "waiting", "ending"), 0) | {
        "running": 3
    }
    assert b'bascule_workers{state="running"} 3.0' in expose(found)


def test_the_supervisor_itself_is_measured(three: Measured3) -> None:
    found = three.snapshot()
    alone = Metrics(NAMES, FakeSources(), three.reactor)
    one: list[Snapshot] = []
    alone.snapshot().addCallback(one.append)
    three.until(lambda: one)
    # Here all four are the same process.
    limit = three.value(one[0], families.MAX_FDS)
    assert limit is None or three.value(found, families.MAX_FDS) == 4 * limit


def test_counters_of_the_dead_stay_and_gauges_do_not(three: Measured3) -> None:
    for number in (1, 2, 3):
        three.open(number, 2)
    three.snapshot()
    three.crew.die(2)
    found = three.snapshot()
    assert three.value(found, STARTED, "c2s") == 6
    assert three.value(found, SESSIONS, "c2s", "negotiating") == 4
    assert three.value(found, families.RESTARTS.name) == 1
    assert (states(three, found)["running"], states(three, found)["waiting"]) == (2, 1)
    del three.crew.known[2]
    three.crew.workers.append(three.crew.worker(2))
    three.open(2, 1)
    found = three.snapshot()
    assert three.value(found, STARTED, "c2s") == 7
    assert three.value(found, SESSIONS, "c2s", "negotiating") == 5
    assert three.value(found, families.RESTARTS.name) == 1
    assert three.value(three.snapshot(), STARTED, "c2s") == 7


def test_a_histogram_does_not_go_back(three: Measured3) -> None:
    name = families.CONNECTING.name
    three.metrics[1].connected("c2s", "example.com", 0.01)
    three.metrics[2].connected("c2s", "example.com", 0.01)
    before = three.snapshot().values[name]
    three.crew.die(2)
    assert three.snapshot().values[name] == before
    last = families.LAST_SUCCESS.name
    three.crew.die(1)
    found = three.snapshot()
    assert found.values[name] == before
    assert last not in found.values


def test_who_keeps_silent_has_no_gauges_for_now(three: Measured3) -> None:
    for number in (1, 2, 3):
        three.open(number, 2)
    three.snapshot()
    three[3].says = b""
    found = three.snapshot(silent=1)
    assert three.value(found, STARTED, "c2s") == 6
    assert three.value(found, SESSIONS, "c2s", "negotiating") == 4
    assert (states(three, found)["running"], states(three, found)["silent"]) == (2, 1)
    three[3].says = None
    three.open(3, 1)
    found = three.snapshot()
    assert three.value(found, STARTED, "c2s") == 7
    assert three.value(found, SESSIONS, "c2s", "negotiating") == 7


@pytest.mark.parametrize(
    "item",
    [
        '"x"',
        '{"family":"bascule_nothing","series":[]}',
        '{"family":"bascule_ready","series":[[[],[1,2]]]}',
    ],
)
def test_what_no_metric_has_is_not_believed(three: Measured3, item: str) -> None:
    three.open(1, 2)
    three[2].says = f'{{"v":1,"item":{item}}}\n{{"v":1,"end":true}}\n'.encode()
    with capturedLogs() as logged:
        found = three.snapshot()
    assert three.value(found, STARTED, "c2s") == 2
    assert states(three, found)["silent"] == 1
    (event,) = logged
    assert event["reason"].startswith("its answer has what no metric has: ")


def test_no_worker_is_there(three: Measured3) -> None:
    three.open(1, 2)
    three.snapshot()
    for number in (1, 2, 3):
        three.crew.die(number)
    found = three.snapshot()
    assert three.value(found, families.READY.name) == 0
    assert three.value(found, STARTED, "c2s") == 2
    assert SESSIONS not in found.values
    assert states(three, found)["waiting"] == 3


def test_restarts_do_not_go_back(three: Measured3) -> None:
    three.crew.known[3] = WorkerFacts(3, "running", restarts=4)
    assert three.value(three.snapshot(), families.RESTARTS.name) == 4
    del three.crew.known[3]
    assert three.value(three.snapshot(), families.RESTARTS.name) == 4


def test_workers_are_asked_once_for_all_who_ask_meanwhile(three: Measured3) -> None:
    found: list[Any] = []
    for _ in range(40):
        three.measuring.snapshot().addCallback(found.append)
        three.measuring.health().addCallback(found.append)
    three.until(lambda: len(found) == 80)
    assert [worker.opened for worker in three.crew.workers] == [2, 2, 2]
    three.snapshot()
    assert three[1].opened == 3


def test_a_fault_is_told_to_all_who_ask(three: Measured3, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> list[WorkerFacts]:
        raise RuntimeError("broken")

    monkeypatch.setattr(three.measuring, "_facts", failing)
    failures: list[Any] = []
    for _ in range(2):
        three.measuring.snapshot().addErrback(failures.append)
    three.until(lambda: len(failures) == 2)
    monkeypatch.undo()
    assert three.value(three.snapshot(), families.READY.name) == 1


# Health


def test_all_are_well(three: Measured3) -> None:
    assert three.health() == Health((), remarks=[])


def test_one_that_is_not_well_does_not_keep_others_from_being_ready(three: Measured3) -> None:
    three.sources[1].wrong = ("listener c2s is not listening",)
    three.crew.die(2)
    health = three.health()
    assert health.good
    assert health.text() == (
        "ready\n"
        "worker 1: listener c2s is not listening\n"
        "worker 2 has ended, and will be started again\n"
    )
    assert json.loads(health.to_json())["ready"] is True


def test_none_is_well(three: Measured3) -> None:
    three.sources[1].wrong = ("one", "two")
    three.crew.die(2)
    three[2].says = b""
    health = three.health(silent=1)
    assert not health.good
    assert health.text() == (
        "not ready: worker 1: one\n"
        "not ready: worker 1: two\n"
        "not ready: worker 2 has ended, and will be started again\n"
        "not ready: worker 3 does not answer\n"
    )


def test_nobody_says_anything(three: Measured3) -> None:
    for number in (1, 2, 3):
        three[number].says = b'{"v":1,"error":"nothing is measured","code":"not-found"}\n'
    assert three.health().troubles == ["no worker has answered"]
    for number in (1, 2, 3):
        three[number].says = b'{"v":1,"item":{"trouble":7}}\n{"v":1,"end":true}\n'
    assert three.health().troubles == [f"worker {number} does not answer" for number in (1, 2, 3)]


def test_there_are_words_for_every_state(three: Measured3) -> None:
    for number in (1, 2, 3):
        three.crew.die(number)
    for state in WorkerState:
        three.crew.known = {1: WorkerFacts(1, state.value)}
        (trouble,) = three.health().troubles
        assert trouble.startswith("worker 1 ") or state is WorkerState.RUNNING


# On the worker's side


def items(answer: Items) -> list[Any]:
    return [item for item in answer if item is not None and not isinstance(item, Deferred)]


def test_however_many_series_there_are_no_line_is_too_long(three: Measured3) -> None:
    long = "x" * 255
    for number in range(MOST_SERIES):
        three.metrics[1]._tally.add(
            families.HANDSHAKES, *(f"{long}{number}" for _ in families.HANDSHAKES.labels)
        )
    snapshot = Snapshot(three.metrics[1]._tally.values())
    lines = [item_line(each) for each in pieces(snapshot)]
    assert sum(map(len, lines)) > LONGEST_ANSWER
    assert max(map(len, lines)) < LONGEST_ANSWER / 8
    found = three.snapshot()
    assert len(found.values[families.HANDSHAKES.name]) == MOST_SERIES


def test_nothing_is_measured() -> None:
    commands = Measured(lambda: None).commands()
    assert set(commands) == {METRICS, TROUBLES}
    for command in commands.values():
        with pytest.raises(RefusedError, match="nothing is measured") as caught:
            items(command(Arguments({})))
        assert caught.value.code is Code.NOT_FOUND


def test_no_argument_means_anything(three: Measured3) -> None:
    for command in Measured(lambda: three.metrics[1]).commands().values():
        with pytest.raises(RefusedError, match="there is no argument"):
            items(command(Arguments({"x": 1})))


def test_it_is_read_as_it_was_written(three: Measured3) -> None:
    three.sources[1].wrong = ("bad",)
    commands = Measured(lambda: three.metrics[1]).commands()
    assert items(commands[TROUBLES](Arguments({}))) == [{"trouble": "bad"}]
    answer = commands[METRICS](Arguments({}))
    waiting = next(answer)
    three.until(lambda: waiting.called)
    assert all(read_piece(item).values for item in items(answer))
