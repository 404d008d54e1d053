"""What listeners do with connections: each becomes a session, as the conf says."""

import secrets
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed

from proxy.daemon.alerting.stream import DeliveryError
from proxy.daemon.alerting.ways import Way
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.federating import InboundRules, OutboundRules
from proxy.daemon.forwarding import ForwardRules, request
from proxy.daemon.model import FORWARD, Conf
from proxy.daemon.model import Listener as ListenerConf
from proxy.daemon.own import OwnDomains, contexts, prefaces
from proxy.daemon.served import Domain
from proxy.daemon.sessions import Marks, Sessions
from proxy.daemon.trusting.trust import Trust
from proxy.net.bridge import Bridge
from proxy.net.deadlines import Deadlines
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.proxied import Proxied, Taken
from proxy.net.proxy_protocol import Versions
from proxy.net.reach import Behind, Connected, Failed, Reach
from proxy.net.redirected import NotRedirectedError
from proxy.net.summary import Summary
from proxy.net.surroundings import ENDING, Parted, Surroundings
from proxy.net.tls import TLSSetupError
from proxy.session.chain import Chain
from proxy.session.clients import ClientPassage
from proxy.session.commands import Command, Deadline
from proxy.session.components import ComponentPassage
from proxy.session.hooks import Address, View
from proxy.session.inbound import Inbound
from proxy.session.kinds import Kind
from proxy.session.outbound import Outbound
from proxy.session.passage import MakePassage
from proxy.session.receiving import Domains
from proxy.session.rules import TLSRule
from proxy.session.session import Session
from proxy.session.ways import Reached, Rules, Trouble
from proxy.trust.policy import Pattern

if TYPE_CHECKING:
    from proxy.daemon.metrics.counting import Metrics

WAYS: Final = 3
"""How many ways to a server, each as slow as can be, the deadline for connecting is enough for."""

ALERTS: Final = "(alerts)"
"""What stands for a listener where the daemon itself sends alerts to another domain."""

_SESSION_ID_BYTES: Final = 6
_HERE: Final = Address("127.0.0.1", 0)

T = TypeVar("T")


