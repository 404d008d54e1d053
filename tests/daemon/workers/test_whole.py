"""What the control socket of several workers answers, some of them being slow, dying or lying."""

import json
import socket
from typing import Any

import attrs
import pytest
from twisted.logger import capturedLogs

from proxy.daemon.control import conversation
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import (
    AlertRow,
    CertificateRow,
    Reloaded,
    Status,
    WorkerFacts,
)
from proxy.daemon.control.protocol import Code, RefusedError
from proxy.daemon.control.shown import print_shown, status_shown
from proxy.daemon.workers import listing, merging
from proxy.session.commands import Severity
from tests.daemon.control.fakes import STATUS, Asked, session
from tests.daemon.workers.fakes import STARTED, Several

SILENT = b""
NO_JSON = b"\xff\n"
NO_STATUS = b'{"v":1,"item":{"pid":"x"}}\n{"v":1,"end":true}\n'
NO_ITEM = b'{"v":1,"end":true}\n'


def refusal(asked: Asked) -> tuple[Code, str]:
    assert isinstance(asked.error, RefusedError), asked.error
    return asked.error.code, asked.error.text


def status(several: Several) -> Status:
    return status_of(several.asked("status"))


def status_of(asked: Asked) -> Status:
    assert asked.error is None
    (item,) = asked.items
    return decoded(Status, item)


# Status


def test_one_status_of_all(several: Several) -> None:
    found = status(several)
    assert found.sessions == {"negotiating": 3, "joined": 3}
    assert found.certificates == STATUS.certificates
    assert found.pending == 2
    assert found.alerts == (attrs.evolve(STATUS.alerts[0], count=9),)
    (listener,) = found.listeners
    assert (listener.name, listener.address, listener.sessions) == ("c2s", "[::]:5222", 3)
    assert found.pid not in {4711, *(each.pid for each in found.workers)}
    assert found.workers == tuple(
        WorkerFacts(number, "running", 1_000 + number, STARTED, sessions=2) for number in (1, 2, 3)
    )


@pytest.mark.parametrize("says", [NO_JSON, NO_STATUS, NO_ITEM])
def test_a_worker_that_talks_nonsense_is_left_out(several: Several, says: bytes) -> None:
    several[2].says = says
    found = status(several)
    assert sum(found.sessions.values()) == 4
    assert [each.sessions for each in found.workers] == [2, None, 2]
    assert found.workers[1].state == "silent"


def test_a_worker_that_cannot_be_asked_is_left_out(several: Several) -> None:
    several[1].fault = OSError(24, "Too many open files")
    with capturedLogs() as logged:
        found = status(several)
    assert [each.state for each in found.workers] == ["silent", "running", "running"]
    assert [each["reason"] for each in logged] == ["it cannot be asked: Too many open files"]


def test_a_worker_that_keeps_silent_is_waited_for_and_left_out(several: Several) -> None:
    several[3].says = SILENT
    asked = several.begin("status")
    several.give_up()
    several.until(lambda: asked.over)
    assert [each.state for each in status_of(asked).workers] == ["running", "running", "silent"]


def test_a_worker_that_dies_while_it_is_asked_is_left_out(several: Several) -> None:
    several[3].says = SILENT
    asked = several.begin("status")
    several.until(lambda: several[3].opened)
    several.crew.die(3)
    several.until(lambda: asked.over)
    found = status_of(asked)
    waiting = WorkerFacts(3, "waiting", restarts=1, seconds=2.5)
    assert found.workers[2] == waiting
    assert sum(found.sessions.values()) == 4


def test_a_status_without_workers(several: Several) -> None:
    for number in (1, 2, 3):
        several.crew.die(number)
    found = status(several)
    assert (found.sessions, found.pending, found.certificates) == ({}, None, ())
    assert [each.state for each in found.workers] == ["waiting"] * 3
    (listener,) = found.listeners
    assert (listener.name, listener.sessions) == ("c2s", 0)


def test_workers_are_shown(
    several: Several, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    several.crew.die(2)
    several.crew.workers[1].says = NO_JSON
    print_shown(status_shown(status(several)))
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("WORKER"))
    rows = [" ".join(line.split()) for line in lines[start : start + 4]]
    assert rows == [
        "WORKER PROCESS STATE SINCE RESTARTS SESSIONS",
        "1 1001 running 2026-05-01 10:00:00 UTC 0 2",
        "2 starts again in 2.5 s 1",
        "3 1003 does not answer 2026-05-01 10:00:00 UTC 0",
    ]


