"""proxy.trust.strength: which keys and signatures are strong enough, and that no others are."""

import contextlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust import der
from proxy.trust.certificate import Certificate
from proxy.trust.strength import key_weakness, signature_weakness
from tests.authority import STRONG, Authority, Digest, KeyKind, OddKeyKind, new_key
from tests.trust.showing import DAY, NOW, issued

RSA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01"
Sha2 = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512

PSS = RSA + b"\x0a"


def spki(public: rsa.RSAPublicKey | dsa.DSAPublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_key(modulus: bytes, algorithm: bytes = RSA + b"\x01", unused: bytes = b"\0") -> bytes:
    inside = der.encoded(der.INTEGER, modulus) + b"\x02\x01\x03"
    bits = der.encoded(der.BIT_STRING, unused + der.encoded(der.SEQUENCE, inside))
    return der.encoded(der.SEQUENCE, der.encoded(der.SEQUENCE, algorithm + b"\x05\x00") + bits)


@pytest.mark.parametrize("kind", STRONG)
def test_strong_keys(authority: Authority, kind: KeyKind | OddKeyKind) -> None:
    assert key_weakness(Certificate.read(issued(authority, key=kind)[0]).key) == ""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rsa 1024", "RSA of 1024 bits"),
        ("P-224", "on a curve other than P-256, P-384 and P-521"),
        ("secp256k1", "on a curve other than P-256, P-384 and P-521"),
        ("brainpool", "on a curve other than P-256, P-384 and P-521"),
    ],
)
def test_weak_keys(authority: Authority, kind: OddKeyKind, expected: str) -> None:
    assert expected == key_weakness(Certificate.read(issued(authority, key=kind)[0]).key)


@pytest.mark.parametrize(
    ("bits", "expected"), [(2047, "RSA of 2047 bits"), (2048, ""), (1, "RSA of 1 bits")]
)
def test_the_length_is_that_of_the_number(bits: int, expected: str) -> None:
    number = 1 << bits - 1
    octets = number.to_bytes(bits // 8 + 1, "big")
    assert expected == key_weakness(rsa_key(octets))
    assert expected == key_weakness(rsa_key(b"\0" * 300 + octets))
    assert expected == key_weakness(rsa_key(octets, algorithm=PSS))


def test_a_key_of_another_kind() -> None:
    public = dsa.generate_private_key(2048).public_key()
    assert key_weakness(spki(public)) == "neither RSA nor on a known curve"


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"\x30\x00",
        rsa_key(b""),
        rsa_key(b"\x00"),
        rsa_key(b"\xff" * 256),  # a negative number
        rsa_key(b"\x7f" * 256, unused=b"\x01"),
        rsa_key(b"\x7f" * 256) + b"\x05\x00",
        der.encoded(der.SEQUENCE, b"\x05\x00\x03\x01\x00"),
        der.encoded(der.SEQUENCE, b"\x30\x00\x03\x01\x00"),
        der.encoded(der.SEQUENCE, b"\x30\x05\x06\x03\x2b\x65\x70\x04\x01\x00"),
    ],
)
def test_broken_keys(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is not|malformed"):
        key_weakness(key)


def test_a_curve_that_is_spelt_out(authority: Authority) -> None:
    """Parameters of one's own may be those of P-256 but for one number (CVE-2020-0601)."""
    key = Certificate.read(issued(authority)[0]).key
    (_, _), bits = der.elements(der.only(key, der.SEQUENCE))
    kind = bytes.fromhex("06072a8648ce3d0201") + b"\x30\x03\x02\x01\x01"
    made = der.encoded(der.SEQUENCE, der.encoded(der.SEQUENCE, kind) + der.encoded(*bits))
    assert key_weakness(made) == "on a curve other than P-256, P-384 and P-521"


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519", "ed448"])
def test_strong_signatures(tmp_path: Path, kind: KeyKind | OddKeyKind) -> None:
    by = Authority(tmp_path, name="some", key=kind)
    assert signature_weakness(Certificate.read(issued(by)[0]).signature) == ""


@pytest.mark.parametrize(("digest", "expected"), [("sha1", "SHA-1"), ("md5", "MD5")])
def test_weak_signatures(tmp_path: Path, digest: Digest, expected: str) -> None:
    by = Authority(tmp_path, name="some", key="rsa")
    found = Certificate.read(issued(by, digest=digest)[0])
    assert expected == signature_weakness(found.signature)


@pytest.mark.parametrize(
    "digest", [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]
)
@pytest.mark.parametrize("way", ["PKCS 1", "PSS", "ECDSA"])
def test_every_hash_of_sha_2_will_do(digest: Sha2, way: str) -> None:
    private = new_key("ec" if way == "ECDSA" else "rsa")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
    )
    pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    made = builder.sign(private, digest, rsa_padding=pss if way == "PSS" else None)
    assert signature_weakness(Certificate.read(made.public_bytes(Encoding.DER)).signature) == ""


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (PSS, "SHA-1"),
        (PSS + b"\x05\x00", None),
        (PSS + b"\x30\x00", "SHA-1"),  # what counts where nothing is said
        (PSS + b"\x30\x05\xa2\x03\x02\x01\x14", "SHA-1"),
        (PSS + bytes.fromhex("300da00b300906052b0e03021a0500"), "SHA-1"),
        (PSS + bytes.fromhex("300da00b300906052b0e03021b0500"), "an unknown algorithm"),
        (PSS + bytes.fromhex("3004a0020500"), None),
        (RSA + b"\x02\x05\x00", "MD2"),
        (RSA + b"\x01\x05\x00", "an unknown algorithm"),
        (bytes.fromhex("06072a8648ce3d0401"), "SHA-1"),
        (bytes.fromhex("06082a8648ce3d040305"), "an unknown algorithm"),
        (bytes.fromhex("0600"), "an unknown algorithm"),
        (b"", None),
        (b"\x05\x00", None),
        (RSA + b"\x0b\x05\x00\x05\x00", None),
    ],
)
def test_algorithms_by_their_encoding(signature: bytes, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"it is not|malformed"):
            signature_weakness(signature)
    else:
        assert expected == signature_weakness(signature)


@given(st.binary(max_size=60))
def test_any_bytes_are_weak_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert key_weakness(der.encoded(der.SEQUENCE, data)) != ""
    with contextlib.suppress(ValueError):
        assert signature_weakness(PSS + data) != ""
