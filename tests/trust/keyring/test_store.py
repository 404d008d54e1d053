"""proxy.trust.keyring.store and .reading: what is remembered, held and decided."""

import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.trust.keyring import room, store
from proxy.trust.keyring.entry import Entry, How, Revocation, Seen, State
from proxy.trust.keyring.reading import NotFoundError
from proxy.trust.keyring.rows import ALPHABET, new_id
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import pin_of
from tests.trust.keyring.made import EXPIRED, LATER, certificate
from tests.trust.showing import DAY, NAME, NOW

HOUR = dt.timedelta(hours=1)


def hold(keyring: Keyring, number: int = 0, now: dt.datetime = NOW, domain: str = NAME) -> str:
    return keyring.hold(domain, "s2s", certificate(number), "it is self-signed", now).id


def remember(keyring: Keyring, number: int = 0, now: dt.datetime = NOW) -> Entry:
    return keyring.remember(NAME, "s2s", certificate(number), now, how=How.PKIX)


def test_an_entry_has_all_that_operators_compare(keyring: Keyring) -> None:
    entry = remember(keyring)
    assert keyring.find(NAME, "s2s") == (entry,)
    der = certificate()
    assert (entry.domain, entry.stream, entry.certificate) == (NAME, "s2s", der)
    digits = hashlib.sha256(der).hexdigest().upper()
    assert entry.facts.fingerprint == ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    assert entry.facts.pin == pin_of(der)
    assert entry.facts.subject == entry.facts.issuer == f"CN={NAME}"
    assert entry.facts.names == (NAME,)
    assert NOW < entry.facts.not_after < EXPIRED
    assert (entry.how, entry.permitted_by, entry.permitted_at) == (How.PKIX, "policy", NOW)
    assert (entry.first_seen, entry.last_seen, entry.revoked) == (NOW, NOW, False)


def test_domains_and_kinds_of_streams_are_kept_apart(keyring: Keyring) -> None:
    remember(keyring)
    assert keyring.find(NAME, "c2s") == ()
    assert keyring.find("example.org", "s2s") == ()
    assert keyring.held_for("example.org", "s2s", certificate()) is None


def test_several_certificates_stand_side_by_side(keyring: Keyring) -> None:
    first, second = remember(keyring, 1), remember(keyring, 2, LATER)
    assert keyring.find(NAME, "s2s") == (first, second)


def test_last_seen_is_written_once_an_hour(keyring: Keyring, other: Keyring) -> None:
    remember(keyring)
    assert other.changed()
    assert remember(keyring, now=NOW + HOUR - dt.timedelta(seconds=1)).last_seen == NOW
    assert not other.changed()
    entry = remember(keyring, now=NOW + HOUR)
    assert other.changed()
    assert (entry.first_seen, entry.last_seen) == (NOW, NOW + HOUR)


def test_time_that_goes_back_takes_nothing_back(keyring: Keyring) -> None:
    remember(keyring)
    assert remember(keyring, now=NOW - 9 * HOUR).last_seen == NOW


def test_what_was_permitted_stays_so_when_it_is_remembered(keyring: Keyring) -> None:
    keyring.approve(hold(keyring), "alice", NOW)
    entry = remember(keyring, now=NOW + 2 * HOUR)
    assert (entry.how, entry.permitted_by) == (How.OPERATOR, "alice")


def test_what_is_remembered_waits_no_more(keyring: Keyring) -> None:
    hold(keyring)
    remember(keyring)
    assert keyring.pending() == ()


@pytest.mark.parametrize(
    "read",
    [
        lambda keyring: keyring.find(NAME, "s2s"),
        lambda keyring: keyring.find("example.org", "c2s"),
        lambda keyring: keyring.entries(),
        lambda keyring: keyring.held_for(NAME, "s2s", certificate(1)),
        lambda keyring: keyring.pending(),
        lambda keyring: keyring.seen(NAME, "s2s"),
        lambda keyring: keyring.ending(NOW, EXPIRED),
        lambda keyring: keyring.remember(NAME, "s2s", certificate(), LATER, how=How.PKIX),
        lambda keyring: keyring.note_seen(NAME, "s2s", LATER, tls=True),
    ],
)
def test_reading_writes_nothing(
    keyring: Keyring, other: Keyring, path: Path, read: Callable[[Keyring], object]
) -> None:
    remember(keyring)
    hold(keyring, 1)
    keyring.note_seen(NAME, "s2s", NOW, tls=True)
    files = [path, Path(f"{path}-wal")]
    before = [file.read_bytes() for file in files]
    other.changed()
    read(keyring)
    assert not other.changed()
    assert [file.read_bytes() for file in files] == before


