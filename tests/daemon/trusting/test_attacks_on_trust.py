"""Ways around the ladder that an attacker has tried."""

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.session.kinds import Kind
from proxy.trust import posh
from proxy.trust.evidence import Evidence
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level, pin_of
from proxy.trust.proof import Case
from proxy.trust.revocation import NO_LISTS
from proxy.trust.verdict import RevokedError, Status, UntrustedError, Verdict
from tests.authority import Authority
from tests.daemon.trusting.judged import Court, case, claims
from tests.trust.dane import der, record, unverified
from tests.trust.revoking import FILE, crl, entry, number, revocation
from tests.trust.showing import NAME, NOW, evidence, issued


@pytest.fixture
def good(root: Authority) -> Evidence:
    return evidence(issued(root), [root])


@pytest.fixture
def rogue(stranger: Authority) -> Evidence:
    """What another authority that is trusted was talked into."""
    return evidence(issued(stranger), [stranger])


def had_dane(court: Court, shown: Evidence, *, initiating: bool = False) -> None:
    """Have a domain reached by its TLSA records."""
    asked = case(shown, Level.KEYRING, claims=claims(record(shown.chain[0], 3)))
    court.judge.judge(asked)
    if initiating:
        assert court.keyring is not None
        court.keyring.note_seen(NAME, "s2s", court.now, tls=True, dane=True)
        court.keyring.remember(NAME, "s2s", shown.chain[0], court.now, how=How.DANE)
    court.kinds()


@pytest.mark.parametrize("initiating", [False, True])
def test_attack_an_authority_cannot_speak_for_a_domain_that_had_records(
    court: Court, keyring: Keyring, good: Evidence, rogue: Evidence, initiating: bool
) -> None:
    """Where they are not asked for: of servers that connect, and of second domains."""
    had_dane(court, good, initiating=initiating)
    with pytest.raises(UntrustedError):
        court.judge.judge(case(rogue, Level.KEYRING, initiating=initiating))
    known = court.judge.judge(case(good, Level.KEYRING, initiating=initiating))
    assert known.status is Status.VERIFIED
    stream = "s2s" if initiating else "c2s"
    assert [each.certificate for each in keyring.find(NAME, stream)] == [good.chain[0]]


def test_where_the_policy_says_where_the_server_is_an_authority_will_do(
    court: Court, good: Evidence, rogue: Evidence
) -> None:
    had_dane(court, good)
    led = case(rogue, Level.KEYRING, server=("192.0.2.1", 5222))
    assert court.judge.judge(led).status is Status.VERIFIED


@pytest.mark.parametrize("level", [Level.KEYRING, Level.MAY, Level.SECURE])
def test_attack_a_question_about_another_domain_leaves_no_trace(
    court: Court, keyring: Keyring, good: Evidence, rogue: Evidence, level: Level
) -> None:
    """Or a server could have its certificate held, and permitted, in another domain's name."""
    keyring.remember(NAME, "c2s", good.chain[0], court.now, how=How.PKIX)
    shown = unverified(*rogue.chain)
    try:
        court.judge.judge(case(shown, level, aside=True, approval_timeout=30.0))
    except UntrustedError:
        assert level is not Level.MAY
    assert (keyring.pending(), court.kinds()) == ((), [])
    assert not keyring.seen(NAME, "c2s").tls
    assert court.judge.lacks_tls(NAME, Kind.C2S) == ""


def test_aside_what_is_known_or_the_first_is_believed(
    court: Court, keyring: Keyring, good: Evidence, rogue: Evidence
) -> None:
    asked = case(good, Level.KEYRING, aside=True)
    assert court.judge.judge(asked).status is Status.VERIFIED
    assert keyring.find(NAME, "c2s") == ()
    keyring.remember(NAME, "c2s", good.chain[0], court.now, how=How.PKIX)
    assert court.judge.judge(asked).status is Status.VERIFIED
    with pytest.raises(UntrustedError):
        court.judge.judge(case(rogue, Level.KEYRING, aside=True))


