"""Asks DNS where the servers of a domain are (RFC 2782, RFC 6120 section 3.2, XEP-0368)."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, Final, Generic, TypeVar

import attrs
import dns.name
from dns.rdatatype import RdataType
from dns.rdtypes.IN.SRV import SRV
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from proxy.net.lookup import Lookup
from proxy.net.name_servers import (
    FAILURE,
    LIFETIME,
    MOST_RECORDS,
    LookupFailedError,
    NameServers,
    Outcome,
    Records,
    Security,
)
from proxy.net.targets import Target, host_name, literal, merged
from proxy.net.tlsa import TLSARecords, find
from proxy.net.together import together
from proxy.net.validating import Validating

__all__ = [
    "LIFETIME",
    "MOST_ADDRESSES",
    "MOST_RECORDS",
    "LookupFailedError",
    "Records",
    "Resolver",
    "Security",
    "TLSARecords",
    "Validating",
]

MOST_ADDRESSES: Final = 16
"""Addresses of one host that are taken."""

_PATIENCE: Final = {RdataType.A: 0.05, RdataType.AAAA: 1.0}
"""Seconds that the other kind of address gets when one has come (RFC 8305, section 3).

A usable IPv6 address is worth a short wait. For the lack of IPv4 we might be left without any way,
as IPv6 may be published and broken, so that is given longer.
"""

_MOST_LOOKUPS: Final = 1000  # under way at once, each with a socket
_MOST_UNATTENDED: Final = 64  # of these, such as nobody waits for
_CACHED: Final = 4096  # outcomes in the cache

_FALLBACK_PORTS: Final = {"xmpp-client": 5222, "xmpp-server": 5269}
_PEERS: Final = {"xmpp-client": "clients", "xmpp-server": "servers"}


T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@attrs.frozen
class _Cached:
    until: float
    outcome: Outcome


@attrs.define
class _Question:
    """A question under way, and who waits for the answer."""

    waiting: list[Deferred[Records]] = attrs.field(factory=list)
    lookup: Lookup | None = None


@attrs.frozen
class _Made(Generic[T]):
    until: float
    values: tuple[T, ...]


_Key = tuple[str, RdataType]


class Resolver:
    """Finds targets and addresses by DNS.

    Answers are cached for their TTL, failures for some seconds, and that there is too much to do
    not at all; equal questions that are under way are asked once. Deferreds may be cancelled: what
    nobody waits for any more gives way as soon as there is much to do. Host files and search lists
    are not looked at.

    Args:
        reactor: the reactor.
        servers: addresses and ports of the name servers; none for the system's, which are read
            anew when they change.
        validating: which of them are believed when they say that DNSSEC vouches for an answer.
        chance: what orders targets of the same priority.
        now: tells the time in seconds.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[tuple[str, int]] = (),
        *,
        validating: Validating = Validating.AUTO,
        chance: random.Random | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._name_servers = NameServers(servers, validating)
        self._chance = chance or random.SystemRandom()
        self._now = now
        self._closed = False
        self._cache: dict[_Key, _Cached] = {}
        self._under_way: dict[_Key, _Question] = {}
        self._unattended: dict[_Key, None] = {}  # of these, in the order of being left
        # What was made of answers, for as long as all of these are cached.
        self._targets_of: dict[tuple[str, str], _Made[Target]] = {}
        self._addresses_of: dict[str, _Made[str]] = {}

    def targets(self, domain: str, service: str = "xmpp-client") -> Deferred[tuple[Target, ...]]:
        """Return the targets of a domain, in the order in which they are to be tried.

        There is at least one. Without any SRV record it is the domain itself.

        Args:
            domain: an XMPP domain, as A-labels.
            service: ``xmpp-client`` or ``xmpp-server``.

        Raises:
            LookupFailedError: (in the Deferred) there is none, or it cannot be known.
        """
        known = self._known(self._targets_of, (domain, service))
        if known is not None:
            return succeed(merged(known, self._chance)[:MOST_RECORDS])
        return Deferred.fromCoroutine(self._targets(domain, service))

    def addresses(self, host: str) -> Deferred[tuple[str, ...]]:
        """Return the addresses of a host, IPv6 and IPv4 by turns, IPv6 first (RFC 8305).

        There is at least one, and at most `MOST_ADDRESSES`. An IP address stands for itself.

        Raises:
            LookupFailedError: (in the Deferred) there is none, or it cannot be known.
        """
        if literal(host) is not None:
            return succeed((host,))
        known = self._known(self._addresses_of, host)
        if known is not None:
            return succeed(known)
        return Deferred.fromCoroutine(self._addresses(host))

    def tlsa(self, target: Target) -> Deferred[TLSARecords]:
        """Return the TLSA records by which the server at a target proves itself (RFC 7673).

        None are asked for, or count, unless all that leads to them is secure.

        Raises:
            LookupFailedError: (in the Deferred) that cannot be known, or is bogus. Nobody may
                connect to the target then.
        """
        return Deferred.fromCoroutine(find(self.records, target))

    def records(self, name: str, kind: RdataType) -> Deferred[Records]:
        """Return what DNS says of ``name``, aliases followed.

        Raises:
            LookupFailedError: (in the Deferred) it is not known what DNS says.
        """
        if self._closed:
            return fail(LookupFailedError("the resolver is closed"))
        key = (name.lower(), kind)
        cached = self._cache.get(key)
        if cached is not None and cached.until > self._now():
            known: Deferred[Records] = Deferred()
            _fire(known, cached.outcome)
            return known
        question = self._under_way.get(key)
        if question is None:
            if not self._room():
                text = f"too many lookups are under way to look up {key[0]}"
                return fail(LookupFailedError(text, overload=True))
            question = self._under_way[key] = _Question()
        self._unattended.pop(key, None)
        deferred: Deferred[Records] = Deferred(partial(self._left, key))
        question.waiting.append(deferred)
        if question.lookup is None:
            self._ask(key, question)
        return deferred

    def close(self) -> None:
        """Fail all that is under way."""
        self._closed = True
        for key in list(self._under_way):
            self._tell(key, LookupFailedError("the resolver is closed"))

    def _ask(self, key: _Key, question: _Question) -> None:
        try:
            question.lookup = self._name_servers.ask(
                self._reactor, *key, partial(self._answered, key), seconds=LIFETIME
            )
            question.lookup.start()
        except LookupFailedError as error:
            self._answered(key, error)

    def _room(self) -> bool:
        """Whether one more question may be asked, if need be in place of one that is let go."""
        if len(self._under_way) >= _MOST_LOOKUPS:
            self._let_go()
        return len(self._under_way) < _MOST_LOOKUPS

    def _left(self, key: _Key, deferred: Deferred[Records]) -> None:
        """Nobody waits for this Deferred any more; its answer would do for the next who asks."""
        question = self._under_way.get(key)
        if question is None or deferred not in question.waiting:
            return  # it is just being told to others
        question.waiting.remove(deferred)
        if not question.waiting:
            self._unattended[key] = None
            if len(self._unattended) > _MOST_UNATTENDED:
                self._let_go()

    def _let_go(self) -> None:
        """Give up the question that has been unattended for longest, if there is one."""
        for key in self._unattended:
            self._end(key)
            return

    def _end(self, key: _Key) -> _Question:
        """Stop asking."""
        self._unattended.pop(key, None)
        question = self._under_way.pop(key)
        if question.lookup is not None:
            question.lookup.stop()
        return question

    async def _targets(self, domain: str, service: str) -> tuple[Target, ...]:
        try:
            name = host_name(domain)
        except ValueError as error:
            raise LookupFailedError(f"{domain} is not a domain: {error}", absent=True) from error
        direct = f"_{service.replace('xmpp', 'xmpps', 1)}._tcp.{name}"
        plain = f"_{service}._tcp.{name}"
        secured, upgraded = await together(
            self.records(each, RdataType.SRV) for each in (direct, plain)
        )
        usable = self._usable(name, service, secured, upgraded)
        until = self._until((direct, RdataType.SRV), (plain, RdataType.SRV))
        _keep(self._targets_of, (domain, service), _Made(until, usable))
        return merged(usable, self._chance)[:MOST_RECORDS]

    def _usable(
        self, name: str, service: str, secured: Records, upgraded: Records
    ) -> tuple[Target, ...]:
        """Return the targets that the answers to both questions name, in no order."""
        if not secured.values and not upgraded.values:
            secure = secured.security is upgraded.security is Security.SECURE
            port = _FALLBACK_PORTS[service]
            return (Target(name, port, direct=False, fallback=True, secure=secure),)
        offers = [(record, True, secured.security) for record in _offers(secured)]
        offers += [(record, False, upgraded.security) for record in _offers(upgraded)]
        if not offers:
            raise LookupFailedError(
                f"{name} offers no XMPP service to {_PEERS[service]}", absent=True
            )
        usable = [target for offer in offers if (target := _target(*offer)) is not None]
        if not usable:
            raise LookupFailedError(f"the SRV records of {name} name no host")
        return tuple(usable)

    def _until(self, *keys: _Key) -> float:
        """Return until when the answers to all these questions are known; 0 if one is not."""
        cached = [self._cache.get((name.lower(), kind)) for name, kind in keys]
        return min(0.0 if each is None else each.until for each in cached)

    def _known(self, made: dict[Any, "_Made[T]"], key: object) -> tuple[T, ...] | None:
        """Return what was made of answers that are still good."""
        found = made.get(key)
        return found.values if found is not None and found.until > self._now() else None

    async def _addresses(self, host: str) -> tuple[str, ...]:
        kinds = (RdataType.AAAA, RdataType.A)
        lookups = [self.records(host, kind) for kind in kinds]
        outcomes: dict[RdataType, Outcome] = {}
        enough: Deferred[None] = Deferred()
        hurry: Any = None

        def take(outcome: Records | Failure, kind: RdataType) -> None:
            nonlocal hurry
            if isinstance(outcome, Failure):
                outcomes[kind] = _reason(outcome)
            else:
                outcomes[kind] = outcome
            if len(outcomes) == len(kinds):
                if not enough.called:
                    enough.callback(None)
            elif isinstance(outcome, Records) and outcome.values:
                hurry = self._reactor.callLater(_PATIENCE[kind], enough.callback, None)

        for kind, lookup in zip(kinds, lookups, strict=True):
            lookup.addBoth(take, kind)
        try:
            await enough
        finally:
            if hurry is not None and hurry.active():
                hurry.cancel()
            for lookup in lookups:
                lookup.cancel()
        addresses = _interleaved(host, [outcomes.get(kind) for kind in kinds])
        if all(isinstance(outcomes.get(kind), Records) for kind in kinds):
            until = self._until(*((host, kind) for kind in kinds))
            _keep(self._addresses_of, host, _Made(until, addresses))
        return addresses

    def _answered(self, key: _Key, outcome: Outcome) -> None:
        if isinstance(outcome, Records):
            _keep(self._cache, key, _Cached(self._now() + outcome.seconds, outcome))
        elif not outcome.overload:
            _keep(self._cache, key, _Cached(self._now() + FAILURE, outcome))
        self._tell(key, outcome)

    def _tell(self, key: _Key, outcome: Outcome) -> None:
        for deferred in self._end(key).waiting:
            _fire(deferred, outcome)


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    """Put into a cache, the oldest going where it is full."""
    cache.pop(key, None)
    while len(cache) >= _CACHED:
        del cache[next(iter(cache))]
    cache[key] = value