def alert(minute: int, severity: str = "warning", text: str = "") -> AlertRow:
    return AlertRow(f"2026-05-01T11:{minute:02}:00+00:00", severity, text or f"of {minute}", 1)


def test_alerts_are_merged() -> None:
    one = attrs.evolve(STATUS, alerts=(alert(5), alert(3), alert(1, text="same")))
    two = attrs.evolve(STATUS, alerts=(alert(4), alert(2, text="same"), alert(0, "notice", "same")))
    rows = merging.alerts((one, two))
    assert [(row.text, row.time[14:16], row.count) for row in rows] == [
        ("of 5", "05", 1),
        ("of 4", "04", 1),
        ("of 3", "03", 1),
        ("same", "02", 2),
        ("same", "00", 1),
    ]


def test_old_critical_alerts_are_not_pushed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "RECENT", 2)
    others = tuple(alert(minute) for minute in range(20, 10, -1))
    old = (alert(3, "critical"), alert(2, "critical"), alert(1, "critical"))
    rows = merging.alerts((attrs.evolve(STATUS, alerts=(*others, *old)),))
    assert [row.text for row in rows] == ["of 20", "of 19", "of 3", "of 2"]


def test_what_only_one_presents_is_there_once() -> None:
    other = CertificateRow("example.net", "/c", "RSA 2048", "2027-01-01T00:00:00+00:00", 200)
    two = attrs.evolve(STATUS, certificates=(STATUS.certificates[0], other), pending=None)
    assert merging.presented((STATUS, two)) == (*STATUS.certificates, other)
    assert merging.pending((two, STATUS)) == 2
    assert merging.pending((two,)) is None


# Sessions


def ids(asked: Asked) -> list[str]:
    assert asked.error is None
    return sorted(item["id"] for item in asked.items)


def test_sessions_of_all(several: Several) -> None:
    for number in (1, 2, 3):
        several[number].daemon.there = [session(f"{number}{letter}") for letter in "ab"]
    assert ids(several.asked("sessions")) == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert ids(several.asked("sessions", listener="c2s", domain="example.com")) != []
    assert ids(several.asked("sessions", domain="example.net")) == []


def test_a_listener_that_no_worker_knows(several: Several) -> None:
    asked = several.asked("sessions", listener="nothing")
    assert refusal(asked) == (Code.NOT_FOUND, "there is no listener with this name")


def test_a_listener_that_one_worker_has_sessions_of(several: Several) -> None:
    for number in (1, 3):
        several[number].says = b'{"v":1,"error":"no listener","code":"not-found"}\n'
    assert ids(several.asked("sessions", listener="s2s-out")) == ["b2"]


def test_sessions_of_those_that_answer(several: Several) -> None:
    line = json.dumps({"v": 1, "item": attrs.asdict(session("half"))}).encode() + b"\n"
    several[1].says = line
    several[2].says = NO_JSON
    asked = several.begin("sessions")
    several.give_up()
    several.until(lambda: asked.over)
    assert ids(asked) == ["a1", "b2", "half"]


def test_no_worker_answers(several: Several) -> None:
    for number in (1, 2, 3):
        several[number].says = NO_JSON
    assert refusal(several.asked("sessions")) == (Code.TIMEOUT, "no worker has answered")
    for number in (1, 2, 3):
        several.crew.die(number)
    assert several.asked("sessions").items == []


def test_many_sessions_are_never_all_in_memory(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(listing.Listing):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

        def _take(self, item: Any) -> None:
            super()._take(item)
            self.most = max(getattr(self, "most", 0), len(self._held))

    monkeypatch.setattr("proxy.daemon.workers.whole.Listing", Counted)
    for number in (1, 2, 3):
        several[number].daemon.there = [session(f"{number}-{each}") for each in range(3_000)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(several.path))
        client.sendall(b'{"v":1,"command":"sessions"}\n')
        several.until(lambda: made and made[0]._paused)
        several.turn(50)  # while the client takes in nothing
        assert all(several[number].daemon.drawn < 3_000 for number in (1, 2, 3))
        client.setblocking(False)
        read = bytearray()

        def whole() -> bool:
            try:
                read.extend(client.recv(1 << 20))
            except BlockingIOError:
                return False
            return read.endswith(b'"end":true}\n')

        several.until(whole, 60)
    lines = [json.loads(line) for line in read.splitlines()]
    assert len({line["item"]["id"] for line in lines[:-1]}) == 9_000
    assert made[0].most < 1_000


def test_who_leaves_a_list_has_no_worker_go_on(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "SLOW", 1_000)
    for number in (1, 2, 3):
        several[number].daemon.there = [session(f"{number}-{each}") for each in range(3_000)]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(several.path))
        client.sendall(b'{"v":1,"command":"sessions"}\n')
        several.until(lambda: several[3].daemon.drawn)
    several.until(lambda: not any(len(worker.clients) for worker in several.crew.workers))


