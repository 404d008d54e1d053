"""One trace of the sessions of several workers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.python.failure import Failure

from proxy.daemon.control.controlled import NO_SESSION, Ended, Told, Wanted
from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import Traced
from proxy.daemon.control.protocol import RefusedError
from proxy.daemon.workers.asking import Asking, Worker, ask, told_of
from proxy.daemon.workers.listing import NO_ANSWER


class Trace:
    """A trace that all workers take part in; those that are started later do not.

    Each waits for as many sessions as are wanted, for nobody knows which of them gets the next
    one. So the first are told, from whichever worker, and all others passed over.

    Args:
        reactor: the reactor.
        workers: who is asked.
        wanted: which sessions.
        told: takes what happens.
        ended: called once, when there is no more; not before `start` has returned.
    """

    def __init__(
        self, reactor: Any, workers: Sequence[Worker], wanted: Wanted, told: Told, ended: Ended
    ) -> None:
        self._reactor = reactor
        self._workers = workers
        self._wanted = wanted
        self._told = told
        self._ended: Ended | None = ended
        self._askings: dict[Worker, Asking] = {}  # those that are not over
        self._silent: set[Worker] = set()  # who has not said anything yet
        self._refused: list[str] = []
        self._seen: set[str] = set()
        self._going: dict[str, Worker] = {}
        self._waiting: Traced | None = None  # told when every worker waits
        self._start: Any = None

    def start(self) -> None:
        """Begin."""
        self._start = self._reactor.callLater(0, self._begin)

    def stop(self) -> None:
        """Tell no more."""
        self._ended = None
        if self._start is not None:
            self._start.cancel()
            self._start = None
        askings, self._askings = self._askings, {}
        for asking in askings.values():
            asking.stop()

    def _begin(self) -> None:
        self._start = None
        self._silent.update(self._workers)
        arguments = _arguments(self._wanted)
        for worker in self._workers:
            take: Callable[[Any], None] = partial(self._take, worker)
            self._askings[worker] = ask(self._reactor, worker, "trace", arguments, take)
        for worker, asking in tuple(self._askings.items()):
            asking.ended.addCallback(self._over, worker).addErrback(self._failed, worker)
        self._look()

    def _take(self, worker: Worker, item: Any) -> None:
        traced = decoded(Traced, item)
        self._heard(worker)
        session = traced.session
        if not session:
            self._waiting = self._waiting or traced
            self._say_waiting()
            return
        if session not in self._seen:
            if len(self._seen) == self._wanted.count:
                return
            self._silent.clear()
            self._say_waiting()
            self._seen.add(session)
            self._going[session] = worker
        if session in self._going:
            self._told(traced)
        if traced.last:
            self._going.pop(session, None)
        self._look()

    def _heard(self, worker: Worker) -> None:
        """Wait for what else a worker says for as long as it takes."""
        self._silent.discard(worker)
        asking = self._askings.get(worker)
        if asking is not None:
            asking.be_patient()

    def _say_waiting(self) -> None:
        if self._waiting is not None and not self._seen and not self._silent:
            waiting, self._waiting = self._waiting, None
            self._told(waiting)

    def _over(self, _: None, worker: Worker) -> None:
        self._forget(worker)

    def _failed(self, failure: Failure, worker: Worker) -> None:
        if isinstance(failure.value, RefusedError):
            self._refused.append(failure.value.text)
        else:
            told_of(worker, failure.value)
            for session in [each for each, whose in self._going.items() if whose is worker]:
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                text = f"worker {worker.number}, which had the session, is gone"
                self._told(Traced(now, session, "", "", text, last=True))
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        """A worker has no more to tell."""
        self._askings.pop(worker, None)
        self._silent.discard(worker)
        self._say_waiting()
        for session in [each for each, whose in self._going.items() if whose is worker]:
            del self._going[session]
        self._look()

    def _look(self) -> None:
        """See whether there is anything to wait for."""
        if self._ended is None:
            return
        if len(self._seen) == self._wanted.count:
            needed = set(self._going.values())
            for worker in self._askings.keys() - needed:
                self._askings.pop(worker).stop()
        if not self._askings:
            ended = self._ended
            why = "" if self._seen else self._reason()
            self.stop()
            ended(why)

    def _reason(self) -> str:
        """Why nothing can be traced: the worker that knows the session has the most to say."""
        known = [text for text in self._refused if text != NO_SESSION]
        return next(iter((*known, *self._refused)), NO_ANSWER)


def _arguments(wanted: Wanted) -> Mapping[str, object]:
    return {
        "session": wanted.session,
        "listener": wanted.listener,
        "client": None if wanted.client is None else str(wanted.client),
        "count": None if wanted.session else wanted.count,
    }
