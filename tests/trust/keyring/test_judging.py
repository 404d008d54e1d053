"""proxy.trust.keyring.judging: what is let in, held and refused, and what is told of it."""

import datetime as dt

import attrs
import pytest

from proxy.trust.evidence import Evidence
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from proxy.trust.keyring.entry import How, State
from proxy.trust.keyring.judging import Accepted, Consulted, Refused, Waiting, consult
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import OnChange
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.trust.keyring.made import (
    EXPIRED,
    LATER,
    PINNED,
    PROVED,
    SELF_SIGNED,
    UNPROVED,
    certificate,
    shown,
)
from tests.trust.showing import DAY, NAME, NOW

OLD, NEW = certificate(1), certificate(2)


def told(came: Consulted) -> Alert:
    assert came.alert is not None
    return came.alert


def waiting(came: Consulted) -> str:
    assert isinstance(came, Waiting)
    assert came.held.state is State.PENDING
    return came.held.id


def test_the_first_that_is_proved_is_let_in_and_remembered(keyring: Keyring) -> None:
    came = shown(keyring, OLD, PROVED)
    assert came == Accepted(keyring.find(NAME, "s2s")[0])
    assert (came.entry.how, came.entry.permitted_by) == (How.PKIX, "policy")
    assert keyring.pending() == ()


@pytest.mark.parametrize(
    ("verdict", "how", "expected"),
    [
        (PROVED, None, How.PKIX),
        (PINNED, None, How.PIN),
        (PROVED, How.DANE, How.DANE),
        (PROVED, How.POSH, How.POSH),
    ],
)
def test_how_it_was_proved(
    keyring: Keyring, verdict: Verdict, how: How | None, expected: How
) -> None:
    came = shown(keyring, OLD, verdict, how=how)
    assert isinstance(came, Accepted)
    assert came.entry.how is expected


