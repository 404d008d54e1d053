"""proxy.trust.identities: which names of a certificate prove which domain."""

from collections.abc import Iterable
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust import der
from proxy.trust.certificate import SUBJECT_ALT_NAME, Certificate
from proxy.trust.identities import Presented, presented
from tests.authority import SRV_NAME, XMPP_ADDR, Authority, srv_name, xmpp_addr
from tests.trust.showing import NAME, issued, raw_dns


def names_of(names: Iterable[x509.GeneralName]) -> Presented:
    return presented(x509.SubjectAlternativeName(names).public_bytes())


def dns(text: str) -> x509.GeneralName:
    return raw_dns(text.encode())


BROKEN_NAMES = [
    x509.OtherName(SRV_NAME, b"\x30\x03\x16\x01x"),
    x509.OtherName(SRV_NAME, b"\x16\x00"),
    x509.OtherName(SRV_NAME, b"\x0c\x18_xmpp-client.example.net"),
    x509.OtherName(SRV_NAME, b"\x16\x01_"),
    x509.OtherName(XMPP_ADDR, b"\x0c\x02\xff\xfe"),
    x509.OtherName(XMPP_ADDR, b"\x04\x01\x00"),
    x509.OtherName(XMPP_ADDR, b"\x0c\x00"),
    x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x0bexample.net"),
    srv_name("example.net"),
    raw_dns(b""),
    raw_dns(b"\xff.example.net"),
    dns("*"),
    dns("*.net"),
    dns("*.*.example.net"),
    dns(".example.net"),
    dns("127.0.0.1"),
    x509.UniformResourceIdentifier("xmpp:a:b:c"),
]
FAASS = "xn--fa-hia.example"


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        (NAME, [dns(NAME)], "DNS-ID example.net"),
        (NAME, [dns("EXAMPLE.net")], "DNS-ID EXAMPLE.net"),
        (NAME, [dns("a.invalid"), dns(NAME)], "DNS-ID example.net"),
        ("chat.example.net", [dns("*.example.net")], "DNS-ID *.example.net"),
        ("chat.example.net", [dns("*.EXAMPLE.net")], "DNS-ID *.EXAMPLE.net"),
        ("example.co.uk", [dns("*.co.uk")], "DNS-ID *.co.uk"),
        ("localhost", [dns("localhost")], "DNS-ID localhost"),
        (FAASS, [dns(FAASS)], f"DNS-ID {FAASS}"),
        (FAASS, [dns("XN--FA-HIA.example")], "DNS-ID XN--FA-HIA.example"),
        (f"chat.{FAASS}", [dns(f"*.{FAASS}")], f"DNS-ID *.{FAASS}"),
        (NAME, [srv_name("_xmpp-client.example.net")], "SRV-ID _xmpp-client.example.net"),
        (NAME, [srv_name("_XMPP-Client.Example.net")], "SRV-ID _XMPP-Client.Example.net"),
        (NAME, [xmpp_addr(NAME)], "XmppAddr example.net"),
        (NAME, [xmpp_addr("Example.NET.")], "XmppAddr Example.NET."),
        (FAASS, [xmpp_addr("faß.example")], "XmppAddr faß.example"),
        (FAASS, [xmpp_addr(FAASS)], f"XmppAddr {FAASS}"),
        ("xn--bcher-kva.example", [xmpp_addr("Bu\u0308cher.example")], "XmppAddr Bu\u0308cher"),
        ("192.0.2.1", [xmpp_addr("192.0.2.1")], "XmppAddr 192.0.2.1"),
        # One that matches is enough, whatever stands beside it (RFC 9525 section 6.1).
        (NAME, [srv_name("_xmpp-server.example.net"), dns(NAME)], "DNS-ID example.net"),
        (NAME, [dns("a.invalid"), xmpp_addr(NAME)], "XmppAddr example.net"),
        (NAME, [*BROKEN_NAMES, dns(NAME)], "DNS-ID example.net"),
        (NAME, [*BROKEN_NAMES, xmpp_addr(NAME)], "XmppAddr example.net"),
        (
            NAME,
            [*BROKEN_NAMES, srv_name("_xmpp-client.example.net")],
            "SRV-ID _xmpp-client.example.net",
        ),
    ],
)
def test_names_that_prove_a_domain(name: str, names: list[x509.GeneralName], expected: str) -> None:
    found = names_of(names)
    match = found.match(name)
    assert str(match).startswith(expected)
    assert found.covers(name)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        (NAME, []),
        (NAME, BROKEN_NAMES),
        ("chat.example.net", BROKEN_NAMES),
        ("a.b.example.net", BROKEN_NAMES),
        (NAME, [dns("example.org")]),
        (NAME, [dns("chat.example.net")]),
        (NAME, [dns("badexample.net")]),
        (NAME, [dns("example.net.")]),
        (NAME, [dns("example.net\0.org")]),
        (NAME, [dns("example.net\0")]),
        (NAME, [dns("example.net ")]),
        (NAME, [dns(" example.net")]),
        (NAME, [dns("example.net\n")]),
        (NAME, [dns("*.example.net")]),
        (NAME, [dns("*.net")]),
        (NAME, [dns("*")]),
        (NAME, [dns("*.*")]),
        (NAME, [dns("example.*")]),
        (NAME, [dns("*xample.net")]),
        ("net", [dns("*")]),
        ("a.b.example.net", [dns("*.example.net")]),
        ("a.b.example.net", [dns("*.*.example.net")]),
        ("a.b.example.net", [dns("a.*.example.net")]),
        ("foo.example.net", [dns("f*.example.net")]),
        ("foo.example.net", [dns("*o.example.net")]),
        ("foo.example.net", [dns("f*o.example.net")]),
        ("foo.example.net", [dns("foo*.example.net")]),
        ("chat.example.net", [dns("*..example.net")]),
        ("chat.example.net", [dns("*.example.net.")]),
        ("chat.example.net", [dns("_chat.example.net")]),
        # service_identity lets no wildcard stand for an A-label.
        ("xn--fa-hia.example.net", [dns("*.example.net")]),
        ("xn--fa-hia.example.net", [dns("xn--*.example.net")]),
        (FAASS, [dns("fass.example")]),
        (FAASS, [raw_dns("faß.example".encode("latin-1"))]),
        (FAASS, [dns("faß.example")]),
        ("fass.example", [xmpp_addr("faß.example")]),
        (NAME, [srv_name("_xmpp-server.example.net")]),
        (NAME, [srv_name("_xmpps-client.example.net")]),
        (NAME, [srv_name("xmpp-client.example.net")]),
        (NAME, [srv_name("_xmpp-client.*.net")]),
        (NAME, [srv_name("_xmpp-client.example.org")]),
        (NAME, [srv_name("_xmpp-client.example.net.")]),
        (NAME, [srv_name("_xmpp-client..example.net")]),
        ("chat.example.net", [srv_name("_xmpp-client.*.example.net")]),
        ("chat.example.net", [srv_name("_xmpp-client.example.net")]),
        (NAME, [xmpp_addr("user@example.net")]),
        (NAME, [xmpp_addr("example.net/resource")]),
        (NAME, [xmpp_addr("example.net\0")]),
        (NAME, [xmpp_addr("example.net..")]),
        (NAME, [xmpp_addr(" example.net")]),
        (NAME, [xmpp_addr("xmpp:example.net")]),
        (NAME, [xmpp_addr("example。net")]),
        (NAME, [xmpp_addr("\uff45xample.net")]),
        (NAME, [xmpp_addr("ex\u00adample.net")]),
        ("chat.example.net", [xmpp_addr("*.example.net")]),
        ("chat.example.net", [xmpp_addr("example.net")]),
        (NAME, [x509.OtherName(XMPP_ADDR, b"\x16\x0bexample.net")]),
        (NAME, [x509.UniformResourceIdentifier("xmpp:example.net")]),
        (NAME, [x509.RFC822Name("example.net")]),
        (NAME, [x509.RegisteredID(XMPP_ADDR)]),
        ("192.0.2.1", [dns("192.0.2.1")]),
        ("192.0.2.1", [dns("*.0.2.1")]),
        ("192.0.2.1", [srv_name("_xmpp-client.192.0.2.1")]),
    ],
)
def test_names_that_prove_nothing(name: str, names: list[x509.GeneralName]) -> None:
    found = names_of(names)
    assert found.match(name) is None
    assert not found.covers(name)


