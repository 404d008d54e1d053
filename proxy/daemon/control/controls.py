"""A service under control: what the control socket tells of it, and does to it."""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from twisted.internet.defer import Deferred

from proxy.daemon.control.controlled import (
    NO_LISTENER,
    NO_SESSION,
    Ended,
    NotControllableError,
    Soon,
    Steering,
    Told,
    Wanted,
)
from proxy.daemon.control.facts import (
    AlertRow,
    CertificateRow,
    Drained,
    ListenerFacts,
    Reloaded,
    SessionFacts,
    State,
    Status,
    state_of,
)
from proxy.daemon.control.tracing import Tracing, Watch
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.session.commands import Severity
from proxy.session.hooks import Address
from proxy.xmpp.errors import Condition, StreamError

Sessions = Collection[Bridge | Divider]


class Controls:
    """A service under control.

    Args:
        conf: the conf.
        sessions: those that there are; it changes while they begin and end.
        places: returns where each listener listens, by its name.
        log: the log; None if there is none.
        certificates: returns the certificates that are presented.
        pending: returns how many certificates wait for a decision; None without a keyring.
        alerts: returns the alerts of late, newest first.
        steering: takes up another conf, and ends sessions; None where neither can be done.

    Attributes:
        tracing: the traces; told of each bridge that begins.
        conf: the conf that holds now.
    """

    def __init__(
        self,
        conf: Conf,
        sessions: Sessions,
        places: Callable[[], Mapping[str, tuple[Address, ...]]],
        log: Log | None,
        *,
        certificates: Callable[[], tuple[CertificateRow, ...]] = tuple,
        pending: Callable[[], int | None] = lambda: None,
        alerts: Callable[[], tuple[AlertRow, ...]] = tuple,
        steering: Steering | None = None,
    ) -> None:
        self.tracing = Tracing()
        self.conf = conf
        self._steering = steering
        self._sessions = sessions
        self._places = places
        self._log = log
        self._certificates = certificates
        self._pending = pending
        self._alerts = alerts
        self._started = datetime.now(UTC)
        self._since = time.monotonic()

    def status(self) -> Status:
        """Return how the daemon is doing."""
        states = Counter(_state(session).value for session in self._sessions)
        counted = Counter(session.view.listener for session in self._sessions)
        return Status(
            version=version("bascule"),
            pid=os.getpid(),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._since, 3),
            sessions=dict(states),
            listeners=listening(self.conf, self._places(), counted),
            certificates=self._certificates(),
            pending=self._pending(),
            alerts=self._alerts(),
        )

    def sessions(self, listener: str = "", domain: str = "") -> Iterator[SessionFacts | None]:
        """Return sessions one by one; those that end meanwhile are left out.

        Args:
            listener: only those of this listener; empty for any.
            domain: only those to or from this domain; empty for any.

        Raises:
            NotControllableError: there is no such listener, nor a session of one that there was.
        """
        there = tuple(self._sessions)
        known = self._listens(listener) or any(each.view.listener == listener for each in there)
        if listener and not known:
            raise NotControllableError(NO_LISTENER)

        def is_meant(session: Bridge | Divider) -> bool:
            view = session.view
            if session not in self._sessions or (listener and view.listener != listener):
                return False
            return not domain or domain in (view.domain, view.origin)

        # None stands for a session that is passed over, which takes its time too.
        return (_facts(session) if is_meant(session) else None for session in there)

    def _listens(self, name: str) -> bool:
        return any(listener.name == name for listener in self.conf.listeners)

    def kick(self, session_id: str) -> bool:
        """End a session, telling its client why; whether there is one with this id."""
        session = self._find(session_id)
        if session is None:
            return False
        if self._log is not None:
            fields = {"session": session_id}
            self._log.write(Severity.INFO, "an operator ends a session", fields)
        session.end(StreamError(Condition.POLICY_VIOLATION, "ended by an operator of the proxy"))
        return True

    def trace(self, wanted: Wanted, told: Told, ended: Ended) -> Callable[[], None]:
        """Tell what happens in the negotiation of sessions; see `Controlled.trace`.

        Raises:
            NotControllableError: there is no such session or listener, or it is too late.
        """
        if not wanted.session:
            if wanted.listener and not self._listens(wanted.listener):
                raise NotControllableError(NO_LISTENER)
            return self.tracing.await_next(wanted, told, ended)
        session = self._find(wanted.session)
        if session is None:
            raise NotControllableError(NO_SESSION)
        return self.tracing.follow(session.view, lambda watch: _attach(session, watch), told, ended)

    def log_level(self, level: Severity | None) -> Severity:
        """Return the least severity that the log has, having set it unless ``level`` is None."""
        if self._log is None:
            return Severity.DEBUG if level is None else level
        if level is not None:
            self._log.write(Severity.INFO, f"an operator sets the log level to {level.value}")
            self._log.threshold = level
        return self._log.threshold

    def reload(self) -> "Deferred[Reloaded]":
        """Take up the conf as it now is; see `Controlled.reload`.

        Raises:
            NotControllableError: this daemon cannot, or it is about to end.
        """
        return self._steered().reload()

    def drain(self, older_than: str) -> Soon[Drained]:
        """End sessions one after another; see `Controlled.drain`.

        Raises:
            NotControllableError: this daemon cannot, or it is about to end.
            ValueError: ``older_than`` cannot be understood.
        """
        return self._steered().drain(older_than)

    def _steered(self) -> "Steering":
        if self._steering is None:
            raise NotControllableError("this daemon can only be stopped")
        return self._steering

    def _find(self, session_id: str) -> Bridge | Divider | None:
        return next((each for each in self._sessions if each.view.id == session_id), None)


def listening(
    conf: Conf, places: Mapping[str, tuple[Address, ...]], sessions: Mapping[str, int]
) -> tuple[ListenerFacts, ...]:
    """Return the listeners of a conf.

    Args:
        conf: the conf.
        places: where each listener listens, by its name.
        sessions: how many sessions each has; those that are not there have none.
    """
    return tuple(
        ListenerFacts(
            name=listener.name,
            direction=listener.direction,
            stream=listener.stream.value,
            address=", ".join(map(str, places.get(listener.name, ()))),
            tls=listener.tls.value,
            sessions=sessions.get(listener.name, 0),
        )
        for listener in conf.listeners
    )


def _attach(session: Bridge | Divider, watch: Watch) -> bool:
    """Have a session tell its watch; whether it is being negotiated."""
    if not isinstance(session, Bridge):
        return False
    if session.joined or session.standing.over:
        return False
    session.watch = watch
    return True


def _state(session: Bridge | Divider) -> State:
    if isinstance(session, Bridge) and session.joined:
        return State.JOINED  # as nearly all are
    over = session.standing.over
    if isinstance(session, Divider) and not over:
        return State.DIVIDED
    waiting = session.standing.waiting
    return state_of(session.view, joined=False, over=over, waiting=waiting)


def _facts(session: Bridge | Divider) -> SessionFacts:
    standing = session.standing
    return SessionFacts.of(
        session.view, _state(session), standing.server, standing.seconds, standing.passed
    )
