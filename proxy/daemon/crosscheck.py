"""Mistakes and cautions that show only when parts of a configuration are seen together."""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from proxy.daemon.endpoints import Endpoint, server_endpoint
from proxy.daemon.model import (
    FORWARD,
    FORWARD_ONLY,
    ORIGINAL,
    REVERSE,
    Caution,
    Listener,
    Mistake,
    Section,
)
from proxy.daemon.plugin_tables import Chain
from proxy.daemon.remote import BY_DNS, USES, PolicyTable
from proxy.daemon.tables import Placed
from proxy.session.options import options_of, shown
from proxy.session.rules import TLSRule
from proxy.trust.policy import Level, Pattern

Values = dict[str, Any]
"""The options of one table that could be read."""


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
        if address is None or address.port == 0:
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
    """Find options that their listener's direction has no use for, or lacks."""
    defaults = _defaults(Listener)
    mistakes = []
    for table in listeners:
        given = table.value
        found: list[tuple[str, str]] = []
        if given.get("direction") == REVERSE:
            found = [
                (name, 'does nothing here; it is for listeners with direction = "forward"')
                for name in FORWARD_ONLY
                if given.get(name, defaults[name]) != defaults[name]
            ]
        elif given.get("direction") == FORWARD:
            found = _forward(table)
        mistakes += [Mistake(table.file, f"{table.key}.{name}", text) for name, text in found]
    return mistakes


def _forward(table: Placed[Values]) -> list[tuple[str, str]]:
    given = table.value
    found = []
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
            f"{_lacking(table, 'domains')}; allowed: at least one domain that clients may reach, "
            'as "example.net" or "*.example.org", or "*" for all'
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
        if given.get("direct_tls") and given.get("server") == BY_DNS and level is not Level.NONE:
            text = "does nothing without server: DNS tells which servers expect direct TLS"
            found.append(("direct_tls", text))
        mistakes += [Mistake(table.file, f"{table.key}.{name}", text) for name, text in found]
    return mistakes


def _lacking(table: Placed[Values], name: str) -> str:
    return "is empty" if name in table.stated else "is missing"


def _listed(uses: Sequence[Level]) -> str:
    *most, last = (f'"{level.value}"' for level in uses)
    return f"{', '.join(most)} or {last}" if most else last


def _defaults(declaring: type[Any]) -> Values:
    return {option.name: option.default for option in options_of(declaring)}


def loops(
    domains: Iterable[Placed[Values]],
    policies: Iterable[Placed[Values]],
    listeners: Sequence[Placed[Values]],
) -> list[Mistake]:
    """Find servers, of domains or of policies, that are Bascule's own listeners.

    A policy may lead to a reverse listener: from there sessions do not come back.
    """
    forward = [table for table in listeners if table.value.get("direction") == FORWARD]
    servers = [(table, "c2s_server", table.value.get("c2s_server"), listeners) for table in domains]
    servers += [(table, "server", _fixed(table), forward) for table in policies]
    return [
        Mistake(
            table.file,
            f"{table.key}.{name}",
            f"{server} is where {listener.key} listens; Bascule would connect to itself",
        )
        for table, name, server, those in servers
        for listener in those
        if _reaches(server, listener.value.get("address"))
    ]


def _fixed(policy: Placed[Values]) -> Endpoint | None:
    server = policy.value.get("server", BY_DNS)
    return None if server == BY_DNS else server_endpoint(server)


def _reaches(server: Endpoint | None, address: Endpoint | None) -> bool:
    if server is None or address is None or server.port != address.port:
        return False
    if server.host == address.host:
        return True
    # "::" may or may not take IPv4 too; on the same port of the same machine neither is meant.
    listening = ipaddress.ip_address(address.host)
    here = server.host == "localhost" or _is_loopback(server.host)
    return here and (
        listening.is_unspecified or (server.host == "localhost" and listening.is_loopback)
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def cautions(
    chain: Chain,
    domains: Iterable[Placed[Values]],
    listeners: Iterable[Placed[Values]],
    policies: Iterable[Placed[Values]],
) -> list[Caution]:
    """Find what works, but hardly as its author wishes."""
    found = []
    secured = False
    for table in listeners:
        rule = table.value.get("tls")
        forward = table.value.get("direction") == FORWARD
        secured = secured or rule not in (None, TLSRule.NONE)
        text = (_LAX_FORWARD if forward else _LAX).get(rule) if rule is not None else None
        if text is not None:
            found.append(Caution(table.file, f"{table.key}.tls", text))
        address = table.value.get("address")
        if forward and address is not None and not _is_loopback(address.host):
            text = (
                f"{address} is not loopback: passwords cross the network in plaintext, and "
                "whoever can connect to it can use it"
            )
            found.append(Caution(table.file, f"{table.key}.address", text))
    if secured and chain.names is not None and "features" not in chain.names:
        text = (
            'without the plugin "features" clients are offered what cannot hold across a proxy, '
            "such as channel binding, and may fail to log in"
        )
        found.append(Caution(chain.file, "plugins.chain", text))
    for table in domains:
        server = table.value.get("c2s_server")
        if server is not None and _is_global(server.host):
            text = f"{server} is a public address: passwords cross the network in plaintext"
            found.append(Caution(table.file, f"{table.key}.c2s_server", text))
    for table in policies:
        level = table.value.get("level")
        text = _LAX_LEVELS.get(level) if level is not None else None
        if text is not None:
            found.append(Caution(table.file, f"{table.key}.level", text))
    return found


def idle(
    domains: Iterable[Placed[Values]],
    listeners: Sequence[Placed[Values]],
    policies: Iterable[Placed[Values]],
) -> list[Caution]:
    """Find tables that no listener has a use for; the tables must be all there are."""
    there = {table.value.get("direction") for table in listeners}
    # A direction that could not be read may be any.
    if not there or None in there:
        return []
    found = [
        Caution(table.file, table.key, f'does nothing: no listener has direction = "{direction}"')
        for tables, direction in ((domains, REVERSE), (policies, FORWARD))
        for table in tables
        if direction not in there
    ]
    reached = [
        table.value.get("domains") for table in listeners if table.value.get("direction") == FORWARD
    ]
    if reached and None not in reached:
        patterns = [pattern for each in reached for pattern in each or ()]
        text = "does nothing: no forward listener lets clients reach such a domain"
        found += [
            Caution(table.file, f"{table.key}.domain", text)
            for table in policies
            if (about := table.value.get("domain")) is not None
            if not any(_meet(about, pattern) for pattern in patterns)
        ]
    return found


def _meet(first: Pattern, second: Pattern) -> bool:
    """Whether there may be a domain that both patterns are for."""

    def sample(pattern: Pattern) -> str:
        return pattern.text.replace("*", "x")

    return first.matches(sample(second)) or second.matches(sample(first))


_LAX = {
    TLSRule.REPORT: 'with "report" nothing is enforced: clients may log in without TLS',
    TLSRule.NONE: 'with "none" no TLS is offered: clients log in without it',
}
_LAX_FORWARD = {
    TLSRule.REPORT: (
        'with "report" nothing is enforced: passwords go to servers that do not meet their policy'
    ),
}
_LAX_LEVELS = {
    Level.NONE: 'with "none" passwords go to the server in plaintext',
    Level.MAY: (
        'with "may" passwords go to the server in plaintext when it offers no TLS, or when '
        "somebody on the way hides the offer"
    ),
}


def _is_global(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False