def test_the_service_is_the_one_asked_for() -> None:
    found = names_of([srv_name("_xmpp-server.example.net")])
    assert str(found.match(NAME, "_xmpp-server")) == "SRV-ID _xmpp-server.example.net"
    assert found.match(NAME, "_xmpp-client") is None


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("Example.net", "_xmpp-client"),
        ("example.net.", "_xmpp-client"),
        ("faß.example", "_xmpp-client"),
        ("*.example.net", "_xmpp-client"),
        ("", "_xmpp-client"),
        (NAME, "xmpp-client"),
        (NAME, ""),
    ],
)
def test_a_reference_that_is_not_canonical_is_an_error(name: str, service: str) -> None:
    found = names_of([dns("example.net"), dns("*.example.net"), xmpp_addr("faß.example")])
    with pytest.raises(ValueError, match=r"canonical form|domain|Codepoint"):
        found.match(name, service)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([dns("a.invalid"), xmpp_addr("b.invalid")], "it names a.invalid, xmpp:b.invalid"),
        ([srv_name("_a.b.invalid")], "it names _a.b.invalid"),
        (BROKEN_NAMES[:1], "its subjectAltName names no domain that can be understood"),
    ],
)
def test_what_is_named(names: list[x509.GeneralName], expected: str) -> None:
    assert expected == str(names_of(names))


