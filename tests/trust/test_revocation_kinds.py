"""Revocation lists that are about some certificates only, and those that are not taken at all."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

import tests.authority
from proxy.trust import der
from proxy.trust.evidence import Evidence
from proxy.trust.revocation import RevocationList
from tests.authority import Authority
from tests.trust.revoking import (
    crl,
    entry,
    issuing_point,
    number,
    passes,
    refusal,
)
from tests.trust.showing import DAY, NAME, NOW, evidence, issued

OURS = f"the certificate of {NAME}"
ABOVE = f"an authority's certificate above that of {NAME}"
REMOVED = x509.ReasonFlags.remove_from_crl
COMPROMISE = x509.ReasonFlags.key_compromise
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.fixture(scope="module")
def chain(middle: Authority) -> tuple[bytes, ...]:
    return issued(middle)


@pytest.fixture(scope="module")
def shown(chain: tuple[bytes, ...], authority: Authority) -> Evidence:
    return evidence(chain, [authority])


# Lists that are about some certificates only


def points(*places: x509.DistributionPoint) -> dict[str, Any]:
    return {"extensions": [x509.CRLDistributionPoints(places)]}


def point(*uris: str, **more: Any) -> x509.DistributionPoint:
    name = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return x509.DistributionPoint(
        name, **dict.fromkeys(["relative_name", "reasons", "crl_issuer"]) | more
    )


def place(*uris: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(uri) for uri in uris]


HERE, THERE = "http://ca.example/1.crl", "http://ca.example/2.crl"


def test_lists_for_servers_and_lists_for_authorities(
    shown: Evidence, authority: Authority, middle: Authority
) -> None:
    for_servers = issuing_point(only_contains_user_certs=True)
    for_authorities = issuing_point(only_contains_ca_certs=True)
    assert passes(
        shown,
        crl(middle, extensions=[for_servers]),
        crl(authority, extensions=[for_authorities]),
    )
    expected = f'no revocation list of "CN=middle" is about certificates such as {OURS}'
    assert refusal(shown, crl(middle, extensions=[for_authorities])) == expected
    assert ABOVE in refusal(shown, crl(authority, extensions=[for_servers]))


def test_a_part_that_is_out_of_date_does_not_matter_to_others(
    shown: Evidence, middle: Authority
) -> None:
    past = (NOW - 9 * DAY, NOW - DAY)
    other = crl(middle, life=past, extensions=[issuing_point(only_contains_ca_certs=True)])
    assert passes(shown, other, crl(middle))


@pytest.mark.parametrize(
    ("named", "covered"),
    [
        (points(point(HERE)), True),
        (points(point(THERE), point(THERE, HERE)), True),
        (points(point(THERE)), False),
        ({}, False),
        (points(point(HERE, reasons=frozenset({COMPROMISE}))), False),
        (points(point(HERE, crl_issuer=[x509.DNSName("ca.example")])), False),
    ],
)
def test_lists_of_one_place(
    authority: Authority, middle: Authority, named: dict[str, Any], covered: bool
) -> None:
    chain = issued(middle, **named)
    shown = evidence(chain, [authority])
    extensions = [issuing_point(full_name=place(HERE, "ldap://ca.example"))]
    found = crl(middle, extensions=extensions)
    if covered:
        assert passes(shown, found)
    else:
        assert "is about certificates such as" in refusal(shown, found)
        assert passes(shown, found, crl(middle))
    # The number is that of no other certificate of the issuer's, wherever its list is.
    revoking = crl(middle, entry(number(chain[0])), extensions=extensions)
    assert "was revoked" in refusal(shown, revoking, crl(middle))


def test_places_that_are_malformed_are_a_refusal(authority: Authority, middle: Authority) -> None:
    value = x509.UnrecognizedExtension(x509.CRLDistributionPoints.oid, b"\x30\x01")
    # OpenSSL itself gives such a certificate up.
    chain = issued(middle, extensions=[value])
    path = (*chain, evidence(issued(middle), [authority]).verified[-1])
    shown = Evidence(chain, 0, "ok", path)
    found = crl(middle, extensions=[issuing_point(full_name=place(HERE))])
    assert "could not be checked" in refusal(shown, found)


# Lists that are not taken


def without_end(whole: bytes) -> bytes:
    """A list that does not say when the next one is due."""
    inside, *rest = der.elements(der.only(whole, der.SEQUENCE))
    fields = list(der.elements(inside[1]))
    del fields[[tag for tag, _ in fields].index(der.UTC_TIME) + 1]
    new = [(der.SEQUENCE, joined(fields)), *rest]
    return der.encoded(der.SEQUENCE, joined(new))


def joined(fields: list[tuple[int, bytes]]) -> bytes:
    return b"".join(der.encoded(*field) for field in fields)


@pytest.mark.parametrize(
    ("extensions", "problem"),
    [
        ([(x509.DeltaCRLIndicator(1), True)], "only tells what has changed"),
        ([issuing_point(indirect_crl=True)], "speaks for other issuers"),
        ([issuing_point(only_contains_attribute_certs=True)], "attribute certificates"),
        ([issuing_point(only_some_reasons=frozenset({COMPROMISE}))], "some reasons only"),
        (
            [issuing_point(full_name=[x509.DNSName("ca.example")])],
            "names no URI",
        ),
        (
            [
                issuing_point(
                    relative_name=x509.RelativeDistinguishedName(
                        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "one")]
                    )
                )
            ],
            "names no URI",
        ),
        ([(UNKNOWN, True)], r"unknown here \(1\.2\.3\.4\)"),
    ],
)
def test_lists_of_kinds_that_are_not_taken(
    middle: Authority, extensions: list[Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        RevocationList(crl(middle, extensions=extensions))


@pytest.mark.parametrize(
    ("extension", "problem"),
    [
        ((x509.CertificateIssuer([x509.DNSName("ca.example")]), True), "speaks for other issuers"),
        ((UNKNOWN, True), r"unknown here \(1\.2\.3\.4\)"),
    ],
)
def test_entries_that_are_not_understood(middle: Authority, extension: Any, problem: str) -> None:
    found = crl(middle, entry(1), entry(2, extensions=[extension]))
    with pytest.raises(ValueError, match=problem):
        RevocationList(found)


def test_extensions_that_change_nothing(
    shown: Evidence, chain: tuple[bytes, ...], middle: Authority
) -> None:
    extensions = [(x509.CRLNumber(7), True), (UNKNOWN, False)]
    when = (x509.InvalidityDate(NOW.replace(tzinfo=None)), True)
    found = entry(number(chain[0]), extensions=[when, (UNKNOWN, False)])
    assert "was revoked" in refusal(shown, crl(middle, found, extensions=extensions))
    assert passes(shown, crl(middle, extensions=extensions))


def test_lists_that_cannot_be_read(middle: Authority) -> None:
    whole = crl(middle, entry(1))
    for broken in (b"", b"\x30\x00", whole[:-1], whole + b"\x00", whole[1:], whole[:60]):
        with pytest.raises(ValueError, match="is no revocation list that can be read"):
            RevocationList(broken)
    with pytest.raises(ValueError, match="does not say when the next one is due"):
        RevocationList(without_end(whole))


def test_any_octet_may_be_wrong(middle: Authority, shown: Evidence) -> None:
    """Whatever is made of a damaged list, it lets nobody in whom it is about."""
    whole = crl(middle, entry(1, COMPROMISE))
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x41
        with contextlib.suppress(ValueError):
            found = RevocationList(bytes(broken))
            issuer = x509.load_der_x509_certificate(shown.chain[0]).issuer
            assert not (found.is_of(issuer) and found.is_signed_by(_key(middle)))


def _key(authority: Authority) -> bytes:
    public = authority.certificate.public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_weak_signature_is_none(tmp_path: Path) -> None:
    old = Authority(tmp_path, key="rsa")
    whole = crl(old)
    weak = whole.replace(tests.authority._WITH_RSA + b"\x0b", tests.authority._WITH_RSA + b"\x05")
    assert weak != whole
    with pytest.raises(ValueError, match=r"is signed too weakly \(SHA-1\)"):
        RevocationList(weak)
