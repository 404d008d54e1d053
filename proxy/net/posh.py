"""Asks domains' web sites which certificates their servers may show (RFC 7711)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from proxy.net.https import HTTPSError, Terms, Web
from proxy.net.resolver import Resolver
from proxy.net.targets import host_name
from proxy.trust.policy import Policy
from proxy.trust.posh import (
    LARGEST_DOCUMENT,
    Document,
    Location,
    Material,
    Reference,
    parse,
)
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.xmpp.text import printable

SECONDS: Final = 10.0
"""How long fetching a domain's documents may take in all."""

FAILURE: Final = timedelta(seconds=60)
"""How long a failure is kept; nor is a domain that has documents asked more often than that."""

MOST_KNOWN: Final = 1000
"""Domains of which is kept what they said."""

MOST_FETCHES: Final = 100
"""Domains that are asked at the same time."""

SERVICES: Final = frozenset({"xmpp-client", "xmpp-server"})
"""The services that have documents (RFC 7712, section 9)."""

_PATH: Final = "/.well-known/posh/{}.json"

_Key = tuple[str, str]


class PoshError(Exception):
    """There is no verification material; ``str()`` says why, as one clause fit to be shown."""


class _SaidError(PoshError):
    """That is what the domain itself says now; what it has said before does not count any more."""


@attrs.frozen
class _Known:
    """What came of asking a domain: its material, or why there is none, and when it was asked."""

    outcome: Material | PoshError
    asked: datetime

    def fresh(self, now: datetime) -> bool:
        """Whether it was asked just now."""
        return self.asked <= now < self.asked + FAILURE


@attrs.define
class _Fetch:
    """A domain that is being asked, and who waits for that."""

    waiting: list[Deferred[Material]] = attrs.field(factory=list)
    asking: Deferred[Material] | None = None
    deadline: Any = None


def _present() -> datetime:
    return datetime.now(UTC)


def _no_lists() -> RevocationLists:
    return NO_LISTS


