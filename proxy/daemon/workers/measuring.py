"""The metrics and the health of several workers, made one."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.daemon.control.facts import WorkerFacts, WorkerState
from proxy.daemon.control.protocol import NotUnderstoodError
from proxy.daemon.metrics import families
from proxy.daemon.metrics.health import Health
from proxy.daemon.metrics.process import Process
from proxy.daemon.metrics.snapshot import Labels, Numbers, Snapshot, merge, read_piece
from proxy.daemon.workers.asking import Replies, Worker, ask_all
from proxy.daemon.workers.listing import NO_ANSWER
from proxy.daemon.workers.measured import METRICS, TROUBLES
from proxy.daemon.workers.merging import workers_of

_STANDING: Final = {
    WorkerState.STARTING: "is being started",
    WorkerState.RUNNING: "is running",
    WorkerState.SILENT: "does not answer",
    WorkerState.WAITING: "has ended, and will be started again",
    WorkerState.ENDING: "is ending",
}
T = TypeVar("T")
_log = Logger()


class _Once(Generic[T]):
    """Finds something out for all who ask while it is being found out.

    Args:
        find: finds it out.
    """

    def __init__(self, find: Callable[[], Deferred[T]]) -> None:
        self._find = find
        self._waiting: list[Deferred[T]] = []

    def found(self) -> Deferred[T]:
        """Return it, when it is there."""
        waiting: Deferred[T] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._find().addCallbacks(self._tell, self._fail)
        return waiting

    def _tell(self, found: T) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(found)

    def _fail(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)


class Measuring:
    """The metrics and the health of several workers.

    A worker that is gone, or does not answer, keeps its share in counters and histograms as it was
    when it last answered: they never go back. It has none in gauges.

    Args:
        reactor: the reactor.
        workers: returns the workers that are there now.
        facts: returns what is known of all of them without asking.
    """

    def __init__(
        self,
        reactor: Any,
        workers: Callable[[], Sequence[Worker]],
        facts: Callable[[], Sequence[WorkerFacts]],
    ) -> None:
        self._reactor = reactor
        self._workers = workers
        self._facts = facts
        self._process = Process()
        self._last: dict[Worker, Snapshot] = {}
        self._gone = Snapshot({})
        self._restarts = 0
        self._snapshots = _Once(self._measure)
        self._healths = _Once(self._look)

    def snapshot(self) -> Deferred[Snapshot]:
        """Return the values of the whole; whoever asks meanwhile gets the same."""
        return self._snapshots.found()

    def health(self) -> Deferred[Health]:
        """Return how the whole is: it is ready if one worker is.

        What others have to say is told all the same.
        """
        return self._healths.found()

    def _measure(self) -> Deferred[Snapshot]:
        replies = ask_all(self._reactor, self._workers(), METRICS, {}, _piece)
        return replies.addCallback(self._measured)

    def _measured(self, replies: Replies) -> Snapshot:
        self._last |= {worker: merge(parts) for worker, parts in replies.items.items()}
        there = self._workers()
        for worker in [each for each in self._last if each not in there]:
            self._gone = merge((self._gone, self._last.pop(worker).lasting()))
        answered = replies.items.keys()
        parts = [
            last if worker in answered else last.lasting() for worker, last in self._last.items()
        ]
        values = dict(merge((self._own(), self._gone, *parts)).values)
        values[families.WORKERS.name] = self._states(replies)
        return Snapshot(values)

    def _own(self) -> Snapshot:
        """Return what this process has beside its workers."""
        restarts = sum(each.restarts for each in self._facts())
        self._restarts = max(restarts, self._restarts)
        values: dict[str, dict[Labels, Numbers]] = {
            families.READY.name: {(): (0.0,)},
            families.RESTARTS.name: {(): (float(self._restarts),)},
        }
        try:
            values |= self._process.values()
        except (OSError, ValueError) as error:
            _log.warn("metrics: the process could not be measured: {reason}", reason=str(error))
        return Snapshot(values)

    def _states(self, replies: Replies) -> dict[Labels, Numbers]:
        silent = {worker.number for worker in replies.silent}
        workers = workers_of(self._facts(), silent, {})
        counted = Counter(each.state for each in workers)
        return {(state.value,): (float(counted[state.value]),) for state in WorkerState}

    def _look(self) -> Deferred[Health]:
        replies = ask_all(self._reactor, self._workers(), TROUBLES, {}, _trouble)
        return replies.addCallback(self._healthy)

    def _healthy(self, replies: Replies) -> Health:
        found = {worker.number: troubles for worker, troubles in replies.items.items()}
        remarks = []
        for each in workers_of(self._facts(), {worker.number for worker in replies.silent}, {}):
            troubles = found.get(each.number, ())
            remarks += [f"worker {each.number}: {trouble}" for trouble in troubles]
            if not troubles and each.state != WorkerState.RUNNING.value:
                remarks.append(f"worker {each.number} {_STANDING[WorkerState(each.state)]}")
        if any(not troubles for troubles in found.values()):
            return Health((), remarks=remarks)
        return Health(remarks or [NO_ANSWER])


def _piece(item: Any) -> Snapshot:
    try:
        return read_piece(item)
    except ValueError as error:
        raise NotUnderstoodError(f"has what no metric has: {error}") from error


def _trouble(item: Any) -> str:
    match item:
        case {"trouble": str(trouble)}:
            return trouble
        case _:
            raise NotUnderstoodError("has no trouble where one belongs")
