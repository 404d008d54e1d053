"""Mistakes that show only when parts of a configuration are seen together."""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from proxy.daemon.endpoints import Endpoint, Place
from proxy.daemon.model import FORWARD, FORWARD_ONLY, ORIGINAL, REVERSE, Listener, Mistake, Section
from proxy.daemon.plugin_tables import Chain
from proxy.daemon.remote import BY_DNS, DIRECT, FIXED, USES, PolicyTable, fixed_endpoint
from proxy.daemon.served import NO_SERVER, PROXY_PROTOCOLS, SERVERS, own_endpoint
from proxy.daemon.tables import Placed
from proxy.net.proxy_protocol import Versions
from proxy.session.kinds import Kind
from proxy.session.options import options_of, shown
from proxy.session.rules import TLSRule
from proxy.trust.policy import Level

Values = dict[str, Any]
"""The options of one table that could be read."""


@attrs.frozen
class Ways:
    """Which listeners there are, by direction and kind of stream.

    ``sure`` is whether there are listeners at all and each one's direction and kind could be read:
    otherwise one that seems to be lacking may be there.
    """

    there: frozenset[tuple[str, Kind]]
    sure: bool

    @classmethod
    def of(cls, listeners: Sequence[Placed[Values]]) -> "Ways":
        """Look at the tables of all listeners."""
        read = [
            (table.value["direction"], table.value["stream"])
            for table in listeners
            if table.value.keys() >= {"direction", "stream"}
        ]
        return cls(frozenset(read), sure=bool(read) and len(read) == len(listeners))

    def kinds(self, direction: str) -> list[Kind]:
        """Return of which kinds there are listeners of a direction, in the order of `Kind`."""
        return [kind for kind in Kind if (direction, kind) in self.there]

    def lack(self, direction: str | None = None, kind: Kind | None = None) -> bool:
        """Whether there certainly is no listener of a direction and a kind, ``None`` for any."""
        return self.sure and not any(
            direction in (None, each) and kind in (None, its) for each, its in self.there
        )


def way(direction: str | None = None, kind: Kind | None = None) -> str:
    """Write a direction and a kind of listeners, as a file says them; not both are ``None``."""
    parts = []
    if direction is not None:
        parts.append(f'direction = "{direction}"')
    if kind is not None:
        parts.append(f'stream = "{kind.value}"')
    return " and ".join(parts)


def duplicates(
    section: Section,
    placed: Iterable[Placed[Values]],
    option: str,
    *,
    apart_from: Callable[[Any], bool] | None = None,
) -> list[Mistake]:
    """Find tables of one array that share what must be theirs alone.

    Args:
        section: The array.
        placed: The tables in their order.
        option: The option that must differ.
        apart_from: Which values may stand in several tables.
    """
    seen: dict[Any, tuple[int, Placed[Values]]] = {}
    mistakes = []
    for position, table in enumerate(placed, start=1):
        value = table.value.get(option)
        if value is None or (apart_from is not None and apart_from(value)):
            continue
        where, first = seen.setdefault(value, (position, table))
        if first is not table:
            # Tables of the same name can be told apart by their places alone.
            other = first.key if first.key != table.key else f"{section.name}[{where}]"
            text = f"{shown(str(value))} is taken by {other} in {first.file} already"
            mistakes.append(Mistake(table.file, f"{table.key}.{option}", text))
    return mistakes


def overlaps(listeners: Iterable[Placed[Values]], *, both_families: bool) -> list[Mistake]:
    """Find listeners that cannot be bound beside another one, which takes every address.

    Args:
        listeners: The tables in their order.
        both_families: Whether ``[::]`` takes the addresses of IPv4 too.
    """
    before: list[tuple[Placed[Values], Endpoint]] = []
    mistakes = []
    for table in listeners:
        address = table.value.get("address")
        # Those of systemd are open already.
        if not isinstance(address, Endpoint) or address.port == 0:
            continue
        for other, taken in before:
            every = _every(taken, address, both_families=both_families) or _every(
                address, taken, both_families=both_families
            )
            if every:
                text = (
                    f"{address} and {taken}, where {other.key} in {other.file} listens, cannot be "
                    f"taken together: {every}; allowed: another port"
                )
                mistakes.append(Mistake(table.file, f"{table.key}.address", text))
                break
        before.append((table, address))
    return mistakes


