"""The control socket on a real reactor: what it answers, to whom, and within which bounds."""

import json
import socket
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.logger import capturedLogs

from proxy.daemon.control import conversation, server
from proxy.daemon.control.client import NotRunningError
from proxy.daemon.control.controlled import Wanted
from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import SessionFacts, Status, Traced
from proxy.daemon.control.peer import Peer
from proxy.daemon.control.protocol import LONGEST_REQUEST, Code, RefusedError
from proxy.session.commands import Severity
from tests.daemon.control.fakes import STATUS, Running, session, traced


def refusal(error: Exception | None) -> tuple[Code, str]:
    assert isinstance(error, RefusedError), error
    return error.code, error.text


class Raw:
    """A client that says what it likes."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(str(running.path))
        self.connection.setblocking(False)
        self.read = b""
        self.closed = False

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def poll(self) -> bool:
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return self.closed
        except ConnectionResetError:
            data = b""
        self.read += data
        self.closed = self.closed or not data
        return self.closed

    def to_end(self) -> list[Any]:
        self._running.until(self.poll)
        self.connection.close()
        return [json.loads(line) for line in self.read.splitlines()]

    def refused(self) -> tuple[str, str]:
        (line,) = self.to_end()
        assert line["v"] == 1
        return line["code"], line["error"]


# Who may ask


@pytest.mark.parametrize("told", [Peer(1, 4711, frozenset((4711,))), OSError("no")])
def test_others_are_refused_with_a_line(
    running: Running, monkeypatch: pytest.MonkeyPatch, told: Peer | OSError
) -> None:
    def other(_connection: socket.socket) -> Peer:
        if isinstance(told, OSError):
            raise told
        return told

    monkeypatch.setattr(conversation, "peer_of", other)
    code, text = refusal(running.asked("kick", session="a1").error)
    assert code is Code.NOT_PERMITTED
    assert text == "only root, the daemon's own user and the group of the socket may ask"
    assert running.daemon.kicked == []


# What is answered


def test_status(running: Running) -> None:
    asked = running.asked("status")
    assert asked.error is None
    assert [decoded(Status, item) for item in asked.items] == [STATUS]


def test_sessions(running: Running) -> None:
    asked = running.asked("sessions")
    assert [decoded(SessionFacts, item) for item in asked.items] == running.daemon.there


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ({"listener": "c2s"}, ["a1"]),
        ({"listener": "s2s-out", "domain": "example.com"}, ["b2"]),
        ({"domain": "example.com"}, ["a1", "b2"]),
        ({"domain": "example.net"}, ["b2"]),
    ],
)
def test_some_sessions(running: Running, arguments: dict[str, object], ids: list[str]) -> None:
    assert [item["id"] for item in running.asked("sessions", **arguments).items] == ids


def test_sessions_of_a_listener_that_there_is_not(running: Running) -> None:
    error = running.asked("sessions", listener="nothing").error
    assert refusal(error) == (Code.NOT_FOUND, "there is no listener with this name")


def test_kick(running: Running) -> None:
    assert running.asked("kick", session="a1").items == [{"session": "a1"}]
    unknown = running.asked("kick", session="zz").error
    assert refusal(unknown) == (Code.NOT_FOUND, "there is no session with this id")
    assert running.daemon.kicked == ["a1", "zz"]


def test_log_level(running: Running) -> None:
    assert running.asked("log-level").items == [{"level": "info"}]
    assert running.asked("log-level", level="warning").items == [{"level": "warning"}]
    assert running.daemon.level is Severity.WARNING
    error = running.asked("log-level", level="loud").error
    code, text = refusal(error)
    assert code is Code.BAD_REQUEST
    assert text.startswith("there are the levels debug, info, warning, error")


def test_a_trace_comes_as_it_happens_until_it_ends(running: Running) -> None:
    asked = running.begin("trace", listener="c2s", client="192.0.2.0/24", count=2)
    running.until(lambda: running.daemon.sinks)
    (wanted,) = running.daemon.wanted
    assert attrs.asdict(wanted) == {
        "session": "",
        "listener": "c2s",
        "client": wanted.client,
        "count": 2,
    }
    assert str(wanted.client) == "192.0.2.0/24"
    told, ended = running.daemon.sinks[0]
    told(traced("<one/>"))
    running.until(lambda: asked.items)
    told(traced("<two/>", "sent"))
    ended()
    running.until(lambda: asked.over)
    assert asked.error is None
    expected = [traced("<one/>"), traced("<two/>", "sent")]
    assert [decoded(Traced, item) for item in asked.items] == expected
    assert running.daemon.stopped == 1


def test_a_trace_of_what_is_not_there_is_refused(running: Running) -> None:
    error = running.asked("trace", session="gone").error
    assert refusal(error) == (Code.NOT_FOUND, "there is no session with this id")


def test_a_trace_ends_when_its_client_leaves(running: Running) -> None:
    raw = Raw(running)
    raw.say(b'{"v":1,"command":"trace","session":"a1"}\n')
    running.until(lambda: running.daemon.sinks)
    assert running.daemon.wanted == [Wanted("a1")]
    raw.connection.close()
    running.until(lambda: running.daemon.stopped)


def test_who_has_said_all_is_answered_still(running: Running) -> None:
    raw = Raw(running)
    raw.say(b'{"v":1,"command":"log-level"}\n')
    raw.connection.shutdown(socket.SHUT_WR)
    assert raw.to_end() == [{"v": 1, "item": {"level": "info"}}, {"v": 1, "end": True}]


# What is refused


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"status\n", "the request is not JSON"),
        (b"\xff\n", "the request is not JSON"),
        (b"\n", "the request is not JSON"),
        (b"[" * 4000 + b"\n", "the request is not JSON"),
        (b"[]\n", "the request is not an object of JSON"),
        (b'{"command":"status"}\n', 'not in version 1 of the language ("v": 1)'),
        (b'{"v":2,"command":"status"}\n', 'not in version 1 of the language ("v": 1)'),
        (b'{"v":true,"command":"status"}\n', 'not in version 1 of the language ("v": 1)'),
        (b'{"v":1}\n', "the request has no command"),
        (b'{"v":1,"command":7}\n', "the request has no command"),
        (
            b'{"v":1,"command":"stop"}\n',
            "there are status, sessions, kick, log-level, reload, drain, trace",
        ),
        (b'{"v":1,"command":"status","x":1}\n', 'there is no argument "x" of this command'),
        (b'{"v":1,"command":"sessions","listner":"a"}\n', 'no argument "listner"'),
        (b'{"v":1,"command":"kick","session":7}\n', "session is no text"),
        (b'{"v":1,"command":"kick"}\n', "no session is named"),
        (b'{"v":1,"command":"trace","count":0}\n', "count is no whole number from 1 to 100"),
        (b'{"v":1,"command":"trace","count":true}\n', "count is no whole number from 1 to 100"),
        (b'{"v":1,"command":"trace","client":"x"}\n', "neither an IP address nor a network"),
        (b'{"v":1,"command":"trace","session":"a","count":2}\n', "a trace is of one session"),
        (b'{"v":1,"command":"status"}\n{"v":1', "something follows the request"),
        (b"x" * LONGEST_REQUEST, "the request is longer than 4096 bytes"),
    ],
)
def test_a_request_that_cannot_be_understood(running: Running, said: bytes, text: str) -> None:
    raw = Raw(running)
    raw.say(said)
    code, told = raw.refused()
    assert code == "bad-request"
    assert text in told
    assert running.daemon.kicked == []
    assert running.asked("log-level").items == [{"level": "info"}]


def test_what_follows_a_trace_ends_it(running: Running) -> None:
    raw = Raw(running)
    raw.say(b'{"v":1,"command":"trace"}\n')
    running.until(lambda: running.daemon.sinks)
    raw.say(b"more\n")
    assert raw.refused() == ("bad-request", "something follows the request")
    assert running.daemon.stopped == 1


def test_a_fault_of_the_daemon_is_told_and_logged(running: Running) -> None:
    with capturedLogs() as logged:
        running.daemon.fault = RuntimeError("secret")
        error = running.asked("status").error
    assert refusal(error) == (Code.FAULT, "the daemon has failed; its log says more")
    assert [event["log_failure"].getErrorMessage() for event in logged if "log_failure" in event]


# Bounds


def test_many_sessions_come_in_many_turns(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.daemon.there = [session(f"{number:06x}") for number in range(400)]
    turns = []
    call_later = running.reactor.callLater

    def counted(seconds: float, call: Callable[..., object], *arguments: object) -> Any:
        if seconds == 0:
            turns.append(running.daemon.drawn)
        return call_later(seconds, call, *arguments)

    monkeypatch.setattr(running.reactor, "callLater", counted)
    asked = running.asked("sessions")
    assert len(asked.items) == 400
    assert max(after - before for before, after in zip([0, *turns], turns, strict=False)) <= 50


def test_who_does_not_read_is_not_told_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "SLOW", 0.3)
    running.daemon.there = [session(f"{number:06x}") for number in range(20_000)]
    raw = Raw(running)
    raw.say(b'{"v":1,"command":"sessions"}\n')
    running.until(lambda: running.daemon.drawn > 100)
    running.until(lambda: not running.socket._clients)
    assert running.daemon.drawn < 5_000
    raw.connection.close()


def test_a_trace_that_nobody_reads_is_bounded(running: Running) -> None:
    raw = Raw(running)
    raw.say(b'{"v":1,"command":"trace"}\n')
    running.until(lambda: running.daemon.sinks)
    told, _ = running.daemon.sinks[0]
    for _ in range(2_000):
        told(traced("x" * 1_000))
        running.reactor.iterate(0)
    running.until(lambda: running.daemon.stopped)
    assert not running.socket._clients
    raw.connection.close()


def test_a_request_must_come_in_time(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "ASKING", 0.2)
    raw = Raw(running)
    raw.say(b'{"v":1,')
    assert raw.refused() == ("timeout", "no request came in time")


def test_a_trace_has_an_end(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "TRACING", 0.2)
    error = running.asked("trace").error
    assert refusal(error)[0] is Code.TIMEOUT
    assert running.daemon.stopped == 1


def test_too_many_clients_are_told_to_try_again(running: Running) -> None:
    raws = [Raw(running) for _ in range(server.MOST_CLIENTS)]
    running.until(lambda: len(running.socket._clients) == server.MOST_CLIENTS)
    one_more = Raw(running)
    assert one_more.refused() == ("busy", "too many others are asking; try again")
    for raw in raws:
        raw.connection.close()
    running.until(lambda: not running.socket._clients)
    assert running.asked("log-level").items == [{"level": "info"}]


def test_the_end_of_the_daemon_ends_all(running: Running) -> None:
    asked = running.begin("trace")
    running.until(lambda: running.daemon.sinks)
    running.socket.stop()
    running.until(lambda: asked.over)
    assert isinstance(asked.error, NotRunningError)
    assert running.daemon.stopped == 1


def test_accepting_goes_on_after_the_system_had_no_room(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PAUSE", 0.1)
    held = running.socket._place
    assert held is not None
    descriptor = held.listening.fileno()

    class Exhausted:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

        def fileno(self) -> int:
            return descriptor

    running.socket._place = attrs.evolve(held, listening=Exhausted())  # type: ignore[arg-type]
    asked = running.begin("log-level")
    running.until(lambda: running.socket._pause is not None)
    running.socket._place = held
    running.until(lambda: asked.over)
    assert asked.items == [{"level": "info"}]


def test_timers_do_not_outlive_a_conversation(running: Running) -> None:
    running.asked("status")
    running.until(lambda: not running.socket._clients)
    assert [call for call in running.reactor.getDelayedCalls() if call.active()] == []
