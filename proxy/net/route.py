"""The way to a domain's server: its targets, those that may be tried, one after the other."""

import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from ipaddress import ip_address
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.net.connector import Race, system_addresses
from proxy.net.outgoing import Outgoing
from proxy.net.resolver import LookupFailedError, Resolver
from proxy.net.targets import LAST_PORT, Target, forbidden, host_name, literal, unmapped
from proxy.net.tcp import is_ours
from proxy.net.tls import describe
from proxy.net.tlsa import references
from proxy.session.hooks import Address
from proxy.session.ways import Trouble
from proxy.trust.dane.claims import Claims

TARGET_SECONDS: Final = 5.0
"""Seconds that the addresses of one target get to answer."""

LONGEST_TEXT: Final = 300
"""Characters of a failure's text, about."""

_log = Logger()


@attrs.frozen
class Way:
    """How a server was reached.

    Attributes:
        target: what DNS or the conf names.
        address: the IP address that is connected to; the port is the target's.
        claims: what DNSSEC vouches for about the target, if that was asked for.
    """

    target: Target
    address: str
    claims: Claims | None = None


@attrs.frozen
class Request:
    """Whose server is wanted, and what limits the ways to it.

    Attributes:
        domain: the XMPP domain, as A-labels.
        service: ``xmpp-client`` or ``xmpp-server``.
        server: the conf's server for the domain: DNS is not asked for others, a name is looked up
            by the system's resolver, and no address but our own listeners' is forbidden. It goes
            before ``original``.
        original: address and port to which a redirected client wanted to go. Only that is
            tried, and only if it is one of the domain's targets.
        unlisted: whether ``original`` is tried though it is none of them, or nobody knows; then
            by STARTTLS.
        private_addresses: whether addresses and ports may be tried that `forbidden` forbids. Our
            own listeners are never tried.
        dane: whether TLSA records are asked for. A target of which they cannot be known is not
            connected to.
    """

    domain: str
    service: str = "xmpp-client"
    server: Target | None = None
    original: tuple[str, int] | None = None
    unlisted: bool = False
    private_addresses: bool = False
    dane: bool = False


@attrs.frozen
class _Candidate:
    """A target that may be tried; its address is looked up unless it is fixed.

    ``listed``: whether the domain's own records name it, and not a server of the domain's.
    """

    target: Target
    address: str | None = None
    configured: bool = False
    listed: bool = False


