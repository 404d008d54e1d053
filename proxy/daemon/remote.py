"""Options about remote domains: how they must prove themselves, and how their servers are found."""

from pathlib import Path
from typing import Final

import attrs

from proxy.daemon.endpoints import Endpoint, dns_server, server_endpoint
from proxy.net.validating import Validating
from proxy.session.kinds import Kind
from proxy.session.options import option
from proxy.trust.policy import Dialback, Level, OnChange, Pattern, Pin, Policy, Version

LONGEST_APPROVAL: Final = 3600
"""Seconds: nobody waits longer for an operator."""

BY_DNS: Final = "dns"
"""What stands for a server that DNS is to name."""

SYSTEM: Final = "system"
"""What stands for the certificate authorities that the system trusts."""

_WITH_TLS: Final = tuple(level for level in Level if level is not Level.NONE)
_WITH_PROOF: Final = tuple(level for level in Level if level.demands_proof)
_BY_AUTHORITY: Final = (Level.DANE, Level.KEYRING, Level.SECURE)
_BY_RECORDS: Final = (Level.DANE, Level.DANE_ONLY)

USES: Final = {
    "direct_tls": tuple(level for level in _WITH_TLS if level not in _BY_RECORDS),
    "s2s_direct_tls": tuple(level for level in _WITH_TLS if level not in _BY_RECORDS),
    "server": tuple(level for level in Level if level not in _BY_RECORDS),
    "s2s_server": tuple(level for level in Level if level not in _BY_RECORDS),
    "ca_file": (*_BY_RECORDS, Level.KEYRING, Level.SECURE),
    "crl_files": (*_BY_RECORDS, Level.KEYRING, Level.SECURE),
    "pins": _WITH_PROOF,
    "min_version": _WITH_TLS,
    "dialback": _WITH_TLS,
    "on_change": (Level.KEYRING,),
    "approval_timeout": (Level.KEYRING,),
    "posh": _BY_AUTHORITY,
}
"""The levels that have a use for an option of a policy; for any other level it does nothing."""

FIXED: Final = {Kind.C2S: "server", Kind.S2S: "s2s_server"}
"""By kind of stream: the option that says where the domain's server accepts such streams."""

DIRECT: Final = {Kind.C2S: "direct_tls", Kind.S2S: "s2s_direct_tls"}
"""By kind of stream: the option that says whether that server expects direct TLS."""


def pattern(text: str) -> Pattern:
    """Read which domains are meant: one, those below one (``*.example.org``), or all (``*``).

    Raises:
        ValueError: ``text`` is none of these; the message says why.
    """
    if text.startswith("*") and not text.startswith("*.") and text != "*":
        raise ValueError(f'write "*.{text[1:]}" for the domains below one')
    if "*" in text.removeprefix("*"):
        raise ValueError("a * stands for whole labels, and only at the beginning")
    return Pattern.parse(text)


def pin(text: str) -> Pin:
    """Read a pin.

    Raises:
        ValueError: ``text`` is none; the message does not say what is allowed.
    """
    try:
        return Pin.parse(text)
    except ValueError as error:
        raise ValueError("not a pin") from error