def test_holding_is_counted_and_keeps_its_id(keyring: Keyring) -> None:
    first = keyring.held(hold(keyring))
    again = keyring.held(hold(keyring, now=LATER))
    assert again.id == first.id
    assert (first.count, again.count) == (1, 2)
    assert (again.first_seen, again.last_seen, again.since) == (NOW, LATER, NOW)
    assert (again.state, again.by, again.reason) == (State.PENDING, "", "it is self-signed")
    assert keyring.pending() == (again,)


def test_whether_it_is_a_change(keyring: Keyring) -> None:
    assert not keyring.held(hold(keyring)).change
    remember(keyring, 1)
    assert keyring.held(hold(keyring)).change
    assert keyring.held(hold(keyring, 2)).change


def test_ids_are_short_and_unambiguous(keyring: Keyring) -> None:
    ids = {hold(keyring, number, domain=f"d{number}.example.net") for number in range(20)}
    assert len(ids) == 20
    assert all(len(each) == 8 and set(each) <= set(ALPHABET) for each in ids)
    assert not set("ilou") & set(ALPHABET)


def test_an_id_is_the_same_after_giving_way_and_another_in_another_keyring(
    keyring: Keyring, tmp_path: Path
) -> None:
    first = hold(keyring)
    remember(keyring)  # waits no more
    with keyring.changing():
        keyring._file.rows("DELETE FROM entry")
    assert hold(keyring) == first
    elsewhere = Keyring(tmp_path / "elsewhere.sqlite")
    assert hold(elsewhere) != first
    elsewhere.close()


def test_ids_that_collide_go_out_of_each_others_way(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store, "new_id", lambda *given: "00000000" if given[-1] == 0 else new_id(*given)
    )
    first, second = hold(keyring, 1), hold(keyring, 2)
    assert first == "00000000" != second
    assert keyring.held(second).certificate == certificate(2)


@pytest.mark.parametrize("change", [str.upper, lambda text: f" {text}\n"])
def test_ids_are_taken_as_people_type_them(keyring: Keyring, change: Callable[[str], str]) -> None:
    held_id = hold(keyring)
    assert keyring.held(change(held_id)).id == held_id


def test_letters_that_look_like_digits(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "new_id", lambda *_: "01101100")
    hold(keyring)
    assert keyring.held("oIlO1L00").certificate == certificate()


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_unknown_ids(keyring: Keyring, act: str) -> None:
    with pytest.raises(NotFoundError, match=r'nothing by the id "no\\nid"'):
        getattr(keyring, act)("no\nid", "alice", NOW)


def test_approving(keyring: Keyring) -> None:
    remember(keyring, 1)
    entry = keyring.approve(hold(keyring), "alice", LATER)
    assert (entry.how, entry.permitted_by, entry.permitted_at) == (How.OPERATOR, "alice", LATER)
    assert (entry.first_seen, entry.certificate) == (NOW, certificate())
    assert len(keyring.find(NAME, "s2s")) == 2, "it stands beside the one before"
    held = keyring.held_for(NAME, "s2s", certificate())
    assert held is not None
    assert (held.state, held.by, held.since) == (State.APPROVED, "alice", LATER)
    assert keyring.pending() == ()


def test_what_is_permitted_is_not_held_again_until_it_ends(keyring: Keyring) -> None:
    held_id = hold(keyring)
    keyring.approve(held_id, "alice", NOW)
    hold(keyring, now=LATER)
    assert keyring.held(held_id).state is State.APPROVED
    hold(keyring, now=EXPIRED)
    anew = keyring.held(held_id)
    assert (anew.state, anew.since, anew.by) == (State.PENDING, EXPIRED, "")


