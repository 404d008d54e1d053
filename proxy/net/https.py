"""Gets small documents by HTTPS, by Twisted's client on our own verifier.

A server proves its name (RFC 2818, RFC 9525) before the first byte of the request is sent.
Twisted's own policies for HTTPS are not used, for they believe certificates whose names they cannot
read.
"""

import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from proxy.net.connector import Race
from proxy.net.leg import Leg
from proxy.net.leg_protocol import Silence
from proxy.net.resolver import LookupFailedError, Resolver
from proxy.net.route import leads_to
from proxy.net.targets import forbidden
from proxy.net.tcp import is_ours
from proxy.net.tls import describe
from proxy.session.hooks import TLSFacts
from proxy.trust.evidence import Evidence
from proxy.trust.identities import DNS_NAME
from proxy.trust.policy import Level, Policy
from proxy.trust.posh import Location
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.trust.verdict import UntrustedError, judge
from proxy.xmpp.text import printable

HEADERS: Final = 32 * 1024
"""Octets that an answer may have besides the document: header fields, and the like."""

_OK: Final = 200
_NOT_FOUND: Final = 404
_REDIRECTIONS: Final = range(300, 400)
_JSON: Final = "application/json"
_SERVICE: Final = "_https"
_SHOWN: Final = 80


class HTTPSError(Exception):
    """A document was not got; ``str()`` says why, as one clause fit to be shown."""


@attrs.frozen
class Terms:
    """Under which conditions servers are asked.

    Attributes:
        context: the TLS context, as `proxy.net.tls.client_context` makes it for the policy.
        policy: by whose roots servers prove their names; its ``private_addresses`` counts, too.
            Neither its level nor its pins do, nor the servers that it names. If it names revocation
            lists, there must be one of each authority of the server's, too.
        largest: how many octets a document may have.
        now: tells the time to judge validity by, with a time zone.
        revocation: the revocation lists, those of the policy among them.
    """

    context: SSL.Context
    policy: Policy
    largest: int
    now: Callable[[], datetime]
    revocation: RevocationLists = attrs.field(default=NO_LISTS, eq=False, repr=False)


class Web:
    """The servers of HTTPS.

    Args:
        reactor: the reactor.
        resolver: asks DNS.
        port: the TCP port where a location names none.
    """

    def __init__(self, reactor: Any, resolver: Resolver, port: int = 443) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._port = port

    async def json(self, location: Location, terms: Terms) -> bytes:
        """Return the JSON document at a location; nobody has looked into it.

        Redirections are not followed, and connections are not kept. There is no deadline: who does
        not want to wait any more cancels.

        Args:
            location: where it is. The server must prove that host's name as a DNS-ID.
            terms: the conditions.

        Raises:
            HTTPSError: there is none, or something went wrong; also if it is cancelled.
        """
        port = self._port if location.port is None else location.port
        way = _Way(self._reactor, self._resolver, location.host, port, terms)
        try:
            return await self._got(location, way)
        except HTTPSError as error:
            raise way.problem or error from error
        except Exception as error:
            raise way.problem or HTTPSError(f"{location.host} gave no answer") from error
        finally:
            way.close()

    async def _got(self, location: Location, way: "_Way") -> bytes:
        agent = Agent.usingEndpointFactory(self._reactor, way)  # type: ignore[no-untyped-call]
        headers = Headers({"Accept": [_JSON], "User-Agent": ["Bascule"]})
        response = await agent.request(b"GET", str(location).encode("ascii"), headers)
        _check(location.host, response)
        body = _Body()
        response.deliverBody(body)
        data = await body.done
        if way.problem is not None:
            raise way.problem
        return data


def _check(host: str, response: IResponse) -> None:
    """Check that an answer is the document itself, in JSON as far as it says so."""
    code = response.code
    if code == _NOT_FOUND:
        raise HTTPSError(f"{host} has no such document (status {code})")
    if code in _REDIRECTIONS:
        raise HTTPSError(f"{host} redirects (status {code}), which is not followed")
    if code != _OK:
        raise HTTPSError(f"{host} answered with status {code}")
    for value in response.headers.getRawHeaders(b"content-type", []):
        kind = value.decode("latin-1").partition(";")[0].strip()
        if kind.lower() != _JSON:
            raise HTTPSError(f"{host} answered with {printable(kind, _SHOWN)}, and not with JSON")
    for value in response.headers.getRawHeaders(b"content-encoding", []):
        if value.strip().lower() != b"identity":
            raise HTTPSError(f"{host} answered in an encoding that was not asked for")


