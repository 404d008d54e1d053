"""A server's certificate that is a trust anchor itself: self-signed, and in the policy's file."""

from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Pattern, Policy
from proxy.trust.verdict import Status, UntrustedError, judge
from tests.authority import Authority, new_key
from tests.trust.showing import DAY, NAME, NOW, evidence, issued

OWN_FILE = Policy(Pattern("*"), anchors=Path("own.pem"))
SYSTEM = Policy(Pattern("*"))


def self_signed(*, ca: bool) -> bytes:
    """As ``openssl req -x509`` makes it, in DER."""
    key = new_key("ec")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def shown(leaf: bytes, *, anchored: bool) -> Evidence:
    """What OpenSSL makes of it, alone, where it is an anchor or not."""
    store = crypto.X509Store()
    certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, leaf)
    if anchored:
        store.add_cert(certificate)
    try:
        crypto.X509StoreContext(store, certificate, []).verify_certificate()
    except crypto.X509StoreContextError as error:
        return Evidence((leaf,), error.errors[0], error.errors[2])
    return Evidence((leaf,), 0, "ok", (leaf,))


@pytest.mark.parametrize("ca", [False, True], ids=["CA:FALSE", "CA:TRUE"])
def test_it_proves_the_domain(*, ca: bool) -> None:
    verdict = judge(NAME, CLIENT_SERVICE, OWN_FILE, shown(self_signed(ca=ca), anchored=True), NOW)
    assert verdict.status is Status.VERIFIED


@pytest.mark.parametrize("ca", [False, True], ids=["CA:FALSE", "CA:TRUE"])
def test_it_proves_nothing_where_it_is_no_anchor(*, ca: bool) -> None:
    with pytest.raises(UntrustedError, match="self-signed"):
        judge(NAME, CLIENT_SERVICE, OWN_FILE, shown(self_signed(ca=ca), anchored=False), NOW)


def test_the_systems_anchors_are_no_servers() -> None:
    with pytest.raises(UntrustedError, match="one of an authority"):
        judge(NAME, CLIENT_SERVICE, SYSTEM, shown(self_signed(ca=True), anchored=True), NOW)


def test_an_authority_below_an_anchor_is_no_server(authority: Authority) -> None:
    below = evidence(issued(authority, ca=True), [authority])
    with pytest.raises(UntrustedError, match="one of an authority"):
        judge(NAME, CLIENT_SERVICE, OWN_FILE, below, NOW)
    alone = attrs.evolve(below, chain=below.chain[:1])
    with pytest.raises(UntrustedError, match="one of an authority"):
        judge(NAME, CLIENT_SERVICE, OWN_FILE, alone, NOW)
