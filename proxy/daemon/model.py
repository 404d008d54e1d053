"""What a configuration says: its options, each declared once, and the values made from them."""

from pathlib import Path
from typing import Any, Final

import attrs

from proxy.daemon.endpoints import Endpoint, listening_endpoint, network, server_endpoint
from proxy.daemon.remote import PolicyTable, Resolver, ResolverTable, pattern
from proxy.net.proxied import Network
from proxy.net.proxy_protocol import Versions
from proxy.session.options import one_line, option
from proxy.session.rules import TLSRule
from proxy.trust.policy import Pattern, Policy
from proxy.xmpp.domains import domain

LONGEST_DEADLINE = 86400
"""Seconds: beyond a day a deadline is no deadline, and timers may not take it."""

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
            "From then until the client has authenticated. People may be typing a password; more "
            "than a minute mostly serves those who hold connections open on purpose."
        ),
    )
    connect: float = option(
        default=15.0,
        above=0,
        maximum=LONGEST_DEADLINE,
        unit="seconds",
        help=(
            "For the connection to the server, until its stream is ready: of a forward listener, "
            "looking it up in DNS, every address that is tried and TLS included. After it the "
            "client is told that the server cannot be reached."
        ),
    )


@attrs.frozen
class CertificateFiles:
    """One certificate, with its chain, and the private key that belongs to it."""

    certificate: Path
    private_key: Path


@attrs.frozen
class Domain:
    """A domain that legacy servers behind Bascule serve.

    ``name`` is in A-labels and lower case. There is at least one certificate; several are of
    different key types.
    """

    name: str
    certificates: tuple[CertificateFiles, ...]
    c2s_server: Endpoint
    c2s_proxy_protocol: Versions = Versions.NONE


@attrs.frozen
class DomainTable:
    """One table ``[[domain]]`` as it stands in a file, its paths made absolute."""

    name: str = option(
        parse=domain,
        allowed="a domain name",
        example="example.com",
        help=(
            "The domain, as it stands after the @ of its users' addresses. It is what certificates "
            "must prove and what clients ask for, whatever the machines are called."
        ),
    )
    certificate: tuple[Path, ...] = option(
        lone=True,
        minimum=1,
        example="/etc/bascule/tls/example.com.crt",
        help=(
            "A PEM file: the domain's own certificate first, then the rest of its chain without "
            "the root. An array of several files lets certificates of different key types (ECDSA "
            "and RSA) serve side by side. A relative path starts at this file's directory."
        ),
    )
    private_key: tuple[Path, ...] = option(
        lone=True,
        minimum=1,
        example="/etc/bascule/tls/example.com.key",
        help=(
            "The PEM file of the private key, without a passphrase; with several certificates, an "
            "array of their keys in the same order. Only the service needs to read it."
        ),
    )
    c2s_server: Endpoint = option(
        parse=server_endpoint,
        allowed="a host and a port, as 127.0.0.1:15222 or [::1]:15222",
        example="127.0.0.1:15222",
        help=(
            "Where the domain's server accepts its clients in plaintext. Passwords cross this "
            "connection as the client sent them: keep it on the same machine, or on a network "
            "that nobody else reads."
        ),
    )
    c2s_proxy_protocol: Versions = option(
        default=Versions.NONE,
        choices=(Versions.NONE.value, Versions.V2.value),
        help=(
            "Whether that server is told of each client in a header of the PROXY protocol: its "
            "address, the domain, and TLS. The server must expect such a header, and should "
            "believe it from Bascule alone. Without it the server sees all clients come from "
            "Bascule's own address."
        ),
    )

    def domain(self) -> Domain:
        """Pair each certificate with its key.

        Raises:
            ValueError: There are not as many keys as certificates.
        """
        pairs = zip(self.certificate, self.private_key, strict=True)
        return Domain(
            name=self.name,
            certificates=tuple(CertificateFiles(*pair) for pair in pairs),
            c2s_server=self.c2s_server,
            c2s_proxy_protocol=self.c2s_proxy_protocol,
        )

    @classmethod
    def of(cls, domain: Domain) -> "DomainTable":
        """Write a domain as its table again."""
        return cls(
            name=domain.name,
            certificate=tuple(files.certificate for files in domain.certificates),
            private_key=tuple(files.private_key for files in domain.certificates),
            c2s_server=domain.c2s_server,
            c2s_proxy_protocol=domain.c2s_proxy_protocol,
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
            "reverse: TLS towards the clients that connect, plaintext to the server behind, which "
            "[[domain]] names. forward: plaintext towards the clients that connect, TLS to the "
            "server of their domain, wherever it is, as [[policy]] demands."
        ),
    )
    stream: str = option(
        choices=("c2s",),
        example="c2s",
        help="c2s: streams of clients.",
    )
    address: Endpoint = option(
        parse=listening_endpoint,
        allowed="an IP address and a port, as 192.0.2.1:5222 or [::]:5222",
        example="[::]:5222",
        help=(
            "The address and port to listen on. [::] means every address of the machine, of IPv4 "
            "too unless the system says otherwise (net.ipv6.bindv6only); 0.0.0.0 means every "
            "address of IPv4. A listener on every address leaves its port to no other one. "
            "Port 0 takes any free one. A forward listener takes passwords in "
            "plaintext: keep it on loopback, or on a network that nobody else reads."
        ),
    )
    tls: TLSRule = option(
        default=TLSRule.REQUIRED,
        help=(
            "Of a reverse listener, what is demanded of clients. required: TLS before anything "
            "else, by STARTTLS or direct TLS on the same port. direct: direct TLS only. report: "
            "TLS is offered but nothing is enforced, and the log tells who would have been "
            "refused. none: plaintext only. Of a forward listener, what becomes of servers that do "
            "not meet their domain's policy. required: they are refused before they get anything "
            "of the client's. report: nobody is refused, and the log tells who would have been."
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
            "there can claim to be any client, and whoever connects from elsewhere is refused."
        ),
    )
    domains: tuple[Pattern, ...] = option(
        default=(),
        parse=pattern,
        allowed='a domain name, "*." before one, or "*"',
        help=(
            "Of a forward listener, which must set it: the domains whose servers its clients may "
            "reach. *.example.org means every domain below example.org, but not example.org "
            "itself, and * means every domain. Any other is refused before it is looked up."
        ),
    )
    destination: str = option(
        default=BY_SRV,
        choices=(BY_SRV, ORIGINAL),
        help=(
            "Of a forward listener. srv: it connects to where the domain's SRV records lead, or "
            "its policy. original: the packet filter redirects connections to it that were meant "
            "for the server itself, and it connects to where they were going, if that is an "
            "address of the domain's. Clients then need no settings of their own."
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
            "is the domain's, but clients may then have Bascule connect to any address."
        ),
    )


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
        "is a reverse listener."
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
        "One table for each domain, or group of domains, whose server must prove itself to forward "
        "listeners otherwise than by the defaults, which hold for all that none is about."
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
SECTIONS = (PLUGINS, DEADLINES, DOMAINS, LISTENERS, POLICIES, DNS)
