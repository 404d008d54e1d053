"""Several workers in one process, each with a daemon that has what a test gives it."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proxy.daemon.control.answering import Answer, Answering
from proxy.daemon.control.controlled import Controlled
from proxy.daemon.control.facts import WorkerFacts, WorkerState
from proxy.daemon.control.server import Clients
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.workers.asking import Asking
from proxy.daemon.workers.whole import Whole
from proxy.session.hooks import Address
from tests.daemon.control.fakes import Daemon, Running

STARTED = "2026-05-01T10:00:00+00:00"


class FakeWorker:
    """A worker, asked over real sockets; or what has its place and does not behave like one."""

    def __init__(self, reactor: Any, number: int, more: Mapping[str, Answer] | None = None) -> None:
        self.number = number
        self.daemon = Daemon()
        self.clients = Clients(reactor, Answering(self.daemon, more))
        self.says: bytes | None = None
        """What it says, whatever it is asked; None for what belongs there."""
        self.fault: OSError | None = None
        self.opened = 0
        self._held: list[socket.socket] = []

    def open(self) -> socket.socket:
        self.opened += 1
        if self.fault is not None:
            raise self.fault
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        if self.says is None:
            self.clients.adopt(theirs)
        else:
            theirs.sendall(self.says)
            self._held.append(theirs)
        return ours

    def facts(self) -> WorkerFacts:
        return WorkerFacts(
            self.number, WorkerState.RUNNING.value, pid=1_000 + self.number, started=STARTED
        )

    def die(self) -> None:
        self.clients.close()
        for each in self._held:
            each.close()
        self._held.clear()


def _nothing(_number: int) -> Mapping[str, Answer]:
    return {}


class Crew:
    """Three workers, and what is known of them."""

    def __init__(
        self, reactor: Any, more: Callable[[int], Mapping[str, Answer]] = _nothing
    ) -> None:
        self._reactor = reactor
        self._more = more
        self.workers = [self.worker(number) for number in (1, 2, 3)]
        self.known: dict[int, WorkerFacts] = {}
        """What is known of a worker instead of what its own facts say, by number."""

    def worker(self, number: int) -> FakeWorker:
        return FakeWorker(self._reactor, number, self._more(number))

    def there(self) -> list[FakeWorker]:
        return list(self.workers)

    def facts(self) -> list[WorkerFacts]:
        told = {worker.number: worker.facts() for worker in self.workers} | self.known
        return [told[number] for number in sorted(told)]

    def die(self, number: int) -> None:
        """End a worker; it waits to be started again."""
        (worker,) = (each for each in self.workers if each.number == number)
        self.workers.remove(worker)
        waiting = WorkerState.WAITING.value
        self.known[number] = WorkerFacts(number, waiting, restarts=1, seconds=2.5)
        worker.die()

    def stop(self) -> None:
        for each in self.workers:
            each.die()


def waits(reactor: Any) -> list[Any]:
    """The calls that give up waiting for a worker's next words."""
    calls = [each for each in reactor.getDelayedCalls() if each.active()]
    late = Asking._late
    return [each for each in calls if getattr(each.func, "__func__", None) is late]


class Several(Running):
    """A control socket of several workers."""

    def __init__(self, path: Path, conf: Conf, log: Log) -> None:
        self.conf = conf
        self.log = log
        super().__init__(path)

    def controlled(self) -> Controlled:
        self.crew = Crew(self.reactor)
        self.whole = Whole(
            self.conf,
            self.reactor,
            self.log,
            workers=self.crew.there,
            facts=self.crew.facts,
            places=lambda: {"c2s": (Address("::", 5222),)},
            steering=self.daemon,
        )
        return self.whole

    def __getitem__(self, number: int) -> FakeWorker:
        return self.crew.workers[number - 1]

    def give_up(self, left: int = 1) -> None:
        """Let the time be over for so many workers that keep silent, when others have answered."""
        self.until(lambda: len(waits(self.reactor)) == left and self.crew.workers[0].opened)
        for each in waits(self.reactor):
            each.reset(0)

    def stop(self) -> None:
        super().stop()
        self.crew.stop()
        self.turn(3)