# What is done to them


def test_kick(several: Several) -> None:
    several[2].daemon.there.append(session("mine"))
    assert several.asked("kick", session="mine").items == [{"session": "mine"}]
    assert several[1].daemon.kicked == several[3].daemon.kicked == ["mine"]
    asked = several.asked("kick", session="nobody")
    assert refusal(asked) == (Code.NOT_FOUND, "there is no session with this id")


def test_whoever_has_the_session_may_be_silent(several: Several) -> None:
    several[3].says = NO_JSON
    assert several.asked("kick", session="a1").items == [{"session": "a1"}]
    code, text = refusal(several.asked("kick", session="nobody"))
    assert code is Code.TIMEOUT
    assert text.endswith("others keep silent")
    several[3].says = b'{"v":1,"error":"it has failed","code":"fault"}\n'
    assert refusal(several.asked("kick", session="nobody")) == (Code.FAULT, "it has failed")


def test_the_log_level_of_all(several: Several) -> None:
    several.log.threshold = Severity.WARNING
    assert several.asked("log-level").items == [{"level": "warning"}]
    assert several.asked("log-level", level="error").items == [{"level": "error"}]
    assert several.log.threshold is Severity.ERROR
    assert {several[number].daemon.level for number in (1, 2, 3)} == {Severity.ERROR}
    assert several.asked("log-level").items == [{"level": "error"}]


def test_a_worker_that_comes_up_later_has_the_same_log_level(several: Several) -> None:
    several.whole.risen(several[1])
    assert several[1].opened == 0
    several.asked("log-level", level="error")
    several.crew.die(2)
    one_more = several.crew.worker(2)
    several.crew.workers.append(one_more)
    several.whole.risen(one_more)
    several.until(lambda: one_more.daemon.level is Severity.ERROR)


def test_old_sessions_of_all_are_ended(several: Several) -> None:
    assert several.asked("drain", older_than="1h").items == [{"sessions": 9, "seconds": 0.06}]
    assert several.daemon.drained == []
    several[2].says = NO_JSON
    assert several.asked("drain", older_than="1h").items == [{"sessions": 6, "seconds": 0.06}]


def test_an_age_that_no_worker_understands(several: Several) -> None:
    asked = several.asked("drain", older_than="soon")
    assert refusal(asked) == (Code.BAD_REQUEST, "older_than: allowed: an age")


def test_no_worker_says_that_it_ends_sessions(several: Several) -> None:
    for number in (1, 2, 3):
        several[number].says = NO_JSON
    asked = several.asked("drain", older_than="1h")
    assert refusal(asked) == (Code.TIMEOUT, "no worker has answered")
    for number in (1, 2, 3):
        several.crew.die(number)
    assert several.asked("drain", older_than="1h").items == [{"sessions": 0, "seconds": 0.0}]


def test_all_of_it_is_the_supervisors(several: Several) -> None:
    assert several.asked("drain").items == [{"sessions": 3, "seconds": 0.06}]
    assert several.daemon.drained == [""]
    asked = several.begin("reload")
    several.until(lambda: several.daemon.reloads)
    several.daemon.reloads[0].callback(Reloaded(changes={"changed": "dns"}))
    several.until(lambda: asked.over)
    assert asked.items == [{"mistakes": [], "warnings": [], "changes": {"changed": "dns"}}]
    several.daemon.ending = True
    assert refusal(several.asked("reload")) == (Code.NOT_FOUND, "the daemon is about to end")
    assert several[1].opened == 0


def test_a_drain_that_comes_too_late(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(_older_than: str) -> None:
        raise NotControllableError("the daemon is about to end")

    for number in (1, 2, 3):
        monkeypatch.setattr(several[number].daemon, "drain", late)
    asked = several.asked("drain", older_than="1h")
    assert refusal(asked) == (Code.NOT_FOUND, "the daemon is about to end")
