"""Asking one worker: in bounds, in time, and no longer than it is wanted."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.python.failure import Failure

from proxy.daemon.control.protocol import Code, NotUnderstoodError, RefusedError
from proxy.daemon.workers import asking
from proxy.daemon.workers.asking import Asking, Replies, UnansweredError, ask
from tests.daemon.workers.fakes import waits
from tests.net.conftest import Turning

END = b'{"v":1,"end":true}\n'


class Other:
    """The other end of a connection, in the hands of a test."""

    number = 1

    def __init__(self, turning: Turning) -> None:
        self.turning = turning
        self.items: list[Any] = []
        self.ended: list[object] = []
        self.connection: socket.socket

    def open(self) -> socket.socket:
        ours, self.connection = socket.socketpair()
        self.connection.setblocking(False)
        return ours

    def ask(self, told: Any = None, **arguments: object) -> Asking:
        asking = ask(self.turning.reactor, self, "status", arguments, told or self.items.append)
        asking.ended.addBoth(self.ended.append)
        return asking

    def error(self) -> BaseException | None:
        self.turning.until(lambda: self.ended)
        (failure,) = self.ended
        assert isinstance(failure, Failure)
        return failure.value


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.turn(3)
    assert waits(turning.reactor) == []
    turning.stop()


@pytest.fixture
def other(turning: Turning) -> Iterator[Other]:
    other = Other(turning)
    yield other
    other.connection.close()
    turning.turn(3)


def test_items_come_as_they_are_said(other: Other) -> None:
    other.ask(level=None, listener="c2s")
    other.turning.turn(3)
    said = other.connection.recv(4_096)
    assert said == b'{"v":1,"command":"status","listener":"c2s"}\n'
    other.connection.sendall(b'{"v":1,"item":1}\n{"v":1,"it')
    other.turning.until(lambda: other.items)
    other.connection.sendall(b'em":2}\n')
    other.turning.until(lambda: len(other.items) == 2)
    assert (other.items, other.ended) == ([1, 2], [])
    other.connection.sendall(END + b'{"v":1,"item":3}\n')
    other.turning.until(lambda: other.ended)
    assert (other.items, other.ended) == ([1, 2], [None])


def test_a_refusal(other: Other) -> None:
    other.ask()
    other.connection.sendall(b'{"v":1,"error":"no","code":"busy"}\n')
    error = other.error()
    assert isinstance(error, RefusedError)
    assert (error.code, error.text) == (Code.BUSY, "no")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "it has gone before its answer was complete"),
        (b'{"v":1,"item":1}\n', "it has gone before its answer was complete"),
        (b"nothing\n", "its answer is not JSON"),
        (b'{"v":1}\n', "its answer is neither an item nor an end nor an error"),
        (b'{"v":1,"item":"bad"}\n', "its answer is bad"),
    ],
)
def test_what_is_no_answer(other: Other, said: bytes, why: str) -> None:
    def told(item: object) -> None:
        if item == "bad":
            raise NotUnderstoodError("is bad")

    other.ask(told)
    other.connection.sendall(said)
    other.connection.close()
    error = other.error()
    assert isinstance(error, UnansweredError)
    assert str(error) == why


def test_a_line_is_bounded(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LONGEST_ANSWER", 10_000)
    other.ask()
    other.connection.sendall(b"x" * 10_001)
    assert str(other.error()) == "its answer has more than 10000 bytes in a line"


def test_who_keeps_silent_is_not_waited_for(other: Other) -> None:
    other.ask()
    other.turning.turn(3)
    (wait,) = waits(other.turning.reactor)
    wait.reset(0)
    assert str(other.error()) == "it does not answer in time"
    other.turning.turn(3)
    with pytest.raises(BrokenPipeError):
        other.connection.sendall(END)


def test_each_word_gives_time_for_the_next(other: Other) -> None:
    other.ask()
    (wait,) = waits(other.turning.reactor)
    other.connection.sendall(b'{"v":1,"item":1}\n')
    other.turning.until(lambda: other.items)
    (again,) = waits(other.turning.reactor)
    assert again.getTime() > wait.getTime()
    again.reset(0)
    assert str(other.error()) == "it does not answer in time"


def test_patience_is_for_as_long_as_it_takes(other: Other) -> None:
    asking = other.ask()
    asking.be_patient()
    assert waits(other.turning.reactor) == []
    other.connection.sendall(b'{"v":1,"item":1}\n')
    other.turning.until(lambda: other.items)
    assert waits(other.turning.reactor) == []
    other.connection.sendall(END)
    other.turning.until(lambda: other.ended)


def test_a_pause(other: Other) -> None:
    asking = other.ask()
    other.connection.sendall(b'{"v":1,"item":1}\n')
    other.turning.until(lambda: other.items)
    asking.pause()
    assert waits(other.turning.reactor) == []  # it is not the other's fault
    other.connection.sendall(b'{"v":1,"item":2}\n' + END)
    other.turning.turn()
    assert other.items == [1]
    asking.resume()
    other.turning.until(lambda: other.ended)
    assert other.items == [1, 2]
    asking.pause()
    asking.resume()
    asking.stop()


def test_nothing_comes_of_what_was_stopped(other: Other) -> None:
    asking = other.ask()
    other.connection.sendall(b'{"v":1,"item":1}\n' + END)
    asking.stop()
    other.turning.turn()
    assert (other.items, other.ended) == ([], [])


# All at once


def all_asked(other: Other) -> list[Replies]:
    """Ask one of them as if all were asked; return what will be there."""
    replies: list[Replies] = []
    asking.ask_all(other.turning.reactor, [other], "status", {}, int).addCallback(replies.append)
    other.turning.turn(3)
    return replies


def test_attack_a_worker_that_drips_its_answer_is_not_waited_for(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WHOLE", 0.3)
    replies = all_asked(other)

    def drip() -> bool:
        with suppress(OSError):
            other.connection.send(b'{"v":1,"item":1}\n')
        return bool(replies)

    other.turning.until(drip)
    assert replies[0].silent == [other]


def test_attack_a_worker_whose_answer_has_no_end_takes_no_memory(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST_ITEMS", 10)
    replies = all_asked(other)
    other.connection.send(b'{"v":1,"item":1}\n' * 11)
    other.turning.until(lambda: replies)
    assert replies[0].silent == [other]


def test_a_whole_answer(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_ITEMS", 10)
    replies = all_asked(other)
    other.connection.send(b'{"v":1,"item":1}\n' * 10 + END)
    other.turning.until(lambda: replies)
    assert replies[0].items == {other: [1] * 10}
