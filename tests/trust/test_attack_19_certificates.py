"""Attack 19: certificates made to confuse whoever reads them. All are refused, each with words."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust import der
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, pin_of
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.authority import SRV_NAME, XMPP_ADDR, Authority, srv_name, xmpp_addr
from tests.trust.calls import calls
from tests.trust.showing import (
    NAME,
    alternatives,
    believed,
    evidence,
    issued,
    judged,
    raw_dns,
)


def refusal(shown: Evidence, *, name: str = NAME) -> str:
    """Why a chain is refused; it is one readable line, whatever a stranger wrote into it."""
    with pytest.raises(UntrustedError) as refused:
        judged(shown, name=name)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 500
    tolerated = judged(shown, Level.ENCRYPT, name=name)
    assert tolerated.status is not Status.VERIFIED
    assert (tolerated.identity, tolerated.problem) == ("", text)
    return text


def other_name(kind: x509.ObjectIdentifier, value: bytes) -> dict[str, Any]:
    return {"dns": [], "names": [x509.OtherName(kind, value)]}


@pytest.mark.parametrize(
    "identities",
    [
        # Types that are not those of the RFCs (CVE-2024-6119 was a confusion of such types).
        other_name(XMPP_ADDR, b"\x16\x0bexample.net"),
        other_name(XMPP_ADDR, b"\x04\x0bexample.net"),
        other_name(XMPP_ADDR, b"\x01\x01\xff"),
        other_name(XMPP_ADDR, b"\x05\x00"),
        other_name(XMPP_ADDR, b"\x30\x0d\x0c\x0bexample.net"),
        other_name(SRV_NAME, b"\x0c\x18_xmpp-client.example.net"),
        other_name(SRV_NAME, b"\x02\x01\x00"),
        other_name(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x0bexample.net"),
        # Contents that are not those of the RFCs.
        other_name(XMPP_ADDR, b"\x0c\x0cexample.net\xff"),
        other_name(XMPP_ADDR, b"\x0c\x0cexample.net\x00"),
        other_name(XMPP_ADDR, b"\x0c\x0eexample.net\xed\xa0\x80"),
        other_name(XMPP_ADDR, b"\x0c\x00"),
        other_name(SRV_NAME, b"\x16\x00"),
        other_name(SRV_NAME, b"\x16\x0c_xmpp-client"),
        {"dns": [], "names": [srv_name("_xmpp-client.*.net"), xmpp_addr("*.net")]},
        {"dns": [], "names": [raw_dns(b"example.net\0.evil.example")]},
        {"dns": [], "names": [raw_dns(b"example.net\0")]},
        {"dns": ["*", "*.net", "*.*", "*.*.net", "exampl*.net", "*xample.net"]},
        {"dns": [".example.net", "example.net."]},
    ],
)
def test_names_that_confuse(
    middle: Authority, authority: Authority, identities: dict[str, Any]
) -> None:
    shown = evidence(issued(middle, **identities), [authority])
    assert shown.error == 0, "only the names stand between this certificate and trust"
    assert refusal(shown).startswith(("the certificate is for", "the certificate of example.net"))


@pytest.mark.parametrize(
    "entry",
    [
        b"\x82\x7fa",
        b"\x82\x80example.net\x00\x00",
        b"\x82\x81\x0bexample.net",  # not the shortest form of a length
        b"\x82\x84\x00\x00\x00\x0bexample.net",
        b"\x9f\x02\x0bexample.net",
        b"\x82",
    ],
)
def test_broken_lists_of_names(middle: Authority, entry: bytes) -> None:
    for sound in (b"", b"\x82\x0bexample.net"):
        data = der.encoded(der.SEQUENCE, sound + entry)
        text = refusal(believed(*issued(middle, **alternatives(data))))
        assert text == "the certificate of example.net could not be checked: it is not DER"


def test_the_common_name_is_nothing(middle: Authority) -> None:
    text = refusal(believed(*issued(middle, dns=[], common_name=NAME)))
    assert text.endswith("has no subjectAltName, and the common name does not count")
    text = refusal(believed(*issued(middle, dns=["a.example"], common_name=NAME)))
    assert text == "the certificate is for a.example, not for example.net"


@pytest.mark.parametrize("name", ["x, CN=example.net", "CN=example.net,", 'x"\n\x1b[31m\u202e'])
def test_a_subject_that_looks_like_another(middle: Authority, tmp_path: Path, name: str) -> None:
    text = refusal(believed(*issued(middle, dns=["a.example"], common_name=name)))
    assert text == "the certificate is for a.example, not for example.net"
    authority = Authority(tmp_path, name=name)
    text = refusal(evidence(issued(authority), [middle]))
    assert "which is not a trusted root" in text


def test_ten_thousand_names(middle: Authority) -> None:
    names = [x509.DNSName(f"{number:x}") for number in range(9_999)]
    chain = issued(middle, dns=[], names=[x509.DNSName(NAME), *names])
    assert len(chain[0]) < 64 * 1024
    shown = believed(*chain)
    assert refusal(shown).endswith("could not be checked: it has more than 1,000 names")
    assert calls(lambda: refusal(shown)) < 5 * len(names)


@pytest.mark.parametrize("kind", ["dns", "srv", "xmpp"])
def test_names_that_cost_much(middle: Authority, kind: str) -> None:
    """They cost as many times more as there are more of them, and no more."""
    made: dict[str, Any] = {
        "dns": [f"*.{number}.example.net" for number in range(1000)],
        "srv": [f"_xmpp-{number}.xn--fa-hia.example.net" for number in range(1000)],
        "xmpp": [f"{'é' * 15}{number}.faß.example" for number in range(1000)],
    }
    some, all_of_them = (
        believed(*issued(middle, **{"dns": [], kind: made[kind][:count]})) for count in (100, 1000)
    )
    little = calls(lambda: refusal(some, name="xn--fa-hia.example.net"))
    assert little < 100 * 400
    assert calls(lambda: refusal(all_of_them, name="xn--fa-hia.example.net")) < 11 * little


def test_a_hundred_certificates(middle: Authority) -> None:
    leaf, above = issued(middle)
    assert judged(believed(leaf, *[above] * 9)).status is Status.VERIFIED
    for count in (10, 99):
        text = refusal(believed(leaf, *[above] * count))
        expected = f"it came in a chain of {count + 1}; at most 10 are read"
        assert text == f"the certificate of example.net could not be checked: {expected}"


def test_certificates_that_issued_each_other(middle: Authority) -> None:
    leaf, above = issued(middle)
    text = refusal(Evidence((leaf, *[above] * 5), 19, "self-signed certificate in chain"))
    assert "lead to" in text


def test_a_huge_certificate(middle: Authority) -> None:
    filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(65_536))
    leaf, above = issued(middle, extensions=[filler])
    text = refusal(believed(leaf, above))
    assert text.endswith(f"it or one above it has {len(leaf)} octets; at most 65536 are read")
    text = refusal(believed(issued(middle)[0], leaf))
    assert text.endswith("octets; at most 65536 are read")


def test_limits_hold_for_keys_that_are_known(middle: Authority) -> None:
    leaf, above = issued(middle)
    with pytest.raises(UntrustedError, match="chain of 101"):
        judged(believed(leaf, *[above] * 100), Level.PIN, pin_of(leaf))


def test_an_authority_as_a_server(middle: Authority) -> None:
    shown = believed(*issued(middle, ca=True))
    assert refusal(shown).endswith("is one of an authority, not of a server")


@pytest.mark.parametrize("extension", ["551d25", "551d13", "551d0e"])
def test_an_extension_twice(middle: Authority, extension: str) -> None:
    leaf, above = issued(middle, dns=["evil.example"], common_name=NAME)
    alternative_name = b"\x06\x03" + bytes.fromhex("551d11")
    twice = leaf.replace(b"\x06\x03" + bytes.fromhex(extension), alternative_name)
    assert twice != leaf
    assert refusal(believed(twice, above)).endswith("it has an extension twice")


@pytest.mark.parametrize(
    "identities",
    [{"srv": ["_xmpp-client.example.net"]}, {"xmpp": [NAME]}, {"dns": [NAME]}],
    ids=["srv", "xmpp", "dns"],
)
def test_an_authority_that_may_only_vouch_for_others(
    authority: Authority, tmp_path: Path, identities: dict[str, Any]
) -> None:
    constraints = x509.NameConstraints([x509.DNSName("example.org")], None)
    some = Authority(tmp_path, name="some", parent=authority, constraints=constraints)
    shown = evidence(issued(some, **{"dns": ["example.org"], **identities}), [authority])
    if "dns" in identities:
        assert refusal(shown).endswith("was refused: permitted subtree violation")
    else:
        assert shown.error == 0, "OpenSSL knows nothing of these names"
        assert refusal(shown).endswith("may not vouch for it (name constraints)")
    allowed = evidence(issued(some, dns=[], xmpp=["chat.example.org"]), [authority])
    assert judged(allowed, name="chat.example.org").identity == "XmppAddr chat.example.org"


@pytest.mark.parametrize(
    "identities", [{"srv": ["_xmpp-client.example.net"]}, {"xmpp": [NAME]}], ids=["srv", "xmpp"]
)
@pytest.mark.parametrize("sent", [True, False], ids=["root sent", "root left out"])
def test_a_root_that_may_only_vouch_for_others(
    tmp_path: Path, identities: dict[str, Any], *, sent: bool
) -> None:
    """What the server leaves out binds it nevertheless: OpenSSL has built the chain with it."""
    constraints = x509.NameConstraints([x509.DNSName("example.org")], None)
    root = Authority(tmp_path, name="some root", constraints=constraints)
    chain = issued(root, dns=["example.org"], **identities)
    if sent:
        chain = (*chain, root.certificate.public_bytes(Encoding.DER))
    shown = evidence(chain, [root])
    assert (shown.error, len(shown.verified)) == (0, 2)
    assert refusal(shown).endswith("may not vouch for it (name constraints)")


@pytest.mark.parametrize("place", [(), ("another",)], ids=["none", "another's"])
def test_a_chain_that_openssl_has_not_verified(middle: Authority, place: tuple[str, ...]) -> None:
    chain = issued(middle)
    verified = issued(middle) if place else ()
    text = refusal(Evidence(chain, 0, "ok", verified))
    assert text.endswith("OpenSSL shows no chain that it has verified")


def test_names_of_strangers_are_cut_and_escaped(middle: Authority) -> None:
    names = [xmpp_addr("a\r\n\x1b[31m\u202e" + "b" * 5000), xmpp_addr("c" * 5000)]
    text = refusal(believed(*issued(middle, dns=[], names=names)))
    assert text.startswith(r"the certificate is for xmpp:a\r\n\x1b[31m\u202ebbb")


def test_any_damage_to_a_certificate_is_no_other_error(middle: Authority) -> None:
    leaf, above = issued(middle, srv=["_xmpp-client.example.org"], xmpp=["example.org"])
    for position in range(len(leaf)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(leaf)
            broken[position] ^= flip
            for shown in (believed(bytes(broken), above), Evidence((bytes(broken),), 20, "")):
                assert isinstance(judged(shown, Level.MAY), Verdict)
                with contextlib.suppress(UntrustedError):
                    assert judged(shown).identity == "DNS-ID example.net"


@given(
    st.lists(st.binary(max_size=80), max_size=12),
    st.integers(),
    st.text(max_size=20),
    st.sampled_from([Level.PIN, Level.SECURE]),
    st.one_of(st.just(NAME), st.text(max_size=30)),
)
def test_any_bytes_are_refused(
    chain: list[bytes], error: int, words: str, level: Level, name: str
) -> None:
    with pytest.raises(UntrustedError) as refused:
        judged(Evidence(tuple(chain), error, words), level, name=name)
    assert str(refused.value).isprintable()


@given(st.binary(max_size=200), st.sampled_from([0, 9, 10, 18, 19, 20, 21, 26, 66]))
def test_any_bytes_after_a_sound_start_are_refused(data: bytes, error: int) -> None:
    """As above, with an outside that passes for a certificate."""
    inside = der.encoded(der.SEQUENCE, data) + b"\x30\x00\x03\x01\x00"
    fields = b"\x02\x01\x01" + b"\x30\x00" * 3 + b"\x30\x00" * 2
    extensions = der.encoded(0xA3, der.encoded(der.SEQUENCE, data))
    outside = der.encoded(der.SEQUENCE, fields + extensions) + b"\x30\x00\x03\x01\x00"
    for content in (inside, outside):
        with pytest.raises(UntrustedError):
            judged(Evidence((der.encoded(der.SEQUENCE, content),), error, ""))
