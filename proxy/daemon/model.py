"""What a configuration says: its options, each declared once, and the values made from them."""

from pathlib import Path
from typing import Any, Final

import attrs

from proxy.daemon.alerting.table import AlertsTable
from proxy.daemon.endpoints import Place, listening_place, network
from proxy.daemon.metrics.table import MetricsTable
from proxy.daemon.remote import PolicyTable, Resolver, ResolverTable, pattern
from proxy.daemon.served import Domain, DomainTable
from proxy.daemon.state import StateTable
from proxy.net.proxied import Network
from proxy.net.proxy_protocol import Versions
from proxy.session.kinds import Kind
from proxy.session.options import one_line, option
from proxy.session.rules import TLSRule
from proxy.trust.policy import Pattern, Policy

LONGEST_DEADLINE = 86400
"""Seconds: beyond a day a deadline is no deadline, and timers may not take it."""

LONGEST_DRAIN = 3600
"""Seconds: nobody waits longer for a daemon that is to stop."""

REVERSE: Final = "reverse"
FORWARD: Final = "forward"
"""The directions of a listener."""

BY_SRV: Final = "srv"
ORIGINAL: Final = "original"
"""What says where a forward listener connects to."""


@attrs.frozen
class Finding:
    """Something about a configuration that its author should know.

    ``str()`` gives one printable line: file, key, and what is to be said; ``key`` is empty where
    the whole file is meant.
    """

    file: Path
    key: str
    text: str

    def __str__(self) -> str:
        parts = (str(self.file), self.key, self.text)
        return one_line(": ".join(part for part in parts if part))


@attrs.frozen
class Mistake(Finding):
    """What keeps Bascule from starting."""


@attrs.frozen
class Caution(Finding):
    """What does not keep Bascule from starting, but is likely to hurt."""

    def __str__(self) -> str:
        parts = (str(self.file), self.key, "warning", self.text)
        return one_line(": ".join(part for part in parts if part))


@attrs.frozen
class PluginsTable:
    """The table ``[plugins]``."""

    chain: tuple[str, ...] = option(
        default=("require_tls", "features", "limits"),
        help=(
            "The plugins that every session passes, in this order: the first that refuses wins. "
            "Each may have a table of its own, [plugins.NAME]. A plugin of another distribution "
            "is used by its name too, once that is installed."
        ),
    )


@attrs.frozen
class Deadlines:
    """The table ``[deadlines]``: how long a peer may take, in seconds."""

    negotiation: float = option(
        default=15.0,
        above=0,
        maximum=LONGEST_DEADLINE,
        unit="seconds",
        help=(
            "From the moment a connection is accepted until TLS is up. It bounds what a peer that "
            "says nothing, or one byte at a time, can hold."
        ),
    )
    authentication: float = option(
        default=60.0,
        above=0,
        maximum=LONGEST_DEADLINE,
        unit="seconds",
        help=(
            "From then until the client has authenticated, or a server has proved a domain. People "
            "may be typing a password; more than a minute mostly serves those who hold connections "
            "open on purpose."
        ),
    )
    connect: float = option(
        default=15.0,
        above=0,
        maximum=LONGEST_DEADLINE,
        unit="seconds",
        help=(
            "For the connection to the server, until its stream is ready: of a forward listener, "
            "looking it up in DNS, every address that is tried and TLS included. After it who "
            "connected is told that the server cannot be reached."
        ),
    )
    drain: float = option(
        default=10.0,
        minimum=0,
        maximum=LONGEST_DRAIN,
        unit="seconds",
        help=(
            "Over which sessions are ended one after another when Bascule stops or is drained, so "
            "that not all of them connect again at once. It takes less where there are few: 20 ms "
            "for each. 0: all are ended at once. systemd must allow it (TimeoutStopSec), where "
            "Bascule cannot ask it for more time."
        ),
    )


