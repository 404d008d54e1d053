"""The service: what listens, the sessions that come of it, and the confs that follow each other."""

import socket
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, execute, fail, succeed

from proxy.daemon.alerting.stream import DeliveryError
from proxy.daemon.alerting.ways import Way
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.facts import Drained, Reloaded
from proxy.daemon.draining import CERTIFICATE, RENEWED, Session, age, lasts, shown_for
from proxy.daemon.file_watch import INTERVAL
from proxy.daemon.generation import Generation, Lasting
from proxy.daemon.generations import Generations
from proxy.daemon.listening import Sockets, facts, listen
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.monitoring import Monitored
from proxy.daemon.operation import Operation
from proxy.daemon.ports import Opened, Ports
from proxy.daemon.reloading import ConfSource, Read, Reloading, changes, listed
from proxy.daemon.renewing import Renewal, seen
from proxy.daemon.shared import Shared
from proxy.daemon.stopping import ANSWERED, GRACE, Stopping
from proxy.daemon.summaries import Summaries
from proxy.daemon.telling import Telling
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.listener import Accepted, Listener
from proxy.net.summary import Summary
from proxy.session.commands import Report, Severity, Side
from proxy.session.faults import located
from proxy.session.hooks import Address
from proxy.trust.keyring.alerts import Alert


