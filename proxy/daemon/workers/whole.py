"""The whole that several workers are: what the control socket tells of it, and does to it."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred

from proxy.daemon.control.controlled import Ended, Soon, Steering, Told, Wanted
from proxy.daemon.control.controls import listening
from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import Drained, Reloaded, SessionFacts, Status, WorkerFacts
from proxy.daemon.control.protocol import Code, RefusedError
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.workers import merging
from proxy.daemon.workers.asking import Replies, Worker, ask_all
from proxy.daemon.workers.listing import NO_ANSWER, Listing
from proxy.daemon.workers.traces import Trace
from proxy.session.commands import Severity
from proxy.session.hooks import Address


class Whole:
    """Several workers under control: `proxy.daemon.control.controlled.Controlled`.

    A worker that does not answer is left out of what is told, and the log says so.

    Args:
        conf: the conf.
        reactor: the reactor.
        log: the log; None if there is none.
        workers: returns the workers that are there now.
        facts: returns what is known of all of them without asking.
        places: returns where each listener listens, by its name.
        steering: takes up another conf, and ends all sessions and the daemon.

    Attributes:
        conf: the conf that holds now.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: Any,
        log: Log | None,
        *,
        workers: Callable[[], Sequence[Worker]],
        facts: Callable[[], Sequence[WorkerFacts]],
        places: Callable[[], Mapping[str, tuple[Address, ...]]],
        steering: Steering,
    ) -> None:
        self.conf = conf
        self._reactor = reactor
        self._log = log
        self._workers = workers
        self._facts = facts
        self._places = places
        self._steering = steering
        self._level: Severity | None = None  # what an operator has set
        self._started = datetime.now(UTC)
        self._since = time.monotonic()

    def status(self) -> Deferred[Status]:
        """Return how the daemon is doing; the Deferred does not fail."""
        replies = self._ask_all("status", {}, partial(decoded, Status))
        return replies.addCallback(self._status)

    def _status(self, replies: Replies) -> Status:
        found = {worker.number: items[0] for worker, items in replies.items.items() if items}
        statuses: Sequence[Status] = tuple(found.values())
        asked = {worker.number for worker in (*replies.items, *replies.silent)}
        return Status(
            version=version("bascule"),
            pid=os.getpid(),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._since, 3),
            sessions=merging.sessions_of(statuses),
            listeners=listening(self.conf, self._places(), merging.by_listener(statuses)),
            certificates=merging.presented(statuses),
            pending=merging.pending(statuses),
            alerts=merging.alerts(statuses),
            workers=merging.workers_of(self._facts(), asked, found),
        )

    def sessions(self, listener: str, domain: str) -> "Iterator[SessionFacts | Deferred[None]]":
        """Return sessions one by one; see `Controlled.sessions`."""
        arguments = {"listener": listener, "domain": domain}
        return Listing(self._reactor, self._workers(), arguments).drawn()

    def kick(self, session_id: str) -> Deferred[bool]:
        """End a session; whether a worker has one with this id.

        The Deferred fails with `RefusedError` if none has, but not all have answered.
        """

        def kicked(replies: Replies) -> bool:
            if any(replies.items.values()):
                return True
            others = [each for each in replies.refused if each.code is not Code.NOT_FOUND]
            if others:
                raise others[0]
            if replies.silent:
                text = "the workers that have answered do not have the session; others keep silent"
                raise RefusedError(Code.TIMEOUT, text)
            return False

        return self._ask_all("kick", {"session": session_id}).addCallback(kicked)

    def trace(self, wanted: Wanted, told: Told, ended: Ended) -> Callable[[], None]:
        """Tell what happens in the negotiation of sessions; see `Controlled.trace`."""
        trace = Trace(self._reactor, self._workers(), wanted, told, ended)
        trace.start()
        return trace.stop

    def log_level(self, level: Severity | None) -> Soon[Severity]:
        """Return the least severity that the log has, having set it unless ``level`` is None."""
        there = Severity.DEBUG if self._log is None else self._log.threshold
        if level is None:
            return self._level or there
        self._level = level
        if self._log is not None:
            self._log.write(Severity.INFO, f"an operator sets the log level to {level.value}")
            self._log.threshold = level
        replies = self._ask_all("log-level", {"level": level.value})
        return replies.addCallback(lambda _: level)

    def risen(self, worker: Worker) -> None:
        """Have a worker that has just come up do what others have been told meanwhile."""
        if self._level is not None:
            arguments = {"level": self._level.value}
            ask_all(self._reactor, (worker,), "log-level", arguments, _as_it_is)

    def reload(self) -> Deferred[Reloaded]:
        """Take up the conf as it now is; see `Steering.reload`.

        Raises:
            NotControllableError: the daemon is about to end.
        """
        return self._steering.reload()

    def drain(self, older_than: str) -> Soon[Drained]:
        """End sessions one after another; see `Steering.drain`.

        The Deferred fails with `RefusedError` where no worker does it.

        Raises:
            NotControllableError: the daemon is about to end.
        """
        if not older_than:
            return self._steering.drain("")

        def drained(replies: Replies) -> Drained:
            done: list[Drained] = [item for items in replies.items.values() for item in items]
            if not done and replies.refused:
                raise replies.refused[0]
            if not done and replies.silent:
                raise RefusedError(Code.TIMEOUT, NO_ANSWER)
            seconds = max((each.seconds for each in done), default=0.0)
            return Drained(sum(each.sessions for each in done), seconds)

        read = partial(decoded, Drained)
        return self._ask_all("drain", {"older_than": older_than}, read).addCallback(drained)

    def _ask_all(
        self,
        command: str,
        arguments: Mapping[str, object],
        read: "Callable[[Any], Any] | None" = None,
    ) -> Deferred[Replies]:
        return ask_all(self._reactor, self._workers(), command, arguments, read or _as_it_is)


def _as_it_is(item: Any) -> Any:
    return item
