"""What partners are given of our own certificates, to know them by: never a private key."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from proxy.daemon import toml
from proxy.daemon.certificates import key_name
from proxy.daemon.keyring_shown import facts_card, text_of_cards
from proxy.daemon.model import REVERSE, Conf
from proxy.daemon.pem import read_chain
from proxy.daemon.served import Domain
from proxy.session.kinds import Kind
from proxy.trust.certificate import Certificate
from proxy.trust.keyring.facts import Facts, facts_of

POSH_EXPIRES: Final = 86_400
"""Seconds for which others may believe a POSH document: a renewal is taken up within a day."""

POSH_SERVICES: Final = {Kind.C2S: "xmpp-client", Kind.S2S: "xmpp-server"}
"""The names of POSH documents (RFC 7712, section 9)."""


class OwnCertificateError(Exception):
    """An own certificate cannot be read; ``str()`` is one line that names the file."""


@attrs.frozen
class Own:
    """A certificate that is served.

    Attributes:
        chain: The certificate, and the rest of its chain.
        facts: What is told of the certificate.
        key: The kind of its key, as ``ECDSA P-256``.
    """

    chain: tuple[x509.Certificate, ...]
    facts: Facts
    key: str

    @property
    def der(self) -> bytes:
        """The certificate itself in DER."""
        return self.chain[0].public_bytes(Encoding.DER)


@attrs.frozen
class OwnDomain:
    """A domain of ours, the certificates it is proved by, and where others meet it.

    Attributes:
        name: The domain, in A-labels.
        certificates: Its certificates; several are of different kinds of keys.
        ports: The ports on which it is served, lowest first.
        kinds: Whether others meet it in streams of clients, of servers, or of both.
    """

    name: str
    certificates: tuple[Own, ...]
    ports: tuple[int, ...]
    kinds: tuple[Kind, ...]


def own_domain(domain: Domain, conf: Conf) -> OwnDomain:
    """Read the certificates of a domain.

    Raises:
        OwnCertificateError: One of them cannot be read.
    """
    listeners = [each for each in conf.listeners if each.stream in POSH_SERVICES]
    # A server that connects to others shows them its certificate as well.
    kinds = {
        each.stream
        for each in listeners
        if domain.server(each.stream) is not None
        or (each.direction != REVERSE and each.stream is Kind.S2S)
    }
    ports = {
        endpoint.port
        for each in listeners
        if each.direction == REVERSE and domain.server(each.stream) is not None
        for endpoint in each.address.endpoints
    }
    certificates = []
    for files in domain.certificates:
        try:
            chain = read_chain(files.certificate)
            facts = facts_of(chain[0].public_bytes(Encoding.DER))
            certificates.append(Own(tuple(chain), facts, key_name(chain[0])))
        except (ValueError, UnsupportedAlgorithm) as error:
            text = str(error).removeprefix(f"{files.certificate} ")
            raise OwnCertificateError(f"{files.certificate} {text}") from error
    return OwnDomain(
        name=domain.name,
        certificates=tuple(certificates),
        ports=tuple(sorted(ports - {0})),
        kinds=tuple(kind for kind in POSH_SERVICES if kind in kinds),
    )


def cards(domain: OwnDomain) -> str:
    """Return what people compare: fingerprints and pins, and whose they are."""
    return text_of_cards(
        [("domain", domain.name), ("key", own.key), *facts_card(own.facts)]
        for own in domain.certificates
    )


def pem_chains(domain: OwnDomain) -> str:
    """Return the certificates as PEM, each followed by the rest of its chain."""
    return "".join(
        certificate.public_bytes(Encoding.PEM).decode("ascii")
        for own in domain.certificates
        for certificate in own.chain
    )


def certs_only(domain: OwnDomain) -> str:
    """Return a certs-only PKCS #7 (RFC 8551, section 3.8) with all certificates, as PEM."""
    every = [certificate for own in domain.certificates for certificate in own.chain]
    return serialize_certificates(list(dict.fromkeys(every)), Encoding.PEM).decode("ascii")


def policy(domain: OwnDomain) -> str:
    """Return the policy with pins that a partner's Bascule may have for the domain."""
    return "".join(
        (
            "[[policy]]\n",
            f"domain = {toml.value(domain.name)}\n",
            'level = "pin"\n',
            "pins = [\n",
            *(f"    {toml.value(own.facts.pin)}, # {_named(own)}\n" for own in domain.certificates),
            "]\n",
        )
    )


def tlsa(domain: OwnDomain, host: str, ports: Sequence[int]) -> str:
    """Return TLSA records 3 1 1 as lines of a zone file, with what is to be heeded as comments.

    Args:
        domain: The domain.
        host: The host that its SRV records name, in A-labels.
        ports: The ports that they name.
    """
    lines = [
        f"; TLSA records of {domain.name} (RFC 7671, RFC 7673). They count where the zones of",
        f"; {host} and of the domain's SRV records are signed (DNSSEC).",
        "; Before a key changes, publish the record of the next one beside these, for twice",
        "; their TTL at least; take the old one away when its key is no longer in use.",
    ]
    for own in domain.certificates:
        digest = hashlib.sha256(Certificate.read(own.der).key).hexdigest()
        lines.append(f"; {_named(own)}, {own.facts.pin}")
        lines += [f"_{port}._tcp.{host}. IN TLSA 3 1 1 {digest}" for port in ports]
    return "\n".join(lines) + "\n"


def posh(domain: OwnDomain) -> str:
    """Return the POSH document with the fingerprints of all certificates (RFC 7711, 3.1)."""
    fingerprints = [
        {
            "sha-256": base64.b64encode(hashlib.sha256(own.der).digest()).decode("ascii"),
            "sha-512": base64.b64encode(hashlib.sha512(own.der).digest()).decode("ascii"),
        }
        for own in domain.certificates
    ]
    document = {"fingerprints": fingerprints, "expires": POSH_EXPIRES}
    return json.dumps(document, indent=2) + "\n"


def _named(own: Own) -> str:
    return f"{own.key}, until {own.facts.not_after:%Y-%m-%d}"
