"""Domains: one form for each, and errors for what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.xmpp.domains import LONGEST, domain

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
