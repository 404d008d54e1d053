"""proxy.trust.policy: pins, patterns, and that the most specific policy counts."""

import base64
import hashlib
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust.policy import Dialback, Ladder, Level, Pattern, Pin, Policy, Version, pin_of
from tests.authority import Authority
from tests.trust.showing import issued

DIGEST = hashlib.sha256(b"key").digest()
TEXT = "sha256:" + base64.b64encode(DIGEST).decode()
COLONS = DIGEST.hex(":").upper()


@pytest.mark.parametrize(
    "text",
    [TEXT, DIGEST.hex(), COLONS, f"sha256:{DIGEST.hex()}", f"sha256:{COLONS}"],
)
def test_pins_have_one_form(text: str) -> None:
    assert TEXT == Pin.parse(text) == str(Pin.parse(text))
    assert {TEXT} == {Pin.parse(text)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        TEXT.removeprefix("sha256:"),
        TEXT.removesuffix("="),
        TEXT + "=",
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace("sha256", "sha512"),
        "sha256:" + "A" * 42 + "B=",  # bits that say nothing
        "sha256:" + base64.b64encode(DIGEST[:31]).decode(),
        "sha256:" + base64.b64encode(DIGEST + b"x").decode(),
        DIGEST.hex()[:-1],
        DIGEST.hex() + "0",
        COLONS + ":",
        COLONS.replace(":", "::", 1),
        COLONS.replace(":", "", 1),
        "g" * 64,
        "\u0660" * 64,
        "sha256:sha256:" + DIGEST.hex(),
    ],
)
def test_what_is_no_pin(text: str) -> None:
    with pytest.raises(ValueError, match='a pin is "sha256:" and the base64 of 32 octets'):
        Pin.parse(text)


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_the_pin_of_a_certificate_is_the_hash_of_its_key(authority: Authority, key: str) -> None:
    [whole] = issued(authority, key=key)
    public = x509.load_der_x509_certificate(whole).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert pin_of(whole) == Pin.parse(hashlib.sha256(spki).hexdigest())


def test_what_is_no_certificate_has_no_pin() -> None:
    with pytest.raises(ValueError, match="it is not"):
        pin_of(b"\x30\x00")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("*", "*"),
        ("example.net", "example.net"),
        ("Example.NET.", "example.net"),
        ("faß.example", "xn--fa-hia.example"),
        ("*.Faß.example", "*.xn--fa-hia.example"),
        ("*.org", "*.org"),
    ],
)
def test_patterns(text: str, canonical: str) -> None:
    assert canonical == str(Pattern.parse(text))


@pytest.mark.parametrize(
    "text", ["", ".", "*.", "**", "*.*", "*.*.org", "a.*", "*a.org", "a*.org", "a@b", ".org"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"domain|Label|label"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "example.net", True),
        ("example.net", "example.net", True),
        ("example.net", "chat.example.net", False),
        ("*.example.net", "chat.example.net", True),
        ("*.example.net", "a.b.example.net", True),
        ("*.example.net", "example.net", False),
        ("*.example.net", "badexample.net", False),
        ("*.example.net", ".example.net", False),
        ("*.net", "example.net", True),
    ],
)
def test_matches(pattern: str, name: str, expected: bool) -> None:
    assert expected == Pattern.parse(pattern).matches(name)


def test_levels_and_versions() -> None:
    assert [each for each in Level if not each.demands_tls] == [Level.NONE, Level.MAY]
    by_records = [Level.DANE, Level.DANE_ONLY, Level.KEYRING]
    proving = [Level.PIN, *by_records, Level.SECURE]
    assert [each for each in Level if each.demands_proof] == proving
    assert [each for each in Level if each.heeds_dane] == by_records
    assert [each.value for each in Level] == [
        "none",
        "may",
        "encrypt",
        "pin",
        "dane",
        "dane-only",
        "keyring",
        "secure",
    ]
    assert [each.value for each in Version] == ["TLSv1.2", "TLSv1.3"]
    assert [each.value for each in Dialback] == ["allow", "never"]


def ladder(*patterns: str) -> Ladder:
    return Ladder(Policy(Pattern.parse(each), Level.MAY) for each in patterns)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.org.", "example.org"),
        ("a.example.org", "*.example.org"),
        ("b.a.example.org", "*.a.example.org"),
        ("c.b.a.example.org", "*.a.example.org"),
        ("exact.a.example.org", "exact.a.example.org"),
        ("below.exact.a.example.org", "*.a.example.org"),
        ("other.org", "*.org"),
        ("org", "*"),
        ("badexample.net", "*"),
        ("xn--fa-hia.example", "xn--fa-hia.example"),
        ("faß.example", "xn--fa-hia.example"),
    ],
)
def test_the_most_specific_counts(name: str, expected: str) -> None:
    found = ladder(
        "*",
        "*.org",
        "*.example.org",
        "*.a.example.org",
        "exact.a.example.org",
        "example.org",
        "faß.example",
    )
    assert expected == str(found.find(name).domain)


def test_where_nothing_is_said_all_is_demanded() -> None:
    found = ladder("example.org", "*.example.org").find("example.net")
    assert found == Policy(Pattern.parse("*"))
    assert (found.level, found.min_version) == (Level.SECURE, Version.TLS_1_2)
    assert (found.server, found.anchors, found.pins) == (None, None, frozenset())
    assert (found.direct_tls, found.private_addresses) == (False, False)
    assert (found.dialback, found.s2s_server, found.s2s_direct_tls) == (Dialback.ALLOW, None, False)


@pytest.mark.parametrize("name", ["", "a@example.net", "*.example.net", "a..b"])
def test_what_is_no_domain_has_no_policy(name: str) -> None:
    with pytest.raises(ValueError, match=r"domain|Label|label"):
        ladder("*").find(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("*", "*"), ("example.net", "Example.net."), ("*.faß.example", "*.xn--fa-hia.example")],
)
def test_two_for_one_pattern_are_an_error(one: str, other: str) -> None:
    with pytest.raises(ValueError, match="there are two policies for"):
        ladder(one, other)
    same = Policy(Pattern.parse(one))
    with pytest.raises(ValueError, match="there are two policies for"):
        Ladder([same, same])


LABELS = st.sampled_from(["a", "b", "org"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(NAMES, NAMES.map("*.{}".format), st.just("*"))


def rank(pattern: Pattern) -> tuple[bool, int]:
    return not str(pattern).startswith("*"), len(str(pattern))


@given(st.sets(PATTERNS, max_size=12), NAMES, st.randoms())
def test_the_order_of_policies_does_not_matter(
    texts: set[str], name: str, chance: random.Random
) -> None:
    policies = [Policy(Pattern.parse(each), Level.ENCRYPT) for each in sorted(texts)]
    chance.shuffle(policies)
    found = Ladder(policies).find(name)
    matching = [policy for policy in policies if policy.domain.matches(name)]
    expected = max(matching, key=lambda policy: rank(policy.domain), default=None)
    assert found == (expected or Policy(Pattern.parse("*")))
    assert found.domain.matches(name)
