"""The judge of all sessions: what it remembers, and what it asks the keyring."""

import datetime as dt
from pathlib import Path

import attrs
import pytest

from proxy.daemon.trusting import judge as judging
from proxy.daemon.trusting.judge import MOST_REMEMBERED, REMEMBERED
from proxy.session.kinds import Kind
from proxy.trust.evidence import Evidence
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level, OnChange
from proxy.trust.proof import Case, Proof
from proxy.trust.revocation import NO_LISTS
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import RevokedError, Status, UntrustedError, Verdict
from tests.authority import Authority
from tests.daemon.trusting.judged import Court, case, claims
from tests.trust.dane import der, record, unverified
from tests.trust.revoking import FILE, crl, entry, number, revocation
from tests.trust.showing import DAY, NAME, evidence, issued

SHOWN = Evidence((b"leaf", b"authority"), 0, "ok")
SECOND = dt.timedelta(seconds=1)


@attrs.define
class Proving:
    """Counts what is to be proved, and believes `SHOWN` alone."""

    asked: list[Case] = attrs.field(factory=list)

    def __call__(self, case: Case, *_more: object) -> Proof:
        self.asked.append(case)
        if case.evidence != SHOWN:
            raise UntrustedError("not this one")
        return Proof(Verdict(Status.VERIFIED, f"DNS-ID {case.domain}", ""), How.PKIX)


@pytest.fixture
def proving(monkeypatch: pytest.MonkeyPatch) -> Proving:
    proving = Proving()
    monkeypatch.setattr(judging, "prove", proving)
    return proving


# What is remembered


def test_the_same_certificates_are_proved_once_a_minute(court: Court, proving: Proving) -> None:
    for _ in range(3):
        assert court.judge.judge(case(SHOWN)).status is Status.VERIFIED
    court.now += REMEMBERED - SECOND
    court.judge.judge(case(SHOWN))
    assert len(proving.asked) == 1
    court.now += SECOND
    court.judge.judge(case(SHOWN))
    assert len(proving.asked) == 2


def test_a_clock_that_goes_back_has_it_proved_anew(court: Court, proving: Proving) -> None:
    court.judge.judge(case(SHOWN))
    court.now -= SECOND
    court.judge.judge(case(SHOWN))
    assert len(proving.asked) == 2


def test_so_have_roots_that_may_be_others(court: Court, proving: Proving) -> None:
    court.judge.judge(case(SHOWN))
    court.judge.renew(NO_LISTS)
    court.judge.judge(case(SHOWN))
    assert len(proving.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        case(SHOWN, domain="www.example.org"),
        case(SHOWN, Level.PIN),
        case(SHOWN, posh=True),
        case(SHOWN, claims=claims()),
        case(SHOWN, initiating=True),
    ],
)
def test_nothing_is_remembered_for_another_case(
    court: Court, proving: Proving, other: Case
) -> None:
    court.judge.judge(case(SHOWN))
    court.judge.judge(other)
    assert len(proving.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(SHOWN, chain=(b"leaf",)),
        attrs.evolve(SHOWN, chain=(b"other", b"authority")),
        attrs.evolve(SHOWN, verified=(b"leaf",)),
        attrs.evolve(SHOWN, error=10),
        attrs.evolve(SHOWN, error_text="?"),
    ],
)
@pytest.mark.usefixtures("proving")
def test_nothing_is_remembered_for_other_certificates(court: Court, other: Evidence) -> None:
    court.judge.judge(case(SHOWN))
    for _ in range(2):
        with pytest.raises(UntrustedError):
            court.judge.judge(case(other))


def test_what_is_remembered_does_not_grow(court: Court, proving: Proving) -> None:
    for count in range(MOST_REMEMBERED + 10):
        court.judge.judge(case(SHOWN, domain=f"d{count}.example.org"))
    court.judge.judge(case(SHOWN, domain=f"d{MOST_REMEMBERED + 9}.example.org"))
    assert len(proving.asked) == MOST_REMEMBERED + 10
    court.judge.judge(case(SHOWN, domain="d0.example.org"))
    assert len(proving.asked) == MOST_REMEMBERED + 11


# The keyring


def held(court: Court, asked: Case) -> str:
    """Have a certificate refused that nothing vouches for, and return what it is held as."""
    assert court.keyring is not None
    with pytest.raises(UntrustedError, match="in the keyring"):
        court.judge.judge(asked)
    return court.keyring.pending()[0].id


@pytest.fixture
def unknown(stranger: Authority) -> Evidence:
    return unverified(*issued(stranger))


@pytest.fixture
def proved(root: Authority) -> Evidence:
    return evidence(issued(root), [root])


def test_a_proved_certificate_passes_and_is_remembered(court: Court, proved: Evidence) -> None:
    assert court.judge.judge(case(proved, Level.KEYRING)).identity == f"DNS-ID {NAME}"
    assert court.keyring is not None
    [entry] = court.keyring.find(NAME, "c2s")
    assert (entry.certificate, entry.how) == (proved.chain[0], How.PKIX)
    assert court.kinds() == []