def _fire(deferred: Deferred[Records], outcome: Outcome) -> None:
    if deferred.called:
        return  # cancelled by somebody who was told before
    if isinstance(outcome, Records):
        deferred.callback(outcome)
    else:
        deferred.errback(outcome.again())


def _reason(failure: Failure) -> LookupFailedError:
    if isinstance(failure.value, LookupFailedError):
        return failure.value
    return LookupFailedError(f"the lookup failed: {failure.value!r}")


def _offers(records: Records) -> list[SRV]:
    """Return the records but those that say "decidedly not available" (RFC 2782)."""
    return [
        record
        for record in records.values
        if isinstance(record, SRV) and record.target != dns.name.root
    ]


def _target(record: SRV, direct: bool, security: Security) -> Target | None:
    """Return what a record names; None if that can be no host."""
    secure = security is Security.SECURE
    try:
        host = host_name(record.target.to_text(omit_final_dot=True))
    except ValueError:
        return None
    return Target(host, record.port, direct, record.priority, record.weight, secure=secure)


def _interleaved(host: str, outcomes: Sequence[Outcome | None]) -> tuple[str, ...]:
    """Return the addresses of all outcomes by turns."""
    lists = [
        [record.to_text() for record in outcome.values]
        for outcome in outcomes
        if isinstance(outcome, Records)
    ]
    found = [address for turn in zip_longest(*lists) for address in turn if address is not None]
    if found:
        return tuple(found[:MOST_ADDRESSES])
    for outcome in outcomes:
        if isinstance(outcome, LookupFailedError):
            raise outcome
    if any(isinstance(outcome, Records) and not outcome.exists for outcome in outcomes):
        raise LookupFailedError(f"the name {host} does not exist", absent=True)
    raise LookupFailedError(f"the name {host} has no address", absent=True)
