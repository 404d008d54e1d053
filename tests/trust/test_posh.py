"""What POSH documents say, and what they make of servers' certificates (RFC 7711)."""

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust import posh
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, pin_of
from proxy.trust.posh import (
    LARGEST_DOCUMENT,
    LONGEST_LIFE,
    MOST_FINGERPRINTS,
    Document,
    Fingerprint,
    Location,
    Material,
    Reference,
    judge,
    parse,
)
from proxy.trust.verdict import LARGEST_CERTIFICATE, Status, UntrustedError, Verdict
from tests.authority import CLIENT, CODE, SERVER, WEAK, Authority, OddKeyKind, self_signed
from tests.trust.dane import unverified
from tests.trust.showing import DAY, NAME, NOW, chain_of, issued, policy

SERVICE = "xmpp-client"
SECOND = dt.timedelta(seconds=1)
ONE, TWO = hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest()


def text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def prints(*descriptors: Any, expires: object = 60, **more: Any) -> bytes:
    return json.dumps({"fingerprints": list(descriptors), "expires": expires, **more}).encode()


def of(data: bytes) -> tuple[Any, ...]:
    """The fingerprints that a document has, each as its digests."""
    found = parse(data)
    assert isinstance(found, Document)
    return tuple(dict(each.digests) for each in found.fingerprints)


def complaint(data: bytes) -> str:
    """Why that is no document."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse(data)
    return str(caught.value)


def described(certificate: bytes, *names: str) -> Fingerprint:
    """A right fingerprint by these hashes."""
    hashes = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
    return Fingerprint(tuple((name, hashes[name](certificate).digest()) for name in names))


# Documents

GIVEN = b"""
  {
    "fingerprints": [
      {
        "sha-256": "4/mggdlVx8A3pvHAWW5sD+qJyMtUHgiRuPjVC48N0XQ=",
        "sha-512": "25N+1hB2Vo42l9lSGqw+n3BKFhDHsyork8ou+D9B43TXeJ1J81mdQEDqm39oR/EHkPBDDG1y5+AG94Kec0xVqA=="
      },
      {"sha-256": "otyLADSKjRDjVpj8X7/hmCAD5C7Qe+PedcmYV7cUncE"}
    ],
    "expires": 604800
  }
