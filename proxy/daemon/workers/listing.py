"""The sessions of several workers, one by one, without having all of them in memory."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import SessionFacts
from proxy.daemon.control.protocol import Code, RefusedError
from proxy.daemon.workers.asking import Asking, Worker, ask, told_of

MOST_HELD: Final = 100
"""Sessions that may wait to be told; above, no more are taken in."""

NO_ANSWER: Final = "no worker has answered"
"""What is said where all workers that were asked keep silent."""


class Listing:
    """The sessions of several workers.

    Args:
        reactor: the reactor.
        workers: who is asked.
        arguments: which sessions: the arguments of the command, by name.
    """

    def __init__(
        self, reactor: Any, workers: Sequence[Worker], arguments: Mapping[str, object]
    ) -> None:
        self._reactor = reactor
        self._workers = workers
        self._arguments = arguments
        self._askings: list[Asking] = []
        self._left = 0
        self._answered = 0
        self._refused: list[RefusedError] = []
        self._held: deque[SessionFacts] = deque()
        self._paused = False
        self._more: Deferred[None] | None = None

    def drawn(self) -> "Iterator[SessionFacts | Deferred[None]]":
        """Return the sessions as they come; a Deferred fires when there is more.

        Those of a worker that is gone or keeps silent are left out.

        Raises:
            RefusedError: no worker has answered, or none fulfils the request.
        """
        try:
            self._begin()
            while self._held or self._left:
                while self._held:
                    yield self._held.popleft()
                self._resume()
                if self._left:
                    self._more = Deferred()
                    yield self._more
            if self._workers and not self._answered:
                raise self._refused[0] if self._refused else RefusedError(Code.TIMEOUT, NO_ANSWER)
        finally:
            for asking in self._askings:
                asking.stop()

    def _begin(self) -> None:
        self._left = len(self._workers)
        for worker in self._workers:
            asking = ask(self._reactor, worker, "sessions", self._arguments, self._take)
            self._askings.append(asking)
            asking.ended.addCallback(self._whole).addErrback(self._failed, worker)

    def _take(self, item: Any) -> None:
        self._held.append(decoded(SessionFacts, item))
        if len(self._held) >= MOST_HELD and not self._paused:
            self._paused = True
            for asking in self._askings:
                asking.pause()
        self._wake()

    def _whole(self, _: None) -> None:
        self._answered += 1
        self._end()

    def _failed(self, failure: Failure, worker: Worker) -> None:
        if isinstance(failure.value, RefusedError):
            self._refused.append(failure.value)
        else:
            told_of(worker, failure.value)
        self._end()

    def _end(self) -> None:
        self._left -= 1
        self._wake()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            for asking in self._askings:
                asking.resume()

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.callback(None)
