"""Bounds what a client may send and how often its address may come.

What the server announces of its own limits (XEP-0478) is corrected to what holds here.
"""

import ipaddress
import re
import time
import weakref
from collections.abc import Callable
from typing import Final

import attrs
from lxml import etree

from proxy.session.hooks import (
    Bounds,
    ClientHello,
    Condition,
    Continue,
    Counts,
    Element,
    Kind,
    LocalCounts,
    Plugin,
    Reject,
    Replace,
    Verdict,
    View,
    option,
)
from proxy.xmpp import namespaces as ns
from proxy.xmpp.features import edit, insert

_LIMITS: Final = ns.qualified(ns.STREAM_LIMITS, "limits")
_MAX_BYTES: Final = ns.qualified(ns.STREAM_LIMITS, "max-bytes")
_NUMBER: Final = re.compile(r"\s*([0-9]{1,18})\s*", re.ASCII)
_SLICE: Final = 10.0
"""Seconds whose handshakes are counted as one."""

_MINUTE: Final = 6
"""Slices that a minute has."""

_MOST_SLICES: Final = 32_768
"""How many addresses' slices a process remembers; beyond that the oldest are forgotten."""

_SWEPT: Final = 4
"""How many old slices are removed at a time: more than a handshake can leave."""


@attrs.frozen
class LimitsConfig:
    """What clients are held to."""

    stanza_bytes: int = option(
        default=262_144,
        minimum=10_000,
        unit="bytes",
        help="The largest stanza a client may send (RFC 6120, section 13.12, demands at least "
        "10000). A larger one ends its session with <policy-violation/>, and clients that know "
        "XEP-0478 are told the limit beforehand. Lower it to what the server itself can bear.",
    )
    unauthenticated_bytes: int = option(
        default=65_536,
        minimum=10_000,
        unit="bytes",
        help="What a client may send in all until it is authenticated. It bounds what strangers "
        "can cost; no honest login needs more.",
    )
    unauthenticated_elements: int = option(
        default=64,
        minimum=8,
        unit="elements",
        help="How many elements a client may send until it is authenticated; failed attempts to "
        "log in count.",
    )
    connections_per_address: int = option(
        default=100,
        minimum=0,
        unit="connections",
        help="How many connections one address may have at a time, with all workers together; 0 "
        "sets no limit. IPv6 addresses count by /64. Raise it where many clients come through one "
        "NAT gateway, or where one machine serves very many domains. A server of ours, which needs "
        "a connection for each domain that it reaches by a forward listener, is not counted.",
    )
    handshakes_per_minute: int = option(
        default=120,
        minimum=0,
        unit="handshakes",
        help="How many TLS handshakes one address may begin in a minute, with all workers "
        "together, for they are what costs most; 0 sets no limit. IPv6 addresses count by /64.",
    )


