"""Looks at every server of a domain, every address of each, up to TLS and hardly further.

A session takes the first server that does; here all are tried, side by side. Nothing leaves but a
stream header of our own and ``<starttls/>``, and TLS is closed as soon as it is up: where servers
are looked at for servers, as soon as a second header has been answered. Nobody authenticates.
"""

import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import attrs
from OpenSSL import SSL
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.python.failure import Failure

from proxy.net.client_hello import Hello
from proxy.net.closing import LINGER
from proxy.net.connector import Race, system_addresses
from proxy.net.leg import Leg
from proxy.net.probed import Attempt, Handshake, Probed, Vouched
from proxy.net.resolver import LookupFailedError, Resolver, Security
from proxy.net.route import TARGET_SECONDS, Request, leads_to
from proxy.net.targets import Target, forbidden
from proxy.net.tcp import is_ours
from proxy.net.tls import describe
from proxy.net.tlsa import references
from proxy.session.hooks import Address, TLSFacts
from proxy.session.ids import StreamIds
from proxy.session.kinds import Kind
from proxy.session.securing import CEILING, CircleError, RedirectedError, Securing, WayError
from proxy.session.welcome import Welcome
from proxy.trust.dane.claims import Claims
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, StreamError
from proxy.xmpp.events import Element, Header
from proxy.xmpp.framing import Framer
from proxy.xmpp.headers import opening, read_answer

AT_ONCE: Final = 32
"""How many addresses are connected to at the same time."""

T = TypeVar("T")


@attrs.frozen
class Terms:
    """Under which conditions servers are looked at.

    Attributes:
        context: the TLS context in which they are spoken to.
        optional: whether a server that does not offer TLS is not asked for it.
        seconds: how long each address may take until all is known of it.
        own: whether an IP address and a port are a listener of ours.
        kind: the kind of stream that is wanted: of clients, or of servers.
        sender: the domain of ours on whose behalf a server asks, as A-labels; empty for none.
    """

    context: SSL.Context
    optional: bool
    seconds: float
    own: Callable[[str, int], bool]
    kind: Kind = Kind.C2S
    sender: str = ""


class Prober:
    """Looks at the servers of one domain.

    Args:
        reactor: the reactor.
        resolver: asks DNS.
        request: whose servers are wanted, and what limits the ways to them; ``original`` does not
            count.
        terms: the conditions.
    """

    def __init__(self, reactor: Any, resolver: Resolver, request: Request, terms: Terms) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._request = request
        self._terms = terms
        self._turns = DeferredSemaphore(AT_ONCE)

    async def probe(self) -> tuple[Probed, ...]:
        """Return what came of each target, in the order in which a session would try them.

        Raises:
            LookupFailedError: there is no target, or it cannot be known which.
        """
        request = self._request
        targets: Sequence[Target] = (
            await self._resolver.targets(request.domain, request.service)
            if request.server is None
            else (request.server,)
        )
        return await _all([self._target(target) for target in targets])

    async def _target(self, target: Target) -> Probed:
        # Side by side: name servers that fail take their time.
        asking = Deferred.fromCoroutine(self._vouched(target))
        found = await self._attempts(target)
        return attrs.evolve(found, vouched=await asking)

    async def _attempts(self, target: Target) -> Probed:
        try:
            addresses = await self._addresses(target.host)
        except LookupFailedError as error:
            return Probed(target, (), str(error))
        return Probed(target, await _all([self._turn(target, each) for each in addresses]))

    async def _vouched(self, target: Target) -> Vouched:
        request = self._request
        if request.server is not None:
            return Vouched()
        try:
            records = await self._resolver.tlsa(target)
        except LookupFailedError as error:
            return Vouched(problem=str(error))
        claims = Claims(references(request.domain, f"_{request.service}", target), records.values)
        return Vouched(claims, records.security is Security.SECURE)

    async def _addresses(self, host: str) -> list[str]:
        if self._request.server is None:
            found = await self._resolver.addresses(host)
        else:
            seconds = self._terms.seconds
            try:
                found = await system_addresses(self._reactor, host).addTimeout(
                    seconds, self._reactor
                )
            except defer.TimeoutError as error:
                raise LookupFailedError(f"the lookup of {host} took over {seconds:g} s") from error
        if not found:
            raise LookupFailedError(f"the name {host} has no address")
        return list(dict.fromkeys(map(leads_to, found)))

    async def _turn(self, target: Target, address: str) -> Attempt:
        """Look at one address if that is allowed, when it is its turn."""
        if self._terms.own(address, target.port):
            reason = f"{Address(address, target.port)} is a listener of this proxy"
            return Attempt(address, forbidden=reason, own=True)
        against = self._reason_against(address, target.port)
        if against is not None:
            return Attempt(address, forbidden=against)
        approach = _Approach(self._reactor, self._request.domain, target, address, self._terms)
        return await self._turns.run(approach.start)

    def _reason_against(self, address: str, port: int) -> str | None:
        if self._request.server is not None or self._request.private_addresses:
            return None
        reason = forbidden(address, port)
        if reason is None and is_ours(address):
            return f"{address} is this machine itself"
        return reason


async def _all(going: Sequence[Coroutine[Any, Any, T]]) -> tuple[T, ...]:
    deferreds = [Deferred.fromCoroutine(each) for each in going]
    return tuple(await gatherResults(deferreds, consumeErrors=True))