def test_an_unknown_one_is_held_until_it_is_approved(court: Court, unknown: Evidence) -> None:
    asked = case(unknown, Level.KEYRING)
    held_id = held(court, asked)
    assert court.kinds() == ["unknown"]
    assert court.keyring is not None
    court.keyring.approve(held_id, "anna", court.now)
    verdict = court.judge.judge(asked)
    assert verdict.status is Status.VERIFIED
    assert verdict.identity.endswith("permitted by anna")
    assert court.kinds() == []


def test_one_that_was_approved_can_be_revoked_at_once(court: Court, unknown: Evidence) -> None:
    asked = case(unknown, Level.KEYRING)
    assert court.keyring is not None
    court.keyring.approve(held(court, asked), "anna", court.now)
    court.judge.judge(asked)
    court.kinds()
    court.keyring.revoke(NAME, "anna", court.now)
    with pytest.raises(UntrustedError):
        court.judge.judge(asked)
    assert court.kinds() == ["revoked"]


def test_one_that_was_rejected_stays_out(court: Court, unknown: Evidence) -> None:
    asked = case(unknown, Level.KEYRING, approval_timeout=30.0)
    assert court.keyring is not None
    with pytest.raises(UndecidedError):
        court.judge.judge(asked)
    court.keyring.reject(court.keyring.pending()[0].id, "anna", court.now)
    court.kinds()
    with pytest.raises(UntrustedError):
        court.judge.judge(asked)
    assert court.kinds() == ["rejected"]


def test_a_renewal_is_told_of(court: Court, proved: Evidence, root: Authority) -> None:
    court.judge.judge(case(proved, Level.KEYRING))
    other = evidence(issued(root), [root])
    assert court.judge.judge(case(other, Level.KEYRING)).status is Status.VERIFIED
    assert court.kinds() == ["renewal"]


def test_or_it_waits(court: Court, proved: Evidence, root: Authority) -> None:
    court.judge.judge(case(proved, Level.KEYRING))
    other = evidence(issued(root), [root])
    held(court, case(other, Level.KEYRING, on_change=OnChange.HOLD))
    assert court.kinds() == ["change"]


def test_a_swapped_certificate_is_a_possible_breach(
    court: Court, proved: Evidence, unknown: Evidence
) -> None:
    court.judge.judge(case(proved, Level.KEYRING))
    held(court, case(unknown, Level.KEYRING))
    [alert] = court.alerts
    assert alert.text.startswith("possible security breach")


def test_a_certificate_that_changes_between_reconnects_is_compared_each_time(
    court: Court, proved: Evidence, unknown: Evidence
) -> None:
    """Within the minute for which a proof is remembered, too."""
    for _ in range(2):
        court.judge.judge(case(proved, Level.KEYRING))
        held(court, case(unknown, Level.KEYRING))


def test_who_connects_to_us_with_what_nothing_proves_fills_no_keyring(
    court: Court, unknown: Evidence
) -> None:
    with pytest.raises(UntrustedError):
        court.judge.judge(case(unknown, Level.KEYRING, initiating=True, approval_timeout=30.0))
    assert court.keyring is not None
    assert (court.keyring.pending(), court.kinds()) == ((), [])


def test_what_is_permitted_of_a_domain_counts_when_it_connects_to_us(
    court: Court, unknown: Evidence, keyring: Keyring
) -> None:
    keyring.approve(keyring.hold(NAME, "s2s", unknown.chain[0], "", court.now).id, "a", court.now)
    verdict = court.judge.judge(case(unknown, Level.KEYRING, initiating=True))
    assert verdict.status is Status.VERIFIED


def test_a_keyring_that_fails_believes_nobody(
    court: Court, proved: Evidence, keyring: Keyring
) -> None:
    keyring.close()
    with pytest.raises(UntrustedError):
        court.judge.judge(case(proved, Level.KEYRING))
    assert court.kinds()[-1] == "fault"


def test_without_a_keyring_nobody_is_believed(proved: Evidence) -> None:
    with pytest.raises(UntrustedError, match="no keyring is open"):
        Court(None).judge.judge(case(proved, Level.KEYRING))


def test_levels_that_are_no_keyring_do_without(proved: Evidence, unknown: Evidence) -> None:
    court = Court(None)
    assert court.judge.judge(case(proved)).status is Status.VERIFIED
    assert court.judge.judge(case(unknown, Level.ENCRYPT)).status is Status.UNTRUSTED


# Waiting for an operator


def test_who_waits_is_told_of_the_decision(court: Court, unknown: Evidence) -> None:
    asked = case(unknown, Level.KEYRING, approval_timeout=30.0)
    assert court.keyring is not None
    with pytest.raises(UndecidedError) as caught:
        court.judge.judge(asked)
    told: list[bool] = []
    caught.value.decision.wait(told.append)
    court.clock.advance(5)
    assert told == []
    court.keyring.approve(court.keyring.pending()[0].id, "anna", court.now)
    court.clock.advance(1)
    assert told == [True]
    assert court.judge.judge(asked).status is Status.VERIFIED
    assert court.clock.getDelayedCalls() == []


