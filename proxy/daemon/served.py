"""Options about the domains that servers behind Bascule serve, and the values made from them."""

from pathlib import Path
from typing import Final

import attrs

from proxy.daemon.endpoints import Endpoint, server_endpoint
from proxy.net.proxy_protocol import Versions
from proxy.session.kinds import Kind
from proxy.session.options import option
from proxy.xmpp.domains import domain

NO_SERVER: Final = "none"
"""What stands for a server that a domain does not have."""

SERVERS: Final[dict[Kind, str]] = {kind: f"{kind.value}_server" for kind in Kind}
"""By kind of stream: the option that says where the domain's server accepts such streams."""

PROXY_PROTOCOLS: Final[dict[Kind, str]] = {
    kind: f"{kind.value}_proxy_protocol" for kind in Kind if kind is not Kind.COMPONENT
}
"""By kind of stream: the option that says whether that server gets a header of the PROXY protocol.

There is none for components: their servers let in whoever knows the secret, wherever it is.
"""

_ALLOWED: Final = 'a host and a port, as 127.0.0.1:{0} or [::1]:{0}, or "none"'


@attrs.frozen
class CertificateFiles:
    """One certificate, with its chain, and the private key that belongs to it."""

    certificate: Path
    private_key: Path


@attrs.frozen
class Domain:
    """A domain that legacy servers behind Bascule serve.

    ``name`` is in A-labels and lower case. There is at least one certificate; several are of
    different key types. Without any server the domain is one whose server only connects to others.
    """

    name: str
    certificates: tuple[CertificateFiles, ...]
    c2s_server: Endpoint | None = None
    s2s_server: Endpoint | None = None
    component_server: Endpoint | None = None
    c2s_proxy_protocol: Versions = Versions.NONE
    s2s_proxy_protocol: Versions = Versions.NONE

    def server(self, kind: Kind) -> Endpoint | None:
        """Return where the domain's server accepts streams of a kind; ``None`` if it does not."""
        return {
            Kind.C2S: self.c2s_server,
            Kind.S2S: self.s2s_server,
            Kind.COMPONENT: self.component_server,
        }[kind]

    def tells(self, kind: Kind) -> bool:
        """Whether that server gets a header of the PROXY protocol; those of components never do."""
        versions = {Kind.C2S: self.c2s_proxy_protocol, Kind.S2S: self.s2s_proxy_protocol}
        return versions.get(kind, Versions.NONE) is not Versions.NONE


def own_server(text: str) -> str:
    """Read where a domain's own server is: a host and a port, or the word for there being none.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    return text if text == NO_SERVER else str(server_endpoint(text))


def own_endpoint(server: str) -> Endpoint | None:
    """Give the endpoint of what `own_server` gave; ``None`` if there is no server."""
    return None if server == NO_SERVER else server_endpoint(server)


@attrs.frozen
class DomainTable:
    """One table ``[[domain]]`` as it stands in a file, its paths made absolute.

    A word stands for a server that there is not. An empty text is not that word: it would be what
    fails to be filled in.
    """

    name: str = option(
        parse=domain,
        allowed="a domain name",
        example="example.com",
        help=(
            "The domain, as it stands after the @ of its users' addresses. It is what certificates "
            "must prove and what is asked for by those who connect, whatever the machines are "
            "called."
        ),
    )
    certificate: tuple[Path, ...] = option(
        lone=True,
        minimum=1,
        example="/etc/bascule/tls/example.com.crt",
        help=(
            "A PEM file: the domain's own certificate first, then the rest of its chain without "
            "the root. An array of several files lets certificates of different key types (ECDSA "
            "and RSA) serve side by side. Other servers are shown it too when the domain's server "
            "connects to them. A relative path starts at this file's directory."
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
    c2s_server: str = option(
        default=NO_SERVER,
        parse=own_server,
        allowed=_ALLOWED.format(15222),
        example="127.0.0.1:15222",
        help=(
            "Where the domain's server accepts its clients in plaintext. Passwords cross this "
            "connection as the client sent them: keep it on the same machine, or on a network "
            "that nobody else reads. none: it accepts none, or not through Bascule."
        ),
    )
    s2s_server: str = option(
        default=NO_SERVER,
        parse=own_server,
        allowed=_ALLOWED.format(15269),
        help=(
            "Where the domain's server accepts other servers in plaintext, which without Bascule "
            "would be port 5269; it is never the port for clients. It believes what server "
            "dialback (XEP-0220) proves, and whoever can read or write on this connection can "
            "forge that: keep it as close as that of clients. none: it accepts none, or not "
            "through Bascule."
        ),
    )
    component_server: str = option(
        default=NO_SERVER,
        parse=own_server,
        allowed=_ALLOWED.format(15347),
        help=(
            "Where a server accepts the component (XEP-0114) whose domain this is, in plaintext: "
            "name is then the component's own domain, such as irc.example.com. Who can read this "
            "connection can guess at the component's secret. none: the domain is not one of a "
            "component, or not through Bascule."
        ),
    )
    c2s_proxy_protocol: Versions = option(
        default=Versions.NONE,
        choices=(Versions.NONE.value, Versions.V2.value),
        help=(
            "Whether c2s_server is told of each client in a header of the PROXY protocol: its "
            "address, the domain, and TLS. The server must expect such a header, and should "
            "believe it from Bascule alone. Without it the server sees all clients come from "
            "Bascule's own address."
        ),
    )
    s2s_proxy_protocol: Versions = option(
        default=Versions.NONE,
        choices=(Versions.NONE.value, Versions.V2.value),
        help=(
            "Whether s2s_server is told in the same way of each server that connects. Without it "
            "the server sees all others come from Bascule's own address, which it must not trust "
            "for that."
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
            c2s_server=own_endpoint(self.c2s_server),
            s2s_server=own_endpoint(self.s2s_server),
            component_server=own_endpoint(self.component_server),
            c2s_proxy_protocol=self.c2s_proxy_protocol,
            s2s_proxy_protocol=self.s2s_proxy_protocol,
        )

    @classmethod
    def of(cls, domain: Domain) -> "DomainTable":
        """Write a domain as its table again."""
        return cls(
            name=domain.name,
            certificate=tuple(files.certificate for files in domain.certificates),
            private_key=tuple(files.private_key for files in domain.certificates),
            c2s_server=str(domain.c2s_server or NO_SERVER),
            s2s_server=str(domain.s2s_server or NO_SERVER),
            component_server=str(domain.component_server or NO_SERVER),
            c2s_proxy_protocol=domain.c2s_proxy_protocol,
            s2s_proxy_protocol=domain.s2s_proxy_protocol,
        )

    def idle(self) -> tuple[str, ...]:
        """Name the options that do nothing, for the server they are about is not there."""
        return tuple(
            name
            for kind, name in PROXY_PROTOCOLS.items()
            if getattr(self, SERVERS[kind]) == NO_SERVER
        )
