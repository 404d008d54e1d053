"""TLSA records: which can be used, which count, and what they are about."""

import subprocess

import pytest

from proxy.trust.certificate import Certificate
from proxy.trust.dane.records import TLSA, Matching, Selector, Usage, effective
from proxy.trust.der import BIT_STRING, SEQUENCE, encoded
from proxy.trust.verdict import LARGEST_CERTIFICATE
from tests.authority import Authority
from tests.trust.dane import record
from tests.trust.showing import chain_of, issued

SHA_256, SHA_512 = bytes(32), bytes(64)


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Certificate:
    return Certificate.read(issued(authority)[0])


@pytest.mark.parametrize(
    ("usage", "selector", "matching", "data", "usable"),
    [
        *((usage, 0, 1, SHA_256, True) for usage in Usage),
        *((usage, 1, 2, SHA_512, True) for usage in Usage),
        *((usage, 0, 1, SHA_256, False) for usage in (-1, 4, 255)),
        *((3, selector, 1, SHA_256, False) for selector in (-1, 2, 255)),
        *((3, 1, matching, SHA_256, False) for matching in (-1, 3, 255)),
        *((3, 1, 1, bytes(length), False) for length in (0, 1, 31, 33, 64)),
        *((3, 1, 2, bytes(length), False) for length in (0, 1, 32, 63, 65)),
        *((usage, selector, 0, b"", False) for usage in Usage for selector in Selector),
        (3, 0, 0, SHA_256, False),
        (3, 1, 0, SHA_256, False),
        (2, 1, 0, bytes.fromhex("3000"), False),
        (2, 1, 0, bytes.fromhex("300430000300"), True),
        (2, 1, 0, bytes.fromhex("30043000030000"), False),
    ],
)
def test_only_known_parameters_with_data_to_match_are_usable(
    usage: int, selector: int, matching: int, data: bytes, usable: bool
) -> None:
    assert TLSA(usage, selector, matching, data).usable is usable


@pytest.mark.parametrize("usage", Usage)
def test_whole_certificates_and_keys_are_usable_if_they_are_well_formed(
    leaf: Certificate, usage: Usage
) -> None:
    for selector, data in ((Selector.CERT, leaf.whole), (Selector.SPKI, leaf.key)):
        other = Selector(1 - selector)
        assert TLSA(usage, selector, 0, data).usable
        assert not TLSA(usage, other, 0, data).usable
        assert not TLSA(usage, selector, 0, data[:-1]).usable
        assert not TLSA(usage, selector, 0, data + b"\0").usable


@pytest.mark.parametrize("more", [0, 1])
def test_attack_what_is_too_large_is_unusable(more: int) -> None:
    bits = bytes(LARGEST_CERTIFICATE - 10 + more)
    key = encoded(SEQUENCE, encoded(SEQUENCE, b"") + encoded(BIT_STRING, bits))
    assert len(key) == LARGEST_CERTIFICATE + more
    assert TLSA(3, 1, 0, key).usable is not bool(more)


@pytest.mark.server("openssl")
@pytest.mark.parametrize("matching", ["sha256", "sha512", ""])
@pytest.mark.parametrize("selector", Selector)
def test_records_are_what_openssl_makes(
    authority: Authority, selector: Selector, matching: str
) -> None:
    path, _ = authority.issue("example.net")
    whole = ["openssl", "x509", "-in", str(path), "-outform", "DER"]
    if selector == Selector.SPKI:
        pem = ["openssl", "x509", "-in", str(path), "-pubkey", "-noout"]
        key = subprocess.run(pem, capture_output=True, check=True).stdout
        whole = ["openssl", "pkey", "-pubin", "-outform", "DER"]
        data = subprocess.run(whole, input=key, capture_output=True, check=True).stdout
    else:
        data = subprocess.run(whole, capture_output=True, check=True).stdout
    if matching:
        digest = ["openssl", "dgst", f"-{matching}", "-binary"]
        data = subprocess.run(digest, input=data, capture_output=True, check=True).stdout
    number = ["", "sha256", "sha512"].index(matching)
    made = TLSA(3, selector, number, data)
    assert made.usable
    assert made.matches(Certificate.read(chain_of(path)[0]))
    assert made == record(chain_of(path)[0], 3, selector, number)


@pytest.mark.parametrize("selector", Selector)
@pytest.mark.parametrize("matching", Matching)
def test_one_octet_makes_another_record(
    leaf: Certificate, authority: Authority, selector: Selector, matching: Matching
) -> None:
    right = record(leaf.whole, 3, selector, matching)
    wrong = right.data[:-1] + bytes([right.data[-1] ^ 1])
    assert right.matches(leaf)
    assert not TLSA(3, selector, matching, wrong).matches(leaf)
    assert not right.matches(Certificate.read(issued(authority)[0]))


def tlsa(usage: int, selector: int, matching: int, octet: int = 0) -> TLSA:
    return TLSA(usage, selector, matching, bytes([octet]) * (32 * matching))


@pytest.mark.parametrize(
    ("records", "count"),
    [
        ([], []),
        ([tlsa(3, 1, 1)], [0]),
        ([tlsa(3, 1, 1), tlsa(3, 1, 1, 7)], [0, 1]),
        ([tlsa(3, 1, 1), tlsa(3, 1, 1)], [0]),
        ([tlsa(3, 1, 1), tlsa(3, 1, 2)], [1]),
        ([tlsa(3, 1, 1), tlsa(3, 1, 3)], [0]),
        ([tlsa(3, 1, 1), TLSA(3, 1, 2, b"short")], [0]),
        ([tlsa(3, 1, 1), tlsa(3, 0, 2), tlsa(2, 1, 2)], [0, 1, 2]),
        ([tlsa(9, 1, 1), tlsa(3, 9, 1)], []),
    ],
)
def test_the_strongest_usable_digest_of_a_usage_and_selector_counts(
    records: list[TLSA], count: list[int]
) -> None:
    """RFC 7671, section 9."""
    assert effective(records) == [records[place] for place in count]


def test_what_stands_there_in_full_counts_beside_digests(leaf: Certificate) -> None:
    full = record(leaf.whole, 3, 1, 0)
    assert effective([full, tlsa(3, 1, 1), tlsa(3, 1, 2)]) == [full, tlsa(3, 1, 2)]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (TLSA(3, 1, 1, bytes.fromhex("0123456789abcdef" * 4)), "DANE-EE 3 1 1 0123456789abcdef…"),
        (TLSA(2, 0, 2, b"\xab"), "DANE-TA 2 0 2 ab"),
        (TLSA(1, 0, 0, b""), "PKIX-EE 1 0 0"),
        (TLSA(0, 0, 0, b""), "PKIX-TA 0 0 0"),
        (TLSA(255, 9, 9, b""), "TLSA 255 9 9"),
        (TLSA(-1, 9, 9, b""), "TLSA -1 9 9"),
    ],
)
def test_how_records_are_shown(shown: TLSA, text: str) -> None:
    assert str(shown) == text