class _Body(Protocol):
    """Gathers the body of an answer; what bounds it is the connection."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Take a part of it."""
        self._data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell what has come, if that is all: where no length is given, JSON itself says so."""
        if self.done.called:
            return
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(reason)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Way:
    """The way to one server, for one request.

    Attributes:
        problem: why there is no answer, where Twisted cannot know.
    """

    def __init__(
        self, reactor: Any, resolver: Resolver, host: str, port: int, terms: Terms
    ) -> None:
        self.problem: HTTPSError | None = None
        self._reactor = reactor
        self._resolver = resolver
        self._host = host
        self._port = port
        self._terms = terms
        self._secured: _Secured | None = None

    def endpointForURI(self, _uri: URI) -> IStreamClientEndpoint:
        """Return this, whatever Twisted makes of the URL: it leads nowhere else."""
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Return a new protocol, once the server at its other end has proved its name."""
        return Deferred.fromCoroutine(self._connected(protocolFactory))

    def close(self) -> None:
        """End the connection, if it has not ended yet."""
        if self._secured is not None:
            self._secured.abort()

    async def _connected(self, factory: Any) -> Any:
        connection = await self._race(await self._addresses())
        self._secured = _Secured(self._reactor, connection, self._host, self._terms)
        await self._secured.start()
        protocol = factory.buildProtocol(None)
        self._secured.pass_to(protocol, self._overflown)
        return protocol

    async def _addresses(self) -> list[str]:
        """Return the addresses of the host that may be connected to."""
        try:
            found = await self._resolver.addresses(self._host)
        except LookupFailedError as error:
            raise HTTPSError(str(error)) from error
        candidates = list(dict.fromkeys(map(leads_to, found)))
        reasons = {address: self._reason_against(address) for address in candidates}
        allowed = [address for address in candidates if reasons[address] is None]
        if not allowed:
            raise HTTPSError(", ".join(filter(None, reasons.values())))
        return allowed

    def _reason_against(self, address: str) -> str | None:
        if self._terms.policy.private_addresses:
            return None
        if (reason := forbidden(address, self._port)) is not None:
            return reason
        return f"{address} is this machine itself" if is_ours(address) else None

    def _race(self, addresses: list[str]) -> Deferred[socket.socket]:
        def lost(reason: str) -> None:
            problem = HTTPSError(f"{self._host} cannot be reached on port {self._port}: {reason}")
            done.errback(problem)

        race = Race(
            self._reactor,
            addresses,
            self._port,
            lambda connection, _address: done.callback(connection),
            lost,
        )
        done: Deferred[socket.socket] = Deferred(lambda _: race.stop())
        race.start()
        return done

    def _overflown(self) -> None:
        self.problem = HTTPSError(f"{self._host} answered with too much")


class _Secured(Silence):
    """A connection under TLS, which is there for HTTP when the server has proved its name.

    It is the protocol of its leg.
    """

    def __init__(self, reactor: Any, connection: socket.socket, host: str, terms: Terms) -> None:
        self._host = host
        self._terms = terms
        self._leg = Leg(reactor, connection, self, peek=False)
        self._done: Deferred[None] = Deferred(lambda _: self.abort())
        self._http: Any = None
        self._overflown: Callable[[], None] | None = None
        self._left = terms.largest + HEADERS

    def start(self) -> Deferred[None]:
        """Begin TLS; fires when the server has proved its name, and fails if it does not."""
        self._leg.start()
        self._leg.start_client_tls(self._terms.context, self._host, direct=False)
        return self._done

    def pass_to(self, protocol: Any, overflown: Callable[[], None]) -> None:
        """Let HTTP have the connection; ``overflown`` is called should too much come."""
        self._http = protocol
        self._overflown = overflown
        protocol.makeConnection(self._leg)

    def abort(self) -> None:
        """End the connection at once."""
        self._leg.abortConnection()

    def _fail(self, problem: str) -> None:
        if not self._done.called:
            self._done.errback(HTTPSError(problem))
        self.abort()

    # What the leg tells

    def tlsEstablished(self, _facts: TLSFacts) -> None:
        """Have the server prove its name."""
        try:
            _check_name(self._host, self._leg.evidence(), self._terms)
        except HTTPSError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is proved
            self._fail(f"the certificate of {self._host} could not be read ({describe(error)})")
        else:
            self._done.callback(None)

    def tlsFailed(self, reason: str) -> None:
        """Take note that there is no TLS."""
        self._fail(f"{self._host} failed to establish TLS ({printable(reason)})")

    def dataReceived(self, data: bytes) -> None:
        """Pass on what comes, unless it is too much."""
        self._left -= len(data)
        if self._http is not None and self._left >= 0:
            self._http.dataReceived(data)
            return
        if self._overflown is not None:
            self._overflown()
        self.abort()

    def readConnectionLost(self) -> None:
        """Close: nothing more will come."""
        if self._http is None:
            self._fail(f"{self._host} closed the connection")
        else:
            self._leg.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Tell HTTP that the connection has ended."""
        if self._http is not None:
            http, self._http = self._http, None
            http.connectionLost(reason)
        elif not self._done.called:
            words = describe(reason.value)
            self._done.errback(HTTPSError(f"{self._host} was lost before TLS was up ({words})"))


def _check_name(host: str, evidence: Evidence, terms: Terms) -> None:
    """Check that a server has proved to be a host, by a DNS-ID and nothing else.

    Raises:
        HTTPSError: it has not.
    """
    policy = attrs.evolve(terms.policy, level=Level.SECURE, pins=frozenset())
    try:
        verdict = judge(host, _SERVICE, policy, evidence, terms.now(), revocation=terms.revocation)
    except UntrustedError as error:
        raise HTTPSError(str(error)) from error
    if not verdict.identity.startswith(f"{DNS_NAME} "):
        raise HTTPSError(f"the certificate of {host} names it, but not as a host (DNS-ID)")