def _every(wide: Endpoint, narrow: Endpoint, *, both_families: bool) -> str:
    """Say why an address takes another one with it; nothing if it does not."""
    all_of, one = ipaddress.ip_address(wide.host), ipaddress.ip_address(narrow.host)
    if wide.port != narrow.port or all_of == one or not all_of.is_unspecified:
        return ""
    if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped is not None:
        one = one.ipv4_mapped
    if all_of.version == one.version:
        return f"{wide.host} is every address of IPv{one.version}"
    if all_of.version > one.version and both_families:
        return f"{wide.host} is every address, those of IPv4 too"
    return ""


def rules_without_plugin(chain: Chain, listeners: Iterable[Placed[Values]]) -> list[Mistake]:
    """Find listeners whose rule is left without the plugin that enforces it."""
    if chain.names is None or "require_tls" in chain.names:
        return []
    return [
        Mistake(
            table.file,
            f"{table.key}.tls",
            f'"{table.value["tls"].value}" needs the plugin "require_tls", which plugins.chain '
            f"in {chain.file} leaves out",
        )
        for table in listeners
        if table.value.get("tls") in (TLSRule.REQUIRED, TLSRule.DIRECT)
        and table.value.get("direction") != FORWARD
    ]


def directions(listeners: Iterable[Placed[Values]]) -> list[Mistake]:
    """Find options that their listener's direction or kind has no use for, or lacks."""
    mistakes = []
    for table in listeners:
        found: list[tuple[str, str]] = []
        if table.value.get("direction") == REVERSE:
            found = _reverse(table)
        elif table.value.get("direction") == FORWARD:
            found = _forward(table)
        mistakes += [Mistake(table.file, f"{table.key}.{name}", text) for name, text in found]
    return mistakes


def _reverse(table: Placed[Values]) -> list[tuple[str, str]]:
    given, defaults = table.value, _defaults(Listener)
    found = [
        (name, f"does nothing here; it is for listeners with {way(FORWARD)}")
        for name in FORWARD_ONLY
        if given.get(name, defaults[name]) != defaults[name]
    ]
    rule = given.get("tls")
    if given.get("stream") is Kind.COMPONENT and rule not in (None, TLSRule.DIRECT):
        problem = f'"{rule.value}" is not for components' if "tls" in table.stated else "is missing"
        text = f'{problem}; allowed: "direct", for their streams have no STARTTLS (XEP-0114)'
        found.append(("tls", text))
    return found


def _forward(table: Placed[Values]) -> list[tuple[str, str]]:
    given = table.value
    found = []
    if given.get("stream") is Kind.COMPONENT:
        text = (
            '"component" is not for forward listeners: where a component connects to is not for '
            'DNS to say; allowed: "c2s" or "s2s"'
        )
        found.append(("stream", text))
    rule = given.get("tls")
    if rule in (TLSRule.DIRECT, TLSRule.NONE):
        text = (
            f'"{rule.value}" is not for forward listeners, which take plaintext and reach servers '
            'as their policies demand; allowed: "required" or "report"'
        )
        if rule is TLSRule.NONE:
            text += ', and for servers without TLS a [[policy]] with level = "none"'
        found.append(("tls", text))
    if given.get("domains") == ():
        text = (
            f"{_lacking(table, 'domains')}; allowed: at least one domain that may be reached, as "
            '"example.net" or "*.example.org", or "*" for all'
        )
        found.append(("domains", text))
    if given.get("destination", ORIGINAL) != ORIGINAL:
        found += [
            (name, f'does nothing here; it is for destination = "{ORIGINAL}"')
            for name in ("tproxy", "unlisted_destinations")
            if given.get(name)
        ]
    return found


def levels(policies: Iterable[Placed[Values]]) -> list[Mistake]:
    """Find policies that say what their level has no use for, or do not say what it needs."""
    defaults = _defaults(PolicyTable)
    mistakes = []
    for table in policies:
        given = table.value
        level = given.get("level")
        found = [
            (name, f'does nothing with level = "{level.value}"; it is for {_listed(uses)}')
            for name, uses in USES.items()
            if level is not None and level not in uses
            if given.get(name, defaults[name]) != defaults[name]
        ]
        if level is Level.PIN and given.get("pins") == ():
            text = f'{_lacking(table, "pins")}; level = "{level.value}" needs at least one pin'
            found.append(("pins", text))
        found += [
            (
                DIRECT[kind],
                f"does nothing without {server}: DNS tells which servers expect direct TLS",
            )
            for kind, server in FIXED.items()
            if given.get(DIRECT[kind]) and given.get(server) == BY_DNS and level is not Level.NONE
        ]
        mistakes += [Mistake(table.file, f"{table.key}.{name}", text) for name, text in found]
    return mistakes


