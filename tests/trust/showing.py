"""Servers' certificates as handshakes show them, verified by the real OpenSSL."""

import datetime as dt
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level, Pattern, Pin, Policy
from proxy.trust.verdict import Verdict, judge
from tests.authority import Authority

NAME = "example.net"
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)

SUBJECT_ALT_NAME = x509.SubjectAlternativeName.oid


def chain_of(path: Path) -> tuple[bytes, ...]:
    """The certificates of a file in DER."""
    parsed = x509.load_pem_x509_certificates(path.read_bytes())
    return tuple(each.public_bytes(Encoding.DER) for each in parsed)


def issued(by: Authority, domain: str = NAME, **identities: Any) -> tuple[bytes, ...]:
    """A new certificate and its chain; `Authority.issue` says what it may be asked for."""
    return chain_of(by.issue(domain, **identities)[0])


def evidence(
    chain: tuple[bytes, ...],
    roots: Iterable[Authority] = (),
    *,
    at: dt.datetime = NOW,
) -> Evidence:
    """What OpenSSL makes of a chain under these roots."""
    store = crypto.X509Store()
    store.set_time(at.replace(tzinfo=None))
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root.certificate))
    leaf, *above = [crypto.load_certificate(crypto.FILETYPE_ASN1, each) for each in chain]
    try:
        built = crypto.X509StoreContext(store, leaf, above).get_verified_chain()
    except crypto.X509StoreContextError as error:
        return Evidence(chain, error.errors[0], error.errors[2])
    verified = tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in built)
    return Evidence(chain, 0, "ok", verified)


def believed(*chain: bytes) -> Evidence:
    """A chain that OpenSSL has nothing against."""
    return Evidence(chain, 0, "ok", chain)


@functools.cache
def policy(level: Level = Level.SECURE, *pins: str) -> Policy:
    return Policy(Pattern.parse("*"), level, pins=frozenset(map(Pin.parse, pins)))


def judged(
    shown: Evidence,
    level: Level = Level.SECURE,
    *pins: str,
    name: str = NAME,
    now: dt.datetime = NOW,
    service: str = CLIENT_SERVICE,
    initiating: bool = False,
) -> Verdict:
    """The verdict on what a server showed."""
    return judge(name, service, policy(level, *pins), shown, now, initiating=initiating)


def alternatives(data: bytes) -> dict[str, Any]:
    """Arguments for `issued`: a subjectAltName whose value is ``data``, sound or not."""
    return {"dns": [], "extensions": [x509.UnrecognizedExtension(SUBJECT_ALT_NAME, data)]}


def raw_dns(text: bytes) -> x509.GeneralName:
    """A DNS-ID that cryptography would not make."""
    return x509.DNSName._init_without_validation(text.decode("latin-1"))