def test_no_subject_alternative_name() -> None:
    expected = "it has no subjectAltName, and the common name does not count"
    assert expected == str(presented(None))
    assert presented(None).match(NAME) is None


def test_a_name_that_breaks_parsers_does_no_harm_to_the_others(middle: Authority) -> None:
    names: Any = [dns("zzzz.invalid"), dns(NAME)]
    whole = issued(middle, dns=[], names=names)[0].replace(b"zzzz.invalid", b"zz\xff\xfe.invalid")
    names_read = presented(Certificate.read(whole).extensions()[SUBJECT_ALT_NAME])
    assert str(names_read.match(NAME)) == "DNS-ID example.net"
    assert str(names_read) == "it names example.net"


ADDRESS = der.encoded(0x06, bytes.fromhex("2b06010505070805"))
TEXT = der.encoded(0x0C, b"example.net")


@pytest.mark.parametrize(
    "entry",
    [
        ADDRESS + der.encoded(0xA0, TEXT + b"\x05\x00"),
        ADDRESS + der.encoded(0xA0, b"\x0c\x7fexample.net"),
        ADDRESS + der.encoded(0xA0, TEXT) + b"\x05\x00",
        ADDRESS + der.encoded(0xA1, TEXT),
        ADDRESS + TEXT,
        ADDRESS,
        der.encoded(0xA0, TEXT) + ADDRESS,
        TEXT,
        b"",
    ],
)
def test_an_entry_that_is_broken_proves_nothing_and_does_no_harm(entry: bytes) -> None:
    broken = der.encoded(0xA0, entry)
    assert not presented(der.encoded(0x30, broken)).covers(NAME)
    found = presented(der.encoded(0x30, broken + der.encoded(0x82, b"example.net")))
    assert str(found.match(NAME)) == "DNS-ID example.net"


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x31\x00", b"\x30\x03\x82\x05a", b"\x30\x00\x00", b"\x30\x02\x1f\x00"]
)
def test_a_list_that_is_broken_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is not"):
        presented(data)


def test_too_many_names() -> None:
    many = [dns(f"{number}.invalid") for number in range(999)]
    assert names_of([*many, dns(NAME)]).covers(NAME)
    with pytest.raises(ValueError, match="it has more than 1,000 names"):
        names_of([dns(NAME), *many, dns("a.invalid")])


@given(st.binary(max_size=60))
def test_any_bytes_name_nothing_or_are_an_error(data: bytes) -> None:
    for value in (data, b"\x30" + bytes((len(data),)) + data):
        try:
            assert not presented(value).covers(NAME)
        except ValueError:
            continue


@given(st.text(max_size=40))
def test_only_the_same_domain_matches_an_address(text: str) -> None:
    assert not names_of([xmpp_addr(text)]).covers("example.net")
    assert not names_of([xmpp_addr(text)]).covers("xn--fa-hia.example")