"""  # noqa: E501


def test_the_example_of_the_rfc() -> None:
    """Section 3.1, once without the padding that the RFC forgets as well."""
    found = parse(GIVEN)
    assert isinstance(found, Document)
    assert found.seconds == 604_800
    first, second = found.fingerprints
    assert str(first) == "sha-512 db937ed61076568e…"
    assert [name for name, _ in first.digests] == ["sha-512", "sha-256"]
    assert str(second) == "sha-256 a2dc8b00348a8d10…"


def test_the_reference_of_the_rfc() -> None:
    data = b'{"url":"https://hosting.example.net/.well-known/posh/spice.json","expires":86400}'
    location = Location("hosting.example.net", "/.well-known/posh/spice.json")
    assert parse(data) == Reference(location, 86_400)


def test_what_is_not_known_is_passed_over() -> None:
    descriptors = {"sha-1": 5, "sha-384": "x", "SHA-256": "x"}, {"sha-256": text(ONE), "md5": ""}
    assert of(prints(*descriptors, {}, more=[[{}]], comment=1.5)) == ({"sha-256": ONE},)


@pytest.mark.parametrize("expires", [None, -1, 1.0, 1e9, True, "60", [60], {}])
def test_lifetimes_are_whole_numbers(expires: object) -> None:
    for data in (
        prints({"sha-256": text(ONE)}, expires=expires),
        json.dumps({"url": "https://a.example/", "expires": expires}).encode(),
        b'{"url": "https://a.example/"}',
    ):
        with pytest.raises(ValueError, match='"expires" is not a whole number of seconds'):
            parse(data)


@pytest.mark.parametrize("content", [{"fingerprints": [{"sha-256": text(ONE)}]}, {"url": "x"}])
def test_a_lifetime_of_nothing_withdraws(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it is withdrawn"):
        parse(json.dumps({**content, "expires": 0}).encode())


@pytest.mark.parametrize(
    "value",
    [
        "",
        "=",
        "nonsense",
        text(ONE)[:-2],
        text(ONE) + "=",
        text(ONE) + "\n",
        " " + text(ONE),
        text(ONE[:-1]),
        text(ONE + b"\0"),
        text(ONE)[:-2] + "B=",
        text(hashlib.sha512(b"one").digest()),
        text(b"\xff" * 32).replace("/", "_"),
        "é" * 44,
        ONE.hex(),
        5,
        None,
        [text(ONE)],
    ],
)
def test_attack_malformed_fingerprints_spoil_all(value: object) -> None:
    """Padding bits are zero (section 3.1), and there is one way to write a fingerprint."""
    for descriptors in ([{"sha-256": value}], [{"sha-256": text(TWO)}, {"sha-256": value}]):
        with pytest.raises(ValueError, match="a sha-256 fingerprint of it is not the base64 of 32"):
            parse(prints(*descriptors))


def test_a_padding_bit_that_is_not_zero_changes_nothing_else() -> None:
    spoilt = text(b"\0" * 32)[:-2] + "B="
    assert base64.b64decode(spoilt) == b"\0" * 32
    with pytest.raises(ValueError, match="base64"):
        parse(prints({"sha-256": spoilt}))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is not JSON in UTF-8"),
        (b"{", "it is not JSON in UTF-8"),
        (b"{}{}", "it is not JSON in UTF-8"),
        (b'{"a": "\xff"}', "it is not JSON in UTF-8"),
        (b'\xef\xbb\xbf{"expires": 1}', "it is not JSON in UTF-8"),
        ('{"expires": 1}'.encode("utf-16"), "it is not JSON in UTF-8"),
        (b"[]", "it is not a JSON object"),
        (b'"x"', "it is not a JSON object"),
        (b'{"expires": NaN}', "NaN is not JSON"),
        (b'{"expires": 1, "x": -Infinity}', "-Infinity is not JSON"),
        (b'{"expires": 1, "expires": 2}', "an object of it has a member twice"),
        (b'{"x": {"a": 1, "a": 1}}', "an object of it has a member twice"),
        (b'{"expires": %b}' % (b"9" * 5000), "a number of it has too many digits"),
        (b'{"expires": 1}', 'it has neither "fingerprints" nor "url"'),
        (prints(url="https://a.example/"), 'it has both "url" and "fingerprints"'),
        (prints(), "are not an array of some"),
        (b'{"expires": 1, "fingerprints": {"a": 1}}', "are not an array of some"),
        (b'{"expires": 1, "fingerprints": null}', "are not an array of some"),
        (prints("x"), "a fingerprint of it is not an object"),
        (prints({"sha-256": text(ONE)}, None), "a fingerprint of it is not an object"),
        (prints({}, {"sha-1": "x"}), "it has no fingerprint by sha-256 or sha-512"),
        (prints(*[{}] * (MOST_FINGERPRINTS + 1)), "it has more than 32 fingerprints"),
        (b" " * (LARGEST_DOCUMENT + 1), "it is larger than 65536 octets"),
        (b"[" * 17, "it is nested more than 16 deep"),
        (b'{"a":' * 17, "it is nested more than 16 deep"),
        (b'{"a": "\\"", "b":' + b"[" * 16, "it is nested more than 16 deep"),
        (b"[" * 1000 + b'"', "it is nested more than 16 deep"),
        (b'{"url": 5, "expires": 1}', 'its "url" is not a string'),
    ],
)
def test_what_is_no_document(data: bytes, problem: str) -> None:
    assert problem in complaint(data)


def test_the_most_there_may_be() -> None:
    full = [{"sha-256": text(bytes([number]) * 32)} for number in range(MOST_FINGERPRINTS)]
    data = prints(*full)
    assert len(of(data.ljust(LARGEST_DOCUMENT))) == MOST_FINGERPRINTS
    deep = "[" * 15 + "]" * 15
    assert of(b'{"x": %b, "y": "%b", %b' % (deep.encode(), b"[" * 99, data[1:])) == of(data)


@pytest.mark.parametrize(
    "piece", [b'"', b'\\"', b'"\\', b"\\", b"[", b"[]", b'{"a":', b'"",', b"1", b"1e", b"\\u"]
)
@pytest.mark.parametrize("begin", [b"", b'"', b"[", b'{"a":"'])
def test_attack_nothing_takes_long_to_read(
    begin: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even sixteen times as much: what looked at the rest anew each time would never end."""
    size = 16 * LARGEST_DOCUMENT
    monkeypatch.setattr(posh, "LARGEST_DOCUMENT", size)
    assert complaint((begin + piece * size)[:size])


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_is_a_document_or_an_error(data: bytes) -> None:
    assert complaint(data).isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["fingerprints", "expires", "url", "sha-256", "sha-512"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_document_or_an_error(content: Any) -> None:
    problem = ""
    try:
        found = parse(json.dumps(content).encode())
    except ValueError as error:
        problem = str(error)
    assert problem.isprintable() if problem else found.seconds > 0


# Locations


@pytest.mark.parametrize(
    ("url", "location", "shown"),
    [
        ("https://a.example", Location("a.example", "/"), "https://a.example/"),
        ("HTTPS://A.Example./x", Location("a.example", "/x"), "https://a.example/x"),
        ("https://a.example?x", Location("a.example", "/?x"), "https://a.example/?x"),
        ("https://a:8443/x%20", Location("a", "/x%20", 8443), "https://a:8443/x%20"),
        ("https://xn--nxasmq6b.example/", Location("xn--nxasmq6b.example", "/"), None),
    ],
)
def test_urls(url: str, location: Location, shown: str | None) -> None:
    assert Location.parse(url) == location
    assert str(location) == (shown or url)
    assert Location.parse(str(location)) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a.example/",
        "ftp://a.example/",
        "//a.example/",
        "https:a.example",
        "https:///x",
        "https://user@a.example/",
        "https://a.example@evil.example/",
        "https://a.example\\@evil.example/",
        "https://a.example:443:443/",
        "https://a.example:/",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example/#x",
        "https://a.example/ HTTP/1.1\r\nHost: b.example",
        "https://a.example/\n",
        "https://a.example\n",
        "https://a.example/\x00",
        "https://a.example/é",
        "https://ä.example/",
        "https://a_b.example/",
        "https://-a.example/",
        "https://a..example/",
        "https://192.0.2.1/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://[::1]/",
        "https://a.example/" + "x" * 2048,
        "https://" + "a." * 200 + "example/",
    ],
)
def test_attack_urls_that_are_none(url: str) -> None:
    problem = complaint(json.dumps({"url": url, "expires": 1}).encode())
    assert problem.startswith('its "url" cannot be used: ')
    assert problem.isprintable()
    with pytest.raises(ValueError, match=r"."):
        Location.parse(url)