@attrs.frozen
class Listener:
    """One table ``[[listener]]``: where connections are accepted, and under which rule."""

    name: str = option(
        minimum=1,
        maximum=64,
        example="c2s",
        help="What the log calls this listener.",
    )
    direction: str = option(
        choices=(REVERSE, FORWARD),
        example=REVERSE,
        help=(
            "reverse: TLS towards those who connect, plaintext to the server behind, which "
            "[[domain]] names. forward: plaintext towards those who connect, TLS to the server of "
            "the domain they ask for, wherever it is, as [[policy]] demands."
        ),
    )
    stream: Kind = option(
        example="c2s",
        help=(
            "Who connects. c2s: clients. s2s: servers; to a reverse listener those of other "
            "domains, to a forward listener the server behind Bascule, which reaches the others "
            "there. What servers send to each other takes a listener of each direction. component: "
            "components (XEP-0114), such as gateways; to reverse listeners that demand direct TLS "
            "alone, for their streams have no STARTTLS."
        ),
    )
    address: Place = option(
        parse=listening_place,
        allowed="an IP address and a port, as 192.0.2.1:5222 or [::]:5222, or systemd:NAME",
        example="[::]:5222",
        help=(
            "The address and port to listen on. [::] means every address of the machine, of IPv4 "
            "too unless the system says otherwise (net.ipv6.bindv6only); 0.0.0.0 means every "
            "address of IPv4. A listener on every address leaves its port to no other one. "
            "Port 0 takes any free one. systemd:NAME takes the sockets, one or several, that a "
            "socket unit of systemd with FileDescriptorName=NAME passes to the service: they stay "
            "open while it restarts, so that no connection is refused. A forward listener takes in "
            "plaintext what those who connect send, such as passwords, and for servers it speaks "
            "in the name of every [[domain]]: keep it on loopback, or on a network that nobody "
            "else uses."
        ),
    )
    tls: TLSRule = option(
        default=TLSRule.REQUIRED,
        help=(
            "Of a reverse listener, what is demanded of those who connect. required: TLS before "
            "anything else, by STARTTLS or direct TLS on the same port. direct: direct TLS only, "
            "which listeners for components must have. report: TLS is offered but nothing is "
            "enforced, and the log tells who would have been refused. none: plaintext only. Of a "
            "forward listener, what becomes of servers that do not meet their domain's policy. "
            "required: they are refused before they get anything of what was sent to them. "
            "report: nobody is refused, and the log tells who would have been."
        ),
    )
    proxy_protocol: Versions = option(
        default=Versions.NONE,
        help=(
            "Whether connections come through another proxy, such as HAProxy, which says in a "
            "header of the PROXY protocol whose they are: v1 is its line of text, v2 its binary "
            "form, any either. Connections then come from trusted_proxies alone, and each must "
            "begin with a header; logs and limits have the address that it tells."
        ),
    )
    trusted_proxies: tuple[Network, ...] = option(
        default=(),
        parse=network,
        allowed="an IP address, or a network as 10.0.0.0/8 or 2001:db8::/32",
        help=(
            "Where those proxies are; it must be set with proxy_protocol. Whoever connects from "
            "there can claim any address, and whoever connects from elsewhere is refused."
        ),
    )
    domains: tuple[Pattern, ...] = option(
        default=(),
        parse=pattern,
        allowed='a domain name, "*." before one, or "*"',
        help=(
            "Of a forward listener, which must set it: the domains whose servers may be reached "
            "through it. *.example.org means every domain below example.org, but not example.org "
            "itself, and * means every domain. Any other is refused before it is looked up. For "
            "servers these are domains of others: your own need no way to themselves."
        ),
    )
    destination: str = option(
        default=BY_SRV,
        choices=(BY_SRV, ORIGINAL),
        help=(
            "Of a forward listener. srv: it connects to where the domain's SRV records lead, or "
            "its policy. original: the packet filter redirects connections to it that were meant "
            "for the server itself, and it connects to where they were going, if that is an "
            "address of the domain's. Those who connect then need no settings of their own."
        ),
    )
    tproxy: bool = option(
        default=False,
        help=(
            'Of a forward listener with destination = "original": whether nftables hands the '
            "connections over by tproxy, which leaves their addresses as they are, and not by "
            "redirect. Listening so takes the capability CAP_NET_RAW or CAP_NET_ADMIN."
        ),
    )
    unlisted_destinations: bool = option(
        default=False,
        help=(
            'Of a forward listener with destination = "original": whether it connects also to '
            "addresses that DNS does not name for the domain. The server must still prove that it "
            "is the domain's, but those who connect may then have Bascule connect to any address."
        ),
    )

    def leads_to(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) may be reached through it."""
        return any(pattern.matches(domain) for pattern in self.domains)


FORWARD_ONLY: Final = ("domains", "destination", "tproxy", "unlisted_destinations")
"""The options of a listener that mean something for forward listeners alone."""


@attrs.frozen
class PluginSetting:
    """One place of the plugin chain: a plugin's name, its class, and its own configuration."""

    name: str
    plugin: type[Any]
    config: Any


