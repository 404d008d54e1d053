"""The service: listeners, and the bridges that come of them."""

import secrets
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred

from proxy.daemon.federating import InboundRules, OutboundRules, Peers
from proxy.daemon.forwarding import ForwardRules, Remote, request
from proxy.daemon.log import Log
from proxy.daemon.model import FORWARD, Conf
from proxy.daemon.model import Listener as ListenerConf
from proxy.daemon.own import OwnDomains, contexts, prefaces
from proxy.net.bridge import ENDING, Bridge, Parted, Surroundings
from proxy.net.deadlines import Deadlines
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.listener import Listener
from proxy.net.proxied import Proxied, Taken
from proxy.net.proxy_protocol import Versions
from proxy.net.reach import Behind, Connected, Failed, Reach
from proxy.net.redirected import NotRedirectedError
from proxy.net.summary import Summary
from proxy.net.tls import TLSSetupError
from proxy.session.chain import Chain
from proxy.session.clients import ClientPassage
from proxy.session.commands import Command, Deadline, Report, Severity
from proxy.session.components import ComponentPassage
from proxy.session.dialback import Ledger
from proxy.session.faults import located
from proxy.session.hooks import Address, TLSFacts, View
from proxy.session.ids import StreamIds
from proxy.session.inbound import Inbound
from proxy.session.kinds import Kind
from proxy.session.outbound import Outbound
from proxy.session.outward import Rules
from proxy.session.passage import MakePassage
from proxy.session.receiving import Domains
from proxy.session.rules import TLSRule
from proxy.session.session import Session

GRACE: Final = 5.0
"""Seconds that sessions get to end when the service stops."""

TICKET_KEYS: Final = 86_400.0
"""Seconds after which the keys of session tickets are replaced."""

WAYS: Final = 3
"""How many ways to a server, each as slow as can be, the deadline for connecting is enough for."""

_SESSION_ID_BYTES: Final = 6


