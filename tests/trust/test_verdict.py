"""proxy.trust.verdict: each kind of certificate, at each level, with its own words."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509

from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Pattern, Policy, pin_of
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge
from tests.authority import CLIENT, SERVER, Authority, now
from tests.trust.calls import calls
from tests.trust.showing import (
    DAY,
    NAME,
    NOW,
    alternatives,
    believed,
    chain_of,
    evidence,
    issued,
    judged,
)

OTHER_PIN = "sha256:" + "A" * 43 + "="
OURS = "the certificate of example.net"


@pytest.mark.parametrize("level", [Level.MAY, Level.ENCRYPT, Level.SECURE])
@pytest.mark.parametrize(
    ("identities", "expected"),
    [
        ({}, "DNS-ID example.net"),
        ({"key": "rsa", "usages": None}, "DNS-ID example.net"),
        ({"usages": [CLIENT, SERVER]}, "DNS-ID example.net"),
        ({"usages": [x509.ObjectIdentifier("2.5.29.37.0")]}, "DNS-ID example.net"),
        ({"dns": ["*.net", "a.invalid", "Example.NET"]}, "DNS-ID Example.NET"),
        (
            {"dns": [], "srv": ["_xmpp-client.example.net"]},
            "SRV-ID _xmpp-client.example.net",
        ),
        ({"dns": ["a.invalid"], "xmpp": ["example.net"]}, "XmppAddr example.net"),
        ({"not_before": NOW, "not_after": NOW + DAY}, "DNS-ID example.net"),
        ({"not_before": NOW - DAY, "not_after": NOW}, "DNS-ID example.net"),
    ],
)
def test_verified(
    middle: Authority,
    authority: Authority,
    level: Level,
    identities: dict[str, Any],
    expected: str,
) -> None:
    shown = evidence(issued(middle, **identities), [authority])
    assert shown.error == 0
    assert Verdict(Status.VERIFIED, expected, "") == judged(shown, level)


def test_a_wildcard(authority: Authority) -> None:
    shown = evidence(issued(authority, wildcard=True), [authority])
    assert judged(shown, name="chat.example.net").identity == "DNS-ID *.example.net"
    with pytest.raises(UntrustedError, match=r"not for a\.b\.example\.net$"):
        judged(shown, name="a.b.example.net")


@attrs.frozen
class Row:
    """What a server shows, and what is to be said of it; ``code`` is what OpenSSL found."""

    make: Callable[[Authority, Authority, Path], Evidence]
    status: Status
    problem: str
    code: int = 0


def by_middle(**identities: Any) -> Callable[[Authority, Authority, Path], Evidence]:
    return lambda root, middle, _: evidence(issued(middle, **identities), [root])


def expired_in_between(root: Authority, _middle: Authority, directory: Path) -> Evidence:
    life = now() - 9 * DAY, now() - DAY
    above = Authority(directory, name="old", parent=root, life=life)
    return evidence(issued(above), [root])


def new_in_between(root: Authority, _middle: Authority, directory: Path) -> Evidence:
    life = now() + DAY, now() + 9 * DAY
    above = Authority(directory, name="new", parent=root, life=life)
    return evidence(issued(above), [root])


def unknown(_root: Authority, middle: Authority, directory: Path) -> Evidence:
    return evidence(issued(middle), [Authority(directory, name="another")])


def root_sent(root: Authority, middle: Authority, directory: Path) -> Evidence:
    chain = (*issued(middle), *chain_of(root.ca_path))
    return evidence(chain, [Authority(directory, name="another")])


def missing(root: Authority, middle: Authority, _directory: Path) -> Evidence:
    return evidence(issued(middle)[:1], [root])


def self_signed(root: Authority, _middle: Authority, directory: Path) -> Evidence:
    return evidence(chain_of(Authority(directory, name="example.net").ca_path), [root])


def damaged(root: Authority, middle: Authority, _directory: Path) -> Evidence:
    leaf, above = issued(middle)
    return evidence((leaf[:-1] + bytes([leaf[-1] ^ 1]), above), [root])


def told(code: int, text: str, **identities: Any) -> Callable[..., Evidence]:
    """A chain of which OpenSSL says what this store cannot make it say."""

    def tell(_root: Authority, middle: Authority, _directory: Path) -> Evidence:
        chain = issued(middle, **identities)
        return Evidence(chain, code, text, () if code else chain)

    return tell


PAST, FUTURE = NOW - DAY, NOW + DAY
ROWS = {
    "expired": Row(
        by_middle(not_before=NOW - 9 * DAY, not_after=PAST),
        Status.UNTRUSTED,
        f"{OURS} expired on {PAST:%Y-%m-%d}",
        10,
    ),
    "not yet valid": Row(
        by_middle(not_before=FUTURE),
        Status.UNTRUSTED,
        f"{OURS} is not valid before {FUTURE:%Y-%m-%d}",
        9,
    ),
    "expired in between": Row(
        expired_in_between,
        Status.UNTRUSTED,
        'the certificate of the authority "CN=old", above that of example.net, '
        f"expired on {PAST:%Y-%m-%d}",
        10,
    ),
    "not yet valid in between": Row(
        new_in_between,
        Status.UNTRUSTED,
        'the certificate of the authority "CN=new", above that of example.net, '
        f"is not valid before {FUTURE:%Y-%m-%d}",
        9,
    ),
    "expired above what was sent": Row(
        told(10, "certificate has expired"),
        Status.UNTRUSTED,
        f"{OURS} was refused: certificate has expired",
        10,
    ),
    "unknown root": Row(
        unknown,
        Status.UNTRUSTED,
        'the certificates of example.net lead to "CN=Bascule test root", '
        "which is not a trusted root",
        20,
    ),
    "unknown root that was sent": Row(
        root_sent,
        Status.UNTRUSTED,
        'the certificates of example.net lead to "CN=Bascule test root", '
        "which is not a trusted root",
        19,
    ),
    "missing intermediate": Row(
        missing,
        Status.UNTRUSTED,
        f'{OURS} was issued by "CN=middle", which is not a trusted root '
        "and whose certificate the server did not send",
        20,
    ),
    "self-signed": Row(
        self_signed,
        Status.UNTRUSTED,
        f"{OURS} is self-signed, and not among the trusted ones",
        18,
    ),
    "signature": Row(
        damaged,
        Status.UNTRUSTED,
        f"{OURS} was refused: certificate signature failure",
        7,
    ),
    "weak key": Row(
        told(66, "EE certificate key too weak"),
        Status.UNTRUSTED,
        f"{OURS} was refused: EE certificate key too weak",
        66,
    ),
    "weak signature": Row(
        told(68, "CA signature digest algorithm too weak"),
        Status.UNTRUSTED,
        f"{OURS} was refused: CA signature digest algorithm too weak",
        68,
    ),
    "code without words": Row(
        told(9999, ""), Status.UNTRUSTED, f"{OURS} was refused: error 9999", 9999
    ),
    "negative code": Row(told(-1, "\n"), Status.UNTRUSTED, rf"{OURS} was refused: \n", -1),
    "for clients, says OpenSSL": Row(
        told(26, "unsuitable certificate purpose", usages=[CLIENT]),
        Status.UNTRUSTED,
        f"{OURS} is not meant for servers (extended key usage)",
        26,
    ),
    "purpose of another one": Row(
        told(26, "unsuitable certificate purpose", usages=None),
        Status.UNTRUSTED,
        f"{OURS} was refused: unsuitable certificate purpose",
        26,
    ),
    "for clients": Row(
        by_middle(usages=[CLIENT]),
        Status.UNTRUSTED,
        f"{OURS} is not meant for servers (extended key usage)",
    ),
    "authority": Row(
        by_middle(ca=True), Status.UNTRUSTED, f"{OURS} is one of an authority, not of a server"
    ),
    "no names": Row(
        by_middle(dns=[], common_name=NAME),
        Status.TRUSTED,
        f"{OURS} has no subjectAltName, and the common name does not count",
    ),
    "no names that are understood": Row(
        by_middle(dns=[], names=[x509.RFC822Name("a@example.net")]),
        Status.TRUSTED,
        f"{OURS} names no domain that can be understood",
    ),
    "another name": Row(
        by_middle(dns=["example.org"]),
        Status.TRUSTED,
        "the certificate is for example.org, not for example.net",
    ),
    "the SRV target only": Row(
        by_middle(dns=["xmpp.hosting.example"], srv=["_xmpp-client.hosting.example"]),
        Status.TRUSTED,
        "the certificate is for xmpp.hosting.example, _xmpp-client.hosting.example, "
        "not for example.net",
    ),
    "another service": Row(
        by_middle(dns=[], srv=["_xmpp-server.example.net"]),
        Status.TRUSTED,
        "the certificate is for _xmpp-server.example.net, not for example.net",
    ),
    "several names": Row(
        by_middle(dns=[f"{letter}.example" for letter in "abcde"]),
        Status.TRUSTED,
        "the certificate is for a.example, b.example (and 3 more), not for example.net",
    ),
    "one name twice": Row(
        by_middle(dns=["a.example", "a.example"]),
        Status.TRUSTED,
        "the certificate is for a.example, not for example.net",
    ),
    "names that are no list": Row(
        told(0, "ok", **alternatives(b"\x30\x03\x82\x7fa")),
        Status.UNTRUSTED,
        f"{OURS} could not be checked: it is not DER",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_not_verified(authority: Authority, middle: Authority, tmp_path: Path, row: Row) -> None:
    shown = row.make(authority, middle, tmp_path)
    assert row.code == shown.error, shown.error_text
    for level in (Level.NONE, Level.MAY, Level.ENCRYPT):
        assert Verdict(row.status, "", row.problem) == judged(shown, level)
    own = str(pin_of(shown.chain[0]))
    for pins in ((), (own,)):
        with pytest.raises(UntrustedError) as refusal:
            judged(shown, Level.SECURE, *pins)
        assert row.problem == str(refusal.value)
    # A key that is known needs nobody to vouch for it.
    assert Verdict(Status.VERIFIED, f"pin {own}", "") == judged(shown, Level.PIN, own, OTHER_PIN)


@pytest.mark.parametrize("error", [0, 20])
def test_no_certificate(error: int) -> None:
    shown = Evidence((), error, "")
    for level in (Level.NONE, Level.MAY, Level.ENCRYPT):
        expected = Verdict(Status.ANONYMOUS, "", "example.net showed no certificate")
        assert expected == judged(shown, level)
    for level in (Level.PIN, Level.SECURE):
        with pytest.raises(UntrustedError, match=r"^example\.net showed no certificate$"):
            judged(shown, level, OTHER_PIN)


def test_a_key_that_is_not_known(middle: Authority, authority: Authority) -> None:
    shown = evidence(issued(middle), [authority])
    pin = pin_of(shown.chain[0])
    problem = f"the key of example.net, {pin}, is not one of its pins"
    for level, pins in [(Level.PIN, ()), (Level.PIN, (OTHER_PIN,)), (Level.SECURE, (OTHER_PIN,))]:
        with pytest.raises(UntrustedError) as refusal:
            judged(shown, level, *pins)
        assert problem == str(refusal.value)
    assert Verdict(Status.TRUSTED, "", problem) == judged(shown, Level.MAY, OTHER_PIN)


def test_the_key_of_an_authority_is_not_the_servers(
    middle: Authority, authority: Authority
) -> None:
    shown = evidence(issued(middle), [authority])
    with pytest.raises(UntrustedError, match="is not one of its pins"):
        judged(shown, Level.PIN, pin_of(shown.chain[1]))


def test_secure_with_pins_needs_both(middle: Authority, authority: Authority) -> None:
    shown = evidence(issued(middle), [authority])
    found = judged(shown, Level.SECURE, OTHER_PIN, pin_of(shown.chain[0]))
    assert Verdict(Status.VERIFIED, "DNS-ID example.net", "") == found
    wrong = evidence(issued(middle, dns=["a.invalid"]), [authority])
    with pytest.raises(UntrustedError, match=r"is for a\.invalid, not for example\.net"):
        judged(wrong, Level.SECURE, pin_of(wrong.chain[0]))


def test_expired_by_the_second(middle: Authority) -> None:
    shown = believed(*issued(middle, not_after=NOW + DAY))
    second = dt.timedelta(seconds=1)
    assert judged(shown, now=NOW + DAY).status is Status.VERIFIED
    with pytest.raises(UntrustedError, match=f"expired on {NOW + DAY:%Y-%m-%d}"):
        judged(shown, now=NOW + DAY + second)


@pytest.mark.parametrize("name", ["Example.net", "example.net.", "", "a\n\x1b[31m.example"])
def test_a_domain_that_is_not_canonical(middle: Authority, name: str) -> None:
    shown = believed(*issued(middle, wildcard=True))
    with pytest.raises(UntrustedError, match="could not be checked: ") as refusal:
        judged(shown, name=name)
    assert str(refusal.value).isprintable()


def test_a_time_without_zone_is_a_refusal(middle: Authority) -> None:
    with pytest.raises(UntrustedError, match="could not be checked: TypeError"):
        judged(believed(*issued(middle)), now=NOW.replace(tzinfo=None))


def test_the_service_has_its_underscore(middle: Authority) -> None:
    with pytest.raises(UntrustedError, match="not in its canonical form"):
        judge(NAME, "xmpp-client", Policy(Pattern.parse("*")), believed(*issued(middle)), NOW)


@pytest.mark.parametrize("count", [1, 100])
def test_it_costs_little_and_not_much_more_with_more_names(middle: Authority, count: int) -> None:
    """As many calls as are done in well under a millisecond."""
    names = [f"{number}.example.org" for number in range(count - 1)]
    shown = believed(*issued(middle, dns=[*names, NAME]))
    judged(shown)  # what is done once is not counted
    assert calls(lambda: judged(shown)) < 1500 + 20 * count