# Certificates


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), name="stranger")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, stranger: Authority) -> tuple[bytes, ...]:
    """A host's certificate by an authority that nobody knows, and that authority's."""
    below = Authority(tmp_path_factory.mktemp("below"), name="below", parent=stranger)
    chain = issued(below, "hosting.example")
    assert len(chain) == 2
    return chain


def material(*fingerprints: Fingerprint, seconds: int = 60) -> Material:
    return Material(NAME, SERVICE, Document(fingerprints, seconds), NOW)


def judged(
    found: Material,
    shown: Evidence,
    *pins: str,
    domain: str = NAME,
    service: str = SERVICE,
    now: dt.datetime = NOW,
    initiating: bool = False,
) -> Verdict:
    by = policy(Level.SECURE, *pins)
    return judge(domain, found, by, shown, now, service=service, initiating=initiating)


def refusal(found: Material, shown: Evidence, *pins: str, **more: Any) -> str:
    with pytest.raises(UntrustedError) as caught:
        judged(found, shown, *pins, **more)
    assert caught.value.status in {Status.UNTRUSTED, Status.ANONYMOUS}
    return str(caught.value)


def test_names_and_issuers_do_not_matter(chain: tuple[bytes, ...]) -> None:
    digest = hashlib.sha256(chain[0]).hexdigest()
    verdict = judged(material(described(chain[0], "sha-256")), unverified(*chain))
    assert verdict == Verdict(Status.VERIFIED, f"POSH sha-256 {digest[:16]}…", "")