class Service:
    """Everything that a conf asks for, on one reactor.

    Args:
        conf: the conf, without mistakes.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        sockets: those that listen already; None if there are none.
        source: where the conf is reloaded from; None if it cannot be.
        pass_on: takes what operators should know, for this is one of several processes and others
            tell of it, until `speak`; None for the only process.
        shared: what it shares with the other processes; None for the only one.
        interval: seconds from one look at certificates and other files to the next.

    Raises:
        ChainError: a plugin is not fit for the chain.
        KeyringError: the keyring cannot be opened.
        TLSSetupError: a certificate cannot be used.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: Any,
        log: Log | None = None,
        sockets: Sockets | None = None,
        *,
        source: ConfSource | None = None,
        pass_on: Callable[[Alert], None] | None = None,
        shared: Shared | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._led = pass_on is not None
        self._bridges: set[Session] = set()
        self._summaries = Summaries(reactor, log)
        self._hub: Hub | None = None
        self._sockets = sockets
        self._ports: Ports[Listener] = Ports()
        self._telling = Telling(reactor, log, self._abroad, self._alerted)
        self._pass_on = pass_on
        self._lasting = Lasting(
            reactor, self, self.tell, self._plugin_failed, shared or Shared.alone()
        )
        monitored = Monitored(
            lambda: self._current, self._bridges, self._telling.recent, self._stalls, self._unready
        )
        self._operation = Operation(
            conf,
            monitored,
            reactor,
            log,
            places=self.places,
            steering=self,
            worker=self._led,
        )
        self._telling.adopt(conf)
        files = seen(conf)
        first = Generation(conf, self._lasting, metrics=self._operation.metrics)
        self._generations = Generations(reactor, first)
        self._renewal = Renewal(reactor, log, self._generations.all, interval)
        self._renewal.adopt(conf, files)
        self._reloading: Reloading | None = None
        if source is not None:
            self._reloading = Reloading(
                source,
                reactor,
                None if self._led else log,
                take_up=lambda conf, read: execute(self._take_up, conf, read),
                status=lambda: self.status,
            )
        self._stopping = Stopping(reactor, self._bridges, self._stopped, self._quiet)
        self._emptied: Deferred[None] = Deferred()

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: an address cannot be listened on; the message says which and why.
        """
        current = self._current
        hub = self._hub = Hub(self._reactor)
        hub.descriptors.limit(lambda: self.sessions)
        self._operation.start(hub)
        try:
            self._ports.adopt(self._listen(current.conf, _accepted(current, hub), hub))
        except OSError:
            self._operation.stop()
            raise
        self._renewal.start()
        if self._pass_on is None:
            current.trust.start()

    def ready(self) -> "Deferred[None]":
        """Fire when sessions can begin."""
        return succeed(None)

    def _listen(self, conf: Conf, accepted: Mapping[str, Accepted], hub: Hub) -> Opened[Listener]:
        """Listen wherever a conf wants to and nobody does yet.

        Raises:
            OSError: an address cannot be listened on; the message says which and why.
        """
        return self._ports.open(
            conf.listeners, lambda each: listen(each, hub, accepted[each.name], self._sockets)
        )

    def _serve(self, opened: Opened[Listener], accepted: Mapping[str, Accepted]) -> None:
        """Have connections go where another conf says."""
        for held in opened:
            for port in held.ports:
                port.serve(accepted[held.name])
        self._ports.adopt(opened)

    def ports(self) -> Mapping[str, int]:
        """Return the port that each listener has, the first of several, by the listener's name."""
        return {name: places[0].port for name, places in self.places().items()}

    def places(self) -> Mapping[str, tuple[Address, ...]]:
        """Return where each listener listens, by its name."""
        return self._ports.places()

    @property
    def sessions(self) -> int:
        """How many sessions there are now."""
        return len(self._bridges)

    @property
    def status(self) -> str:
        """How it is doing, in a few words."""
        counted = f"{self.sessions} session{'s' * (self.sessions != 1)}"
        return f"Ending {counted}" if self.stopping else counted

    def converse(self, connection: socket.socket) -> None:
        """Serve a connection to the control language that a supervisor has passed; it is ours."""
        self._operation.converse(connection)

    # Another conf

    def reload(self) -> "Deferred[Reloaded]":
        """Take up the conf as it now is, all of it or nothing; the Deferred does not fail.

        Sessions that there are go on under the conf that they began with.

        Raises:
            NotControllableError: the service is stopping, or does not know its conf's file.
        """
        if self._reloading is None or self.stopping:
            raise NotControllableError("the daemon is about to end" if self.stopping else "no file")
        return self._reloading.reload()

    def _take_up(self, conf: Conf, read: Read) -> dict[str, str]:
        """Take up another conf; see `proxy.daemon.reloading.TakeUp`."""
        before, hub = self._current, self._hub
        if self.stopping or hub is None:
            raise OSError("the daemon is about to end")
        moved = self._operation.move(conf, hub)
        try:
            generation = Generation(
                conf,
                self._lasting,
                before=before,
                metrics=self._operation.metrics,
                prepared=read.prepared,
            )
            try:
                accepted = _accepted(generation, hub)
                opened = self._listen(conf, accepted, hub)
            except BaseException:
                generation.close()
                raise
        except BaseException:
            moved.close()
            raise
        # From here on nothing fails.
        self._generations.follow(generation)
        self._serve(opened, accepted)
        self._telling.adopt(conf)
        self._operation.adopt(conf, moved, hub)
        renewed = self._renewal.adopt(conf, read.files)
        before.trust.rest()
        if self._pass_on is None:
            generation.trust.start()
        if read.prepared is not None:
            self._generations.renew(read.prepared.revocation)
        if not self._led:
            self._tell_of_added(opened.added)
        return changes(before.conf, conf) | {"certificates": listed(renewed)}

    def _tell_of_added(self, names: Collection[str]) -> None:
        """Write to the log which listeners listen anew."""
        places = self.places()
        for listener in self._current.conf.listeners:
            if listener.name in names:
                for address in places[listener.name]:
                    self._write(Severity.INFO, "listening", facts(listener, address))

    @property
    def _current(self) -> Generation:
        return self._generations.current

    # The end

    def drain(self, older_than: str) -> Drained:
        """End sessions one after another; without a limit all, and then the process.

        Raises:
            NotControllableError: the service is stopping.
            ValueError: ``older_than`` cannot be understood.
        """
        if self.stopping:
            raise NotControllableError("the daemon is about to end")
        seconds = self._current.conf.deadlines.drain
        if not older_than:
            self._reactor.callLater(ANSWERED, self._leave)
            return Drained(self.sessions, round(lasts(self.sessions, seconds), 3))
        least = None if older_than == CERTIFICATE else age(older_than, datetime.now(UTC))
        now = time.monotonic()
        old = [each for each in self._bridges if self._is_old(each, least, now)]
        drain = self._stopping.end(old, RENEWED, seconds)
        drained = Drained(drain.count, round(drain.seconds, 3))
        told = {"older_than": older_than, "sessions": drained.sessions, "seconds": drained.seconds}
        self._write(Severity.INFO, "old sessions are ended", told)
        return drained

    def _leave(self) -> None:
        if not self.stopping:
            self._reactor.stop()

    def _is_old(self, session: Session, least: float | None, now: float) -> bool:
        """Whether a session is ``least`` seconds old; without it, older than its certificate."""
        if least is not None:
            return session.standing.seconds >= least
        since = self._renewal.since(shown_for(session))
        return since is not None and now - session.standing.seconds < since

    @property
    def stopping(self) -> bool:
        """Whether every session is to end."""
        return self._stopping.begun

    @property
    def needs(self) -> float:
        """How many seconds it may take to stop."""
        return lasts(self.sessions, self._current.conf.deadlines.drain) + GRACE

    def close(self) -> None:
        """Accept no more; the sessions that there are go on."""
        self._ports.stop()

    def stop(self) -> "Deferred[None]":
        """Accept no more, end every session, and fire when that is done or its time is over."""
        if self.stopping:
            return self._emptied
        self.close()
        self._renewal.stop()
        for generation in self._generations.all():
            generation.accepting.stop()
        self._stopping.end_all(self._current.conf.deadlines.drain)
        return self._emptied

    def hurry(self) -> None:
        """End at once what `stop` ends one after another."""
        self._stopping.hurry()

    def _quiet(self) -> bool:
        return self._hub is None or self._hub.quiet

    def _stopped(self) -> None:
        self._generations.close()
        self._telling.stop()
        self._operation.stop()
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        self._summaries.write()
        self._emptied.callback(None)

    # What comes of connections

    def begin(self, session: Session) -> None:
        """Take one that is about to start."""
        self._bridges.add(session)
        self._operation.begun(session)

    def replaced(self, session: Session, by: Divider) -> None:
        """Take note of one that goes on as another."""
        self._bridges.discard(session)
        self._bridges.add(by)

    def turned_away(self, listener: str, client: Address, reason: object) -> None:
        """Tell of a connection that is closed before it becomes a session."""
        self._operation.turned_away(listener)
        self._generations.sweep_later()
        fields = {"listener": listener, "client": client}
        self._write(Severity.WARNING, f"connection closed: {reason}", fields)

    def is_own(self, address: str, port: int) -> bool:
        """Whether an IP address and a port are a listener of ours."""
        return any(
            listening.port == port and (listening.host == address or listening.takes(address))
            for listening in self._ports
        )

    def report(self, listener: str, session_id: str, report: Report) -> None:
        """Write to the log what a session reports."""
        self._operation.reported(listener, report)
        self._write(report.severity, report.message, {"session": session_id, **report.fields})

    def _write(self, severity: Severity, message: str, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.write(severity, message, fields)

    def closed(self, session: Session, summary: Summary) -> None:
        """Take note of one that is over."""
        self._bridges.discard(session)
        self._operation.ended(session, summary)
        self._generations.sweep_later()
        self._summaries.add(summary)
        self._stopping.closed()

    def _stalls(self) -> Mapping[Side, int]:
        return dict.fromkeys(Side, 0) if self._hub is None else self._hub.stalled

    def _unready(self) -> list[str]:
        """Say why no session can begin; nothing if it can."""
        if self.stopping:
            return ["the service is stopping"]
        places = self.places()
        troubles = [
            f"listener {listener.name} is not listening"
            for listener in self._current.conf.listeners
            if listener.name not in places
        ]
        if self._hub is not None and self._hub.descriptors.trouble:
            troubles.append(self._hub.descriptors.trouble)
        return troubles

    def _abroad(self, domain: str) -> "Deferred[Way]":
        if self.stopping or self._hub is None:
            return fail(DeliveryError("the service is not running"))
        return self._current.accepting.abroad(self._hub, domain)

    def tell(self, alert: Alert) -> None:
        """Tell of an alert, or pass it on to who does."""
        (self._pass_on or self._telling.tell)(alert)

    def speak(self) -> None:
        """Tell of alerts from now on, and watch for what all would see: certificates that end."""
        if self._pass_on is not None:
            self._pass_on = None
            self._current.trust.start()

    def _alerted(self, alert: Alert) -> None:
        if self._operation.metrics is not None:
            self._operation.metrics.alerted(alert)

    def _plugin_failed(self, name: str, text: str, error: BaseException | None) -> None:
        if self._log is not None:
            fields = {"plugin": name, "error": None if error is None else located(error)}
            self._log.write(Severity.ERROR, f"plugin failed: {text}", fields)


def _accepted(generation: Generation, hub: Hub) -> dict[str, Accepted]:
    """Return what takes the connections of each listener, by its name."""
    return {
        listener.name: generation.first(listener, hub) for listener in generation.conf.listeners
    }