class Service:
    """Everything that a conf asks for, on one reactor.

    Args:
        conf: the conf, without mistakes.
        reactor: the reactor.
        log: where to write; None keeps quiet.

    Raises:
        ChainError: a plugin is not fit for the chain.
        TLSSetupError: a certificate cannot be used.
    """

    def __init__(self, conf: Conf, reactor: Any, log: Log | None = None) -> None:
        self._conf = conf
        self._reactor = reactor
        self._log = log
        self._ids = StreamIds()
        self._chain = Chain(
            [setting.plugin(setting.config) for setting in conf.plugins], self._plugin_failed
        )
        self._contexts = contexts(conf)
        self._ledger = Ledger()
        self._peers: Peers | None = None
        if any(listener.stream is Kind.S2S for listener in conf.listeners):
            self._peers = Peers(conf)
        self._remote: Remote | None = None
        if any(listener.direction == FORWARD for listener in conf.listeners):
            self._remote = Remote(conf, reactor)
        self._renewal: Any = None
        self._hub: Hub | None = None
        self._listeners: dict[str, Listener] = {}
        self._proxied: list[Proxied] = []
        self._bridges: set[Bridge | Divider] = set()
        self._emptied: Deferred[None] | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: an address cannot be listened on; the message says which and why.
        """
        self._hub = Hub(self._reactor)
        for listener in self._conf.listeners:
            address = listener.address
            port = Listener(
                self._hub,
                address.host,
                address.port,
                self._first(listener, self._hub),
                tproxy=listener.tproxy,
            )
            try:
                port.start()
            except OSError as error:
                self._close_listeners()
                raise OSError(f"listener {listener.name}: {address}: {error.strerror}") from error
            self._listeners[listener.name] = port
        self._renewal = self._reactor.callLater(TICKET_KEYS, self._renew_contexts)

    def _renew_contexts(self) -> None:
        """Make the TLS contexts anew, and with them the keys of session tickets.

        Who has such a key can read what was said in sessions that its tickets resumed, so no key
        is kept for long (RFC 9325, section 3.4).
        """
        self._renewal = self._reactor.callLater(TICKET_KEYS, self._renew_contexts)
        # What one of them fails at must not keep the other from its new keys or roots.
        renewals = [self._renew_own]
        if self._peers is not None:
            renewals.append(self._peers.renew)
        if self._remote is not None:
            renewals.append(self._remote.renew)
        for renew in renewals:
            try:
                renew()
            except TLSSetupError as error:
                self._write(Severity.WARNING, f"certificates stay as they were: {error}", {})

    def _renew_own(self) -> None:
        for name, made in contexts(self._conf).items():
            self._contexts[name].update(made)

    def ports(self) -> Mapping[str, int]:
        """Return the port that each listener has, by the listener's name."""
        return {name: port.port for name, port in self._listeners.items()}

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
        if self._remote is not None:
            self._remote.close()
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        if self._emptied is not None:
            done, self._emptied = self._emptied, None
            done.callback(None)

    def _close_listeners(self) -> None:
        for port in self._listeners.values():
            port.stop()
        for proxied in self._proxied:
            proxied.stop()
        self._listeners = {}

    def _first(self, listener: ListenerConf, hub: Hub) -> Callable[[socket.socket, Address], None]:
        """Return what a listener does first of all with a connection."""
        taken = self._accepting(listener, hub)
        if listener.proxy_protocol is Versions.NONE:
            return lambda connection, client: taken(connection, client, None)
        proxied = Proxied(
            hub,
            self._deadlines(),
            versions=listener.proxy_protocol,
            trusted=listener.trusted_proxies,
            taken=taken,
            refused=lambda peer, reason: self._turn_away(listener, peer, reason),
        )
        self._proxied.append(proxied)
        return proxied.accepted

    def _turn_away(self, listener: ListenerConf, client: Address, reason: object) -> None:
        """Tell of a connection that is closed before it becomes a session."""
        fields = {"listener": listener.name, "client": client}
        self._write(Severity.WARNING, f"connection closed: {reason}", fields)

    def _accepting(self, listener: ListenerConf, hub: Hub) -> Taken:
        """Return what a listener does with a connection."""
        if self._remote is not None and listener.direction == FORWARD:
            return self._accepting_forward(listener, hub, self._remote)
        own = OwnDomains(self._conf, listener.stream)

        def behind(
            domain: str, _original: Address | None, connected: Connected, failed: Failed
        ) -> Reach:
            return Behind(self._reactor, own.server(domain), connected, failed)

        around = self._surroundings(hub, behind, _no_server_context)
        around = attrs.evolve(
            around,
            contexts=self._contexts.get(listener.name, {}),
            preface=prefaces(self._conf, listener.stream),
        )
        peek = listener.tls is not TLSRule.NONE
        passage = self._passage(listener)

        def accepted(connection: socket.socket, client: Address, place: Address | None) -> None:
            session = self._session(listener, client, own, passage)
            self._begin(Bridge(around, session, connection, peek=peek, original=place))

        return accepted

    def _passage(self, listener: ListenerConf) -> MakePassage:
        """Return what makes the way between the legs of a reverse listener's sessions."""
        if listener.stream is Kind.COMPONENT:
            return ComponentPassage
        if listener.stream is Kind.C2S:
            return ClientPassage
        if self._peers is None:
            raise RuntimeError("there are listeners for servers, and nobody who judges servers")
        rules = InboundRules(self._conf, self._peers, self._ledger)
        return lambda view, chain, out: Inbound(view, chain, out, rules)

    def _accepting_forward(self, listener: ListenerConf, hub: Hub, remote: Remote) -> Taken:
        """Return what a forward listener does with a connection."""
        rules = ForwardRules(listener, remote.ladder)
        passage: MakePassage = ClientPassage
        if self._peers is not None and listener.stream is Kind.S2S:
            between = OutboundRules(listener, self._conf, self._peers, self._ledger)
            rules, passage = between, partial(_outbound, between)

        def abroad(
            domain: str, original: Address | None, connected: Connected, failed: Failed
        ) -> Reach:
            wanted = request(domain, remote.ladder.find(domain), listener, original)
            return remote.reach(wanted, self._is_own, connected, failed)

        around = self._surroundings(hub, abroad, remote.context)

        def branch(connection: socket.socket, parted: Parted) -> None:
            client, original = parted.view.client, parted.original
            session = self._session(listener, client, rules, passage, rules, divides=False)
            self._begin(Bridge(around, session, connection, peek=False, original=original))

        trunk = attrs.evolve(around, divided=self._dividing(hub, around, branch))

        def accepted(connection: socket.socket, client: Address, _place: Address | None) -> None:
            try:
                original = remote.original(connection, client, listener)
            except (NotRedirectedError, OSError) as error:
                connection.close()
                self._turn_away(listener, client, error)
                return
            session = self._session(listener, client, rules, passage, rules)
            self._begin(Bridge(trunk, session, connection, peek=False, original=original))

        return accepted

    def _dividing(
        self, hub: Hub, around: Surroundings, begin: Callable[[socket.socket, Parted], None]
    ) -> Callable[[Bridge, Parted], None]:
        """Return what goes on with a client whose stream is for several domains.

        Each of them has a session of its own, which ``begin`` makes.
        """

        def divided(bridge: Bridge, parted: Parted) -> None:
            divider = Divider(
                hub=hub,
                deadlines=around.deadlines,
                connection=parted.connection,
                waiting=parted.waiting,
                header=parted.header,
                view=parted.view,
                started=parted.started,
                begin=lambda connection: begin(connection, parted),
                closed=self._divided_closed,
            )
            self._bridges.discard(bridge)
            self._bridges.add(divider)
            divider.start(parted.rest)

        return divided

    def _divided_closed(self, divider: Divider, summary: Summary) -> None:
        self._chain.session_closed(divider.view)
        self._closed(divider, summary)

    def _surroundings(
        self,
        hub: Hub,
        reach: Callable[[str, Address | None, Connected, Failed], Reach],
        server_context: Callable[[str, str], SSL.Context],
    ) -> Surroundings:
        return Surroundings(
            reactor=self._reactor,
            hub=hub,
            contexts={},
            reach=reach,
            server_context=server_context,
            deadlines=self._deadlines(),
            chain=self._chain,
            report=self._report,
            closed=self._closed,
        )

    def _deadlines(self) -> Deadlines:
        deadlines = self._conf.deadlines
        return Deadlines(
            self._reactor,
            {
                Deadline.NEGOTIATION: deadlines.negotiation,
                Deadline.AUTHENTICATION: deadlines.authentication,
                Deadline.CONNECT: deadlines.connect,
                Deadline.WAY: deadlines.connect / WAYS,
                Deadline.ENDING: ENDING,
            },
        )

    def _session(
        self,
        listener: ListenerConf,
        client: Address,
        domains: Domains,
        passage: MakePassage,
        outward: Rules | None = None,
        *,
        divides: bool = True,
    ) -> Session:
        return Session(
            session_id=secrets.token_hex(_SESSION_ID_BYTES),
            listener=listener.name,
            kind=listener.stream,
            rule=listener.tls if outward is None else TLSRule.NONE,
            client=client,
            domains=domains,
            chain=self._chain,
            ids=self._ids,
            passage=passage,
            outward=outward,
            divides=divides,
        )

    def _begin(self, bridge: Bridge) -> None:
        self._bridges.add(bridge)
        bridge.start()

    def _is_own(self, address: str, port: int) -> bool:
        """Whether an IP address and a port are a listener of ours."""
        return any(
            listening.port == port and (listening.host == address or listening.takes(address))
            for listening in self._listeners.values()
        )

    def _report(self, session_id: str, report: Report) -> None:
        self._write(report.severity, report.message, {"session": session_id, **report.fields})

    def _write(self, severity: Severity, message: str, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.write(severity, message, fields)

    def _closed(self, bridge: Bridge | Divider, summary: Summary) -> None:
        self._bridges.discard(bridge)
        if self._log is not None:
            self._log.write(summary.severity, "session ended", _fields(summary))
        if self._emptied is not None and not self._bridges:
            self._stopped()

    def _plugin_failed(self, name: str, text: str, error: BaseException | None) -> None:
        if self._log is not None:
            fields = {"plugin": name, "error": None if error is None else located(error)}
            self._log.write(Severity.ERROR, f"plugin failed: {text}", fields)


def _no_server_context(domain: str, _sender: str) -> SSL.Context:
    """Behind a reverse listener there is no TLS."""
    raise TLSSetupError(f"there is no TLS to the server behind {domain}")


def _outbound(rules: OutboundRules, view: View, chain: Chain, out: list[Command]) -> Outbound:
    return Outbound(view, chain, out, rules)


def _fields(summary: Summary) -> dict[str, object]:
    """Return the one line that tells a whole session."""
    view = summary.view
    tls, server_tls = view.tls, view.server_tls
    return {
        "session": view.id,
        "listener": view.listener,
        "client": view.client,
        "origin": view.origin,
        "domain": view.domain,
        "tls": "none" if tls is None else _agreed(tls),
        "start": None if tls is None else ("direct" if tls.direct else "starttls"),
        "resumed": "yes" if tls is not None and tls.resumed else None,
        "client_identity": view.client_identity,
        "server": summary.server,
        "server_tls": None if server_tls is None else _agreed(server_tls),
        "server_identity": view.server_identity,
        "authenticated": "yes" if _is_authenticated(view) else "no",
        "proof": view.proof,
        "failed_logins": view.failed_logins or None,
        "seconds": f"{summary.seconds:.3f}",
        "from_client": summary.from_client,
        "from_server": summary.from_server,
        "reason": summary.reason,
    }


def _is_authenticated(view: View) -> bool:
    """Whether who opened the stream was let in; between servers, whether for any domain."""
    return bool(view.proof) if view.kind is Kind.S2S else view.authenticated


def _agreed(tls: TLSFacts) -> str:
    return f"{tls.version}/{tls.cipher}/{tls.group}"
