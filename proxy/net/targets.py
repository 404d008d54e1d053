"""Where a domain's servers are: in which order they are tried, and where nobody connects to."""

import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import attrs

from proxy.session.hooks import Address
from proxy.xmpp.domains import domain

LAST_PORT: Final = 65535
"""The last port there is."""


@attrs.frozen
class Target:
    """One way to a server that DNS or the conf names.

    Attributes:
        host: the host's name, as A-labels without the final dot, or an IP address.
        port: its TCP port.
        direct: direct TLS (XEP-0368) instead of STARTTLS.
        priority: of the SRV record (RFC 2782): the lowest number is tried first.
        weight: of the SRV record: its share among those of the same priority.
        fallback: whether this is the domain itself, as it has no SRV records (RFC 6120, section
            3.2.2).
        secure: whether DNSSEC vouches for the answer that names it, or, with ``fallback``, for
            there being no SRV records. Without that its host is nobody's word (RFC 7673,
            section 3.1): no reference identity, and no name to ask for TLSA records.
    """

    host: str
    port: int
    direct: bool
    priority: int = 0
    weight: int = 0
    fallback: bool = False
    secure: bool = False

    def __str__(self) -> str:
        return str(Address(self.host, self.port))


def merged(targets: Iterable[Target], chance: random.Random) -> tuple[Target, ...]:
    """Return the targets of both services in the order in which they are tried.

    Priorities and weights of STARTTLS and direct TLS are mixed (XEP-0368). Within a priority the
    order is RFC 2782's: each next one is drawn with a probability proportional to its weight, and
    those of weight 0 have a small chance. Of equal targets the first in this order stays.

    Args:
        targets: in any order.
        chance: what is drawn with.
    """
    by_priority: dict[int, list[Target]] = {}
    for target in targets:
        by_priority.setdefault(target.priority, []).append(target)
    first: dict[tuple[str, int, bool], Target] = {}
    for priority in sorted(by_priority):
        for target in _drawn(by_priority[priority], chance):
            first.setdefault((target.host, target.port, target.direct), target)
    return tuple(first.values())


def _drawn(targets: list[Target], chance: random.Random) -> list[Target]:
    left = sorted(targets, key=lambda target: target.weight > 0)  # those of weight 0 come first
    drawn: list[Target] = []
    while left:
        number = chance.randint(0, sum(target.weight for target in left))
        running = 0
        for index, target in enumerate(left):
            running += target.weight
            if running >= number:
                drawn.append(left.pop(index))
                break
    return drawn


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that ``host`` is; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def host_name(text: str) -> str:
    """Return the host name ``text`` as A-labels in lower case, without the final dot.

    Raises:
        ValueError: it is an IP address, ends in a number as one does, or is no host name at all.
    """
    name = domain(text)
    if literal(name) is not None or name.rpartition(".")[2].isdigit():
        raise ValueError("an IP address is not a host name")
    return name


def unmapped(address: str) -> str:
    """Return ``address`` in its usual form, an IPv4-mapped one as IPv4.

    Raises:
        ValueError: it is no IP address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)


_PORTS: Final = frozenset({80, 443})
"""Ports of the system's range where XMPP servers are found: direct TLS beside HTTPS."""

_FIRST_USER_PORT: Final = 1024

# IANA's special-purpose registries (RFC 6890), what is not globally reachable.
_SPECIAL_IPV4: Final = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "a reserved address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address of carrier-grade NAT"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_SPECIAL_IPV6: Final = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("64:ff9b:1::/48", "a private address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "an address for documentation"),
        ("3fff::/20", "an address for documentation"),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""What DNS64 makes of the IPv4 addresses of others (RFC 6052)."""


def forbidden(address: str, port: int) -> str | None:
    """Return why nobody may be led to ``address`` and ``port`` by DNS or by a peer.

    Addresses that are not globally reachable are forbidden (RFC 6890), those that carry such an
    IPv4 address too, and ports of other services. What is no address is forbidden as well.

    Returns:
        A clause such as "10.0.0.1 is a private address"; None if there is nothing against it.
    """
    parsed = literal(address)
    if parsed is None:
        return "that is not an IP address"
    kind = _special(parsed)
    if kind is not None:
        return f"{address} is {kind}"
    if port not in _PORTS and not _FIRST_USER_PORT <= port <= LAST_PORT:
        return f"port {port} is not one of XMPP"
    return None


def _special(address: IPv4Address | IPv6Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _SPECIAL_IPV4 if address in network), None)
    carried = address.ipv4_mapped or address.sixtofour
    if carried is None and address in _NAT64:
        carried = IPv4Address(int(address) & 0xFFFF_FFFF)
    if carried is not None:
        return _special(carried)
    for network, kind in _SPECIAL_IPV6:
        if address in network:
            return kind
    return None if address in _GLOBAL_UNICAST else "a reserved address"
