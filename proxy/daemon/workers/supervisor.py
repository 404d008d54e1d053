"""The supervisor: it opens what is listened on, leads the workers, and answers for all of them.

No session is its own, so whatever strangers do they do to a worker.
"""

import os
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, succeed

from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.facts import Drained, Reloaded
from proxy.daemon.draining import lasts
from proxy.daemon.entrances import Moved
from proxy.daemon.listening import Sockets, facts
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.ports import Opened, Ports
from proxy.daemon.reloading import (
    Changes,
    ConfSource,
    NotTakenUpError,
    Read,
    Reloading,
    changes,
)
from proxy.daemon.shared import SECRET
from proxy.daemon.stopping import ANSWERED, GRACE
from proxy.daemon.workers.channel import close_all, written
from proxy.daemon.workers.crew import Crew
from proxy.daemon.workers.operation import WholeOperation
from proxy.daemon.workers.process import Worker
from proxy.daemon.workers.sockets import Kept, keep, named
from proxy.net.board import Board
from proxy.net.hub import Hub
from proxy.session.commands import Severity
from proxy.session.hooks import Address


class Supervisor:
    """Everything that a conf asks for, done by several processes.

    Args:
        conf: the conf, without mistakes.
        reactor: the reactor.
        log: where to write.
        sockets: those that listen already; None if there are none.
        source: where the conf is reloaded from.

    Raises:
        OSError: the system has no memory to share.
    """

    def __init__(
        self, conf: Conf, reactor: Any, log: Log, sockets: Sockets | None, source: ConfSource
    ) -> None:
        self._conf = conf
        self._reactor = reactor
        self._log = log
        self._sockets = sockets
        self._source = source
        self._hub: Hub | None = None
        self._ports: Ports[Kept] = Ports()
        self._secret = secrets.token_bytes(SECRET)
        self._board = Board.create()
        self._crew = Crew(
            reactor,
            log,
            begin=self._begin,
            left=lambda number: self._board.clear(number - 1),
            risen=self._risen,
        )
        self._operation = WholeOperation(
            conf,
            reactor,
            log,
            workers=self._crew.running,
            facts=self._crew.facts,
            places=self.places,
            steering=self,
        )
        self._reloading = Reloading(
            source, reactor, log, take_up=self._take_up, status=lambda: self.status
        )
        self._tried: Worker | None = None
        self._is_up = False
        self._waiting: list[Deferred[Reloaded]] = []  # reloads asked for before that
        self.stopping = False
        """Whether every session is to end."""

    def start(self) -> None:
        """Listen; nobody accepts connections yet.

        Raises:
            OSError: an address cannot be listened on; the message says which and why.
        """
        hub = self._hub = Hub(self._reactor)
        self._operation.start(hub)
        try:
            self._ports.adopt(self._open(self._conf))
        except OSError:
            self._operation.stop()
            raise

    def ready(self) -> "Deferred[None]":
        """Start the workers; fires when all accept connections.

        It fails with `proxy.daemon.workers.crew.StartError` if one cannot begin.
        """
        return self._crew.want(self._conf.state.workers).addCallback(self._begun)

    def _begun(self, _result: None) -> None:
        self._is_up = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._reloading.reload().chainDeferred(each)

    def _open(self, conf: Conf) -> Opened[Kept]:
        """Listen wherever a conf wants to and nobody does yet.

        Raises:
            OSError: an address cannot be listened on; the message says which and why.
        """
        return self._ports.open(conf.listeners, partial(keep, sockets=self._sockets))

    def _begin(self, worker: Worker) -> None:
        worker.hand(named(self._ports.held()))
        conf, board = written(self._conf), self._board.descriptor
        try:
            worker.begin(conf, board, secret=self._secret, path=str(self._source.path))
        finally:
            os.close(conf)

    def _risen(self, worker: Worker) -> None:
        self._operation.risen(worker)

    def places(self) -> Mapping[str, tuple[Address, ...]]:
        """Return where each listener listens, by its name."""
        return self._ports.places()

    @property
    def sessions(self) -> int:
        """How many sessions there were when the workers last said so."""
        return self._crew.sessions

    @property
    def status(self) -> str:
        """How it is doing, in a few words."""
        counted = f"{self.sessions} session{'s' * (self.sessions != 1)}"
        if self.stopping:
            return f"Ending {counted}"
        running, wanted = len(self._crew.running()), self._conf.state.workers
        of = "" if running == wanted else f" of {wanted}"
        return f"{counted} in {running}{of} workers"

    # Another conf

    def reload(self) -> "Deferred[Reloaded]":
        """Take up the conf as it now is, all of it or nothing; the Deferred does not fail.

        Raises:
            NotControllableError: it is stopping.
        """
        if self.stopping:
            raise NotControllableError("the daemon is about to end")
        if not self._is_up:
            # Who is told that a reload is over takes the start for over, too.
            self._waiting.append(Deferred())
            return self._waiting[-1]
        return self._reloading.reload()

    @inlineCallbacks
    def _take_up(self, conf: Conf, _read: Read) -> Any:
        """Take up another conf; see `proxy.daemon.reloading.TakeUp`.

        One worker tries it first. If that cannot, nothing has changed anywhere.
        """
        before = self._conf
        moved, opened = self._prepare(conf)
        conf_written = -1
        try:
            conf_written = written(conf)
            tried: Reloaded = yield self._try(conf_written, opened)
            # One that was to end anyway says nothing of the conf. One that dies of it is not
            # followed by the others.
            while tried.mistakes and self._tried is not None and self._tried.is_ending:
                tried = yield self._try(conf_written, opened)
            self._check(tried)
        except BaseException:
            close_all((conf_written,))
            opened.close()
            moved.close()
            raise
        self._adopt(conf, moved, opened)
        others = [
            worker
            for worker in self._crew.all()
            if worker is not self._tried and not worker.is_ending
        ]
        yield gatherResults([self._reload(worker, conf_written, opened) for worker in others])
        os.close(conf_written)
        if not self.stopping:
            self._crew.want(conf.state.workers)
        return _merged(before, conf, tried)

    def _prepare(self, conf: Conf) -> tuple[Moved, Opened[Kept]]:
        if self.stopping or self._hub is None:
            raise OSError("the daemon is about to end")
        moved = self._operation.move(conf, self._hub)
        try:
            return moved, self._open(conf)
        except BaseException:
            moved.close()
            raise

    def _try(self, conf: int, opened: Opened[Kept]) -> "Deferred[Reloaded]":
        """Have one worker take up a conf; if none serves, those that start will do so."""
        serving = self._crew.serving()
        self._tried = serving[0] if serving else None
        if self._tried is None:
            return succeed(Reloaded())
        self._tried.hand(named(opened))
        return self._tried.reload(conf)

    def _check(self, tried: Reloaded) -> None:
        """Raise `NotTakenUpError` unless a worker has taken a conf up."""
        mistakes = ("the daemon is about to end",) if self.stopping else tried.mistakes
        if mistakes:
            raise NotTakenUpError(mistakes)

    def _reload(self, worker: Worker, conf: int, opened: Opened[Kept]) -> "Deferred[None]":
        """Have another worker do the same; one that cannot is replaced. This does not fail."""

        def judge(reloaded: Reloaded) -> None:
            if reloaded.mistakes and not worker.is_ending and not worker.is_gone:
                self._crew.renew(worker, reloaded.mistakes[0])

        try:
            worker.hand(named(opened))
            reloading = worker.reload(conf)
        except OSError as error:
            reloading = succeed(Reloaded((f"it cannot be told: {error.strerror}",)))
        return reloading.addCallback(judge)

    def _adopt(self, conf: Conf, moved: Moved, opened: Opened[Kept]) -> None:
        before, self._conf = self._conf, conf
        self._ports.adopt(opened)
        if self._hub is not None:
            self._operation.adopt(conf, moved, self._hub)
        places = self.places()
        for listener in conf.listeners:
            if listener.name in opened.added:
                for address in places[listener.name]:
                    self._log.write(Severity.INFO, "listening", facts(listener, address))
        if before.state.workers != conf.state.workers:
            fields = {"workers": conf.state.workers}
            self._log.write(Severity.INFO, "number of workers changes", fields)

    # The end

    def drain(self, older_than: str) -> Drained:
        """End all sessions one after another, and then all processes.

        Args:
            older_than: empty; sessions of an age are ended by the workers.

        Raises:
            NotControllableError: it is stopping.
        """
        if self.stopping:
            raise NotControllableError("the daemon is about to end")
        if older_than:
            raise ValueError("is for workers")
        self._reactor.callLater(ANSWERED, self._leave)
        seconds = lasts(self.sessions, self._conf.deadlines.drain)
        return Drained(self.sessions, round(seconds, 3))

    def _leave(self) -> None:
        if not self.stopping:
            self._reactor.stop()

    @property
    def needs(self) -> float:
        """How many seconds it may take to stop."""
        return lasts(self.sessions, self._conf.deadlines.drain) + 2 * GRACE

    def stop(self) -> "Deferred[None]":
        """Accept no more, have all workers end, and fire when they have."""
        self.stopping = True
        self._ports.stop()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(Reloaded(("the daemon is about to end",)))
        # A worker that is stuck must not have systemd end us as well.
        longest = self._conf.deadlines.drain + 2 * GRACE
        late = self._reactor.callLater(longest, self._crew.abort)
        return self._crew.stop().addCallback(lambda _: self._stopped(late))

    def hurry(self) -> None:
        """End at once what `stop` ends one after another."""
        self._crew.hurry()

    def _stopped(self, late: Any) -> None:
        if late.active():
            late.cancel()
        self._operation.stop()
        self._board.close()
        if self._hub is not None:
            self._hub.close()
            self._hub = None


def _merged(before: Conf, conf: Conf, tried: Reloaded) -> Changes:
    """Return what is otherwise than before, with what the workers alone know."""
    renewed = {name: tried.changes[name] for name in ("certificates",) if name in tried.changes}
    return changes(before, conf) | renewed
