"""Asking a worker, in the language of its control socket."""

import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from typing import Protocol as Structure

import attrs
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.daemon.control.protocol import (
    LONGEST_ANSWER,
    NotUnderstoodError,
    RefusedError,
    read_answer,
    request_line,
)

PATIENCE: Final = 5.0
"""Seconds to wait for a worker's next words, where it has no reason to keep silent."""

WHOLE: Final = 20.0
"""Seconds for a whole answer, where all workers are waited for."""

MOST_ITEMS: Final = 100_000
"""Items that such an answer may have."""

T = TypeVar("T")
_log = Logger()


class Worker(Structure):
    """A process that serves sessions. One that is started again is another object."""

    @property
    def number(self) -> int:
        """Its number, from 1; one that is started in its place has the same."""

    def open(self) -> socket.socket:
        """Return a connection to it, not blocking, on which it is asked.

        Raises:
            OSError: there is none.
        """


class UnansweredError(Exception):
    """A worker has not answered; ``str()`` says how, in one line."""


class Asking(Protocol):
    """A request to a worker.

    Args:
        reactor: the reactor.
        request: the request, as a line.
        told: takes each item of the answer, as JSON has it; may raise `NotUnderstoodError`.

    Attributes:
        ended: fires when the answer is complete; fails with `RefusedError` where the worker does
            not fulfil the request, or no further, and with `UnansweredError` where it is gone or
            keeps silent, or what it says is no answer. Nothing comes of it after `stop`.
    """

    def __init__(self, reactor: Any, request: bytes, told: Callable[[Any], None]) -> None:
        self._reactor = reactor
        self._request = request
        self._told = told
        self._patience: float | None = PATIENCE
        self._read = bytearray()
        self._deadline: Any = None
        self.over = False
        """Whether there is no more to come."""
        self.ended: Final[Deferred[None]] = Deferred()

    def stop(self) -> None:
        """Ask no more."""
        if not self.over:
            self._leave()

    def pause(self) -> None:
        """Take in no more for now; what has been read is told still."""
        if not self.over:
            self._wait(None)
            self._connection.pauseProducing()

    def resume(self) -> None:
        """Go on."""
        if not self.over:
            self._wait(self._patience)
            self._connection.resumeProducing()

    def be_patient(self) -> None:
        """Wait for what else is said for as long as it takes."""
        self._patience = None
        self._wait(None)

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        if not self.over:
            self._leave()
            self.ended.errback(error)

    # What the transport tells

    def connectionMade(self) -> None:
        """Ask."""
        self._wait(self._patience)
        self._connection.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Take a part of the answer."""
        if not self.over and self._deadline is not None:
            self._wait(self._patience)
        self._read += data
        if b"\n" in data:
            *lines, rest = self._read.split(b"\n")
            self._read = rest
            for line in lines:
                self._line(bytes(line))
        if len(self._read) > LONGEST_ANSWER:
            self.fail(UnansweredError(f"its answer has more than {LONGEST_ANSWER} bytes in a line"))

    def connectionLost(self, _reason: Failure | None = None) -> None:
        """The worker has closed the connection, or is gone."""
        self.fail(UnansweredError("it has gone before its answer was complete"))

    @property
    def _connection(self) -> Any:
        return self.transport

    def _line(self, line: bytes) -> None:
        if self.over:
            return
        try:
            is_item, item = read_answer(line)
            if is_item:
                self._told(item)
                return
        except RefusedError as error:
            self.fail(error)
        except NotUnderstoodError as error:
            self.fail(UnansweredError(f"its answer {error}"))
        else:
            self._leave()
            self.ended.callback(None)

    def _wait(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self._reactor.callLater(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        self.fail(UnansweredError("it does not answer in time"))

    def _leave(self) -> None:
        self.over = True
        self._wait(None)
        self._read.clear()
        if self.transport is not None:
            self._connection.abortConnection()


class _Only(Factory):
    """Has one protocol."""

    noisy = False

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def buildProtocol(self, _address: IAddress | None) -> Asking:
        """Return it."""
        return self._asking


def ask(
    reactor: Any,
    worker: Worker,
    command: str,
    arguments: Mapping[str, object],
    told: Callable[[Any], None],
) -> Asking:
    """Ask a worker; see `Asking`.

    Args:
        reactor: the reactor.
        worker: who is asked.
        command: what for.
        arguments: by name; those that are empty or None are left out.
        told: takes each item of the answer.
    """
    asking = Asking(reactor, request_line(command, arguments), told)
    try:
        with worker.open() as connection:
            reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, _Only(asking))
    except OSError as error:
        asking.fail(UnansweredError(f"it cannot be asked: {error.strerror or error}"))
    return asking


@attrs.frozen
class Replies:
    """What several workers have replied to one request.

    Attributes:
        items: the items of those that have answered to the end.
        refused: the errors of those that do not fulfil it, in the order of the workers.
        silent: those that have not answered.
    """

    items: Mapping[Worker, Sequence[Any]]
    refused: Sequence[RefusedError]
    silent: Sequence[Worker]


def ask_all(
    reactor: Any,
    workers: Sequence[Worker],
    command: str,
    arguments: Mapping[str, object],
    read: Callable[[Any], Any],
) -> Deferred[Replies]:
    """Ask several workers at the same time.

    Args:
        reactor: the reactor.
        workers: who is asked.
        command: what for.
        arguments: by name.
        read: makes of each item what `Replies.items` has; may raise `NotUnderstoodError`.

    Returns:
        What they reply. It does not fail: the log says who has not answered, and how.
    """
    found: dict[Worker, list[Any] | RefusedError | None] = {}

    def complete(_: object) -> Replies:
        return Replies(
            {each: reply for each, reply in found.items() if isinstance(reply, list)},
            [reply for reply in found.values() if isinstance(reply, RefusedError)],
            [each for each, reply in found.items() if reply is None],
        )

    def failed(failure: Failure, worker: Worker) -> None:
        error = failure.value
        found[worker] = error if isinstance(error, RefusedError) else None
        if not isinstance(error, RefusedError):
            told_of(worker, error)

    endings = []
    for worker in workers:
        items: list[Any] = []
        found[worker] = items
        told = partial(_take, items, read)
        asking = ask(reactor, worker, command, arguments, told)
        _hurry(reactor, asking)
        endings.append(asking.ended.addErrback(failed, worker))
    return gatherResults(endings).addCallback(complete) if endings else succeed(complete(None))


def _hurry(reactor: Any, asking: Asking) -> None:
    """Give up a worker that does answer, but not to the end: others wait for it."""
    error = UnansweredError("its answer takes too long")
    late = reactor.callLater(WHOLE, asking.fail, error)

    def ended(result: T) -> T:
        if late.active():
            late.cancel()
        return result

    asking.ended.addBoth(ended)


def told_of(worker: Worker, error: BaseException | None) -> None:
    """Write to the log that a worker has not answered."""
    text = "worker {number} has not answered: {reason}"
    _log.warn(text, number=worker.number, reason=str(error))


def _take(items: list[Any], read: Callable[[Any], Any], item: Any) -> None:
    if len(items) == MOST_ITEMS:
        raise NotUnderstoodError(f"has more than {MOST_ITEMS} items")
    items.append(read(item))