def fixed_server(text: str) -> str:
    """Read where a domain's server is: a host and a port, or the word for asking DNS.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    return text if text == BY_DNS else str(server_endpoint(text))


def fixed_endpoint(server: str) -> Endpoint | None:
    """Give the endpoint of what `fixed_server` gave; ``None`` if DNS is to be asked."""
    return None if server == BY_DNS else server_endpoint(server)


def anchors_file(text: str) -> str:
    """Read which file holds trust anchors: a path, or the word for those of the system.

    Raises:
        ValueError: ``text`` is neither.
    """
    if not text or "\0" in text:
        raise ValueError("not a path")
    return text


def anchors_path(ca_file: str, directory: Path) -> Path | None:
    """Give the path of a file of trust anchors, or ``None`` where the system's count.

    Args:
        ca_file: What `anchors_file` gave.
        directory: What relative paths are relative to.
    """
    return None if ca_file == SYSTEM else directory / ca_file


@attrs.frozen
class PolicyTable:
    """One table ``[[policy]]``; words stand for what is left to DNS or to the system.

    An empty text is none of these words: where something writes the file and fails to fill a value
    in, that must not weaken a policy.
    """

    domain: Pattern = option(
        parse=pattern,
        allowed='a domain name, "*." before one, or "*"',
        example="*",
        help=(
            "The domain, as it stands after the @ of its users' addresses. *.example.org means "
            "every domain below example.org, but not example.org itself, and * means every domain. "
            "Of several policies that are about a domain the most specific counts, and nothing of "
            "the others."
        ),
    )
    level: Level = option(
        default=Level.SECURE,
        help=(
            "What a server must prove before it gets anything of what was sent to it. secure: TLS, "
            "and a valid certificate for the domain by an authority that is trusted. keyring: the "
            "same, but a certificate that nobody vouches for is held until an operator permits it "
            "(bascule keyring approve), each one is remembered, and another one than before is "
            "told of as a possible breach. dane: where DNSSEC shows that the server has TLSA "
            "records, it must prove itself by them, otherwise as with secure. dane-only: by TLSA "
            "records, or not at all. pin: TLS, and "
            "a key that is among the pins, whatever the certificate says. encrypt: TLS, whoever "
            "answers; who can redirect the connection can read it. may: TLS where the server "
            "offers it, otherwise plaintext; but a domain that once had TLS is not reached without "
            "any more. none: plaintext, for servers that know no TLS. A "
            "level below pin gives passwords and stanzas to anyone who stands in the way; it is "
            "for servers that you reach by a network of your own. The certificates of servers that "
            "connect are judged by the same measure; whether they must use TLS is what the "
            "listener's tls says."
        ),
    )
    dialback: Dialback = option(
        default=Dialback.ALLOW,
        help=(
            "Between servers, whether server dialback (XEP-0220) will do where a certificate does "
            "not. allow: a server that connects, and whose certificate does not prove its domain, "
            "may prove it by dialback under TLS instead; and towards a server that does not take "
            "our certificate (SASL EXTERNAL), our own server's dialback is used. never: "
            "certificates must prove both sides, and no stanza goes to a server that does not take "
            "ours. What a server must prove that Bascule connects to, level alone says."
        ),
    )
    server: str = option(
        default=BY_DNS,
        parse=fixed_server,
        allowed='a host and a port, as 127.0.0.1:25222 or [::1]:25222, or "dns"',
        help=(
            "Where the domain's server accepts clients, if DNS is not to be asked: a host and a "
            "port. The certificate must name the domain all the same, not this host. dns: where "
            "the domain's SRV records lead."
        ),
    )
    direct_tls: bool = option(
        default=False,
        help=(
            "Whether the server that is set as server expects TLS from the first byte (XEP-0368), "
            "as on port 5223, instead of STARTTLS. Where DNS is asked, its records tell."
        ),
    )
    s2s_server: str = option(
        default=BY_DNS,
        parse=fixed_server,
        allowed='a host and a port, as 127.0.0.1:25269 or [::1]:25269, or "dns"',
        help="Where the domain's server accepts other servers, likewise.",
    )
    s2s_direct_tls: bool = option(
        default=False,
        help=(
            "Whether the server that is set as s2s_server expects TLS from the first byte, as on "
            "port 5270, instead of STARTTLS."
        ),
    )
    ca_file: str = option(
        default=SYSTEM,
        parse=anchors_file,
        allowed='a path, or "system"',
        help=(
            "A PEM file with the certificates of the authorities that are trusted for this domain, "
            "and no others: for a server whose certificate comes from an authority of your own. A "
            "relative path starts at this file's directory. system: those that the operating "
            "system trusts."
        ),
    )
    crl_files: tuple[Path, ...] = option(
        default=(),
        help=(
            "Files of revocation lists (CRLs), in PEM, any number in a file, or one in DER. A "
            "certificate that its issuer has put on one of them is refused, and so is one with a "
            "revoked authority above it. The lists of an authority count for what that authority "
            "has issued; who has a certificate by another one is not concerned. Where there are "
            "lists of an authority, one must be about the certificate, and none that is may be out "
            "of date: then nobody with a certificate by that authority is believed. A file that is "
            "replaced is taken up within a minute; none is fetched. Relative paths start at this "
            "file's directory."
        ),
    )
    pins: tuple[Pin, ...] = option(
        default=(),
        parse=pin,
        allowed=(
            'the SHA-256 of a public key, written as "sha256:" and 44 characters of Base64, as '
            '"sha256:" and 64 hexadecimal digits, or as those digits alone'
        ),
        help=(
            "Public keys, each by its hash (SHA-256 of the SubjectPublicKeyInfo in DER), one of "
            "which the server's certificate must have. With level secure it must have one of them "
            "besides all else, and so it is with dane and dane-only; with keyring the pins are "
            "what is permitted beforehand, and any other key waits for an operator. bascule probe "
            "prints the pin of each server's key as it may stand "
            "here. Add the next key's pin before the server changes its key."
        ),
    )
    min_version: Version = option(
        default=Version.TLS_1_2,
        help=(
            "The oldest version of TLS that is spoken with the server when Bascule connects to it. "
            "Raise it where the server is known to speak TLS 1.3."
        ),
    )
    private_addresses: bool = option(
        default=False,
        help=(
            "Whether DNS may lead to loopback, private and link-local addresses and to those of "
            "this machine. Otherwise they are passed over, so that nobody's DNS can point Bascule "
            "at machines of your network. Set it for a domain whose servers are there. Addresses "
            "that are set as server or s2s_server are not concerned."
        ),
    )

    on_change: OnChange = option(
        default=OnChange.NOTIFY,
        help=(
            "With level keyring, what becomes of a certificate that is proved, but is another one "
            "than before, as after each renewal. notify: it is let in, and you are told. hold: it "
            "waits until you permit it. Where you have permitted a certificate yourself, or pins "
            "did, every other one waits."
        ),
    )
    approval_timeout: float = option(
        default=0,
        minimum=0,
        maximum=LONGEST_APPROVAL,
        unit="seconds",
        help=(
            "With level keyring, how long a session waits for you to permit a certificate. 0: not "
            "at all; it is refused, and will do once you have permitted it. Old clients seldom "
            "wait longer than a minute themselves. Servers that connect never wait."
        ),
    )
    posh: bool = option(
        default=False,
        help=(
            "Whether the domain's web site may say which certificate its servers have (POSH, RFC "
            "7711), where the certificate does not name the domain or no authority vouches for it: "
            "for domains that are hosted under another name. It is asked by HTTPS, with a "
            "certificate for the domain by an authority that is trusted for it: one of ca_file if "
            "that is set, otherwise one of the system's."
        ),
    )

    def idle(self) -> tuple[str, ...]:
        """Name the options that do nothing at the policy's level."""
        return tuple(name for name, uses in USES.items() if self.level not in uses)

    def policy(self, directory: Path) -> Policy:
        """Make the policy that the table describes; relative paths start at ``directory``."""
        return Policy(
            domain=self.domain,
            level=self.level,
            server=_pair(self.server),
            direct_tls=self.direct_tls,
            anchors=anchors_path(self.ca_file, directory),
            pins=frozenset(self.pins),
            min_version=self.min_version,
            private_addresses=self.private_addresses,
            dialback=self.dialback,
            s2s_server=_pair(self.s2s_server),
            s2s_direct_tls=self.s2s_direct_tls,
            on_change=self.on_change,
            approval_timeout=self.approval_timeout,
            posh=self.posh,
            crl_files=tuple(directory / path for path in self.crl_files),
        )

    @classmethod
    def of(cls, policy: Policy) -> "PolicyTable":
        """Write a policy as its table again."""
        return cls(
            domain=policy.domain,
            level=policy.level,
            dialback=policy.dialback,
            server=_written(policy.server),
            direct_tls=policy.direct_tls,
            s2s_server=_written(policy.s2s_server),
            s2s_direct_tls=policy.s2s_direct_tls,
            ca_file=SYSTEM if policy.anchors is None else str(policy.anchors),
            pins=tuple(sorted(policy.pins)),
            min_version=policy.min_version,
            private_addresses=policy.private_addresses,
            on_change=policy.on_change,
            approval_timeout=policy.approval_timeout,
            posh=policy.posh,
            crl_files=policy.crl_files,
        )


