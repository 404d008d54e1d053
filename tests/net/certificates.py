"""Certificates that prove a domain, and many that do not, each for a real handshake."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from OpenSSL import SSL

from proxy.trust import der
from tests.authority import CLIENT, SERVER, XMPP_ADDR, Authority, new_key, now
from tests.net.forward import HOSTING
from tests.trust.showing import DAY, alternatives, raw_dns

Pair = tuple[Path, Path]
"""The files of a certificate, with what else is sent of its chain, and of its key."""

OPENSSL_4_0_2 = 0x40000020


class Authorities:
    """The authority that is trusted, those below it, and one that is not.

    Args:
        directory: where files go.
        root: the one that is trusted.
    """

    def __init__(self, directory: Path, root: Authority) -> None:
        self.directory = directory
        self.root = root
        self.middle = Authority(directory / "middle", name="Middle", parent=root)
        self.stranger = Authority(directory / "stranger", name="Nobody's\n\u202eroot")
        self.past = Authority(
            directory / "past", name="Past", parent=root, life=(now() - 9 * DAY, now() - DAY)
        )
        elsewhere = x509.NameConstraints([x509.DNSName("elsewhere.example")], None)
        self.bounded = Authority(
            directory / "bounded", name="Bounded", parent=root, constraints=elsewhere
        )


Issue = Callable[[Authorities, str], Pair]


def by_root(**identities: Any) -> Issue:
    """Issue by the trusted authority; ``{}`` in texts stands for the domain."""
    return lambda who, domain: who.root.issue(domain, **_filled(identities, domain))


def _filled(identities: dict[str, Any], domain: str) -> dict[str, Any]:
    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(each) for each in value]
        return value.replace("{}", domain) if isinstance(value, str) else value

    return {name: fill(value) for name, value in identities.items()}


def leaf_alone(who: Authorities, domain: str) -> Pair:
    """Send no certificate of the authority between."""
    certificate, key = who.middle.issue(domain)
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def self_signed(who: Authorities, domain: str) -> Pair:
    """Vouch for oneself."""
    private = new_key("ec")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, domain)])
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    paths = who.directory / f"self-{domain}.crt", who.directory / f"self-{domain}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def with_nul(who: Authorities, domain: str) -> Pair:
    """Name the domain, and after a NUL another one."""
    names = [raw_dns(domain.encode() + end) for end in (b"\0", b"\0.evil.example")]
    return who.root.issue(domain, dns=[], names=names)


def with_wildcards(who: Authorities, domain: str) -> Pair:
    """Use wildcards in every way but the right one."""
    label, _, parent = domain.partition(".")
    dns = ["*", "*.*", f"*.{domain}", f"{label[0]}*.{parent}", f"*{label[1:]}.{parent}"]
    return who.root.issue(domain, dns=[*dns, f"{label}.*", f"*.*.{parent}"])


def with_ten_thousand_names(who: Authorities, domain: str) -> Pair:
    """Name the domain among very many."""
    names = [raw_dns(f"{number:x}".encode()) for number in range(9_999)]
    return who.root.issue(domain, dns=[], names=[raw_dns(domain.encode()), *names])


def with_broken_names(entry: bytes) -> Issue:
    """Name the domain, and after it something that is not DER."""

    def issue(who: Authorities, domain: str) -> Pair:
        data = der.encoded(der.SEQUENCE, der.encoded(0x82, domain.encode()) + entry)
        return who.root.issue(domain, **alternatives(data))

    return issue


def not_der(who: Authorities, domain: str) -> Pair:
    """Name the domain, and after it what ends in the middle; skips where no server shows it."""
    if SSL.OPENSSL_VERSION_NUMBER < OPENSSL_4_0_2:
        pytest.skip("before 4.0.2, OpenSSL's servers load no such certificate")
    return with_broken_names(b"\x82\x7fa")(who, domain)


def below_bounds(who: Authorities, domain: str) -> Pair:
    """Name the domain in a way that OpenSSL does not hold name constraints against."""
    return who.bounded.issue(domain, dns=[], xmpp=[domain])


def untyped(who: Authorities, domain: str) -> Pair:
    """Write an XmppAddr in a string of another type (CVE-2024-6119 confused such)."""
    value = der.encoded(der.IA5_STRING, domain.encode())
    return who.root.issue(domain, dns=[], names=[x509.OtherName(XMPP_ADDR, value)])


@attrs.frozen
class Good:
    """A certificate that proves a domain, and the identity that does."""

    name: str
    issue: Issue
    identity: str


@attrs.frozen
class Bad:
    """A certificate that does not prove a domain.

    Attributes:
        name: what is wrong.
        issue: makes it.
        text: a regular expression for why it is refused; ``{}`` stands for the domain.
        trusted: whether somebody trusted vouches for it.
    """

    name: str
    issue: Issue
    text: str
    trusted: bool = False


def day(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d}"


GOOD = (
    Good("dns", by_root(), "DNS-ID {}"),
    Good(
        "wildcard",
        lambda who, domain: who.root.issue(domain, dns=["*." + domain.partition(".")[2]]),
        "DNS-ID *.{parent}",
    ),
    Good("srv", by_root(dns=[], srv=["_xmpp-client.{}"]), "SRV-ID _xmpp-client.{}"),
    Good("xmpp", by_root(dns=[], xmpp=["{}"]), "XmppAddr {}"),
    Good("intermediate", lambda who, domain: who.middle.issue(domain), "DNS-ID {}"),
    Good("rsa", by_root(key="rsa"), "DNS-ID {}"),
    Good("no-usage", by_root(usages=None), "DNS-ID {}"),
    Good(
        "among-others",
        by_root(dns=["a.example", "{}"], srv=["_xmpp-server.{}"], xmpp=["bob@{}"]),
        "DNS-ID {}",
    ),
    Good(
        "among-malformed",
        by_root(
            dns=[], names=[raw_dns(b"a\0b"), raw_dns(b"\xff"), x509.DNSName("*.*")], xmpp=["{}"]
        ),
        "XmppAddr {}",
    ),
)

_CHECKED = "the certificate of {} could not be checked: "
_FOR = "the certificate is for .*, not for {}"

BAD = (
    Bad("no-names", by_root(dns=[]), ".* has no subjectAltName, .*", trusted=True),
    Bad("cn", by_root(dns=[], common_name="{}"), ".* common name does not count", trusted=True),
    Bad("wrong-host", by_root(dns=["other.example"], common_name="{}"), _FOR, trusted=True),
    Bad("target", by_root(dns=[HOSTING], srv=[f"_xmpp-client.{HOSTING}"]), _FOR, trusted=True),
    Bad("service", by_root(dns=[], srv=["_xmpp-server.{}", "_imaps.{}"]), _FOR, trusted=True),
    Bad("user", by_root(dns=[], xmpp=["alice@{}", "{}/x"]), _FOR, trusted=True),
    Bad(
        "uri",
        by_root(dns=[], names=[x509.UniformResourceIdentifier("xmpp:example")]),
        "the certificate of {} names no domain that can be understood",
        trusted=True,
    ),
    Bad("suffix", by_root(dns=["x{}", "{}.evil.example", "x.{}"]), _FOR, trusted=True),
    Bad("wildcards", with_wildcards, _FOR, trusted=True),
    Bad("nul", with_nul, ".* names no domain that can be understood", trusted=True),
    Bad("type", untyped, ".* names no domain that can be understood", trusted=True),
    Bad(
        "forged",
        by_root(dns=[], xmpp=["a\r\n2030-01-01T00:00:00.000Z info \x1b[31m\u202e"]),
        r"the certificate is for xmpp:a\\+r\\+n2030.*\\+x1b\[31m\\+u202e, not for {}",
        trusted=True,
    ),
    Bad("bounds", below_bounds, ".* may not vouch for it \\(name constraints\\)", trusted=True),
    Bad(
        "expired",
        by_root(not_before=now() - 3 * DAY, not_after=now() - 2 * DAY),
        "the certificate of {} expired on " + day(now() - 2 * DAY),
    ),
    Bad(
        "early",
        by_root(not_before=now() + 2 * DAY),
        "the certificate of {} is not valid before " + day(now() + 2 * DAY),
    ),
    Bad(
        "expired-authority",
        lambda who, domain: who.past.issue(domain),
        'the certificate of the authority "CN=Past", above that of {}, expired on .*',
    ),
    Bad(
        "stranger",
        lambda who, domain: who.stranger.issue(domain),
        r'.* was issued by "CN=Nobody.s\\+n\\+u202eroot", which is not a trusted root.*',
    ),
    Bad("no-middle", leaf_alone, '.* was issued by "CN=Middle", .* the server did not send'),
    Bad("self-signed", self_signed, "the certificate of {} is self-signed, .*"),
    Bad("client", by_root(usages=(CLIENT,)), ".* is not meant for servers .*"),
    Bad("authority", by_root(usages=(SERVER,), ca=True), ".* is one of an authority, .*"),
    Bad("ten-thousand", with_ten_thousand_names, _CHECKED + "it has more than 1,000 names"),
    # OpenSSL itself gives this one up: it finds no issuer, and under TLS 1.2 fails at once.
    Bad("not-der", not_der, ".* was issued by .*|.* failed to .* TLS"),
    Bad("no-short-form", with_broken_names(b"\x82\x81\x01a"), _CHECKED + "it is not DER"),
)