@pytest.mark.parametrize("ca", [True, False])
def test_self_signed_certificates_can_have_a_fingerprint(tmp_path: Path, ca: bool) -> None:
    (own,) = chain_of(self_signed(tmp_path, "hosting.example", ca=ca)[0])
    found = material(described(own, "sha-512"))
    assert judged(found, unverified(own)).identity.startswith("POSH sha-512 ")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_any_of_several_will_do(chain: tuple[bytes, ...], place: int) -> None:
    several = [described(each, "sha-512", "sha-256") for each in (b"a", b"b")]
    several.insert(place, described(chain[0], "sha-512", "sha-256"))
    assert judged(material(*several), unverified(*chain)).identity == f"POSH {several[place]}"


def test_attack_another_certificate_proves_nothing(chain: tuple[bytes, ...]) -> None:
    one, two = described(b"one", "sha-256"), described(b"two", "sha-512")
    text = "the certificate of example.net does not match"
    assert refusal(material(one), unverified(*chain)) == (
        f"{text} the fingerprint in its POSH document"
    )
    assert refusal(material(one, two), unverified(*chain)) == (
        f"{text} any of the 2 fingerprints in its POSH document"
    )


def test_attack_the_issuers_fingerprint_proves_nothing(chain: tuple[bytes, ...]) -> None:
    """Section 3: it is the certificate of the server itself that is described."""
    assert "does not match" in refusal(material(described(chain[1], "sha-256")), unverified(*chain))


@pytest.mark.parametrize("wrong", ["sha-256", "sha-512"])
def test_attack_hashes_that_contradict_each_other_prove_nothing(
    chain: tuple[bytes, ...], wrong: str
) -> None:
    """A collision of the one hash is none of the other."""
    right = dict(described(chain[0], "sha-256", "sha-512").digests)
    right[wrong] = dict(described(b"other", wrong).digests)[wrong]
    found = material(Fingerprint(tuple(right.items())))
    assert "does not match" in refusal(found, unverified(*chain))


def test_attack_no_hashes_prove_nothing(chain: tuple[bytes, ...]) -> None:
    assert "does not match" in refusal(material(Fingerprint(())), unverified(*chain))
    assert "does not match" in refusal(material(), unverified(*chain))


