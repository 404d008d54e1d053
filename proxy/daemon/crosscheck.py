"""Mistakes and cautions that show only when parts of a configuration are seen together."""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from proxy.daemon.endpoints import Endpoint
from proxy.daemon.model import Caution, Mistake, Section
from proxy.daemon.plugin_tables import Chain
from proxy.daemon.tables import Placed
from proxy.session.options import shown
from proxy.session.rules import TLSRule

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
    ]


def loops(domains: Iterable[Placed[Values]], listeners: Sequence[Placed[Values]]) -> list[Mistake]:
    """Find domains whose server is one of Bascule's own listeners."""
    return [
        Mistake(
            table.file,
            f"{table.key}.c2s_server",
            f"{table.value['c2s_server']} is where {listener.key} listens; "
            "Bascule would connect to itself",
        )
        for table in domains
        for listener in listeners
        if _reaches(table.value.get("c2s_server"), listener.value.get("address"))
    ]


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
    chain: Chain, domains: Iterable[Placed[Values]], listeners: Iterable[Placed[Values]]
) -> list[Caution]:
    """Find what works, but hardly as its author wishes."""
    found = []
    secured = False
    for table in listeners:
        rule = table.value.get("tls")
        secured = secured or rule not in (None, TLSRule.NONE)
        text = _LAX.get(rule) if isinstance(rule, TLSRule) else None
        if text is not None:
            found.append(Caution(table.file, f"{table.key}.tls", text))
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
    return found


_LAX = {
    TLSRule.REPORT: 'with "report" nothing is enforced: clients may log in without TLS',
    TLSRule.NONE: 'with "none" no TLS is offered: clients log in without it',
}


def _is_global(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False