class Posh:
    """Fetches the documents of domains, and keeps what they say for as long as it counts.

    One that refers to another one is followed once. What is kept counts for the lesser of the times
    that both name, and no longer than `proxy.trust.posh.LONGEST_LIFE` in any case (section 6).
    Domains that are being asked are not asked beside it. Deferreds may be cancelled; what nobody
    waits for any more is given up.

    Args:
        reactor: the reactor.
        resolver: asks DNS.
        context: returns the TLS context for a domain's policy, as
            `proxy.net.tls.client_context` makes it: its roots are those that vouch for web sites.
        policy: returns the policy for a domain.
        port: the TCP port of HTTPS.
        now: tells the time, with a time zone.
        revocation: returns the revocation lists as they are now, those of the policies among them.
    """

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        *,
        context: Callable[[str], SSL.Context],
        policy: Callable[[str], Policy],
        port: int = 443,
        now: Callable[[], datetime] = _present,
        revocation: Callable[[], RevocationLists] = _no_lists,
    ) -> None:
        self._reactor = reactor
        self._web = Web(reactor, resolver, port)
        self._context = context
        self._policy = policy
        self._now = now
        self._revocation = revocation
        self._closed = False
        self._known: dict[_Key, _Known] = {}
        self._under_way: dict[_Key, _Fetch] = {}

    def cached(self, domain: str, service: str, now: datetime) -> Material | PoshError | None:
        """Return what a domain has said, or why it has said nothing; None if that is not known.

        Args:
            domain: the domain, in A-labels.
            service: one of `SERVICES`.
            now: the time that it must count at, with a time zone.
        """
        known = self._known.get((domain, service))
        if known is None:
            return None
        if isinstance(known.outcome, Material):
            return known.outcome if known.outcome.counts(now) else None
        return PoshError(str(known.outcome)) if known.fresh(now) else None

    def fetch(self, domain: str, service: str, *, anew: bool = False) -> Deferred[Material]:
        """Return what a domain says: what is known already, as long as it counts, or else fetch it.

        Args:
            domain: the domain, in A-labels.
            service: one of `SERVICES`.
            anew: ask the domain again, unless that was done just now: for servers whose certificate
                is not in what is known, which may be older than the certificate. If nothing that
                can be read comes of it, what is known stays.

        Raises:
            PoshError: (in the Deferred) there is nothing that counts.
            ValueError: there is no such service.
        """
        if service not in SERVICES:
            raise ValueError(f"POSH knows no service {service!r}")
        if self._closed:
            return fail(PoshError("fetching POSH documents is over"))
        key = domain, service
        now = self._now()
        known = self.cached(domain, service, now)
        if isinstance(known, PoshError):
            return fail(known)
        if known is not None and (not anew or self._known[key].fresh(now)):
            return succeed(known)
        begun = key in self._under_way
        if not begun and len(self._under_way) >= MOST_FETCHES:
            return fail(PoshError("too many POSH documents are being fetched"))
        deferred: Deferred[Material] = Deferred(partial(self._left, key))
        self._under_way.setdefault(key, _Fetch()).waiting.append(deferred)
        if not begun:
            self._begin(key)
        return deferred

    def close(self) -> None:
        """Fail all that is under way, and fetch no more."""
        self._closed = True
        for key in list(self._under_way):
            self._end(key, PoshError("fetching POSH documents is over"))

    def _begin(self, key: _Key) -> None:
        fetch = self._under_way[key]
        fetch.deadline = self._reactor.callLater(SECONDS, self._expire, key)
        fetch.asking = Deferred.fromCoroutine(self._material(*key))
        fetch.asking.addBoth(partial(self._answered, key, fetch))

    def _expire(self, key: _Key) -> None:
        problem = PoshError(f"the POSH document of {printable(key[0])} took over {SECONDS:g} s")
        self._keep(key, problem)
        self._end(key, problem)

    def _answered(self, key: _Key, fetch: _Fetch, outcome: Material | Failure) -> None:
        if self._under_way.get(key) is not fetch:
            return  # it was given up
        if isinstance(outcome, Material):
            found: Material | PoshError = outcome
        else:
            found = _reason(key[0], outcome)
        self._keep(key, found)
        self._end(key, found)

    def _keep(self, key: _Key, outcome: Material | PoshError) -> None:
        """Keep what came of it, those that were kept for longest going where there are too many."""
        now = self._now()
        known = self._known.pop(key, None)
        if known is not None and not isinstance(outcome, Material | _SaidError):
            before = known.outcome
            if isinstance(before, Material) and before.counts(now):
                outcome = before
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(outcome, now)

    def _left(self, key: _Key, deferred: Deferred[Material]) -> None:
        """Nobody waits for this Deferred any more."""
        fetch = self._under_way.get(key)
        if fetch is None or deferred not in fetch.waiting:
            return  # it is just being told to others
        fetch.waiting.remove(deferred)
        if not fetch.waiting:
            self._end(key, PoshError("nobody waits for it"))

    def _end(self, key: _Key, outcome: Material | PoshError) -> None:
        """Stop asking a domain, and tell what came of it."""
        fetch = self._under_way.pop(key)
        if fetch.deadline is not None and fetch.deadline.active():
            fetch.deadline.cancel()
        if fetch.asking is not None:
            fetch.asking.cancel()
        for deferred in fetch.waiting:
            if deferred.called:
                continue  # cancelled by somebody who was told before
            if isinstance(outcome, Material):
                deferred.callback(outcome)
            else:
                deferred.errback(PoshError(str(outcome)))

    async def _material(self, domain: str, service: str) -> Material:
        """Ask a domain, and where it refers to as well."""
        since = self._now()
        terms = Terms(
            context=self._context(domain),
            policy=self._policy(domain),
            largest=LARGEST_DOCUMENT,
            now=self._now,
            revocation=self._revocation(),
        )
        try:
            first = Location(host_name(domain), _PATH.format(service))
        except ValueError as error:
            raise PoshError(f"{printable(domain)} can have no web site: {error}") from error
        found = await self._document(first, terms)
        if isinstance(found, Reference):
            location, seconds = found.location, found.seconds
            found = await self._document(location, terms)
            if isinstance(found, Reference):
                raise _SaidError(f"{location} is a POSH document that refers to yet another one")
            found = attrs.evolve(found, seconds=min(seconds, found.seconds))
        return Material(domain, service, found, since)

    async def _document(self, location: Location, terms: Terms) -> Document | Reference:
        try:
            return parse(await self._web.json(location, terms))
        except HTTPSError as error:
            raise PoshError(f"{location} cannot be fetched: {error}") from error
        except ValueError as error:
            raise _SaidError(f"{location} is no POSH document that counts: {error}") from error


def _reason(domain: str, failure: Failure) -> PoshError:
    if isinstance(failure.value, PoshError):
        return failure.value
    kind = type(failure.value).__name__
    return PoshError(f"the POSH document of {printable(domain)} cannot be fetched ({kind})")