def test_a_permission_given_after_the_end_lasts(keyring: Keyring) -> None:
    held_id = hold(keyring)
    entry = keyring.approve(held_id, "alice", NOW)
    assert entry.authorised(NOW)
    assert not entry.authorised(EXPIRED)
    again = keyring.approve(held_id, "bob", EXPIRED)
    assert again.authorised(EXPIRED + DAY)
    assert again.permitted_by == "bob"


def test_rejecting_lasts(keyring: Keyring) -> None:
    held_id = hold(keyring)
    held = keyring.reject(held_id, "bob", LATER)
    assert (held.state, held.by, held.since) == (State.REJECTED, "bob", LATER)
    hold(keyring, now=EXPIRED)
    assert keyring.held(held_id).state is State.REJECTED
    assert keyring.reject(held_id, "carol", EXPIRED).by == "bob"
    assert keyring.pending() == ()
    assert keyring.rejected() == (keyring.held(held_id),)


def test_rejecting_what_was_approved_revokes_it(keyring: Keyring) -> None:
    held_id = hold(keyring)
    keyring.approve(held_id, "alice", NOW)
    keyring.reject(held_id, "bob", LATER)
    assert keyring.find(NAME, "s2s")[0].revocation == Revocation(LATER, "bob")


def test_approving_takes_back_what_was_rejected(keyring: Keyring) -> None:
    held_id = hold(keyring)
    keyring.reject(held_id, "bob", NOW)
    assert keyring.approve(held_id, "alice", LATER).authorised(LATER)
    assert keyring.held(held_id).state is State.APPROVED


@pytest.mark.parametrize("write", [str.upper, str.lower, lambda text: text.replace(":", "")])
def test_revoking_by_fingerprint(keyring: Keyring, write: Callable[[str], str]) -> None:
    remember(keyring, 1)
    entry = remember(keyring, 2)
    (held,) = keyring.revoke(write(entry.facts.fingerprint), "bob", LATER)
    assert (held.certificate, held.state, held.by) == (certificate(2), State.REJECTED, "bob")
    by_certificate = {each.certificate: each for each in keyring.find(NAME, "s2s")}
    assert not by_certificate[certificate(1)].revoked
    assert by_certificate[certificate(2)].revocation == Revocation(LATER, "bob")


def test_revoking_a_domain(keyring: Keyring) -> None:
    remember(keyring, 1)
    keyring.remember(NAME, "c2s", certificate(2), NOW, how=How.DANE)
    keyring.remember("example.org", "s2s", certificate(1), NOW, how=How.PKIX)
    assert len(keyring.revoke("EXAMPLE.net.", "bob", NOW)) == 2
    assert keyring.revoke(NAME, "carol", LATER) == (), "each is revoked once"
    assert {(entry.domain, entry.revoked) for entry in keyring.entries()} == {
        (NAME, True),
        ("example.org", False),
    }


def test_revoked_entries_are_not_revived_by_being_seen(keyring: Keyring) -> None:
    remember(keyring)
    (held,) = keyring.revoke(NAME, "bob", NOW)
    assert remember(keyring, now=NOW + 2 * HOUR).revoked
    hold(keyring, now=LATER)
    assert keyring.held(held.id).state is State.REJECTED
    assert keyring.approve(held.id, "alice", LATER).revocation is None


@pytest.mark.parametrize("which", ["example.org", "AB" * 32])
def test_revoking_what_is_not_there(keyring: Keyring, which: str) -> None:
    with pytest.raises(NotFoundError, match="has no certificate of"):
        keyring.revoke(which, "bob", NOW)