@pytest.mark.parametrize("verified", [True, False])
def test_attack_dates_count(stranger: Authority, verified: bool) -> None:
    """Section 6: an expired certificate is not valid, whatever else is."""
    (own,) = issued(stranger, not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    shown = Evidence((own,), 0, "ok", (own,)) if verified else unverified(own)
    found = material(described(own, "sha-256"))
    assert f"expired on {NOW - DAY:%Y-%m-%d}" in refusal(found, shown)
    (own,) = issued(stranger, not_before=NOW + DAY)
    found = material(described(own, "sha-256"))
    assert "is not valid before" in refusal(found, unverified(own))


@pytest.mark.parametrize(
    ("usages", "initiating", "good"),
    [
        (None, False, True),
        ([SERVER], False, True),
        ([SERVER], True, True),
        ([CLIENT], True, True),
        ([CLIENT], False, False),
        ([CODE], False, False),
        ([CODE], True, False),
    ],
)
def test_uses_count(
    stranger: Authority,
    usages: list[x509.ObjectIdentifier] | None,
    initiating: bool,
    good: bool,
) -> None:
    (own,) = issued(stranger, usages=usages)
    found = material(described(own, "sha-256"))
    if good:
        assert judged(found, unverified(own), initiating=initiating).status is Status.VERIFIED
    else:
        text = refusal(found, unverified(own), initiating=initiating)
        assert "is meant for other uses (extended key usage)" in text


@pytest.mark.parametrize("kind", WEAK)
def test_attack_keys_must_be_strong(stranger: Authority, kind: OddKeyKind) -> None:
    (own,) = issued(stranger, key=kind)
    text = refusal(material(described(own, "sha-512")), unverified(own))
    assert "has a key that is too weak" in text


def test_pins_hold_besides(chain: tuple[bytes, ...]) -> None:
    found, shown = material(described(chain[0], "sha-256")), unverified(*chain)
    assert judged(found, shown, pin_of(chain[0])).status is Status.VERIFIED
    other = "00" * 32
    assert judged(found, shown, other, pin_of(chain[0])).status is Status.VERIFIED
    text = f"the key of example.net, {pin_of(chain[0])}, is not one of its pins"
    assert refusal(found, shown, other) == text


@pytest.mark.parametrize("service", ["xmpp-server", "_xmpp-client", ""])
def test_attack_what_is_said_for_another_service_proves_nothing(
    chain: tuple[bytes, ...], service: str
) -> None:
    found = material(described(chain[0], "sha-256"))
    text = "the POSH document is not that of example.net for this service"
    assert refusal(found, unverified(*chain), service=service) == text


def test_attack_what_another_domain_says_proves_nothing(chain: tuple[bytes, ...]) -> None:
    found = material(described(chain[0], "sha-256"))
    for domain in ("example.org", "a.example.net", "net"):
        text = f"the POSH document is not that of {domain} for this service"
        assert refusal(found, unverified(*chain), domain=domain) == text


@pytest.mark.parametrize("seconds", [1, 60, LONGEST_LIFE, LONGEST_LIFE + 1, 10**19])
def test_documents_count_for_as_long_as_they_say_and_a_day_at_most(
    chain: tuple[bytes, ...], seconds: int
) -> None:
    found, shown = material(described(chain[0], "sha-256"), seconds=seconds), unverified(*chain)
    end = NOW + dt.timedelta(seconds=min(seconds, LONGEST_LIFE))
    assert judged(found, shown, now=end - SECOND).status is Status.VERIFIED
    for moment in (end, end + DAY, NOW - SECOND):
        text = refusal(found, shown, now=moment)
        assert text == "the POSH document of example.net is out of date"


def test_attack_without_a_certificate_nothing_is_proved() -> None:
    with pytest.raises(UntrustedError, match="showed no certificate") as caught:
        judged(material(described(b"", "sha-256")), Evidence((), 0, "ok"))
    assert caught.value.status is Status.ANONYMOUS


@pytest.mark.parametrize("own", [b"", b"nonsense", bytes(LARGEST_CERTIFICATE + 1)])
def test_attack_what_is_no_certificate_proves_nothing(own: bytes) -> None:
    text = refusal(material(described(own, "sha-256")), unverified(own))
    assert "could not be checked (ValueError)" in text or "is too large" in text


@pytest.mark.parametrize("fault", [ZeroDivisionError, GeneratorExit])
def test_every_fault_is_a_refusal(
    chain: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    def broken(_: object) -> str:
        raise fault

    found, shown = material(described(chain[0], "sha-256")), unverified(*chain)
    monkeypatch.setattr(posh, "key_weakness", broken)
    assert refusal(found, shown) == f"it could not be checked ({fault.__name__})"
    with pytest.raises(UntrustedError, match="it could not be checked"):
        judged(attrs.evolve(found, since=NOW.replace(tzinfo=None)), shown)
    monkeypatch.setattr(posh, "key_weakness", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        judged(found, shown)


def _interrupted(_: object) -> str:
    raise KeyboardInterrupt