def test_one_that_is_known_and_still_proved_is_let_in_in_silence(keyring: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    for now in (LATER, NOW + DAY):
        came = shown(keyring, OLD, PROVED, now=now, on_change=OnChange.HOLD)
        assert isinstance(came, Accepted)
        assert came.alert is None
    assert keyring.find(NAME, "s2s")[0].last_seen == NOW + DAY


def test_a_known_one_costs_no_writing(keyring: Keyring, other: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    other.changed()
    shown(keyring, OLD, PROVED, now=LATER)
    assert not other.changed()


@pytest.mark.parametrize(
    "verdict",
    [
        UNPROVED,
        Verdict(Status.UNTRUSTED, "", SELF_SIGNED),
        UntrustedError(SELF_SIGNED, Status.TRUSTED),
        Verdict(Status.TRUSTED, "", SELF_SIGNED),
    ],
)
def test_what_nothing_vouches_for_waits(
    keyring: Keyring, verdict: Verdict | UntrustedError
) -> None:
    came = shown(keyring, OLD, verdict)
    alert = told(came)
    assert (alert.kind, alert.severity) == (Kind.UNKNOWN, Severity.WARNING)
    assert keyring.held(waiting(came)).reason == SELF_SIGNED
    assert keyring.find(NAME, "s2s") == ()


def test_what_proves_nothing_is_not_taken_for_a_proof_by_saying_how(keyring: Keyring) -> None:
    waiting(shown(keyring, OLD, UNPROVED, how=How.DANE))


def test_one_event_has_one_key(keyring: Keyring) -> None:
    keys = {told(shown(keyring, OLD, now=NOW + number * DAY)).key for number in range(3)}
    assert len(keys) == 1
    keys.add(told(shown(keyring, NEW)).key)
    keys.add(told(shown(keyring, OLD, domain="example.org")).key)
    keys.add(told(shown(keyring, OLD, stream="c2s")).key)
    assert len(keys) == 4
    held = keyring.held_for(NAME, "s2s", OLD)
    assert held is not None
    assert held.count == 3


def test_approved_it_and_later_sessions_are_let_in(keyring: Keyring) -> None:
    keyring.approve(waiting(shown(keyring, OLD)), "alice", NOW)
    for now in (LATER, NOW + DAY):
        came = shown(keyring, OLD, now=now)
        assert isinstance(came, Accepted)
        assert came.alert is None
        assert came.entry.permitted_by == "alice"
    waiting(shown(keyring, OLD, domain="example.org"))
    waiting(shown(keyring, OLD, stream="c2s"))


@pytest.mark.parametrize("verdict", [UNPROVED, PROVED, PINNED])
@pytest.mark.parametrize("on_change", OnChange)
def test_rejected_it_stays_out_even_if_it_is_proved(
    keyring: Keyring, verdict: Verdict, on_change: OnChange
) -> None:
    keyring.reject(waiting(shown(keyring, OLD)), "bob", NOW)
    came = shown(keyring, OLD, verdict, now=LATER, on_change=on_change)
    assert isinstance(came, Refused)
    assert came.held is not None
    assert (came.held.state, came.held.count) == (State.REJECTED, 2)
    assert told(came).kind is Kind.REJECTED
    assert told(came).key == told(shown(keyring, OLD, verdict, now=EXPIRED)).key
    assert keyring.find(NAME, "s2s") == ()


@pytest.mark.parametrize("verdict", [UNPROVED, PROVED, PINNED])
@pytest.mark.parametrize("before", [PROVED, PINNED])
def test_revoked_it_stays_out_even_if_it_is_proved(
    keyring: Keyring, before: Verdict, verdict: Verdict
) -> None:
    shown(keyring, OLD, before)
    (held,) = keyring.revoke(NAME, "bob", NOW)
    came = shown(keyring, OLD, verdict, now=LATER)
    assert isinstance(came, Refused)
    assert told(came).kind is Kind.REVOKED
    assert "revoked by bob" in told(came).text
    keyring.approve(held.id, "alice", LATER)
    assert isinstance(shown(keyring, OLD, verdict, now=LATER), Accepted)


@pytest.mark.parametrize("verdict", [UNPROVED, PROVED])
def test_that_it_was_revoked_is_enough(keyring: Keyring, verdict: Verdict) -> None:
    """Even where the keyring does not have it as rejected too."""
    keyring.approve(waiting(shown(keyring, OLD)), "alice", NOW)
    keyring.revoke(NAME, "bob", NOW)
    keyring._file.rows("DELETE FROM held")
    assert not keyring.find(NAME, "s2s")[0].authorised(NOW)
    came = shown(keyring, OLD, verdict)
    assert isinstance(came, Refused)
    assert told(came).kind is Kind.REVOKED
    (held,) = keyring.rejected()
    assert came.held == held, "and it has it so again"
    assert held.by == "bob"


def test_an_approved_one_that_is_revoked(keyring: Keyring) -> None:
    keyring.approve(waiting(shown(keyring, OLD)), "alice", NOW)
    keyring.revoke(NAME, "bob", NOW)
    assert isinstance(shown(keyring, OLD), Refused)
    assert isinstance(shown(keyring, OLD, PROVED), Refused)


def test_a_proved_change_is_let_in_and_told_of(keyring: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    came = shown(keyring, NEW, PROVED, now=LATER)
    assert isinstance(came, Accepted)
    alert = told(came)
    assert (alert.kind, alert.severity) == (Kind.RENEWAL, Severity.NOTICE)
    assert [entry.certificate for entry in keyring.find(NAME, "s2s")] == [OLD, NEW]
    for der in (OLD, NEW):
        again = shown(keyring, der, PROVED, now=LATER)
        assert isinstance(again, Accepted)
        assert again.alert is None


def test_a_proved_change_waits_where_the_policy_says_so(keyring: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    came = shown(keyring, NEW, PROVED, on_change=OnChange.HOLD)
    alert = told(came)
    assert (alert.kind, alert.severity) == (Kind.CHANGE, Severity.CRITICAL)
    keyring.approve(waiting(came), "alice", NOW)
    assert isinstance(shown(keyring, NEW, PROVED, on_change=OnChange.HOLD), Accepted)
    assert isinstance(shown(keyring, OLD, PROVED, on_change=OnChange.HOLD), Accepted)


@pytest.mark.parametrize("on_change", OnChange)
@pytest.mark.parametrize("verdict", [PROVED, UNPROVED])
def test_every_change_of_what_an_operator_has_approved_waits(
    keyring: Keyring, on_change: OnChange, verdict: Verdict
) -> None:
    keyring.approve(waiting(shown(keyring, OLD)), "alice", NOW)
    came = shown(keyring, NEW, verdict, on_change=on_change)
    assert told(came).kind is Kind.CHANGE
    assert keyring.held(waiting(came)).change


@pytest.mark.parametrize("on_change", OnChange)
@pytest.mark.parametrize("verdict", [PROVED, UNPROVED])
def test_every_change_of_a_pinned_one_waits(
    keyring: Keyring, on_change: OnChange, verdict: Verdict
) -> None:
    shown(keyring, OLD, PINNED)
    came = shown(keyring, NEW, verdict, on_change=on_change)
    assert told(came).kind is Kind.CHANGE
    waiting(came)


def test_a_pin_of_the_policy_is_the_operators_word_for_a_change(keyring: Keyring) -> None:
    shown(keyring, OLD, PINNED)
    came = shown(keyring, NEW, PINNED, on_change=OnChange.HOLD)
    assert isinstance(came, Accepted)
    assert told(came).kind is Kind.RENEWAL


def test_what_was_revoked_still_makes_every_change_wait(keyring: Keyring) -> None:
    keyring.approve(waiting(shown(keyring, OLD)), "alice", NOW)
    keyring.revoke(NAME, "bob", NOW)
    assert told(shown(keyring, NEW, PROVED)).kind is Kind.CHANGE


def test_an_unproved_change_is_told_of_as_a_possible_breach(keyring: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    came = shown(keyring, NEW, UNPROVED)
    assert told(came).kind is Kind.CHANGE
    assert told(came).severity is Severity.CRITICAL
    assert keyring.held(waiting(came)).change


def test_one_that_was_proved_once_and_is_no_more_waits(keyring: Keyring) -> None:
    """Nobody has permitted it: who vouched for it has done so, and does no more."""
    shown(keyring, OLD, PROVED)
    came = shown(keyring, OLD, UntrustedError("it expired"), now=EXPIRED)
    assert told(came).kind is Kind.UNKNOWN
    keyring.approve(waiting(came), "alice", EXPIRED)
    assert isinstance(shown(keyring, OLD, now=EXPIRED), Accepted)


def test_one_that_waits_and_is_proved_then_is_let_in(keyring: Keyring) -> None:
    """A server that did not send the certificate of an authority between, and does now."""
    waiting(shown(keyring, OLD))
    assert isinstance(shown(keyring, OLD, PROVED), Accepted)
    assert keyring.pending() == ()


def test_a_permission_ends_with_the_life_of_the_certificate(keyring: Keyring) -> None:
    first = shown(keyring, OLD)
    held_id = waiting(first)
    entry = keyring.approve(held_id, "alice", NOW)
    assert isinstance(shown(keyring, OLD, now=entry.facts.not_after), Accepted)
    came = shown(keyring, OLD, now=EXPIRED)
    assert waiting(came) == held_id
    assert told(came).kind is Kind.EXPIRY
    assert told(came).key == told(shown(keyring, OLD, now=EXPIRED + DAY)).key
    keyring.approve(held_id, "alice", EXPIRED)
    assert isinstance(shown(keyring, OLD, now=EXPIRED + DAY), Accepted)


def test_a_key_is_not_compared_but_a_certificate(keyring: Keyring) -> None:
    """The certificates made here all have the same key."""
    entry = keyring.approve(waiting(shown(keyring, OLD)), "alice", NOW)
    came = shown(keyring, NEW)
    assert keyring.held(waiting(came)).facts.pin == entry.facts.pin


def test_approving_a_change_puts_it_beside_the_old_one(keyring: Keyring) -> None:
    for der in (OLD, NEW):
        keyring.approve(waiting(shown(keyring, der)), "alice", NOW)
    for der in (OLD, NEW):
        assert isinstance(shown(keyring, der), Accepted)
    keyring.revoke(keyring.find(NAME, "s2s")[0].facts.fingerprint, "bob", NOW)
    outcomes = {type(shown(keyring, der)) for der in (OLD, NEW)}
    assert outcomes == {Accepted, Refused}, "each is revoked by itself"


@pytest.mark.parametrize("known", [True, False])
def test_no_certificate_at_all(keyring: Keyring, *, known: bool) -> None:
    if known:
        shown(keyring, OLD, PROVED)
    nothing = Evidence((), 0, "ok")
    verdict = UntrustedError("example.net showed no certificate", Status.ANONYMOUS)
    came = consult(keyring, NAME, "s2s", nothing, verdict, on_change=OnChange.NOTIFY, now=NOW)
    assert isinstance(came, Refused)
    assert came.held is None
    expected = (Kind.DOWNGRADE, Severity.CRITICAL) if known else (Kind.UNKNOWN, Severity.WARNING)
    assert (told(came).kind, told(came).severity) == expected


def test_the_servers_own_certificate_counts_and_not_those_above(keyring: Keyring) -> None:
    chain = Evidence((OLD, NEW), 0, "ok", (OLD, NEW))
    consult(keyring, NAME, "s2s", chain, PROVED, on_change=OnChange.NOTIFY, now=NOW)
    assert [entry.certificate for entry in keyring.find(NAME, "s2s")] == [OLD]


def test_values_are_frozen(keyring: Keyring) -> None:
    came = shown(keyring, OLD)
    for value in (came, told(came)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.alert = None  # type: ignore[misc,union-attr]


def test_what_others_decide_meanwhile_counts(
    keyring: Keyring, other: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the change the certificate is rejected elsewhere."""
    shown(keyring, OLD, PROVED)
    held_id = waiting(shown(keyring, NEW))
    original = keyring.changing

    def changing(*, durable: bool = True) -> object:
        other.reject(held_id, "bob", NOW)
        monkeypatch.undo()
        return original(durable=durable)

    monkeypatch.setattr(keyring, "changing", changing)
    came = shown(keyring, NEW, PROVED, now=LATER)
    assert isinstance(came, Refused)
    assert len(keyring.find(NAME, "s2s")) == 1


def test_what_must_last_is_written_so_even_if_that_shows_late(
    keyring: Keyring, other: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be counted only is gone meanwhile, and held anew."""
    waiting(shown(keyring, OLD))
    original = keyring.changing
    asked: list[bool] = []

    def changing(*, durable: bool = True) -> object:
        asked.append(durable)
        if len(asked) == 1:
            other._file.rows("DELETE FROM held")
        return original(durable=durable)

    monkeypatch.setattr(keyring, "changing", changing)
    waiting(shown(keyring, OLD, now=NOW + dt.timedelta(days=1)))
    assert asked == [False, True, True], "begun anew, and then held within that"
    assert other.pending()[0].count == 1


# Servers that connect to us


def test_what_nothing_proves_is_not_held_for_whoever_connects(keyring: Keyring) -> None:
    """Anybody can show any certificate in anybody's name: nobody is told, nothing is filled."""
    shown(keyring, OLD, PROVED)
    assert shown(keyring, NEW, initiating=True) == Refused(None)
    assert keyring.pending() == ()


def test_nor_is_nothing_at_all(keyring: Keyring) -> None:
    came = consult(
        keyring,
        NAME,
        "s2s",
        Evidence((), 0, "ok"),
        UNPROVED,
        on_change=OnChange.NOTIFY,
        now=NOW,
        initiating=True,
    )
    assert came == Refused(None)


def test_what_an_operator_has_permitted_is_let_in(keyring: Keyring) -> None:
    keyring.approve(waiting(shown(keyring, OLD)), "anna", NOW)
    assert isinstance(shown(keyring, OLD, initiating=True), Accepted)


def test_what_is_proved_is_compared_as_ever(keyring: Keyring) -> None:
    """Who shows it has had an authority vouch for it, and has its key."""
    keyring.approve(waiting(shown(keyring, OLD)), "anna", NOW)
    came = shown(keyring, NEW, PROVED, initiating=True)
    assert told(came).kind is Kind.CHANGE
    assert waiting(came)
