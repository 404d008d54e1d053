"""What works in a configuration, but hardly as its author wishes."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from proxy.daemon.crosscheck import Values, Ways, way
from proxy.daemon.endpoints import Endpoint, Place
from proxy.daemon.model import BY_SRV, FORWARD, REVERSE, Caution
from proxy.daemon.plugin_tables import Chain
from proxy.daemon.remote import BY_DNS, FIXED, PolicyTable
from proxy.daemon.served import NO_SERVER, SERVERS, own_endpoint
from proxy.daemon.tables import Placed
from proxy.session.kinds import Kind
from proxy.session.options import options_of
from proxy.session.rules import TLSRule
from proxy.trust.policy import Dialback, Level, Pattern


def lax(
    chain: Chain,
    domains: Iterable[Placed[Values]],
    listeners: Sequence[Placed[Values]],
    policies: Iterable[Placed[Values]],
) -> list[Caution]:
    """Find what leaves open what TLS is there to close."""
    found = [caution for table in listeners for caution in _lax_listener(table)]
    if (
        chain.names is not None
        and "features" not in chain.names
        and any(
            table.value.get("stream") is Kind.C2S
            and table.value.get("tls") not in (None, TLSRule.NONE)
            for table in listeners
        )
    ):
        text = (
            'without the plugin "features" clients are offered what cannot hold across a proxy, '
            "such as channel binding, and may fail to log in"
        )
        found.append(Caution(chain.file, "plugins.chain", text))
    for table in domains:
        for kind, name in SERVERS.items():
            server = own_endpoint(table.value.get(name, NO_SERVER))
            if server is not None and server.is_global:
                text = (
                    f"{server} is a public address: {_BARED[kind]} cross the network in plaintext"
                )
                found.append(Caution(table.file, f"{table.key}.{name}", text))
    forwarded = Ways.of(listeners).kinds(FORWARD)
    for table in policies:
        text = _LAX_LEVELS.get(table.value.get("level"), "")
        if text and forwarded:
            bared = ", ".join(_BARED[kind] for kind in forwarded)
            found.append(Caution(table.file, f"{table.key}.level", text.format(bared=bared)))
    return found


def _lax_listener(table: Placed[Values]) -> Iterator[Caution]:
    kind, rule = table.value.get("stream"), table.value.get("tls")
    place: Place | None = table.value.get("address")
    forward = table.value.get("direction") == FORWARD
    if kind is None:
        return
    text = (_LAX_FORWARD if forward else _LAX).get(rule, "")
    if text:
        said = text.format(bared=_BARED[kind], peers=kind.peers, begin=_BEGIN[kind])
        yield Caution(table.file, f"{table.key}.tls", said)
    for address in () if place is None else place.endpoints:
        if not forward or address.is_loopback:
            continue
        text = (
            f"{address} is not loopback: {_BARED[kind]} cross the network in plaintext, and "
            f"whoever can connect to it can {_USE[kind]}"
        )
        if _is_public(address) and table.value.get("destination") == BY_SRV:
            text += ": listen on 127.0.0.1"
        yield Caution(table.file, f"{table.key}.address", text)


def _is_public(address: Endpoint) -> bool:
    """Whether an address to listen on is one of the public Internet, or every address."""
    return address.is_global or ipaddress.ip_address(address.host).is_unspecified


_BARED: Final = {
    Kind.C2S: "passwords",
    Kind.S2S: "dialback keys and stanzas",
    Kind.COMPONENT: "handshakes and stanzas",
}
"""By kind of stream: what plaintext gives away."""

_BEGIN: Final = {Kind.C2S: "log in", Kind.S2S: "connect", Kind.COMPONENT: "connect"}

_USE: Final = {
    Kind.C2S: "use it",
    Kind.S2S: "speak for every [[domain]]",
    Kind.COMPONENT: "use it",
}

_LAX: Final[dict[TLSRule | None, str]] = {
    TLSRule.REPORT: 'with "report" nothing is enforced: {peers} may {begin} without TLS',
    TLSRule.NONE: 'with "none" no TLS is offered: {peers} {begin} without it',
}
_LAX_FORWARD: Final[dict[TLSRule | None, str]] = {
    TLSRule.REPORT: (
        'with "report" nothing is enforced: {bared} go to servers that do not meet their policy'
    ),
}
_LAX_LEVELS: Final[dict[Level | None, str]] = {
    Level.NONE: 'with "none" {bared} go to the server in plaintext',
    Level.MAY: (
        'with "may" {bared} go to the server in plaintext when it offers no TLS, or when '
        "somebody on the way hides the offer"
    ),
}


def idle(
    domains: Iterable[Placed[Values]],
    listeners: Sequence[Placed[Values]],
    policies: Iterable[Placed[Values]],
) -> list[Caution]:
    """Find what no listener has a use for, or lacks for its own; the tables must be all."""
    ways = Ways.of(listeners)
    found = [
        Caution(table.file, f"{table.key}.{name}" if name else table.key, f"does nothing: {why}")
        for tables, reasons in ((domains, _idle_domain), (policies, _idle_policy))
        for table in tables
        for name, why in reasons(table, ways, listeners)
    ]
    found += _one_way(ways, listeners, policies)
    found += _shut_out(ways, listeners, policies)
    found += _our_own(ways, domains, listeners, policies)
    return found


def _one_way(
    ways: Ways, listeners: Iterable[Placed[Values]], policies: Iterable[Placed[Values]]
) -> Iterator[Caution]:
    """Find listeners for other servers that lack the one for ours, about which ours must ask."""
    if not ways.lack(FORWARD, Kind.S2S):
        return
    text = (
        f"no listener has {way(FORWARD, Kind.S2S)}: servers are not offered SASL EXTERNAL, and "
        "dialback ends only if your server reaches others without Bascule"
    )
    if any(table.value.get("dialback") is Dialback.NEVER for table in policies):
        text += '; and nobody can prove a domain that a policy with dialback = "never" is about'
    for table in _welcoming(listeners):
        yield Caution(table.file, table.key, text)


def _shut_out(
    ways: Ways, listeners: Iterable[Placed[Values]], policies: Iterable[Placed[Values]]
) -> Iterator[Caution]:
    """Find policies for servers without TLS, where no such server may connect to ours."""
    demands = [table.value.get("tls") for table in _welcoming(listeners)]
    if not (ways.sure and demands and set(demands) <= {TLSRule.REQUIRED, TLSRule.DIRECT}):
        return
    text = (
        "a server that knows no TLS cannot connect to yours, nor can dialback with it end: every "
        "reverse listener for servers demands TLS"
    )
    for table in policies:
        if table.value.get("level") is Level.NONE:
            yield Caution(table.file, f"{table.key}.level", text)


def _welcoming(listeners: Iterable[Placed[Values]]) -> Iterator[Placed[Values]]:
    """Find the listeners for other servers."""
    for table in listeners:
        if (table.value.get("direction"), table.value.get("stream")) == (REVERSE, Kind.S2S):
            yield table


def _our_own(
    ways: Ways,
    domains: Iterable[Placed[Values]],
    listeners: Sequence[Placed[Values]],
    policies: Iterable[Placed[Values]],
) -> Iterator[Caution]:
    """Find domains of ours where those of others are meant.

    A fixed server may well be that of another domain of ours, and clients may be led to any.
    """
    about = [(table.value["domain"], table) for table in policies if "domain" in table.value]
    names = {table.value.get("name") for table in domains}
    names -= {
        pattern.text
        for pattern, table in about
        if table.value.get(FIXED[Kind.S2S], BY_DNS) != BY_DNS
    }
    for table in listeners:
        if (table.value.get("direction"), table.value.get("stream")) == (FORWARD, Kind.S2S):
            for each in table.value.get("domains", ()):
                if each.text in names:
                    text = f'{_ONE_OF_OURS.format(each)} that your server may reach, "*" for all'
                    yield Caution(table.file, f"{table.key}.domains", text)
    for_clients = [table for table in listeners if table.value.get("stream") is not Kind.S2S]
    for pattern, table in about:
        used = not ways.lack(REVERSE, Kind.S2S) or _reached(pattern, listeners)
        if pattern.text in names and used and not _reached(pattern, for_clients):
            text = f"{_ONE_OF_OURS.format(pattern)}, which must prove themselves"
            yield Caution(table.file, f"{table.key}.domain", text)


_ONE_OF_OURS: Final = "{} is a [[domain]]; what is meant here are domains of others"


def _idle_domain(
    table: Placed[Values], ways: Ways, _listeners: Sequence[Placed[Values]]
) -> Iterator[tuple[str, str]]:
    """Name the options of a domain that do nothing, or the whole by an empty name, and say why."""
    if ways.lack(REVERSE) and ways.lack(kind=Kind.S2S):
        yield "", f"no listener has {way(REVERSE)} or {way(kind=Kind.S2S)}"
        return
    for kind, name in SERVERS.items():
        if table.value.get(name, NO_SERVER) != NO_SERVER and ways.lack(REVERSE, kind):
            yield name, f"no listener has {way(REVERSE, kind)}"


def _idle_policy(
    table: Placed[Values], ways: Ways, listeners: Sequence[Placed[Values]]
) -> Iterator[tuple[str, str]]:
    """Name the options of a policy as `_idle_domain` does those of a domain."""
    if ways.lack(FORWARD) and ways.lack(kind=Kind.S2S):
        yield "", f"no listener has {way(FORWARD)} or {way(kind=Kind.S2S)}"
        return
    about = table.value.get("domain")
    # Servers of any domain may connect to a listener for them.
    if about is not None and ways.lack(REVERSE, Kind.S2S) and not _reached(about, listeners):
        yield "domain", "no forward listener leads to such a domain"
        return
    defaults = {option.name: option.default for option in options_of(PolicyTable)}
    for name, (direction, kind) in _NEEDED.items():
        if table.value.get(name, defaults[name]) != defaults[name] and ways.lack(direction, kind):
            yield name, f"no listener has {way(direction, kind)}"


_NEEDED: Final[dict[str, tuple[str | None, Kind | None]]] = {
    "dialback": (None, Kind.S2S),
    **{name: (FORWARD, kind) for kind, name in FIXED.items()},
    "min_version": (FORWARD, None),
    "private_addresses": (FORWARD, None),
    "approval_timeout": (FORWARD, None),
    "posh": (FORWARD, None),
}
"""By option of a policy: the direction and the kind of the listeners that have a use for it."""


def _reached(about: Pattern, listeners: Iterable[Placed[Values]]) -> bool:
    """Whether a forward listener may lead to such a domain."""
    allowed = [
        table.value.get("domains") for table in listeners if table.value.get("direction") == FORWARD
    ]
    return None in allowed or any(
        _meet(about, pattern) for patterns in allowed for pattern in patterns or ()
    )


def _meet(first: Pattern, second: Pattern) -> bool:
    """Whether there may be a domain that both patterns are for."""

    def sample(pattern: Pattern) -> str:
        return pattern.text.replace("*", "x")

    return first.matches(sample(second)) or second.matches(sample(first))
