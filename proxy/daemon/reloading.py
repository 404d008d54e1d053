"""Reloading: the conf is read anew, and all of it is taken up or nothing."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.daemon.activation import Activation
from proxy.daemon.check import Report, inspect
from proxy.daemon.control.facts import Reloaded
from proxy.daemon.file_watch import Signature
from proxy.daemon.log import Log
from proxy.daemon.model import Conf, Finding, Mistake
from proxy.daemon.notify import notify, reloading
from proxy.daemon.renewing import seen
from proxy.daemon.trusting.trust import Prepared
from proxy.net.tls import TLSSetupError
from proxy.session.chain import ChainError
from proxy.session.commands import Severity
from proxy.trust.keyring.database import KeyringError

SECTIONS: Final = {
    "plugins": "plugins",
    "deadlines": "deadlines",
    "domains": "domain",
    "listeners": "listener",
    "policies": "policy",
    "dns": "dns",
    "state": "bascule",
    "alerts": "alerts",
    "metrics": "metrics",
}
"""By part of a conf: the table that it stands in."""

_log = Logger()


@attrs.frozen
class Read:
    """A conf that was read, with what takes long to read.

    Attributes:
        report: what is to be said of it.
        prepared: what takes long; None if it has mistakes.
        files: what its files were known by before they were read.
    """

    report: Report
    prepared: Prepared | None = None
    files: dict[Path, Signature] = attrs.field(factory=dict)


Changes = dict[str, str]
"""What is otherwise than before, by what it is."""

TakeUp = Callable[[Conf, Read], "Deferred[Changes]"]
"""Takes a conf up and gives what is otherwise than before, or fails and leaves all as it was."""


class NotTakenUpError(Exception):
    """A conf is not taken up, though nothing is wrong with it where it was read.

    Attributes:
        mistakes: why, a line for each.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        super().__init__()
        self.mistakes = tuple(mistakes)


class ConfSource(Protocol):
    """Where a conf comes from, again and again."""

    @property
    def path(self) -> Path:
        """The main file, which mistakes are told of."""

    def read(self) -> Report:
        """Read it as it now is; called in a thread, for that may take a second or two."""


@attrs.frozen
class ConfFile:
    """A conf in a file, and in those beside it.

    Attributes:
        path: the main file, wherever the process goes.
        activation: has the sockets that systemd has passed; None if there are none.
    """

    path: Path
    activation: Activation | None = None

    def read(self) -> Report:
        """Read it as it now is, and examine all that it names."""
        return inspect(self.path, datetime.now(UTC), activation=self.activation)


class Reloading:
    """Reloads one conf, one time after another.

    Args:
        source: where the conf comes from.
        reactor: the reactor, whose threads read.
        log: where to write; None keeps quiet.
        take_up: takes a conf up.
        status: says in a few words how the daemon is doing.
    """

    def __init__(
        self,
        source: ConfSource,
        reactor: Any,
        log: Log | None,
        *,
        take_up: TakeUp,
        status: Callable[[], str],
    ) -> None:
        self._source = source
        self._reactor = reactor
        self._log = log
        self._take_up = take_up
        self._status = status
        self._asked: list[Deferred[Reloaded]] = []
        self._busy = False

    def reload(self) -> "Deferred[Reloaded]":
        """Take up the conf as it now is; fires with what came of it, and does not fail.

        Those who ask while it is being read have it read once more, all of them together.
        """
        asked: Deferred[Reloaded] = Deferred()
        self._asked.append(asked)
        self._go_on()
        return asked

    def _go_on(self) -> None:
        if self._asked and not self._busy:
            asked, self._asked = self._asked, []
            self._busy = True
            self._reload().addCallback(self._answer, asked)

    def _answer(self, reloaded: Reloaded, asked: "list[Deferred[Reloaded]]") -> None:
        self._busy = False
        for each in asked:
            each.callback(reloaded)
        self._go_on()

    def _reload(self) -> "Deferred[Reloaded]":
        reloading("Reloading")
        pool = self._reactor.getThreadPool()
        reading = deferToThreadPool(self._reactor, pool, self._read)
        return reading.addCallback(self._judge).addErrback(_failed).addCallback(self._tell)

    def _read(self) -> Read:
        """Read all there is to be read; in a thread, for it may take a second or two."""
        report = self._source.read()
        if report.conf is None:
            return Read(report)
        # What is replaced from here on is taken up later on: nothing was made of it yet.
        files = seen(report.conf)
        try:
            return Read(report, Prepared.of(report.conf), files)
        except TLSSetupError as error:
            mistakes = (Mistake(self._source.path, "", str(error)),)
            return Read(attrs.evolve(report, conf=None, mistakes=mistakes))

    def _judge(self, read: Read) -> "Deferred[Reloaded]":
        """Take up what was read, unless something is wrong with it."""
        report = read.report
        warnings = tuple(map(Finding.__str__, report.cautions))
        if report.conf is None:
            return succeed(Reloaded(tuple(map(str, report.mistakes)), warnings))
        return self._take_up(report.conf, read).addCallbacks(
            lambda changes: Reloaded(warnings=warnings, changes=changes),
            lambda failure: Reloaded(_why(failure), warnings),
        )

    def _tell(self, reloaded: Reloaded) -> Reloaded:
        notify(f"READY=1\nSTATUS={self._status()}")
        if self._log is not None:
            for warning in reloaded.warnings:
                self._log.write(Severity.WARNING, warning)
            for mistake in reloaded.mistakes:
                self._log.write(Severity.ERROR, f"not reloaded: {mistake}")
            if not reloaded.mistakes:
                self._log.write(Severity.INFO, "reloaded", reloaded.changes)
        return reloaded


def changes(before: Conf, now: Conf) -> dict[str, str]:
    """Return the tables that two confs have otherwise, and which listeners come and go."""
    tables = (
        table for part, table in SECTIONS.items() if getattr(before, part) != getattr(now, part)
    )
    names = [{listener.name for listener in conf.listeners} for conf in (before, now)]
    return {
        "changed": listed(tables) or "nothing",
        "listeners_added": listed(names[1] - names[0]),
        "listeners_removed": listed(names[0] - names[1]),
    }


def listed(names: Iterable[str]) -> str:
    """Return names, in order, as one field of the log."""
    return ",".join(sorted(names))


def _why(failure: Failure) -> tuple[str, ...]:
    """Return why a conf is not taken up; what else has failed is raised again."""
    error = cast("BaseException", failure.value)
    if isinstance(error, NotTakenUpError):
        return error.mistakes
    if isinstance(error, ChainError | KeyringError | TLSSetupError | OSError):
        return (str(error),)
    raise error


def _failed(failure: Failure) -> Reloaded:
    _log.failure("fault in reloading", failure=failure)
    return Reloaded(("fault in the proxy; see the log",))
