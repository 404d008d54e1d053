"""What goes over a channel: whole messages, within bounds, and nothing that is left open."""

import fcntl
import os
import resource
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from proxy.daemon.control.facts import Reloaded
from proxy.daemon.workers.channel import (
    CHANNEL,
    LONGEST,
    MOST_DESCRIPTORS,
    MOST_OFFERED,
    Channel,
    read,
    written,
)
from proxy.daemon.workers.messages import alert_from, alert_to, reloaded_from, reloaded_to
from proxy.daemon.workers.process import MOST_SESSIONS, Worker
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from tests.daemon.conf_fakes import conf_of, content, listener_table

WIDE = "\U0001f600"
"""A character that JSON writes as two escapes."""

Said = tuple[str, Mapping[str, Any], list[int]]


def turning() -> Any:
    return MemoryReactorClock()  # type: ignore[no-untyped-call]


class Pair:
    """Both ends of a channel, which do what they are told at once."""

    def __init__(self) -> None:
        self.reactor = turning()
        self.said: list[Said] = []
        self.gone = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours = Channel(self.reactor, ours, lambda *_: None, self._lost)
        self.theirs = Channel(self.reactor, theirs, self._told, lambda: None)

    def _told(self, *said: Any) -> None:
        self.said.append(said)

    def _lost(self) -> None:
        self.gone += 1

    def fill(self) -> int:
        """Offer messages until one is left out; return how many are not."""
        count = 0
        while self.ours.offer("alert", content="x" * 10_000):
            count += 1
        return count

    def close(self) -> None:
        for end in (self.ours, self.theirs):
            end.close()
        for _, _, descriptors in self.said:
            for each in descriptors:
                os.close(each)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def alert(**more: Any) -> Alert:
    return Alert(
        kind=Kind.UNKNOWN,
        severity=Severity.WARNING,
        domain="example.com",
        stream="c2s",
        **{"text": "text", "fields": {"name": "value"}, "key": "key", **more},
    )


def test_an_alert_comes_as_it_was_said() -> None:
    assert alert_from(alert_to(alert())) == alert()


def test_the_longest_alert_goes_over_a_channel(pair: Pair) -> None:
    long = WIDE * 100_000
    told = alert(text=long, fields={f"name{each}": long for each in range(100)}, key=long)
    pair.ours.say("alert", content=alert_to(told))
    pair.theirs.doRead()
    [(name, said, _)] = pair.said
    assert name == "alert"
    come = alert_from(said["content"])
    assert come.text
    assert long.startswith(come.text)


def test_what_came_of_a_reload_goes_over_a_channel_however_long_it_is(pair: Pair) -> None:
    lines = (WIDE * 10_000,) * 1_000
    pair.ours.say("reloaded", **reloaded_to(Reloaded(lines, lines, {"changed": lines[0]})))
    pair.theirs.doRead()
    [(_, said, _)] = pair.said
    come = reloaded_from(said)
    assert come.mistakes
    assert all(lines[0].startswith(each) and each for each in come.mistakes)


def test_short_lines_are_whole() -> None:
    reloaded = Reloaded(("not there: ä",), ("old",), {"changed": "listener"})
    assert reloaded_from(reloaded_to(reloaded)) == reloaded


def test_a_message_that_is_too_long_is_a_fault_and_not_sent(pair: Pair) -> None:
    with pytest.raises(ValueError, match="too long"):
        pair.ours.say("alert", content="x" * LONGEST)
    pair.theirs.doRead()
    assert not pair.said


def test_what_can_be_done_without_is_left_out_and_the_other_end_is_not_given_up(pair: Pair) -> None:
    sent = pair.fill()
    assert sent > MOST_OFFERED
    pair.ours.say("stop")
    assert not pair.gone
    while len(pair.said) <= sent:
        pair.theirs.doRead()
        pair.ours.doWrite()
    assert pair.said[-1][0] == "stop"
    assert pair.ours.offer("alert", content="y")


def _fill(stack: ExitStack) -> int:
    """Take all descriptors below the first behind those that are open; return that one."""
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    while True:
        taken = os.dup(0)
        stack.callback(os.close, taken)
        if taken > highest:
            return taken + 1


def test_a_message_whose_descriptors_find_no_room_is_lost_and_the_channel_is_not(
    pair: Pair,
) -> None:
    pair.ours.say("converse", [0, 1, 2])
    pair.ours.say("speak")
    before = opened()
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        filled = _fill(stack)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (allowed, most))
        resource.setrlimit(resource.RLIMIT_NOFILE, (filled + 2, most))
        pair.theirs.doRead()
        pair.theirs.doRead()
    assert opened() == before
    assert [name for name, _, _ in pair.said] == ["speak"]


def test_a_conf_comes_as_it_was_written_and_nobody_can_change_it() -> None:
    conf = conf_of(content(listener=[listener_table(tls="required")]))
    descriptor = written(conf)
    other = os.dup(descriptor)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 1)
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
        assert read(descriptor) == conf
    finally:
        assert read(other) == conf


class Lying:
    """A worker that says what it wants to; its supervisor's side is the real one."""

    def __init__(self) -> None:
        self.reactor = turning()
        self.alerts: list[Mapping[str, Any]] = []
        self.reactor.spawnProcess = self._spawn
        self.end: socket.socket
        self.worker = Worker(
            self.reactor,
            1,
            ready=lambda _: None,
            alerted=self.alerts.append,
            ending=lambda _: None,
            ended=lambda *_: None,
        )

    def _spawn(self, *_arguments: Any, childFDs: Mapping[int, int], **_more: Any) -> Any:
        self.end = socket.socket(fileno=os.dup(childFDs[CHANNEL]))
        return type("Process", (), {"pid": 4711})

    def say(self, message: bytes, descriptors: list[int]) -> None:
        socket.send_fds(self.end, [message], descriptors)
        [channel] = self.reactor.getReaders()
        channel.doRead()

    def close(self) -> None:
        self.end.close()
        [channel] = self.reactor.getReaders()
        channel.doRead()


@pytest.fixture
def lying() -> Iterator[Lying]:
    lying = Lying()
    yield lying
    lying.close()


def test_descriptors_of_a_worker_do_not_stay_open(lying: Lying) -> None:
    before = opened()
    for _ in range(20):
        lying.say(b'{"is":"alive","sessions":1}', [0] * MOST_DESCRIPTORS)
        lying.say(b'{"is":"nonsense"}', [0] * MOST_DESCRIPTORS)
    assert opened() == before
    assert lying.worker.sessions == 1


@pytest.mark.parametrize(
    "message",
    [
        b'{"is":"alive","sessions":"many"}',
        b'{"is":"alive","sessions":[]}',
        b'{"is":"alive","sessions":1e999}',
        b'{"is":"alive"}',
        b'{"is":"failed","code":"x","text":1}',
        b'{"is":"reloaded"}',
        b'{"is":"alert"}',
        b"[]",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_makes_no_sense_changes_nothing(lying: Lying, message: bytes) -> None:
    lying.say(message, [])
    assert (lying.worker.sessions, lying.worker.failure, lying.alerts) == (0, None, [])


@pytest.mark.parametrize(("said", "sessions"), [(-5, 0), (10**30, MOST_SESSIONS), (7, 7)])
def test_sessions_are_as_many_as_there_can_be(lying: Lying, said: int, sessions: int) -> None:
    lying.say(b'{"is":"alive","sessions":%d}' % said, [])
    assert lying.worker.sessions == sessions
