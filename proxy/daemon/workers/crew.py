"""The workers: as many processes as are wanted, each started anew when it has ended."""

import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import LoopingCall

from proxy.daemon.control.facts import WorkerFacts, WorkerState
from proxy.daemon.exits import Exit
from proxy.daemon.log import Log
from proxy.daemon.workers.process import Worker
from proxy.session.commands import Severity

FIRST_PAUSE: Final = 0.1
"""Seconds until a worker is started anew when it had run well."""

LONGEST_PAUSE: Final = 30.0
"""Seconds until that at most, however often it has ended."""

LONGEST_ALONE: Final = 1.0
"""Seconds at most while no other worker serves: whoever can end one by what is sent to it must not
keep everybody away."""

WELL: Final = 60.0
"""Seconds after which a worker has run well: what was before is forgotten."""

LOOKS: Final = 5.0
"""Seconds between looks whether workers are alive."""

MOST_SILENT: Final = 6
"""How many looks in a row may find nothing said; more, and the worker is stuck."""

MOST_RELOADING: Final = 24
"""How many looks a worker may take to take up a conf; then it is stuck."""

MOST_FAILURES: Final = 3
"""How often the first start of a worker may fail before all is given up."""

CLOSING: Final = 1.0
"""Seconds that workers get to accept no more, before any of them ends its sessions."""

_DYING: Final = 3.0
"""Seconds from a signal that shows where a process is stuck to one that ends it."""

MOST_ALERTS: Final = 100
"""How many alerts are kept while no worker runs that could tell of them."""


