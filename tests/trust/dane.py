"""TLSA records of certificates, and what comes of them."""

import datetime as dt
import hashlib
from collections.abc import Iterable

from cryptography.hazmat.primitives.serialization import Encoding

from proxy.net.dane_path import verify_path
from proxy.trust.certificate import Certificate
from proxy.trust.dane.matching import Failed, Outcome, Proved, Server, match
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Policy
from tests.authority import Authority
from tests.trust.showing import NAME, NOW, policy

TARGET = "xmpp.hosting.example"
"""A secure target of `NAME`."""

BOTH = References(NAME, CLIENT_SERVICE, TARGET)
DOMAIN = References(NAME, CLIENT_SERVICE)


def record(certificate: bytes, usage: int, selector: int = 1, matching: int = 1) -> TLSA:
    """A record about a certificate."""
    data = Certificate.read(certificate).key if selector else certificate
    match matching:
        case 1:
            data = hashlib.sha256(data).digest()
        case 2:
            data = hashlib.sha512(data).digest()
    return TLSA(usage, selector, matching, data)


def der(authority: Authority) -> bytes:
    """An authority's certificate."""
    return authority.certificate.public_bytes(Encoding.DER)


def unverified(*chain: bytes) -> Evidence:
    """A chain that leads to no trusted root, as OpenSSL says it."""
    return Evidence(chain, 20, "unable to get local issuer certificate")


def matched(
    records: Iterable[TLSA],
    shown: Evidence,
    *,
    references: References = DOMAIN,
    by: Policy | None = None,
    now: dt.datetime = NOW,
    initiating: bool = False,
) -> Outcome:
    """What comes of records."""
    server = Server(references, shown, by or policy(), initiating=initiating)
    return match(tuple(records), server, now, verify_path)


def proof(outcome: Outcome) -> str:
    """The identity that has been proven."""
    assert isinstance(outcome, Proved), outcome
    return outcome.identity


def problem(outcome: Outcome) -> str:
    """Why nothing has been proven."""
    assert isinstance(outcome, Failed), outcome
    return outcome.problem