class Accepting:
    """Makes sessions of connections.

    Args:
        conf: the conf.
        reactor: the reactor.
        trust: whom to believe.
        chain: the plugins.
        sessions: takes the sessions.
        marks: what our own streams are known by.
        metrics: takes what is measured; None if nothing is.

    Raises:
        TLSSetupError: a certificate cannot be used.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: Any,
        trust: Trust,
        chain: Chain,
        sessions: Sessions,
        *,
        marks: Marks,
        metrics: "Metrics | None" = None,
    ) -> None:
        self._conf = conf
        self._reactor = reactor
        self._trust = trust
        self._chain = chain
        self._sessions = sessions
        self._metrics = metrics
        self._marks = marks
        self._contexts = contexts(conf)
        self._proxied: list[Proxied] = []

    def renew(self, domain: Domain) -> None:
        """Make the TLS contexts of a domain anew, and with them the keys of session tickets.

        Raises:
            TLSSetupError: a certificate cannot be used; all stays as it was.
        """
        for name, made in contexts(attrs.evolve(self._conf, domains=(domain,))).items():
            self._contexts[name].update(made)

    @property
    def waits(self) -> bool:
        """Whether any connection is still to say by the PROXY protocol whose it is."""
        return any(proxied.waiting for proxied in self._proxied)

    def stop(self) -> None:
        """Wait for no more headers of the PROXY protocol."""
        for proxied in self._proxied:
            proxied.stop()

    def close(self) -> None:
        """Give up the TLS contexts, which are large: no session is left."""
        self.stop()
        for each in self._contexts.values():
            each.clear()

    def first(self, listener: ListenerConf, hub: Hub) -> Callable[[socket.socket, Address], None]:
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
            refused=partial(self._sessions.turned_away, listener.name),
        )
        self._proxied.append(proxied)
        return proxied.accepted

    def _accepting(self, listener: ListenerConf, hub: Hub) -> Taken:
        """Return what a listener does with a connection."""
        if listener.direction == FORWARD:
            return self._accepting_forward(listener, hub)
        own = OwnDomains(self._conf, listener.stream)

        def behind(
            domain: str, _original: Address | None, connected: Connected, failed: Failed
        ) -> Reach:
            met = self._measured(listener, domain, connected, failed)
            return Behind(self._reactor, own.server(domain), *met)

        around = self._surroundings(listener, hub, behind, _no_server_context)
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
        rules = InboundRules(self._conf, there(self._trust.peers), self._marks.ledger)
        return lambda view, chain, out: Inbound(view, chain, out, rules)

    def _accepting_forward(self, listener: ListenerConf, hub: Hub) -> Taken:
        """Return what a forward listener does with a connection."""
        remote = there(self._trust.remote)
        rules = ForwardRules(listener, remote.ladder, self._trust.judge)
        passage: MakePassage = ClientPassage
        if listener.stream is Kind.S2S:
            peers = there(self._trust.peers)
            between = OutboundRules(listener, self._conf, peers, self._marks.ledger)
            rules, passage = between, partial(_outbound, between)

        def abroad(
            domain: str, original: Address | None, connected: Connected, failed: Failed
        ) -> Reach:
            wanted = request(domain, remote.ladder.find(domain), listener, original)
            met = self._measured(listener, domain, connected, failed)
            return remote.reach(wanted, self._sessions.is_own, *met)

        around = self._surroundings(listener, hub, abroad, remote.context)

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
                self._sessions.turned_away(listener.name, client, error)
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
            self._sessions.replaced(bridge, divider)
            divider.start(parted.rest)

        return divided

    def _divided_closed(self, divider: Divider, summary: Summary) -> None:
        self._chain.session_closed(divider.view)
        self._sessions.closed(divider, summary)

    def _surroundings(
        self,
        listener: ListenerConf,
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
            report=partial(self._sessions.report, listener.name),
            measured=self._metrics,
            closed=self._sessions.closed,
        )

    def _measured(
        self, listener: ListenerConf, domain: str, connected: Connected, failed: Failed
    ) -> tuple[Connected, Failed]:
        """Return what does the same, and has the metrics know of it."""
        metrics = self._metrics
        if metrics is None or listener.name == ALERTS:
            return connected, failed
        began: float | None = time.monotonic()

        def arrived(connection: socket.socket, reached: Reached) -> None:
            nonlocal began
            # Later ways would have the time in it that was spent on earlier ones.
            seconds = None if began is None else time.monotonic() - began
            began = None
            metrics.connected(listener.name, domain, seconds)
            connected(connection, reached)

        def stranded(trouble: Trouble, reason: str) -> None:
            # Where something was connected to and refused, it is the session that failed.
            if trouble is Trouble.UNREACHABLE and began is not None:
                metrics.unreachable(listener.name, domain)
            failed(trouble, reason)

        return arrived, stranded

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
            ids=self._marks.ids,
            passage=passage,
            outward=outward,
            divides=divides,
        )

    def _begin(self, bridge: Bridge) -> None:
        self._sessions.begin(bridge)
        bridge.start()

    def abroad(self, hub: Hub, domain: str) -> Deferred[Way]:
        """Return a way to the server of another domain, by a session of our own.

        Whoever speaks on it speaks plaintext, as an old client does; the session sees to TLS, and
        to whom it is spoken, as the domain's policy demands.
        """
        if self._trust.remote is None:
            return fail(DeliveryError("no way leads to other domains"))
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        listener = ListenerConf(
            name=ALERTS,
            direction=FORWARD,
            stream=Kind.C2S,
            address=Endpoint(_HERE.host, _HERE.port),
            domains=(Pattern(domain),),
        )
        self._accepting_forward(listener, hub)(theirs, _HERE, None)
        policy = self._trust.remote.ladder.find(domain)
        return succeed(Way(ours, plain=policy.level.demands_proof))


def _no_server_context(domain: str, _sender: str) -> SSL.Context:
    """Behind a reverse listener there is no TLS."""
    raise TLSSetupError(f"there is no TLS to the server behind {domain}")


def _outbound(rules: OutboundRules, view: View, chain: Chain, out: list[Command]) -> Outbound:
    return Outbound(view, chain, out, rules)


def there(part: T | None) -> T:
    """Return a part that the conf must have brought about.

    Raises:
        RuntimeError: it has not.
    """
    if part is None:
        raise RuntimeError("a listener needs what was not made for it")
    return part