class StartError(Exception):
    """No worker could begin; ``str()`` says why, in one line.

    Attributes:
        code: what to exit with.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@attrs.define(eq=False)
class _Seat:
    """The place of one worker, whichever process has it.

    Attributes:
        number: which, from 1.
        worker: the process; None if there is none now.
        restarts: how often it was started anew.
        failures: how often in a row it has ended before it had run well.
        since: when the process was started, by the reactor's clock.
        start: the call that will start it; None if none will.
        leaving: whether nobody is to take the place when this worker has ended.
    """

    number: int
    worker: Worker | None = None
    restarts: int = 0
    failures: int = 0
    since: float = 0.0
    start: Any = None
    leaving: bool = False


class Crew:
    """The workers.

    Args:
        reactor: the reactor.
        log: where to write.
        begin: tells a new process what to begin with.
        left: told of each process that is no more, by its number, before another takes its place.
        risen: told of each process that accepts connections.
    """

    def __init__(
        self,
        reactor: Any,
        log: Log,
        *,
        begin: Callable[[Worker], None],
        left: Callable[[int], None],
        risen: Callable[[Worker], None],
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._begin = begin
        self._left = left
        self._risen = risen
        self._seats: dict[int, _Seat] = {}
        self._wanted = 0
        self._speaker: Worker | None = None
        self._untold: list[Mapping[str, Any]] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._up: Deferred[None] | None = Deferred()
        self._stopped: Deferred[None] | None = None
        self._dying: list[Any] = []

    # How many

    def want(self, number: int) -> "Deferred[None]":
        """Have so many workers: the first time, fires when all accept connections.

        It fails with `StartError` if one of them cannot begin.
        """
        self._wanted = number
        for each in range(1, number + 1):
            seat = self._seats.get(each)
            if seat is None:
                self._start(self._seats.setdefault(each, _Seat(each)))
            else:
                seat.leaving = False
        for seat in list(self._seats.values()):
            if seat.number > number:
                self._dismiss(seat)
        if not self._looking.running:
            self._looking.start(LOOKS, now=False)
        self._see_whether_up()
        return self._up or succeed(None)

    def _see_whether_up(self) -> None:
        if self._up is not None and len(self.running()) >= self._wanted:
            up, self._up = self._up, None
            up.callback(None)

    def _start(self, seat: _Seat) -> None:
        seat.start = None
        seat.since = self._reactor.seconds()
        try:
            worker = Worker(
                self._reactor,
                seat.number,
                ready=self._ready,
                alerted=self.tell,
                ending=self._ending,
                ended=lambda worker, why: self._ended(seat, worker, why),
            )
        except OSError as error:
            self._start_later(seat, f"no process can be started: {error.strerror}")
            return
        seat.worker = worker
        try:
            self._begin(worker)
        except OSError as error:
            fields = {"worker": seat.number, "pid": worker.pid}
            text = f"worker cannot be told to begin: {error.strerror}"
            self._log.write(Severity.ERROR, text, fields)
            worker.kill(signal.SIGKILL)

    def _dismiss(self, seat: _Seat) -> None:
        seat.leaving = True
        if seat.worker is None:
            self._leave(seat)
        else:
            self._end(seat.worker)

    def _leave(self, seat: _Seat) -> None:
        if seat.start is not None:
            seat.start.cancel()
        del self._seats[seat.number]
        if self._stopped is not None and not self._seats:
            self._finish()

    # Who there is

    def all(self) -> list[Worker]:
        """Return all processes, those too that do not accept connections yet."""
        return [seat.worker for seat in self._seats.values() if seat.worker is not None]

    def running(self) -> list[Worker]:
        """Return those that accept connections, or end the sessions that they have."""
        return [worker for worker in self.all() if worker.is_ready]

    def serving(self) -> list[Worker]:
        """Return those that accept connections, and go on doing so."""
        return [worker for worker in self.running() if not worker.is_ending]

    def facts(self) -> list[WorkerFacts]:
        """Return what is known of each, in order."""
        return [self._facts(seat) for _, seat in sorted(self._seats.items())]

    def _facts(self, seat: _Seat) -> WorkerFacts:
        worker = seat.worker
        if worker is None:
            seconds = None if seat.start is None else seat.start.getTime() - self._reactor.seconds()
            return WorkerFacts(
                seat.number,
                WorkerState.WAITING.value,
                restarts=seat.restarts,
                seconds=None if seconds is None else round(max(0.0, seconds), 3),
            )
        if seat.leaving or worker.is_ending or self._stopped is not None:
            state = WorkerState.ENDING
        else:
            state = WorkerState.RUNNING if worker.is_ready else WorkerState.STARTING
        return WorkerFacts(
            seat.number, state.value, pid=worker.pid, started=worker.started, restarts=seat.restarts
        )

    @property
    def sessions(self) -> int:
        """How many sessions there were when the workers last said so."""
        return sum(worker.sessions for worker in self.all())

    # What they tell

    def tell(self, alert: Mapping[str, Any]) -> None:
        """Have one of them tell of an alert; it waits until there is one."""
        if self._speaker is not None:
            self._speaker.tell(alert)
        elif len(self._untold) < MOST_ALERTS:
            self._untold.append(alert)

    def _ready(self, worker: Worker) -> None:
        fields = {"worker": worker.number, "pid": worker.pid}
        self._log.write(Severity.INFO, "worker started", fields)
        self._risen(worker)
        self._choose_speaker()
        self._see_whether_up()

    def _choose_speaker(self) -> None:
        if self._speaker is not None:
            return
        serving = self.serving()
        if serving:
            self._speaker = serving[0]
            self._speaker.say("speak")
            untold, self._untold = self._untold, []
            for alert in untold:
                self.tell(alert)

    # The end of one

    def renew(self, worker: Worker, why: str) -> None:
        """Have another process take the place of one, when that has ended its sessions."""
        self._log.write(Severity.ERROR, f"worker is replaced: {why}", {"worker": worker.number})
        self._end(worker)

    def _end(self, worker: Worker) -> None:
        worker.stop()
        self._ending(worker)

    def _ending(self, worker: Worker) -> None:
        """Have another one tell of alerts, unless all end: who ends reaches nobody any more."""
        if self._stopped is None:
            self._silence(worker)

    def _silence(self, worker: Worker) -> None:
        if worker is self._speaker:
            self._speaker = None
            self._choose_speaker()

    def _look(self) -> None:
        """End those that are stuck: another takes the place."""
        for worker in self.all():
            worker.silent += 1
            if worker.reloading is not None:
                worker.reloading += 1
            if worker.silent == MOST_SILENT or worker.reloading == MOST_RELOADING:
                self._abort(worker)

    def _abort(self, worker: Worker) -> None:
        fields = {"worker": worker.number, "pid": worker.pid}
        self._log.write(Severity.ERROR, "worker is stuck, and is ended", fields)
        worker.kill(signal.SIGABRT)  # it writes to the log where it is stuck
        self._kill_later(worker, _DYING)

    def _kill_later(self, worker: Worker, seconds: float) -> None:
        self._dying = [call for call in self._dying if call.active()]
        self._dying.append(self._reactor.callLater(seconds, worker.kill, signal.SIGKILL))

    def _ended(self, seat: _Seat, worker: Worker, why: str) -> None:
        seat.worker = None
        self._left(seat.number)
        self._silence(worker)
        if worker.failure is not None:
            why = worker.failure[1]
        if seat.leaving or self._stopped is not None:
            fields = {"worker": seat.number, "pid": worker.pid}
            self._log.write(Severity.INFO, f"worker ended: {why}", fields)
            self._leave(seat)
        else:
            self._start_later(seat, why, worker)

    def _start_later(self, seat: _Seat, why: str, worker: Worker | None = None) -> None:
        """Start a worker anew, the later the more often it has ended."""
        well = self._reactor.seconds() - seat.since >= WELL
        seat.failures = 1 if well else seat.failures + 1
        if self._up is not None and (_is_final(worker) or seat.failures >= MOST_FAILURES):
            code = Exit.SOFTWARE if worker is None or not worker.failure else worker.failure[0]
            up, self._up = self._up, None
            up.errback(StartError(code, f"worker {seat.number} could not begin: {why}"))
            return
        seat.restarts += 1
        longest = LONGEST_PAUSE if self.serving() else LONGEST_ALONE
        pause = min(FIRST_PAUSE * 2 ** (seat.failures - 1), longest)
        fields = {
            "worker": seat.number,
            "pid": None if worker is None else worker.pid,
            "again_in": round(pause, 1),
        }
        self._log.write(Severity.ERROR, f"worker ended: {why}", fields)
        seat.start = self._reactor.callLater(pause, self._start, seat)

    # The end of all

    def stop(self) -> "Deferred[None]":
        """Have all end their sessions and themselves; fires when they have."""
        if self._stopped is None:
            self._stopped = Deferred()
            self._up = None
            # Whom one of them tells to go must not come back to another.
            closed = gatherResults(
                [worker.close() for worker in self.serving()], consumeErrors=True
            )
            closed.addTimeout(CLOSING, self._reactor).addBoth(lambda _: self._dismiss_all())
        return self._stopped

    def _dismiss_all(self) -> None:
        for seat in list(self._seats.values()):
            self._dismiss(seat)
        if not self._seats:
            self._finish()

    def abort(self) -> None:
        """End those that are there still: they should have ended by now."""
        for worker in self.all():
            self._abort(worker)

    def hurry(self) -> None:
        """Have them end at once."""
        self._dismiss_all()
        for worker in self.all():
            worker.say("hurry")
            self._kill_later(worker, _DYING)

    def _finish(self) -> None:
        if self._looking.running:
            self._looking.stop()
        for call in self._dying:
            if call.active():
                call.cancel()
        if self._stopped is not None and not self._stopped.called:
            self._stopped.callback(None)


def _is_final(worker: Worker | None) -> bool:
    """Whether a worker has said that it cannot begin."""
    return worker is not None and worker.failure is not None