def _lacking(table: Placed[Values], name: str) -> str:
    return "is empty" if name in table.stated else "is missing"


def _listed(uses: Sequence[Level]) -> str:
    *most, last = (f'"{level.value}"' for level in uses)
    return f"{', '.join(most)} or {last}" if most else last


def _defaults(declaring: type[Any]) -> Values:
    return {option.name: option.default for option in options_of(declaring)}


def servers(
    domains: Sequence[Placed[Values]], listeners: Sequence[Placed[Values]]
) -> list[Mistake]:
    """Find domains without servers or with one for two purposes, and listeners without servers.

    The tables must be all there are.
    """
    ways = Ways.of(listeners)
    bare = [
        table
        for table in domains
        if all(table.value.get(name) == NO_SERVER for name in SERVERS.values())
    ]
    mistakes: list[Mistake] = []
    if ways.lack(FORWARD, Kind.S2S):
        *most, last = SERVERS.values()
        text = (
            f"has no server; allowed: at least one of {', '.join(most)} and {last}, or a listener "
            f"with {way(FORWARD, Kind.S2S)} if its server only connects to others"
        )
        mistakes = [Mistake(table.file, table.key, text) for table in bare]
    if len(mistakes) == len(domains):
        return mistakes
    mistakes += [mistake for table in domains for mistake in _shared(table)]
    for table in listeners:
        kind = table.value.get("stream")
        if kind is None or table.value.get("direction") != REVERSE:
            continue
        if all(domain.value.get(SERVERS[kind]) == NO_SERVER for domain in domains):
            text = f'"{kind.value}" needs at least one [[domain]] with {SERVERS[kind]}'
            mistakes.append(Mistake(table.file, f"{table.key}.stream", text))
    return mistakes


def _shared(table: Placed[Values]) -> Iterator[Mistake]:
    """Find servers of one domain that are the same: one port is for one kind of streams."""
    taken: dict[str, str] = {}
    for name in SERVERS.values():
        server = table.value.get(name, NO_SERVER)
        first = taken.setdefault(server, name)
        if server != NO_SERVER and first != name:
            text = f"{shown(server)} is {first} already; allowed: the port for such streams"
            yield Mistake(table.file, f"{table.key}.{name}", text)


def untold(domains: Iterable[Placed[Values]]) -> list[Mistake]:
    """Find domains that say what to tell a server, and not where it is."""
    return [
        Mistake(table.file, f"{table.key}.{name}", f"does nothing without {SERVERS[kind]}")
        for table in domains
        for kind, name in PROXY_PROTOCOLS.items()
        if table.value.get(name, Versions.NONE) is not Versions.NONE
        and table.value.get(SERVERS[kind]) == NO_SERVER
    ]


def loops(
    domains: Iterable[Placed[Values]],
    policies: Iterable[Placed[Values]],
    listeners: Sequence[Placed[Values]],
) -> list[Mistake]:
    """Find servers, of domains or of policies, that are Bascule's own listeners.

    A policy may lead to a reverse listener: from there sessions do not come back.
    """
    forward = [table for table in listeners if table.value.get("direction") == FORWARD]
    found = [
        (table, name, own_endpoint(table.value.get(name, NO_SERVER)), listeners)
        for table in domains
        for name in SERVERS.values()
    ]
    found += [
        (table, name, fixed_endpoint(table.value.get(name, BY_DNS)), forward)
        for table in policies
        for name in FIXED.values()
    ]
    return [
        Mistake(
            table.file,
            f"{table.key}.{name}",
            f"{server} is where {listener.key} listens; Bascule would connect to itself",
        )
        for table, name, server, those in found
        for listener in those
        if server is not None and _reaches(server, listener.value.get("address"))
    ]


def _reaches(server: Endpoint, place: Place | None) -> bool:
    return place is not None and any(_is_at(server, address) for address in place.endpoints)


def _is_at(server: Endpoint, address: Endpoint) -> bool:
    if server.port != address.port:
        return False
    if server.host == address.host:
        return True
    # "::" may or may not take IPv4 too; on the same port of the same machine neither is meant.
    listening = ipaddress.ip_address(address.host)
    here = server.host == "localhost" or server.is_loopback
    return here and (
        listening.is_unspecified or (server.host == "localhost" and listening.is_loopback)
    )