def _pair(server: str) -> tuple[str, int] | None:
    endpoint = fixed_endpoint(server)
    return None if endpoint is None else (endpoint.host, endpoint.port)


def _written(server: tuple[str, int] | None) -> str:
    return BY_DNS if server is None else str(Endpoint(*server))


@attrs.frozen
class Resolver:
    """Whom to ask for DNS records: addresses and ports, or the system's servers if there are none.

    The addresses are IP addresses. ``validating`` says which of them are believed when they say
    that DNSSEC vouches for an answer.
    """

    servers: tuple[tuple[str, int], ...]
    validating: Validating = Validating.AUTO


@attrs.frozen
class ResolverTable:
    """The table ``[dns]``."""

    servers: tuple[Endpoint, ...] = option(
        default=(),
        parse=dns_server,
        allowed="an IP address, or one and a port, as 192.0.2.1, 192.0.2.1:53 or [::1]:53",
        help=(
            "The DNS servers to ask, in this order; without any, those of the system "
            "(/etc/resolv.conf). A server that lies can keep sessions from their server, but not "
            "lead them past what their policy demands, unless it is believed about DNSSEC: see "
            "validating."
        ),
    )
    validating: Validating = option(
        default=Validating.AUTO,
        help=(
            "Which DNS servers are believed when they say that DNSSEC vouches for an answer (the "
            "AD bit), as levels dane, dane-only and keyring have a use for: whoever can forge "
            "their answers on the way can forge that, too. auto: those on loopback, and all those "
            "of the system if the options in /etc/resolv.conf have trust-ad. yes: all; for servers "
            "that validate, on a network that nobody else is on. no: none. If any is believed, no "
            "others are asked."
        ),
    )

    def resolver(self) -> Resolver:
        """Give the servers as pairs of address and port."""
        servers = tuple((server.host, server.port) for server in self.servers)
        return Resolver(servers, self.validating)

    @classmethod
    def of(cls, resolver: Resolver) -> "ResolverTable":
        """Write the servers as their table again."""
        servers = tuple(Endpoint(*server) for server in resolver.servers)
        return cls(servers, resolver.validating)
