"""Domains: one form for each, and errors for what is none."""

import contextlib
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.xmpp.domains import LONGEST, domain, unambiguous

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("example。com。", "example.com"),
        ("localhost", "localhost"),
        ("1.example", "1.example"),
        ("a-b.example", "a-b.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("FASS.de", "fass.de"),
        ("xn--fa-hia.de", "xn--fa-hia.de"),
        ("XN--FA-HIA.de", "xn--fa-hia.de"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),
        ("\uff45xample\uff0ecom", "example.com"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        (".".join([LABEL] * 3 + ["a" * 61]), ".".join([LABEL] * 3 + ["a" * 61])),
        (".".join([LABEL] * 3 + ["a" * 61, ""]), ".".join([LABEL] * 3 + ["a" * 61])),
    ],
)
def test_a_domain_has_one_form(text: str, expected: str) -> None:
    assert domain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "。",
        "..",
        "a..",
        "a。.",
        "a.。",
        ".a",
        "a..b",
        "*",
        "*.example.com",
        "a_b.example",
        "user@example.com",
        "example.com/resource",
        "example.com:5222",
        "[::1]",
        "-a.example",
        "a-.example",
        "ab--c.example",
        "xn--a.example",
        "xn--.example",
        "xn--fass-.example",
        "a b.example",
        " example.com",
        "example.com\n",
        "example.com\0",
        "example.com\0.attacker.example",
        "a\u202eb.example",
        "☃.example",
        "\ud800.example",
        "a" * 64,
        ".".join([LABEL] * 3 + ["a" * 62]),
        "a" * 100_000,
        "ü" * 1_000,
        "ü." * 200 + "example",
    ],
)
def test_what_is_no_domain_is_an_error_of_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="domain") as caught:
        domain(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_address_is_no_domain() -> None:
    with pytest.raises(ValueError, match=r"^a domain has no @$"):
        domain("alice@example.com")


@given(st.text(max_size=20) | st.from_regex(r"[a-zA-Zäß0-9.。-]{0,20}", fullmatch=True))
def test_the_form_is_plain_and_stays_as_it_is(text: str) -> None:
    try:
        found = domain(text)
    except ValueError:
        return
    assert 0 < len(found) <= LONGEST
    assert found.isascii()
    assert found == found.lower()
    assert all(0 < len(label) <= 63 for label in found.split("."))
    assert domain(found) == found
    assert domain(found.upper()) == found
    assert domain(found + ".") == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("example.com:5222", "a port does not belong here"),
        ("xmpp://example.com", "a scheme does not belong here"),
        ("https://example.com:443/", "a scheme does not belong here"),
        ("example.com/resource", "a path or a resource does not belong here"),
        ("*.example.com", "a * does not belong here"),
        ("::1:5222", "Codepoint"),
    ],
)
def test_what_stands_beside_a_domain_is_named(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^not a domain: ") as caught:
        domain(text)
    assert reason in str(caught.value)


# What every server reads the same (RFC 3490 and RFC 5891)


def as_in_2003(text: str) -> str | None:
    """The domain that a server reads which knows IDNA 2003 alone; None if it reads none."""
    try:
        return text.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        return None


def agrees(text: str) -> bool:
    """Whether an old server, where it reads a domain at all, reads the one that we read, if any."""
    try:
        found = unambiguous(text)
    except ValueError:
        return True
    return as_in_2003(text) in (None, found)


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "EXAMPLE.com.",
        "xn--fa-hia.de",
        "b\u00fccher.example",
        "B\u00dcCHER.example",
        "mu\u0308nchen.example",
        "\uff45xample\uff0ecom",
        "\u4f8b\u3048\u3002\u30c6\u30b9\u30c8",
        "\u05d0\u05d1.example",
    ],
)
def test_a_domain_that_all_servers_read_alike_is_read(text: str) -> None:
    assert unambiguous(text) == domain(text)


@pytest.mark.parametrize(
    ("label", "old"),
    [
        # Deviations, as UTS #46 calls them.
        ("fa\u00df", "fass"),
        ("\u03b1\u03c2", "\u03b1\u03c3"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u0937"),
        # Capitals that Unicode 3.2 does not know.
        ("fa\u1e9e", "fa\u1e9e"),
        ("\u023a", "\u023a"),
        # Ideographs that are normalised otherwise since Corrigendum #4.
        ("\U0002f868", "\U0002136a"),
        ("\U0002f874", "\u5f33"),
        ("\U0002f91f", "\u43ab"),
        ("\U0002f95f", "\u7aae"),
        ("\U0002f9bf", "\u4d57"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "{}.example", "www.{}.example."])
def test_a_domain_that_old_servers_read_otherwise_is_refused(
    label: str, old: str, around: str
) -> None:
    text = around.format(label)
    in_punycode = old if old.isascii() else f"xn--{old.encode('punycode').decode()}"
    assert as_in_2003(text) == around.format(in_punycode).removesuffix(".")
    with contextlib.suppress(ValueError):  # some versions of idna take none of these
        assert domain(text) != as_in_2003(text)
    with pytest.raises(ValueError, match=r"as two different ones|not a domain"):
        unambiguous(text)


@given(st.text(max_size=6), st.text(max_size=3))
def test_no_text_is_read_as_two_domains(label: str, other: str) -> None:
    assert agrees(label)
    assert agrees(f"a{label}b.{other}.example")


@pytest.mark.slow
def test_no_code_point_is_read_as_two_domains() -> None:
    """Those that stand for nothing are all the same, so a few of them will do."""
    everything = [
        each
        for each in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(each) not in {"Cn", "Co", "Cs"} or ord(each) % 101 == 0
    ]
    assert [hex(ord(each)) for each in everything if not agrees(each)] == []