class Limits(Plugin):
    """Bounds what a client may send, and how often its own address may connect and begin TLS.

    A limit on sizes ends the session with a stream error that names the limit. Limits by address
    count the clients' own addresses, which the server behind does not see. Without this plugin
    only the core's wide ceilings hold, and stanzas after login are not measured.

    Args:
        config: what clients are held to.
        clock: gives seconds, the same in all processes that share counts.
    """

    name = "limits"
    Config = LimitsConfig

    def __init__(self, config: LimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._counts: Counts = LocalCounts()
        self._sessions: dict[str, str] = {}
        # Handshakes counted in this process, by address and slice, the oldest slice first.
        self._handshakes: dict[tuple[str, int], int] = {}

    def share(self, counts: Counts) -> None:
        """Count connections and handshakes together with all other processes."""
        self._counts = counts
        # Nobody else knows what is to be counted off when another configuration takes over.
        weakref.finalize(self, _count_off, counts, self._handshakes).atexit = False

    def bounds(self) -> Bounds:
        """What the core enforces, byte by byte."""
        return Bounds(
            stanza_bytes=self.config.stanza_bytes,
            unauthenticated_bytes=self.config.unauthenticated_bytes,
            unauthenticated_elements=self.config.unauthenticated_elements,
        )

    def on_client_connected(self, view: View) -> Verdict:
        """Count the connection to its address, and refuse it if there are too many."""
        if view.outward and view.kind is Kind.S2S:
            return Continue()
        limit = self.config.connections_per_address
        network = _network(view.client.host)
        # Counted before it is judged: of two that come at once to two workers, each sees the other.
        # And counted without a limit too: another configuration may set one.
        self._counts.add("connections", network)
        if limit and self._counts.total("connections", network) > limit:
            self._counts.add("connections", network, amount=-1)
            return Reject(
                Condition.RESOURCE_CONSTRAINT, f"more than {limit} connections from one address"
            )
        self._sessions[view.id] = network
        return Continue()

    def on_session_closed(self, view: View) -> None:
        """Count the connection off."""
        network = self._sessions.pop(view.id, None)
        if network is not None:
            self._counts.add("connections", network, amount=-1)
        # Once another configuration has taken over, no handshake does this any more.
        self._sweep(int(self._clock() / _SLICE) - _MINUTE)

    def on_client_hello(self, view: View, _hello: ClientHello) -> Verdict:
        """Count the handshake, and refuse it if there have been too many within a minute."""
        limit = self.config.handshakes_per_minute
        if not limit:
            return Continue()
        network = _network(view.client.host)
        now = self._clock() / _SLICE
        self._sweep(int(now) - _MINUTE)
        if self._recent(network, now) > limit - 1:
            return Reject(
                Condition.POLICY_VIOLATION,
                f"more than {limit} handshakes a minute from one address",
            )
        place = (network, int(now))
        self._handshakes[place] = self._handshakes.get(place, 0) + 1
        self._counts.add(*_handshakes(*place))
        return Continue()

    def _recent(self, network: str, now: float) -> float:
        """Return how many handshakes an address began within a minute.

        The first slice of that minute counts by the part that lies in it, as if its handshakes
        were spread evenly.
        """
        this = int(now)
        first = self._counts.total(*_handshakes(network, this - _MINUTE))
        rest = range(this - _MINUTE + 1, this + 1)
        return first * (this + 1 - now) + sum(
            self._counts.total(*_handshakes(network, each)) for each in rest
        )

    def _sweep(self, oldest: int) -> None:
        """Forget slices that are too old, or too many: a few at a time, so that nobody waits."""
        for _ in range(_SWEPT):
            place = next(iter(self._handshakes), None)
            if place is None or (place[1] >= oldest and len(self._handshakes) < _MOST_SLICES):
                return
            self._counts.add(*_handshakes(*place), amount=-self._handshakes.pop(place))

    def on_features(self, view: View, features: Element) -> Verdict:
        """Announce the limit that holds, unless the server's own is lower (XEP-0478).

        Between servers no features follow once a domain is proved, so what holds then is told.
        """
        ours = self.config.stanza_bytes
        if not view.authenticated and view.kind is not Kind.S2S:
            ours = min(ours, self.config.unauthenticated_bytes)
        own = f"<max-bytes xmlns='{ns.STREAM_LIMITS}'>{ours}</max-bytes>".encode()
        limits = features.tree.find(_LIMITS)
        if limits is None:
            whole = f"<limits xmlns='{ns.STREAM_LIMITS}'>".encode() + own + b"</limits>"
            return Replace(insert(features.raw, whole))
        if limits.find(_MAX_BYTES) is None:
            return Replace(
                edit(
                    features,
                    lambda node: (lambda raw: insert(raw, own)) if node is limits else None,
                )
            )
        raw = edit(
            features,
            lambda node: (
                (lambda _: own) if node.tag == _MAX_BYTES and _number(node) > ours else None
            ),
        )
        return Continue() if raw == features.raw else Replace(raw)


def _handshakes(network: str, part: int) -> tuple[str, str, str]:
    """Return what the handshakes of an address in a slice are counted under."""
    return ("handshakes", network, str(part))


def _count_off(counts: Counts, handshakes: dict[tuple[str, int], int]) -> None:
    """Take handshakes off the counts, all that this process has counted."""
    for place, amount in handshakes.items():
        counts.add(*_handshakes(*place), amount=-amount)


def _number(element: etree._Element) -> float:
    """Return what an element announces; what is no number limits nothing."""
    found = _NUMBER.fullmatch(element.text or "")
    return int(found[1]) if found else float("inf")


def _network(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
