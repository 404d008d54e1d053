"""One trace of several workers, some of which die."""

import socket
from typing import Any

import pytest

from proxy.daemon.control.controlled import NotControllableError, Wanted
from proxy.daemon.control.facts import Traced
from proxy.daemon.control.protocol import Code, RefusedError
from tests.daemon.control.fakes import Asked
from tests.daemon.workers.fakes import FakeWorker, Several

WAITING = "waiting for a session to begin"


def traced(session: str, text: str, *, last: bool = False) -> Traced:
    return Traced("2026-05-01T10:00:00.123+00:00", session, "", "", text, last)


def sinks(several: Several) -> list[tuple[Any, Any]]:
    return [worker.daemon.sinks[-1] for worker in several.crew.workers]


def begin(several: Several, **arguments: object) -> Asked:
    """A trace of sessions to come, for which all workers wait."""
    asked = several.begin("trace", **arguments)
    several.until(lambda: all(worker.daemon.sinks for worker in several.crew.workers))
    for told, _ in sinks(several):
        told(traced("", WAITING))
    several.until(lambda: asked.items)
    return asked


def texts(asked: Asked) -> list[tuple[str, str]]:
    return [(item["session"], item["text"]) for item in asked.items]


def refusal(asked: Asked) -> tuple[Code, str]:
    assert isinstance(asked.error, RefusedError), asked.error
    return asked.error.code, asked.error.text


def test_the_next_session_is_whichever_worker_gets_it(several: Several) -> None:
    asked = begin(several, listener="c2s", client="192.0.2.0/24")
    (wanted,) = several[2].daemon.wanted
    assert (wanted.listener, str(wanted.client), wanted.count) == ("c2s", "192.0.2.0/24", 1)
    told, _ = sinks(several)[1]
    told(traced("s1", "one"))
    several.until(lambda: several[1].daemon.stopped and several[3].daemon.stopped)
    told(traced("s1", "two"))
    told(traced("s1", "over", last=True))
    several.until(lambda: asked.over)
    assert asked.error is None
    assert texts(asked) == [("", WAITING), ("s1", "one"), ("s1", "two"), ("s1", "over")]
    several.until(lambda: several[2].daemon.stopped)


def test_it_waits_when_all_wait(several: Several) -> None:
    asked = several.begin("trace")
    several.until(lambda: all(worker.daemon.sinks for worker in several.crew.workers))
    for told, _ in sinks(several)[:2]:
        told(traced("", WAITING))
    several.turn(20)
    assert asked.items == []
    several.crew.die(3)
    several.until(lambda: asked.items)
    assert texts(asked) == [("", WAITING)]
    several.socket.stop()
    several.until(lambda: asked.over)


def test_a_worker_that_keeps_silent_is_not_waited_for(several: Several) -> None:
    several[3].says = b""
    asked = several.begin("trace")
    several.until(lambda: several[1].daemon.sinks and several[2].daemon.sinks)
    for worker in several.crew.workers[:2]:
        worker.daemon.sinks[0][0](traced("", WAITING))
    several.give_up()
    several.until(lambda: asked.items)
    assert texts(asked) == [("", WAITING)]
    several.socket.stop()
    several.until(lambda: asked.over)


def test_a_session_that_begins_before_all_wait(several: Several) -> None:
    asked = several.begin("trace")
    several.until(lambda: all(worker.daemon.sinks for worker in several.crew.workers))
    told, _ = sinks(several)[0]
    told(traced("", WAITING))
    told(traced("s1", "over", last=True))
    several.until(lambda: asked.over)
    assert texts(asked) == [("", WAITING), ("s1", "over")]


def test_as_many_as_are_wanted_and_no_more(several: Several) -> None:
    asked = begin(several, count=2)
    one, two, three = (told for told, _ in sinks(several))
    one(traced("s1", "begins"))
    several.until(lambda: len(asked.items) == 2)
    two(traced("s2", "begins"))
    several.until(lambda: len(asked.items) == 3)
    three(traced("s3", "begins"))
    one(traced("s4", "begins"))
    one(traced("s1", "over", last=True))
    several.until(lambda: len(asked.items) == 4)
    assert not asked.over
    two(traced("s2", "over", last=True))
    several.until(lambda: asked.over)
    assert [session for session, _ in texts(asked)] == ["", "s1", "s2", "s1", "s2"]
    assert asked.error is None


