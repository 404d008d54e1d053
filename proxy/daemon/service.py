"""The service: listeners, and the bridges that come of them."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from twisted.internet.defer import Deferred, fail

from proxy.daemon.accepting import Accepting
from proxy.daemon.activation import Activation
from proxy.daemon.alerting.stream import DeliveryError
from proxy.daemon.alerting.ways import Way
from proxy.daemon.listening import listen
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.monitoring import Monitored
from proxy.daemon.operation import Operation
from proxy.daemon.summaries import fields
from proxy.daemon.trusting.trust import Trust
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.listener import Listener
from proxy.net.summary import Summary
from proxy.net.tls import TLSSetupError
from proxy.session.chain import Chain
from proxy.session.commands import Report, Severity, Side
from proxy.session.faults import located
from proxy.session.hooks import Address

GRACE: Final = 5.0
"""Seconds that sessions get to end when the service stops."""

TICKET_KEYS: Final = 86_400.0
"""Seconds after which the keys of session tickets are replaced."""


class Service:
    """Everything that a conf asks for, on one reactor.

    Args:
        conf: the conf, without mistakes.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        activation: has the sockets that systemd has passed.

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
        activation: Activation | None = None,
    ) -> None:
        self._conf = conf
        self._activation = activation
        self._reactor = reactor
        self._log = log
        self._chain = Chain(
            [setting.plugin(setting.config) for setting in conf.plugins], self._plugin_failed
        )
        self._bridges: set[Bridge | Divider] = set()
        self._listeners: dict[str, list[Listener]] = {}
        self._hub: Hub | None = None
        self._trust = Trust(conf, reactor, log, self._abroad)
        monitored = Monitored(conf, self._trust, self._bridges, self._stalls, self._unready)
        self._operation = Operation(monitored, reactor, log, self.places)
        metrics = self._operation.metrics
        if metrics is not None:
            self._trust.alerting.listen(metrics.alerted)
        self._accepting = Accepting(conf, reactor, self._trust, self._chain, self, metrics=metrics)
        self._renewal: Any = None
        self._emptied: Deferred[None] | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: an address cannot be listened on; the message says which and why.
        """
        self._hub = Hub(self._reactor)
        self._operation.start(self._hub)
        for listener in self._conf.listeners:
            first = self._accepting.first(listener, self._hub)
            try:
                ports = listen(listener, self._hub, first, self._activation)
            except OSError:
                self._close_listeners()
                self._operation.stop()
                raise
            self._listeners[listener.name] = ports
        self._renewal = self._reactor.callLater(TICKET_KEYS, self._renew_contexts)
        self._trust.start()

    def _renew_contexts(self) -> None:
        """Make the TLS contexts anew, and with them the keys of session tickets.

        Who has such a key can read what was said in sessions that its tickets resumed, so no key
        is kept for long (RFC 9325, section 3.4).
        """
        self._renewal = self._reactor.callLater(TICKET_KEYS, self._renew_contexts)
        failed = self._trust.renew()
        try:
            self._accepting.renew()
        except TLSSetupError as error:
            failed.append(error)
        for problem in failed:
            self._write(Severity.WARNING, f"certificates stay as they were: {problem}", {})

    def ports(self) -> Mapping[str, int]:
        """Return the port that each listener has, the first of several, by the listener's name."""
        return {name: ports[0].port for name, ports in self._listeners.items()}

    def places(self) -> Mapping[str, tuple[Address, ...]]:
        """Return where each listener listens, by its name."""
        return {
            name: tuple(Address(port.host, port.port) for port in ports)
            for name, ports in self._listeners.items()
        }

    @property
    def sessions(self) -> int:
        """How many sessions there are now."""
        return len(self._bridges)

    def stop(self) -> "Deferred[None]":
        """Accept no more, end every session, and fire when that is done or `GRACE` is over."""
        self._close_listeners()
        done: Deferred[None] = Deferred()
        self._emptied = done
        timer = self._reactor.callLater(GRACE, self._stopped)
        done.addCallback(lambda _: timer.cancel() if timer.active() else None)
        for bridge in list(self._bridges):
            bridge.shut_down()
        if not self._bridges:
            self._stopped()
        return done

    def _stopped(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        self._trust.close()
        self._operation.stop()
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        if self._emptied is not None:
            done, self._emptied = self._emptied, None
            done.callback(None)

    def _close_listeners(self) -> None:
        for port in self._ports():
            port.stop()
        self._accepting.stop()
        self._listeners = {}

    def _ports(self) -> Iterator[Listener]:
        return chain.from_iterable(self._listeners.values())

    # What comes of connections

    def begin(self, session: Bridge | Divider) -> None:
        """Take one that is about to start."""
        self._bridges.add(session)
        self._operation.begun(session)

    def replaced(self, session: Bridge, by: Divider) -> None:
        """Take note of one that goes on as another."""
        self._bridges.discard(session)
        self._bridges.add(by)

    def turned_away(self, listener: str, client: Address, reason: object) -> None:
        """Tell of a connection that is closed before it becomes a session."""
        self._operation.turned_away(listener)
        fields = {"listener": listener, "client": client}
        self._write(Severity.WARNING, f"connection closed: {reason}", fields)

    def is_own(self, address: str, port: int) -> bool:
        """Whether an IP address and a port are a listener of ours."""
        return any(
            listening.port == port and (listening.host == address or listening.takes(address))
            for listening in self._ports()
        )

    def report(self, listener: str, session_id: str, report: Report) -> None:
        """Write to the log what a session reports."""
        self._operation.reported(listener, report)
        self._write(report.severity, report.message, {"session": session_id, **report.fields})

    def _write(self, severity: Severity, message: str, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.write(severity, message, fields)

    def closed(self, session: Bridge | Divider, summary: Summary) -> None:
        """Take note of one that is over."""
        self._bridges.discard(session)
        self._operation.ended(session, summary)
        if self._log is not None:
            self._log.write(summary.severity, "session ended", fields(summary))
        if self._emptied is not None and not self._bridges:
            self._stopped()

    def _stalls(self) -> Mapping[Side, int]:
        return dict.fromkeys(Side, 0) if self._hub is None else self._hub.stalled

    def _unready(self) -> list[str]:
        """Say why no session can begin; nothing if it can."""
        if self._emptied is not None:
            return ["the service is stopping"]
        return [
            f"listener {listener.name} is not listening"
            for listener in self._conf.listeners
            if listener.name not in self._listeners
        ]

    def _abroad(self, domain: str) -> "Deferred[Way]":
        if self._hub is None:
            return fail(DeliveryError("the service is not running"))
        return self._accepting.abroad(self._hub, domain)

    def _plugin_failed(self, name: str, text: str, error: BaseException | None) -> None:
        if self._log is not None:
            fields = {"plugin": name, "error": None if error is None else located(error)}
            self._log.write(Severity.ERROR, f"plugin failed: {text}", fields)