@attrs.frozen
class Conf:
    """A whole configuration without mistakes."""

    plugins: tuple[PluginSetting, ...]
    deadlines: Deadlines
    domains: tuple[Domain, ...]
    listeners: tuple[Listener, ...]
    policies: tuple[Policy, ...]
    dns: Resolver
    state: StateTable = attrs.field(factory=StateTable)
    alerts: AlertsTable = attrs.field(factory=AlertsTable)
    metrics: MetricsTable = attrs.field(factory=MetricsTable)

    @property
    def state_directory(self) -> Path:
        """Where state is kept."""
        return self.state.state_directory


@attrs.frozen
class Section:
    """A table of the configuration, or an array of tables: its name and what declares its keys.

    ``naming`` is the option by which messages tell one table of an array from another;
    ``optional``, whether most configurations do without the array.
    """

    name: str
    help: str
    declaring: type[Any]
    array: bool
    naming: str = "name"
    optional: bool = False


PLUGINS = Section(
    name="plugins",
    help="What is demanded of a session, beyond the order of negotiation itself.",
    declaring=PluginsTable,
    array=False,
)
DEADLINES = Section(
    name="deadlines",
    help="How long a peer may take. A session that is up may stay idle as long as it likes.",
    declaring=Deadlines,
    array=False,
)
DOMAINS = Section(
    name="domain",
    help=(
        "One table for each domain that a server behind Bascule serves; at least one where there "
        "is a reverse listener, or one for servers. It has at least one server, unless its server "
        "only connects to others."
    ),
    declaring=DomainTable,
    array=True,
)
LISTENERS = Section(
    name="listener",
    help="One table for each address on which connections are accepted; at least one.",
    declaring=Listener,
    array=True,
)
POLICIES = Section(
    name="policy",
    help=(
        "One table for each domain, or group of domains, whose server must prove itself otherwise "
        "than by the defaults, which hold for all that none is about: to forward listeners, and to "
        "reverse ones for servers."
    ),
    declaring=PolicyTable,
    array=True,
    naming="domain",
    optional=True,
)
DNS = Section(
    name="dns",
    help="How forward listeners find the servers of domains.",
    declaring=ResolverTable,
    array=False,
)
BASCULE = Section(
    name="bascule",
    help="What concerns the whole of Bascule.",
    declaring=StateTable,
    array=False,
)
ALERTS = Section(
    name="alerts",
    help=(
        "How operators are told, beside the log, of what needs them: certificates to be permitted, "
        "possible breaches, certificates that end."
    ),
    declaring=AlertsTable,
    array=False,
)
METRICS = Section(
    name="metrics",
    help="What monitoring is told.",
    declaring=MetricsTable,
    array=False,
)
SECTIONS = (PLUGINS, DEADLINES, DOMAINS, LISTENERS, POLICIES, DNS, ALERTS, METRICS, BASCULE)