def test_who_waits_in_vain_is_told_so(court: Court, unknown: Evidence) -> None:
    with pytest.raises(UndecidedError) as caught:
        court.judge.judge(case(unknown, Level.KEYRING, approval_timeout=30.0))
    told: list[bool] = []
    caught.value.decision.wait(told.append)
    court.clock.pump([0.5] * 61)
    assert told == [False]
    assert court.clock.getDelayedCalls() == []


# What a domain was reached with


def test_a_domain_that_had_tls_is_not_reached_without(court: Court, unknown: Evidence) -> None:
    assert court.judge.lacks_tls(NAME, Kind.C2S) == ""
    court.judge.judge(case(unknown, Level.MAY))
    assert court.kinds() == []
    assert court.judge.lacks_tls(NAME, Kind.C2S)
    assert court.kinds() == ["downgrade"]
    assert court.judge.lacks_tls(NAME, Kind.S2S) == ""


def test_nor_is_one_of_which_nothing_is_known(keyring: Keyring) -> None:
    keyring.close()
    assert Court(keyring).judge.lacks_tls(NAME, Kind.C2S)
    assert Court(None).judge.lacks_tls(NAME, Kind.C2S)


@pytest.mark.parametrize("level", [Level.DANE, Level.KEYRING])
def test_a_domain_that_had_dane_is_not_reached_with_less(
    court: Court, proved: Evidence, level: Level
) -> None:
    by_records = case(proved, level, claims=claims(record(proved.chain[0], 3)))
    assert court.judge.judge(by_records).identity.startswith("DANE-EE 3 1 1")
    with pytest.raises(UntrustedError, match="had TLSA records before"):
        court.judge.judge(case(proved, level, claims=claims()))
    assert court.kinds() == ["downgrade"]
    assert court.keyring is not None
    court.keyring.forget(NAME)
    court.judge.judge(case(proved, level, claims=claims()))


def test_where_dns_is_not_asked_there_is_no_less(court: Court, proved: Evidence) -> None:
    """A policy that fixes the server, or asks for no records, is an operator's decision."""
    by_records = case(proved, Level.DANE, claims=claims(record(proved.chain[0], 3)))
    court.judge.judge(by_records)
    led = case(proved, Level.KEYRING, server=("192.0.2.1", 5222))
    for other in (case(proved), led):
        assert court.judge.judge(other).status is Status.VERIFIED
    assert court.kinds() == []


def test_a_memory_that_cannot_be_written_is_told_of(
    court: Court, proved: Evidence, keyring: Keyring
) -> None:
    """A session under TLS that its policy accepts is no less secure for it."""
    keyring.close()
    assert court.judge.judge(case(proved)).status is Status.VERIFIED
    assert court.kinds() == ["fault"]


def test_a_certificate_of_a_domain_that_had_dane_is_not_added(
    court: Court, proved: Evidence, root: Authority
) -> None:
    by_records = case(proved, Level.KEYRING, claims=claims(record(proved.chain[0], 3)))
    court.judge.judge(by_records)
    other = evidence(issued(root), [root])
    with pytest.raises(UntrustedError):
        court.judge.judge(case(other, Level.KEYRING, claims=claims()))
    assert court.keyring is not None
    assert len(court.keyring.find(NAME, "c2s")) == 1


def test_what_was_permitted_ends_with_its_life(court: Court, unknown: Evidence) -> None:
    asked = case(unknown, Level.KEYRING)
    assert court.keyring is not None
    court.keyring.approve(held(court, asked), "anna", court.now)
    court.kinds()
    court.now += 400 * DAY
    held(court, asked)
    assert court.kinds() == ["expiry"]


def test_the_keyring_survives_its_process(tmp_path: Path, unknown: Evidence) -> None:
    path = tmp_path / "keyring.sqlite"
    first = Court(Keyring(path))
    asked = case(unknown, Level.KEYRING)
    held_id = held(first, asked)
    assert first.keyring is not None
    first.keyring.close()
    second = Court(Keyring(path))
    assert second.keyring is not None
    second.keyring.approve(held_id, "anna", second.now)
    assert second.judge.judge(asked).status is Status.VERIFIED
    second.keyring.close()


# Revocation


@pytest.mark.parametrize("usage", [None, 0, 1, 2])
def test_what_is_revoked_is_refused_whatever_was_permitted(
    court: Court, keyring: Keyring, root: Authority, usage: int | None
) -> None:
    """Whichever way the authority comes into it: no operator knew of that."""
    chain = (*issued(root), der(root))
    lists = revocation(crl(root, entry(number(chain[0]))))
    court.judge.renew(lists)
    about = chain[0] if usage == 1 else chain[1]
    vouched = None if usage is None else claims(record(about, usage))
    asked = case(evidence(chain, [root]), Level.KEYRING, claims=vouched, crl_files=(FILE,))
    keyring.approve(keyring.hold(NAME, "c2s", chain[0], "", court.now).id, "anna", court.now)
    with pytest.raises(RevokedError, match="was revoked"):
        court.judge.judge(asked)
    court.judge.renew(revocation(crl(root)))
    assert court.judge.judge(asked).status is Status.VERIFIED