class _Approach:
    """One connection to one address. It is the protocol of its leg."""

    def __init__(
        self, reactor: Any, domain: str, target: Target, address: str, terms: Terms
    ) -> None:
        self.kind = terms.kind
        self._reactor = reactor
        self._domain = domain
        self._target = target
        self._terms = terms
        self._attempt = Attempt(address)
        self._securing = Securing(self, domain, optional=terms.optional, sender=terms.sender)
        self._welcome: Welcome | None = None  # from TLS on, where it is read
        self._features: Framer | None = Framer(CEILING)
        self._race: Race | None = None
        self._leg: Leg | None = None
        self._over = False
        self._done: Deferred[Attempt] = Deferred()
        self._began = 0.0
        self._timer: Any = None
        self.ids = StreamIds()

    def start(self) -> Deferred[Attempt]:
        """Begin; the outcome comes when the connection has been closed."""
        terms = self._terms
        self._began = self._reactor.seconds()
        self._timer = self._reactor.callLater(terms.seconds, self._expired)
        self._race = Race(
            self._reactor,
            [self._attempt.address],
            self._target.port,
            lambda connection, _address: self._connected(connection),
            lambda reason: self._finish(problem=reason.lower()),
            seconds=min(TARGET_SECONDS, terms.seconds),
        )
        self._race.start()
        return self._done

    def _connected(self, connection: socket.socket) -> None:
        self._race = None
        self._note(connected=self._seconds())
        self._leg = Leg(self._reactor, connection, self, peek=False, kind=self.kind)
        self._leg.start()
        self._try(lambda: self._securing.begin(direct=self._target.direct))

    def _expired(self) -> None:
        self._timer = None
        if self._race is not None:
            self._race.stop()
        late = "did not get to TLS" if self._welcome is None else "opened no stream under TLS"
        self._finish(problem=f"{late} within {self._terms.seconds:g} s")

    def _seconds(self) -> float:
        return float(self._reactor.seconds() - self._began)

    def _note(self, **found: Any) -> None:
        self._attempt = attrs.evolve(self._attempt, **found)

    def _finish(self, **found: Any) -> None:
        """Take the outcome, and close the stream and the connection as far as they are up."""
        if self._over:
            return
        self._over = True
        self._note(**found)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._leg is None:
            self._done.callback(self._attempt)
        else:
            if self._welcome is not None:
                self._leg.write(FOOTER)
            self._leg.close(LINGER)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except WayError as error:
            self._finish(problem=str(error), detail=error.detail, without_tls=error.no_tls)
        except CircleError:
            self._finish(problem="is this proxy itself")
        except RedirectedError as error:
            place = error.host if error.port is None else str(Address(error.host, error.port))
            self._finish(redirection=place)

    def _look_for_features(self, data: bytes) -> None:
        """Take note of whether TLS is offered: it is asked for in any case."""
        if self._features is None:
            return
        try:
            self._features.feed(data)
            while (event := self._features.next_event()) is not None:
                if (
                    isinstance(event, Header)
                    and not read_answer(event, self.kind.content).has_features
                ):
                    self._note(offered=False)
                    self._features = None
                    return
                if isinstance(event, Element):
                    if event.name == ns.FEATURES:
                        self._note(offered=ns.TLS.encode() in event.raw)
                    self._features = None
                    return
        except StreamError:  # which ends the way, too
            self._features = None

    # What securing asks for

    def send_server(self, data: bytes) -> None:
        """Write to the server."""
        if self._leg is not None:
            self._leg.write(data)

    def start_server_tls(self) -> None:
        """Begin the handshake."""
        direct = self._target.direct
        self._note(proceeded=not direct)
        if self._leg is not None:
            self._leg.start_client_tls(self._terms.context, self._domain, direct=direct)

    # What the leg tells

    def makeConnection(self, transport: Any) -> None:
        """Nothing to do: the leg is known."""

    def dataReceived(self, data: bytes) -> None:
        """Take what the server says."""
        if self._over:
            return
        if self._welcome is not None:
            self._try(lambda: self._welcomed(data))
            return
        self._look_for_features(data)
        self._try(lambda: self._securing.feed(data))

    def _welcomed(self, data: bytes) -> None:
        proofs = None if self._welcome is None else self._welcome.feed(data)
        if proofs is not None:
            self._finish(proofs=proofs)

    def dataPeeked(self, data: bytes) -> int:
        """Take all: this leg does not look only."""
        self.dataReceived(data)
        return len(data)

    def dataTaken(self) -> None:
        """Nothing to do."""

    def helloReceived(self, hello: Hello) -> None:
        """Nothing to do: the hello is our own."""

    def tlsEstablished(self, facts: TLSFacts) -> None:
        """Take what the server has shown of itself."""
        if self._over or self._leg is None:
            return
        seconds = self._seconds()
        try:
            evidence = self._leg.evidence()
        except Exception as error:  # noqa: BLE001 - what cannot be read proves nothing
            text = "showed a certificate that cannot be read"
            self._finish(problem=text, detail=describe(error))
            return
        self._securing.secured()
        self._note(handshake=Handshake(facts, evidence, seconds))
        if self.kind is Kind.C2S:
            self._finish()
            return
        self._welcome = Welcome(self.ids)
        self._leg.write(opening(self._domain, self.kind.content, self._terms.sender))

    def tlsFailed(self, reason: str) -> None:
        """Take note that the handshake has failed."""
        self._finish(problem="failed to establish TLS", detail=reason, without_tls=True)

    def readConnectionLost(self) -> None:
        """Take note that the server has closed its direction."""
        self._finish(problem=self._closed)

    def connectionLost(self, reason: Failure) -> None:
        """Tell the outcome, the leg being gone."""
        self._leg = None
        if self._over:
            self._done.callback(self._attempt)
        else:
            self._finish(problem=self._closed, detail=describe(reason.value))

    @property
    def _closed(self) -> str:
        when = "before TLS was up" if self._welcome is None else "under TLS"
        return f"closed the connection {when}"
