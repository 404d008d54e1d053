"""proxy.trust.certificate: the parts are those that others see, or an error."""

import contextlib
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust import der
from proxy.trust.certificate import (
    BASIC_CONSTRAINTS,
    CLIENT_AUTH,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    SERVER_AUTH,
    SUBJECT_ALT_NAME,
    Certificate,
    is_authority,
    is_for_servers,
    is_for_signatures,
    purposes,
)
from tests.authority import CLIENT, SERVER, Authority
from tests.trust.showing import NAME, NOW, issued

LATE = dt.datetime(2051, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
ANY_USAGE = x509.ObjectIdentifier("2.5.29.37.0")


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("end", [None, LATE])
def test_parts_are_those_that_cryptography_sees(
    middle: Authority, key: str, end: dt.datetime | None
) -> None:
    for whole in issued(middle, key=key, not_after=end, common_name="Élan, Inc."):
        expected, found = x509.load_der_x509_certificate(whole), Certificate.read(whole)
        assert expected.issuer.public_bytes() == _name(found.issuer)
        assert expected.subject.public_bytes() == _name(found.subject)
        algorithm = der.encoded(der.OBJECT_IDENTIFIER, _object_identifier(expected))
        assert found.signature.startswith(algorithm)
        spki = PublicFormat.SubjectPublicKeyInfo
        assert expected.public_key().public_bytes(Encoding.DER, spki) == found.key
        assert (expected.not_valid_before_utc, expected.not_valid_after_utc) == found.validity()
        values = {each.value.public_bytes() for each in expected.extensions}
        assert values == set(found.extensions().values())
        assert len(expected.extensions) == len(found.extensions())


def _name(content: bytes) -> bytes:
    length = len(content)
    return b"\x30" + (bytes((length,)) if length < 0x80 else bytes((0x81, length))) + content


def _object_identifier(certificate: x509.Certificate) -> bytes:
    known = {
        "1.2.840.10045.4.3.2": bytes.fromhex("2a8648ce3d040302"),
        "1.2.840.113549.1.1.11": bytes.fromhex("2a864886f70d01010b"),
    }
    return known[certificate.signature_algorithm_oid.dotted_string]


def test_any_damage_is_an_error_or_harmless(middle: Authority) -> None:
    whole = issued(middle, srv=["_xmpp-client.example.net"], xmpp=[NAME])[0]
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        for data in (whole[:position], bytes(damaged)):
            with contextlib.suppress(ValueError):
                found = Certificate.read(data)
                found.validity()
                found.extensions()
        with pytest.raises(ValueError, match="it is not"):
            Certificate.read(whole[:position])


@given(st.binary(max_size=100))
def test_any_bytes_are_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is not"):
        Certificate.read(data)


def test_bytes_after_a_certificate_are_an_error(middle: Authority) -> None:
    with pytest.raises(ValueError, match="not made as certificates are"):
        Certificate.read(issued(middle)[0] + b"\x05\x00")


FIELDS = b"\x02\x01\x01" + b"\x30\x00" * 5
END = b"\x30\x00\x03\x01\x00"


def wrapped(fields: bytes) -> bytes:
    return der.encoded(der.SEQUENCE, der.encoded(der.SEQUENCE, fields) + END)


@pytest.mark.parametrize("extra", [b"", b"\x81\x00", b"\x81\x00\x82\x00\xa3\x00"])
def test_fields_that_may_follow_the_key(extra: bytes) -> None:
    assert Certificate.read(wrapped(FIELDS + extra)).key == b"\x30\x00"


@pytest.mark.parametrize(
    "fields", [b"", FIELDS[3:], FIELDS[:-2], FIELDS + b"\x30\x00", FIELDS + b"\xa3\x00\x81\x00"]
)
def test_fields_out_of_place(fields: bytes) -> None:
    with pytest.raises(ValueError, match="not made as certificates are"):
        Certificate.read(wrapped(fields))


@pytest.mark.parametrize(
    "extension",
    [
        b"",
        b"\x06\x01\x01",
        b"\x04\x00",
        b"\x01\x01\xff\x06\x01\x01\x04\x00",
        b"\x06\x01\x01\x04\x00\x01\x01\xff",
        b"\x06\x01\x01\x01\x01\xff\x01\x01\xff\x04\x00",
    ],
)
def test_extensions_out_of_order(extension: bytes) -> None:
    several = der.encoded(der.SEQUENCE, der.encoded(der.SEQUENCE, extension))
    found = Certificate.read(wrapped(FIELDS + der.encoded(0xA3, several)))
    with pytest.raises(ValueError, match="its extensions are malformed"):
        found.extensions()


def test_an_extension_twice_is_an_error(middle: Authority) -> None:
    whole = issued(middle)[0]
    twice = whole.replace(b"\x06\x03" + EXTENDED_KEY_USAGE, b"\x06\x03" + SUBJECT_ALT_NAME)
    assert twice != whole
    with pytest.raises(ValueError, match="an extension twice"):
        Certificate.read(twice).extensions()


@pytest.mark.parametrize("ca", [True, False])
def test_authorities(middle: Authority, ca: bool) -> None:
    found = Certificate.read(issued(middle, ca=ca)[0])
    assert ca == is_authority(found.extensions()[BASIC_CONSTRAINTS])


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([SERVER], True),
        ([CLIENT, SERVER], True),
        ([ANY_USAGE], True),
        ([CLIENT], False),
        ([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1.1")], False),
    ],
)
def test_usages(middle: Authority, usages: list[x509.ObjectIdentifier], expected: bool) -> None:
    found = Certificate.read(issued(middle, usages=usages)[0])
    assert expected == is_for_servers(found.extensions()[EXTENDED_KEY_USAGE])


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([SERVER], {SERVER_AUTH}),
        ([CLIENT], {CLIENT_AUTH}),
        ([CLIENT, SERVER], {CLIENT_AUTH, SERVER_AUTH}),
        ([ANY_USAGE], {CLIENT_AUTH, SERVER_AUTH}),
        ([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2.1")], set()),
    ],
)
def test_purposes(
    middle: Authority, usages: list[x509.ObjectIdentifier], expected: set[bytes]
) -> None:
    found = Certificate.read(issued(middle, usages=usages)[0])
    assert expected == purposes(found.extensions()[EXTENDED_KEY_USAGE])


@pytest.mark.parametrize("signs", [True, False])
def test_keys_for_signatures(middle: Authority, signs: bool) -> None:
    found = Certificate.read(issued(middle, signs=signs)[0])
    assert signs == is_for_signatures(found.extensions()[KEY_USAGE])


def test_a_key_usage_of_no_bits_is_for_nothing() -> None:
    assert not is_for_signatures(b"\x03\x01\x00")


@pytest.mark.parametrize("value", [b"", b"\x03\x00", b"\x04\x02\x07\x80", b"\x03\x02\x07\x80\0\0"])
def test_broken_key_usages(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is not|malformed"):
        is_for_signatures(value)


def test_a_life_reaches_to_its_last_second(middle: Authority) -> None:
    begin = NOW - dt.timedelta(days=3)
    found = Certificate.read(issued(middle, not_before=begin, not_after=NOW)[0])
    assert (begin, NOW) == found.validity()