def test_a_first_that_is_over_leaves_the_next_to_come(several: Several) -> None:
    asked = begin(several, count=2)
    one, two, _ = (told for told, _ in sinks(several))
    one(traced("s1", "over", last=True))
    several.until(lambda: len(asked.items) == 2)
    several.turn(20)
    assert not asked.over
    two(traced("s2", "over", last=True))
    several.until(lambda: asked.over)
    assert asked.error is None


def test_a_worker_that_dies_ends_its_part(several: Several) -> None:
    asked = begin(several, count=2)
    one, two, _ = (told for told, _ in sinks(several))
    one(traced("s1", "begins"))
    two(traced("s2", "begins"))
    several.until(lambda: len(asked.items) == 3)
    several.crew.die(1)
    several.until(lambda: len(asked.items) == 4)
    assert texts(asked)[3] == ("s1", "worker 1, which had the session, is gone")
    assert not asked.over
    two(traced("s2", "over", last=True))
    several.until(lambda: asked.over)
    assert asked.error is None


def test_all_workers_die(several: Several) -> None:
    asked = begin(several)
    for number in (1, 2, 3):
        several.crew.die(number)
    several.until(lambda: asked.over)
    assert refusal(asked) == (Code.NOT_FOUND, "no worker has answered")
    assert refusal(several.asked("trace")) == (Code.NOT_FOUND, "no worker has answered")


class Known:
    """A worker's answer to whether it has a session."""

    def __init__(self, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.why = "there is no session with this id"
        monkeypatch.setattr(worker.daemon, "trace", self._trace)

    def _trace(self, *_: object) -> None:
        raise NotControllableError(self.why)


def test_a_session_that_one_worker_has(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 3):
        Known(several[number], monkeypatch)
    asked = several.begin("trace", session="s1")
    several.until(lambda: several[2].daemon.sinks)
    told, ended = several[2].daemon.sinks[0]
    told(traced("s1", "one"))
    told(traced("s1", "over", last=True))
    ended()
    several.until(lambda: asked.over)
    assert texts(asked) == [("s1", "one"), ("s1", "over")]
    assert asked.error is None


def test_a_session_that_nobody_has(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Known(several[number], monkeypatch) for number in (1, 2, 3)]
    asked = several.asked("trace", session="s1")
    assert refusal(asked) == (Code.NOT_FOUND, "there is no session with this id")
    known[2].why = "the negotiation of session s1 is over"
    asked = several.asked("trace", session="s1")
    assert refusal(asked) == (Code.NOT_FOUND, "the negotiation of session s1 is over")


def test_a_trace_ends_when_its_client_leaves(several: Several) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(several.path))
        client.sendall(b'{"v":1,"command":"trace"}\n')
        several.until(lambda: all(worker.daemon.sinks for worker in several.crew.workers))
    several.until(lambda: all(worker.daemon.stopped for worker in several.crew.workers))
    several.until(lambda: not any(len(worker.clients) for worker in several.crew.workers))


def test_who_leaves_at_once_has_nobody_asked(several: Several) -> None:
    def ended(why: str = "") -> None:
        pytest.fail(why)

    several.whole.trace(Wanted(), lambda _: None, ended)()
    several.turn()
    assert [worker.opened for worker in several.crew.workers] == [0, 0, 0]


def test_what_is_no_trace_is_left_out(several: Several) -> None:
    several[1].says = b'{"v":1,"item":{"time":7}}\n'
    asked = several.begin("trace")
    several.until(lambda: several[2].daemon.sinks and several[3].daemon.sinks)
    for number in (2, 3):
        several[number].daemon.sinks[0][0](traced("", WAITING))
    several.until(lambda: asked.items)
    several[2].daemon.sinks[0][0](traced("s1", "over", last=True))
    several.until(lambda: asked.over)
    assert asked.error is None
