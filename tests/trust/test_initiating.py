"""The verdict on a server that connects to us: certificates for either use, and strong ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE, SERVER_SERVICE
from proxy.trust.policy import Level, pin_of
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.authority import (
    ANY,
    CLIENT,
    CODE,
    MAIL,
    SERVER,
    STRONG,
    WEAK,
    Authority,
    KeyKind,
    OddKeyKind,
)
from tests.trust.showing import DAY, NAME, NOW, evidence, issued, judged

OURS = "the certificate of example.net"
ABOVE = "an authority's certificate above that of example.net"
NEITHER = "is meant neither for servers nor for their clients (extended key usage)"


def of_server(shown: Evidence, level: Level = Level.SECURE, *pins: str) -> Verdict:
    return judged(shown, level, *pins, service=SERVER_SERVICE, initiating=True)


def refusal(shown: Evidence, status: Status = Status.UNTRUSTED) -> str:
    """Why it is refused; where nothing is demanded, it is told all the same."""
    with pytest.raises(UntrustedError) as refused:
        of_server(shown)
    text = str(refused.value)
    assert status is refused.value.status
    for level in (Level.NONE, Level.MAY, Level.ENCRYPT):
        assert Verdict(status, "", text) == of_server(shown, level)
    return text


@pytest.mark.parametrize("level", [each for each in Level if each is not Level.PIN])
@pytest.mark.parametrize(
    ("identities", "expected"),
    [
        ({"usages": [SERVER]}, "DNS-ID example.net"),
        ({"usages": [CLIENT]}, "DNS-ID example.net"),
        ({"usages": [CLIENT, SERVER]}, "DNS-ID example.net"),
        ({"usages": [CODE, CLIENT]}, "DNS-ID example.net"),
        ({"usages": [ANY]}, "DNS-ID example.net"),
        ({"usages": None}, "DNS-ID example.net"),
        ({"dns": [], "srv": ["_xmpp-server.example.net"]}, "SRV-ID _xmpp-server.example.net"),
        ({"dns": [], "xmpp": [NAME]}, "XmppAddr example.net"),
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
    assert Verdict(Status.VERIFIED, expected, "") == of_server(shown, level)


def test_the_service_is_that_of_servers(middle: Authority, authority: Authority) -> None:
    shown = evidence(issued(middle, dns=[], srv=["_xmpp-client.example.net"]), [authority])
    expected = "the certificate is for _xmpp-client.example.net, not for example.net"
    assert expected == refusal(shown, Status.TRUSTED)
    assert judged(shown, service=CLIENT_SERVICE, initiating=True).status is Status.VERIFIED


@pytest.mark.parametrize(
    ("identities", "problem"),
    [
        ({"usages": [CODE]}, f"{OURS} {NEITHER}"),
        ({"usages": [MAIL, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1.1")]}, f"{OURS} {NEITHER}"),
        ({"signs": False}, "the key of example.net is not meant for signatures (key usage)"),
        ({"ca": True}, f"{OURS} is one of an authority, not of a server"),
        ({"key": "rsa 1024"}, f"{OURS} has a key that is too weak (RSA of 1024 bits)"),
    ],
)
def test_refused(
    middle: Authority, authority: Authority, identities: dict[str, Any], problem: str
) -> None:
    shown = evidence(issued(middle, **identities), [authority])
    assert shown.error == 0, "OpenSSL has nothing against it"
    assert problem == refusal(shown)


def test_dates_count_first(middle: Authority, authority: Authority) -> None:
    made = issued(middle, usages=[CODE], not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    assert refusal(evidence(made, [authority])).startswith(f"{OURS} expired on")


def test_a_certificate_for_clients_is_none_of_a_server_that_is_connected_to(
    middle: Authority, authority: Authority
) -> None:
    shown = evidence(issued(middle, usages=[CLIENT]), [authority])
    assert of_server(shown).status is Status.VERIFIED
    with pytest.raises(UntrustedError, match="is not meant for servers"):
        judged(shown, service=SERVER_SERVICE)


@pytest.mark.parametrize(
    ("above", "leaf", "good"),
    [
        ([SERVER], [SERVER], True),
        ([SERVER], [SERVER, CLIENT], True),
        ([SERVER, CLIENT], [CLIENT], True),
        ([CLIENT], None, True),
        ([ANY], [CLIENT], True),
        ([SERVER], [CLIENT], False),
        ([CLIENT], [SERVER], False),
        ([MAIL], [SERVER], False),
        ([MAIL], None, False),
    ],
)
def test_an_authority_is_kept_to_its_uses(
    tmp_path: Path, authority: Authority, above: list[Any], leaf: list[Any] | None, *, good: bool
) -> None:
    """One for mail may have been given a certificate for any domain; none of those is a server."""
    some = Authority(tmp_path, name="some", parent=authority, usages=above)
    shown = evidence(issued(some, usages=leaf), [authority])
    assert shown.error == 0
    if good:
        assert of_server(shown).status is Status.VERIFIED
    else:
        assert f"{ABOVE} {NEITHER}" == refusal(shown)


@pytest.mark.parametrize("kind", STRONG)
@pytest.mark.parametrize("place", ["leaf", "authority", "root"])
def test_strong_keys(
    tmp_path: Path, authority: Authority, kind: KeyKind | OddKeyKind, place: str
) -> None:
    shown = by_key(tmp_path, authority, kind, place)
    assert of_server(shown).status is Status.VERIFIED


@pytest.mark.parametrize("kind", WEAK)
@pytest.mark.parametrize("place", ["leaf", "authority", "root"])
def test_weak_keys(tmp_path: Path, authority: Authority, kind: OddKeyKind, place: str) -> None:
    shown = by_key(tmp_path, authority, kind, place)
    assert shown.error == 0
    whose = OURS if place == "leaf" else ABOVE
    assert refusal(shown).startswith(f"{whose} has a key that is too weak (")


def by_key(
    directory: Path, authority: Authority, kind: KeyKind | OddKeyKind, place: str
) -> Evidence:
    if place == "leaf":
        return evidence(issued(authority, key=kind), [authority])
    if place == "root":
        root = Authority(directory, name="some root", key=kind)
        return evidence(issued(root), [root])
    some = Authority(directory, name="some", key=kind, parent=authority)
    return evidence(issued(some), [authority])


@pytest.mark.parametrize(("digest", "name"), [("sha1", "SHA-1"), ("md5", "MD5")])
@pytest.mark.parametrize("place", ["leaf", "authority", "root"])
def test_weak_signatures(tmp_path: Path, digest: Any, name: str, place: str) -> None:
    old = {"digest": digest}
    root = Authority(
        tmp_path / "root", name="some root", key="rsa", **old if place == "root" else {}
    )
    some = Authority(
        tmp_path / "some",
        name="some",
        key="rsa",
        parent=root,
        **old if place == "authority" else {},
    )
    shown = evidence(issued(some, **old if place == "leaf" else {}), [root])
    assert (shown.error, len(shown.verified)) == (0, 3)
    if place == "root":
        assert of_server(shown).status is Status.VERIFIED, "its own signature proves nothing"
    else:
        whose = OURS if place == "leaf" else ABOVE
        assert f"{whose} is signed too weakly ({name})" == refusal(shown)


def test_a_pin_is_all_that_counts_at_its_level(tmp_path: Path, authority: Authority) -> None:
    weak = Authority(tmp_path, name="weak", key="rsa 1024", usages=[MAIL])
    shown = evidence(issued(weak, "other.example", key="rsa 1024", usages=[CODE]), [authority])
    pin = pin_of(shown.chain[0])
    assert Verdict(Status.VERIFIED, f"pin {pin}", "") == of_server(shown, Level.PIN, pin)
    other = pin_of(weak.certificate.public_bytes(Encoding.DER))
    with pytest.raises(UntrustedError, match="is not one of its pins"):
        of_server(shown, Level.PIN, other)
    sound = evidence(issued(authority), [authority])
    with pytest.raises(UntrustedError, match="is not one of its pins"):
        of_server(sound, Level.SECURE, pin)


def test_no_certificate() -> None:
    expected = "example.net showed no certificate"
    assert expected == refusal(Evidence((), 1, "none"), Status.ANONYMOUS)
    with pytest.raises(UntrustedError, match="showed no certificate"):
        of_server(Evidence((), 0, "ok"), Level.PIN, "0" * 64)


@pytest.mark.parametrize(
    "make",
    [
        lambda some, root: issued(some)[:1],
        lambda some, root: issued(some)[::-1],
        lambda some, root: issued(some, "other.example"),
        lambda some, root: issued(some, not_before=NOW + DAY),
    ],
    ids=["without the authority", "authority first", "another's", "not yet"],
)
def test_as_for_all_servers(
    middle: Authority,
    authority: Authority,
    make: Callable[[Authority, Authority], tuple[bytes, ...]],
) -> None:
    """The same words, but for what is told of use and strength."""
    shown = evidence(make(middle, authority), [authority])
    with pytest.raises(UntrustedError) as refused:
        judged(shown, service=SERVER_SERVICE)
    assert str(refused.value) == refusal(shown, refused.value.status)
