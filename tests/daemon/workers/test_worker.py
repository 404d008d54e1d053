"""What a worker answers when it cannot do what it is told: whoever waits is never left waiting."""

import io
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from proxy.daemon.exits import Exit
from proxy.daemon.installed import InstalledPlugins
from proxy.daemon.log import Log
from proxy.daemon.workers.channel import VERSION, Channel, written
from proxy.daemon.workers.process import Worker as Process
from proxy.daemon.workers.sockets import Handed
from proxy.daemon.workers.worker import Worker
from proxy.net.board import Board
from tests.daemon.conf_fakes import conf_of, content, forward_table, policy_table

FAULT = "fault in the proxy; see the log"


def turning() -> Any:
    return MemoryReactorClock()  # type: ignore[no-untyped-call]


def junk() -> int:
    """Return a descriptor of what is no conf."""
    descriptor = os.memfd_create("junk")
    os.write(descriptor, b"no conf")
    return descriptor


class Told:
    """A worker in this process, and the supervisor's end of its channel."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.reactor = turning()
        self.said: list[tuple[str, Mapping[str, Any]]] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(self.reactor, ours, self._note, lambda: None)
        self.worker = Worker(self.reactor, Log(io.StringIO()), theirs)
        self.worker.start()
        self.board = Board.create()

    def _note(self, name: str, content: Mapping[str, Any], _descriptors: list[int]) -> None:
        self.said.append((name, content))

    def tell(self, name: str, *descriptors: int, **more: object) -> None:
        """Tell the worker, have it act, and hear what it says."""
        self._channel.say(name, descriptors, **more)
        self.worker._channel.doRead()
        for descriptor in descriptors:
            os.close(descriptor)
        self.hear()

    def hear(self) -> None:
        for _ in range(5):
            self._channel.doRead()

    def conf(self) -> int:
        places = {
            "state_directory": str(self._directory),
            "control_socket": str(self._directory / "control"),
        }
        listener = forward_table(address="127.0.0.1:0")
        policy = policy_table(domain="*", level="secure")
        given = content(bascule=places, domain=[], listener=[listener], policy=[policy])
        return written(conf_of(given, InstalledPlugins(own_only=True)))

    def begin(self, conf: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as made:
            self.tell("sockets", os.dup(made.fileno()), names=["legacy"], anew=True)
        board = os.dup(self.board.descriptor)
        secret = bytes(32).hex()
        path = "/etc/bascule/bascule.toml"
        self.tell("begin", conf, board, number=1, secret=secret, path=path, version=VERSION)

    def close(self) -> None:
        for phase in ("before", "during", "after"):
            for call, arguments, named in self.reactor.triggers.get(phase, {}).get("shutdown", []):
                call(*arguments, **named)
        self._channel.close()
        self.worker._channel.close()
        self.board.close()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    told.close()


def test_one_that_begins_says_so(told: Told) -> None:
    told.begin(told.conf())
    assert [name for name, _ in told.said] == ["ready", "alive"]


def test_a_conf_that_it_cannot_read_ends_it_and_it_says_so(told: Told) -> None:
    told.begin(junk())
    assert told.said == [("failed", {"code": Exit.SOFTWARE, "text": FAULT}), ("ending", {})]
    assert told.worker.code == Exit.SOFTWARE
    assert told.reactor.hasStopped


def test_a_conf_that_it_cannot_read_is_not_taken_up_and_it_says_so(told: Told) -> None:
    told.begin(told.conf())
    told.said.clear()
    told.tell("reload", junk())
    assert [name for name, _ in told.said] == ["reloaded"]
    assert told.said[0][1]["mistakes"] == [FAULT]
    assert not told.reactor.hasStopped


def test_what_it_is_told_before_it_has_begun_is_closed(told: Told) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        told.tell("converse", theirs.detach())
        assert ours.recv(1) == b""


class Handing:
    """Sockets that were handed on, and which of them are closed."""

    def __init__(self) -> None:
        self.handed = Handed()
        self._others: list[socket.socket] = []

    def take(self, *, anew: bool) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._others.append(ours)
        self.handed.take(["c2s"], [theirs.detach()], anew=anew)

    @property
    def closed(self) -> list[bool]:
        """Whether each one that was taken is closed."""
        return [self._is_closed(each) for each in self._others]

    @staticmethod
    def _is_closed(other: socket.socket) -> bool:
        try:
            return other.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        for each in self._others:
            each.close()


@pytest.fixture
def handing() -> Iterator[Handing]:
    handing = Handing()
    yield handing
    handing.close()


def test_sockets_of_a_conf_that_came_to_nothing_are_not_those_of_the_next(handing: Handing) -> None:
    handing.take(anew=True)
    handing.handed.renew()
    handing.take(anew=True)  # and no word of the conf that it is for
    handing.take(anew=True)
    assert handing.closed == [False, True, False]
    handing.handed.renew()
    assert handing.closed == [True, True, False]
    handing.handed.release()
    assert handing.closed == [True, True, True]


def test_sockets_of_several_messages_count_together(handing: Handing) -> None:
    handing.take(anew=True)
    handing.take(anew=False)
    handing.handed.renew()
    assert handing.closed == [False, False]
    handing.handed.release()
    assert handing.closed == [True, True]


class Spawning(MemoryReactorClock):
    """A reactor that starts processes which do nothing."""

    def spawnProcess(self, *_arguments: object, **_named: object) -> "Spawning":
        return self

    pid = 4711


def process_of(ended: list[str]) -> Process:
    return Process(
        Spawning(),  # type: ignore[no-untyped-call]
        1,
        ready=lambda _: None,
        alerted=lambda _: None,
        ending=lambda _: None,
        ended=lambda _, why: ended.append(why),
    )


def died(process: Process) -> None:
    why = ProcessTerminated(signal=11)  # type: ignore[no-untyped-call]
    process.processEnded(Failure(why))  # type: ignore[no-untyped-call]


def test_one_that_could_not_be_told_of_a_conf_is_not_stuck_with_it() -> None:
    """Else it would be ended, with all its sessions, for an answer that it cannot give."""
    process = process_of([])
    with pytest.raises(OSError, match="Bad file descriptor"):
        process.reload(-1)
    assert process.reloading is None
    died(process)


def test_a_process_that_dies_is_gone_and_was_not_to_end() -> None:
    """Else what it dies of would be taken for an end that was due."""
    ended: list[str] = []
    process = process_of(ended)
    outcome: list[Any] = []
    conf = junk()
    process.reload(conf).addCallback(outcome.append)
    os.close(conf)
    died(process)
    assert ended == ["killed by signal 11"]
    assert process.is_gone
    assert not process.is_ending
    assert [each.mistakes for each in outcome] == [("the worker has ended meanwhile",)]
