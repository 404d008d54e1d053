"""proxy.trust.keyring.facts: what is told of certificates, sound and hostile ones."""

from pathlib import Path

import pytest
from cryptography import x509

from proxy.trust.keyring.facts import (
    LONGEST_NAME,
    MOST_NAMES,
    NAMELESS,
    UNREADABLE,
    colons,
    facts_of,
    fingerprint_octets,
)
from tests.authority import Authority
from tests.trust.showing import NAME, alternatives, issued, raw_dns


def test_names_of_every_kind(authority: Authority) -> None:
    facts = facts_of(issued(authority, srv=[f"_xmpp-server.{NAME}"], xmpp=[NAME])[0])
    assert facts.names == (NAME, f"_xmpp-server.{NAME}", f"xmpp:{NAME}")
    assert facts.subject == NAMELESS
    assert facts.issuer == "CN=Bascule test root"


def test_text_of_strangers_is_made_fit_to_be_shown(authority: Authority) -> None:
    hostile = issued(authority, xmpp=["a\n\u202eb\x1b[2J"], common_name="evil\nline\x1b")[0]
    facts = facts_of(hostile)
    shown = "".join((facts.subject, facts.issuer, *facts.names))
    assert shown.isprintable()
    assert "\\u202e" in shown


def test_long_and_many_names(authority: Authority) -> None:
    names = [f"d{number}.example.net" for number in range(MOST_NAMES + 50)]
    facts = facts_of(issued(authority, dns=["a." * 200 + "example", *names])[0])
    assert len(facts.names) == MOST_NAMES
    assert max(map(len, facts.names)) == LONGEST_NAME


def test_names_that_cannot_be_read(authority: Authority) -> None:
    assert facts_of(issued(authority, **alternatives(b"\x30\x05no"))[0]).names == ()
    broken = issued(authority, dns=[], names=[raw_dns(b"a\x00b"), x509.DNSName("c.example")])[0]
    assert facts_of(broken).names == ("c.example",)


def test_a_subject_that_cannot_be_read(authority: Authority, tmp_path: Path) -> None:
    der = issued(authority, common_name="QQQQ")[0]
    broken = der.replace(b"\x0c\x04QQQQ", b"\x0c\x04\xff\xff\xff\xff")
    assert broken != der
    assert facts_of(broken).subject == UNREADABLE


@pytest.mark.parametrize("der", [b"", b"no", b"\x30\x00", b"\x30\x80\x00\x00"])
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        facts_of(der)


def test_what_is_too_large() -> None:
    with pytest.raises(ValueError, match="it has 65537 octets; at most 65536 are kept"):
        facts_of(b"0" * 65537)


def test_fingerprints() -> None:
    octets = bytes(range(32))
    text = colons(octets)
    assert text.startswith("00:01:02:")
    assert text.endswith(":1E:1F")
    assert fingerprint_octets(text) == fingerprint_octets(text.replace(":", "").lower()) == octets
    for wrong in ("", "00", text[:-1], text + ":00", "g" * 64, text.replace(":", "-")):
        assert fingerprint_octets(wrong) is None