def test_those_that_were_shown_least_give_way(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_PENDING_OF_ONE", 3)
    for _ in range(2):
        hold(keyring, 0)
    rejected = hold(keyring, 1)
    keyring.reject(rejected, "bob", NOW)
    for number in range(2, 9):
        hold(keyring, number, NOW + number * DAY)
    left = {held.certificate for held in keyring.pending()}
    assert left == {certificate(0), certificate(7), certificate(8)}
    assert keyring.held(rejected).state is State.REJECTED
    (count,) = keyring._file.rows("SELECT count(*) FROM certificate")
    assert count == (4,), "nothing is left of those that gave way"


def test_all_domains_together_are_bounded(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_PENDING", 4)
    for number in range(9):
        hold(keyring, number, NOW + number * DAY, domain=f"d{number}.example.net")
    assert [held.domain[:2] for held in keyring.pending()] == ["d0", "d1", "d2", "d8"]


def test_a_certificate_of_two_domains_stays_while_one_needs_it(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_PENDING_OF_ONE", 1)
    keyring.remember("example.org", "s2s", certificate(1), NOW, how=How.PKIX)
    hold(keyring, 1)
    hold(keyring, 2)
    assert [entry.certificate for entry in keyring.find("example.org", "s2s")] == [certificate(1)]


def test_what_a_domain_was_seen_with_is_never_unset(keyring: Keyring) -> None:
    assert keyring.seen(NAME, "s2s") == Seen()
    assert keyring.note_seen(NAME, "s2s", NOW, tls=True) == Seen(tls_since=NOW)
    both = keyring.note_seen(NAME, "s2s", LATER, tls=True, dane=True)
    assert both == Seen(tls_since=NOW, dane_since=LATER)
    assert (both.tls, both.dane) == (True, True)
    assert keyring.note_seen(NAME, "s2s", EXPIRED) == both
    assert keyring.seen(NAME, "c2s") == Seen()
    assert keyring.forget(NAME)
    assert keyring.seen(NAME, "s2s") == Seen()
    assert not keyring.forget(NAME)


def test_nothing_seen_is_not_noted(keyring: Keyring) -> None:
    keyring.note_seen(NAME, "s2s", NOW)
    assert keyring.all_seen() == ()


def test_changes_of_others_are_noticed_once(keyring: Keyring, other: Keyring) -> None:
    assert not keyring.changed()
    other.note_seen(NAME, "s2s", NOW, tls=True)
    assert keyring.changed()
    assert not keyring.changed()
    keyring.note_seen(NAME, "c2s", NOW, tls=True)
    assert not keyring.changed(), "its own are none"


def test_ending(keyring: Keyring) -> None:
    end = remember(keyring).facts.not_after
    assert len(keyring.ending(NOW, end)) == 1
    assert keyring.ending(NOW, end - DAY) == ()
    assert keyring.ending(end + DAY, end + 2 * DAY) == ()
    keyring.revoke(NAME, "bob", NOW)
    assert keyring.ending(NOW, end) == ()


@pytest.mark.parametrize(
    "act",
    [
        lambda keyring: keyring.find("Example.net", "s2s"),
        lambda keyring: keyring.find("faß.de", "s2s"),
        lambda keyring: keyring.find(NAME, "component"),
        lambda keyring: keyring.remember(NAME, "S2S", certificate(), NOW, how=How.PKIX),
        lambda keyring: keyring.remember(NAME, "s2s", b"no", NOW, how=How.PKIX),
        lambda keyring: keyring.hold(NAME, "s2s", b"", "why", NOW),
        lambda keyring: keyring.hold(NAME, "s2s", b"0" * 70_000, "why", NOW),
        lambda keyring: keyring.hold(NAME, "s2s", certificate(), "why", NOW.replace(tzinfo=None)),
        lambda keyring: keyring.revoke("a/b", "bob", NOW),
        lambda keyring: keyring.forget("a@b"),
    ],
)
def test_what_cannot_be_meant(keyring: Keyring, act: Callable[[Keyring], object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        act(keyring)
    assert keyring.entries() == ()
    assert keyring.pending() == ()


def test_all_of_a_change_or_nothing(keyring: Keyring, other: Keyring) -> None:
    first, second = hold(keyring, 1), hold(keyring, 2)

    def approve_both() -> None:
        with keyring.changing():
            keyring.approve(first, "alice", NOW)
            assert other.entries() == (), "nobody else sees it before it ends"
            keyring.approve("zzzzzzzz", "alice", NOW)

    with pytest.raises(NotFoundError):
        approve_both()
    assert keyring.entries() == ()
    with keyring.changing():
        keyring.approve(first, "alice", NOW)
        keyring.approve(second, "alice", NOW)
    assert len(other.entries()) == 2


def test_it_is_all_there_when_opened_again(keyring: Keyring, path: Path) -> None:
    held_id = hold(keyring)
    keyring.approve(held_id, "alice", NOW)
    before = keyring.entries()
    keyring.close()
    reopened = Keyring(path, create=False)
    assert reopened.entries() == before
    reopened.close()