class _NoWayError(Exception):
    """There is none."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble = trouble


class Route:
    """Goes to one target of a domain after the other.

    Each call of `next` or `redirect` is answered by one call of ``connected`` or ``failed``, unless
    it is cancelled or another such call takes its place; never before it has returned. What is
    connected to is the very address that was checked: names are not looked up again.

    Args:
        reactor: the reactor.
        resolver: asks DNS.
        request: whose server is wanted.
        own: whether an IP address and a port are a listener of ours.
        outgoing: takes note of where connections come from, as they begin.
        connected: gets the connected, not blocking socket, the way to its other end, and whether
            another target is left after this one.
        failed: gets the trouble, and a text that names each target tried and why it was in vain;
            an empty one if all were reached before.
    """

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        request: Request,
        *,
        own: Callable[[str, int], bool],
        outgoing: Outgoing | None = None,
        connected: Callable[[socket.socket, Way, bool], None],
        failed: Callable[[Trouble, str], None],
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._request = request
        self._own = own
        self._outgoing = outgoing
        self._connected = connected
        self._failed = failed
        self._candidates: deque[_Candidate] | None = None
        self._troubles: list[tuple[Trouble, str]] = []
        self._task: Deferred[None] | None = None
        self._failing: Any = None

    def next(self) -> None:
        """Connect to the next target; find out which there are if that has not been done."""
        self._begin(self._go_on())

    def redirect(self, host: str, port: int | None, *, keep: bool) -> None:
        """Go where the server sends us (see-other-host).

        Args:
            keep: whether the targets that are left follow; else they are forgotten.
            host: a host name or an IP address (IPv6 without brackets), as the server wrote it.
            port: its port, to be used with STARTTLS; None if the server named none: then a name's
                targets are looked up like a domain's (RFC 6120, section 4.9.3.19).
        """
        kept = list(self._candidates or ()) if keep else []
        if not keep:
            self._troubles = []
        self._candidates = deque()
        self._begin(self._follow(host, port, kept))

    def cancel(self) -> None:
        """Stop; nothing is called back for what is under way."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._failing is not None and self._failing.active():
            self._failing.cancel()
        self._failing = None

    def _begin(self, going: Coroutine[Any, Any, tuple[socket.socket, Way]]) -> None:
        self.cancel()
        task = Deferred.fromCoroutine(going).addCallbacks(self._arrived, self._stranded)
        task.addErrback(lambda failure: _log.failure("fault in a session", failure))
        if not task.called:
            self._task = task

    def _arrived(self, reached: tuple[socket.socket, Way]) -> None:
        self._task = None
        connection, way = reached
        # Whatever becomes of it, it was not forbidden.
        self._troubles.append((Trouble.UNREACHABLE, f"{way.target}: connected to in vain"))
        self._connected(connection, way, bool(self._candidates))

    def _stranded(self, failure: Failure) -> None:
        self._task = None
        if isinstance(failure.value, CancelledError):
            return
        if isinstance(failure.value, _NoWayError):
            trouble, text = failure.value.trouble, str(failure.value)
        elif isinstance(failure.value, OSError):
            # No descriptor was left to ask the system whose an address is, so it is not tried.
            trouble, text = Trouble.UNREACHABLE, describe(failure.value)
        else:
            _log.failure("fault in the way to a server", failure)
            trouble, text = Trouble.UNREACHABLE, "a fault of the proxy"
        self._failing = self._reactor.callLater(0, self._fail, trouble, text)

    def _fail(self, trouble: Trouble, text: str) -> None:
        self._failing = None
        self._failed(trouble, text)

    async def _go_on(self) -> tuple[socket.socket, Way]:
        if self._candidates is None:
            self._candidates = deque(await self._found())
        elif not self._candidates:
            raise _NoWayError(Trouble.UNREACHABLE, "")
        return await self._first_reached(self._candidates)

    async def _follow(
        self, host: str, port: int | None, kept: list[_Candidate]
    ) -> tuple[socket.socket, Way]:
        found: Iterable[_Candidate] = ()
        try:
            found = await self._elsewhere(host, port)
        except _NoWayError as error:
            if not kept:
                raise
            self._troubles.append((error.trouble, str(error)))
        self._candidates = deque((*found, *kept))
        return await self._first_reached(self._candidates)

    async def _found(self) -> Iterable[_Candidate]:
        """Return what the request allows to be tried."""
        request = self._request
        if request.server is not None:
            return [_Candidate(request.server, configured=True)]
        if request.original is not None:
            return [await self._at(unmapped(request.original[0]), request.original[1])]
        return [_Candidate(target, listed=True) for target in await self._targets(request.domain)]

    async def _targets(self, domain: str) -> tuple[Target, ...]:
        try:
            return await self._resolver.targets(domain, self._request.service)
        except LookupFailedError as error:
            trouble = Trouble.ABSENT if error.absent else Trouble.UNREACHABLE
            raise _NoWayError(trouble, str(error)) from error

    async def _at(self, address: str, port: int) -> _Candidate:
        """Return the domain's target that has this address and port."""
        no_way = _NoWayError(
            Trouble.FORBIDDEN, f"{Address(address, port)} is not a server of {self._request.domain}"
        )
        try:
            for target in await self._targets(self._request.domain):
                if target.port != port:
                    continue
                try:
                    addresses = await self._resolver.addresses(target.host)
                except LookupFailedError as error:
                    if not error.absent:  # perhaps it is this one
                        no_way = _NoWayError(Trouble.UNREACHABLE, f"{target}: {error}")
                    continue
                if address in map(unmapped, addresses):
                    return _Candidate(target, address, listed=True)
        except _NoWayError as error:
            no_way = error
        if self._request.unlisted:
            return _Candidate(Target(address, port, direct=False), address)
        raise no_way

    async def _elsewhere(self, host: str, port: int | None) -> Iterable[_Candidate]:
        """Return where a server sends us."""
        if port is not None and not 0 < port <= LAST_PORT:
            raise _NoWayError(Trouble.FORBIDDEN, "the server sends us to no valid port")
        try:
            # A scope might be anything, and is none of a peer's business.
            name = host if literal(host) is not None and "%" not in host else host_name(host)
        except ValueError as error:
            raise _NoWayError(
                Trouble.UNREACHABLE, "the server sends us to no valid host"
            ) from error
        if port is None and literal(name) is None:
            return [_Candidate(target) for target in await self._targets(name)]
        return [_Candidate(Target(name, port or 5222, direct=False))]

    async def _first_reached(self, left: deque[_Candidate]) -> tuple[socket.socket, Way]:
        """Connect to the first candidate that answers, taking off those tried."""
        while left:
            candidate = left.popleft()
            target = candidate.target
            try:
                addresses = self._allowed(candidate, await self._addresses(candidate))
                claims = await self._claims(candidate)
                connection, address = await self._race(addresses, target.port)
            except _NoWayError as error:
                self._troubles.append((error.trouble, f"{target}: {error}"))
            else:
                return connection, Way(target, address, claims)
        kinds = {trouble for trouble, _ in self._troubles}
        trouble = kinds.pop() if len(kinds) == 1 else Trouble.UNREACHABLE
        raise _NoWayError(trouble, _summary([text for _, text in self._troubles]))

    async def _addresses(self, candidate: _Candidate) -> list[str]:
        """Return the addresses of a candidate, each in the form that connecting to it reaches."""
        host = candidate.address or candidate.target.host
        try:
            if candidate.configured:
                found = await system_addresses(self._reactor, host)
            else:
                found = await self._resolver.addresses(host)
        except LookupFailedError as error:
            absent = error.absent and candidate.target.fallback
            trouble = Trouble.ABSENT if absent else Trouble.UNREACHABLE
            raise _NoWayError(trouble, str(error)) from error
        if not found:
            raise _NoWayError(Trouble.UNREACHABLE, f"the name {host} has no address")
        return list(dict.fromkeys(map(leads_to, found)))

    async def _claims(self, candidate: _Candidate) -> Claims | None:
        """Return what DNSSEC vouches for about a target (RFC 7673)."""
        domain, service = self._request.domain, f"_{self._request.service}"
        if not self._request.dane or candidate.configured:
            return None
        if not candidate.listed:
            return None  # what DNSSEC says of another name is said of no name of this domain's
        try:
            records = await self._resolver.tlsa(candidate.target)
        except LookupFailedError as error:
            text = f"its TLSA records cannot be known: {error}"
            raise _NoWayError(Trouble.UNREACHABLE, text) from error
        return Claims(references(domain, service, candidate.target), records.values)

    def _allowed(self, candidate: _Candidate, addresses: Iterable[str]) -> list[str]:
        port = candidate.target.port
        waived = candidate.configured or self._request.private_addresses
        allowed: list[str] = []
        reasons: dict[str, None] = {}
        for address in addresses:
            if self._own(address, port):
                reasons[f"{Address(address, port)} is a listener of this proxy"] = None
            elif not waived and (reason := forbidden(address, port)) is not None:
                reasons[reason] = None
            elif not waived and is_ours(address):
                reasons[f"{address} is this machine itself"] = None
            else:
                allowed.append(address)
        if not allowed:
            raise _NoWayError(Trouble.FORBIDDEN, ", ".join(reasons))
        return allowed

    async def _race(self, addresses: list[str], port: int) -> tuple[socket.socket, str]:
        done: Deferred[tuple[socket.socket, str]] = Deferred(lambda _done: race.stop())
        race = Race(
            self._reactor,
            addresses,
            port,
            lambda connection, address: done.callback((connection, address)),
            lambda reason: done.errback(_NoWayError(Trouble.UNREACHABLE, reason.lower())),
            seconds=TARGET_SECONDS,
            outgoing=self._outgoing,
        )
        race.start()
        return await done


def leads_to(address: str) -> str:
    """Return what connecting to ``address`` reaches, where that goes by several names.

    The kernel takes the unspecified address for the loopback one.
    """
    plain = unmapped(address)
    if not ip_address(plain).is_unspecified:
        return plain
    return "::1" if ":" in plain else "127.0.0.1"


def _summary(texts: list[str]) -> str:
    """Return the texts that fit, and how many do not."""
    taken: list[str] = []
    length = 0
    for text in texts:
        length += len(text) + 2
        if taken and length > LONGEST_TEXT:
            taken.append(f"and {len(texts) - len(taken)} more")
            break
        taken.append(text)
    return "; ".join(taken)
