"""Mistakes and cautions about the proxies that listeners have in front of them."""

from collections.abc import Iterable
from typing import Any, Final

from proxy.daemon.model import FORWARD, ORIGINAL, Caution, Mistake
from proxy.daemon.tables import Placed
from proxy.net.proxied import Network
from proxy.net.proxy_protocol import Versions
from proxy.session.options import shown

_SHORTEST_PREFIX: Final = {4: 8, 6: 32}
"""By version of IP: what is wider than the widest networks that are given to anybody."""


def mistakes(listeners: Iterable[Placed[dict[str, Any]]]) -> list[Mistake]:
    """Find listeners that say whom to trust and not for what, or the other way round."""
    found = []
    for table in listeners:
        versions, trusted = (table.value.get(name) for name in ("proxy_protocol", _TRUSTED))
        if versions is None:
            continue
        if versions is Versions.NONE:
            if trusted:
                text = 'does nothing with proxy_protocol = "none"'
                found.append(Mistake(table.file, f"{table.key}.{_TRUSTED}", text))
            continue
        if trusted == ():
            lacking = "is empty" if _TRUSTED in table.stated else "is missing"
            text = (
                f'{lacking}; proxy_protocol = "{versions.value}" needs the address of at least '
                'one proxy, as "127.0.0.1" or "10.0.0.0/8"'
            )
            found.append(Mistake(table.file, f"{table.key}.{_TRUSTED}", text))
        given = table.value.get("direction"), table.value.get("destination")
        if given == (FORWARD, ORIGINAL):
            text = (
                f'{shown(versions.value)} does not go with destination = "{ORIGINAL}": the '
                "packet filter redirects connections of clients, and these come from a proxy; "
                'allowed: "none"'
            )
            found.append(Mistake(table.file, f"{table.key}.proxy_protocol", text))
    return found


def cautions(listeners: Iterable[Placed[dict[str, Any]]]) -> list[Caution]:
    """Find networks that are too wide to have nothing but proxies in them."""
    return [
        Caution(
            table.file,
            f"{table.key}.{_TRUSTED}",
            f"{network} is wide: whoever connects from there can claim to be anybody, and so "
            "evade limits and bans or have them strike others",
        )
        for table in listeners
        for network in table.value.get(_TRUSTED, ())
        if _is_wide(network)
    ]


def _is_wide(network: Network) -> bool:
    addresses = network.addresses
    return addresses.prefixlen < _SHORTEST_PREFIX[addresses.version]


_TRUSTED: Final = "trusted_proxies"