def test_aside_an_operator_has_the_last_word(
    court: Court, keyring: Keyring, good: Evidence, rogue: Evidence
) -> None:
    held = keyring.hold(NAME, "c2s", rogue.chain[0], "", court.now).id
    asked = case(unverified(*rogue.chain), Level.KEYRING, aside=True)
    keyring.approve(held, "anna", court.now)
    assert court.judge.judge(asked).status is Status.VERIFIED
    keyring.reject(held, "anna", court.now)
    with pytest.raises(UntrustedError):
        court.judge.judge(asked)
    keyring.close()
    with pytest.raises(UntrustedError):
        court.judge.judge(case(good, Level.KEYRING, aside=True))


def site_of(shown: Evidence) -> posh.Document:
    digest = base64.b64encode(hashlib.sha256(shown.chain[0]).digest()).decode()
    text = json.dumps({"expires": 3600, "fingerprints": [{"sha-256": digest}]})
    found = posh.parse(text.encode())
    assert isinstance(found, posh.Document)
    return found


@pytest.mark.parametrize("level", [Level.SECURE, Level.KEYRING])
def test_attack_a_revoked_certificate_without_its_issuer_stays_revoked(
    keyring: Keyring, root: Authority, tmp_path: Path, level: Level
) -> None:
    """Whoever has stolen the key says which chain is sent."""
    middle = Authority(tmp_path / "middle", name="Middle", parent=root)
    chain = issued(middle)
    shown = evidence(chain[:1], [root])
    assert shown.error != 0

    def ask_site(asked: Case, now: dt.datetime) -> Verdict:
        said = posh.Material(NAME, "xmpp-client", site_of(shown), NOW)
        return posh.judge(NAME, said, asked.policy, asked.evidence, now, service="xmpp-client")

    court = Court(keyring, ask_site=ask_site)
    keyring.approve(keyring.hold(NAME, "c2s", chain[0], "", NOW).id, "anna", NOW)
    asked = case(shown, level, posh=True, crl_files=(FILE,))
    court.judge.renew(revocation(crl(middle)))
    assert court.judge.judge(asked).status is Status.VERIFIED
    court.judge.renew(revocation(crl(middle, entry(number(chain[0])))))
    with pytest.raises(RevokedError):
        court.judge.judge(asked)


def test_attack_what_an_operator_permits_is_remembered_as_having_had_tls(
    court: Court, keyring: Keyring, stranger: Authority, good: Evidence
) -> None:
    shown = unverified(*issued(stranger))
    keyring.approve(keyring.hold(NAME, "c2s", shown.chain[0], "", court.now).id, "a", court.now)
    other = claims(record(good.chain[0], 3))
    court.judge.judge(case(shown, Level.KEYRING, claims=other))
    assert (keyring.seen(NAME, "c2s").tls, keyring.seen(NAME, "c2s").dane) == (True, True)
    assert court.judge.lacks_tls(NAME, Kind.C2S)
    with pytest.raises(UntrustedError, match="had TLSA records before"):
        court.judge.judge(case(shown, Level.KEYRING, claims=claims()))


WAYS = ["padded chain", "records of another key", "pins of another key", "lists that were not read"]


@pytest.mark.parametrize("way", WAYS)
def test_attack_a_revoked_certificate_fails_for_no_other_reason(
    court: Court, keyring: Keyring, root: Authority, good: Evidence, way: str
) -> None:
    """Which an operator's permission, or a web site, would make up for."""
    chain = (*issued(root), der(root))
    court.judge.renew(revocation(crl(root, entry(number(chain[0])))))
    keyring.approve(keyring.hold(NAME, "c2s", chain[0], "", court.now).id, "anna", court.now)
    shown, vouched = evidence(chain, [root]), None
    more: dict[str, Any] = {}
    match way:
        case "padded chain":
            shown = attrs.evolve(shown, chain=(*chain, *[chain[1]] * 9))
        case "records of another key":
            vouched = claims(record(good.chain[0], 3))
        case "pins of another key":
            more = {"pins": frozenset({pin_of(good.chain[0])})}
        case _:
            court.judge.renew(NO_LISTS)
    asked = case(shown, Level.KEYRING, claims=vouched, crl_files=(FILE,), **more)
    with pytest.raises(RevokedError):
        court.judge.judge(asked)


def test_lists_are_renewed_file_by_file(root: Authority) -> None:
    """A generation has those of its own conf's files, as they were read last."""
    old, new, other = revocation(crl(root)), revocation(crl(root)), NO_LISTS
    assert old.updated(new).files == new.files
    assert old.updated(other).files == old.files
    assert other.updated(new).files == {}
