"""What is kept of domains that prove certificate after certificate, and what that costs others."""

from contextlib import AbstractContextManager

import attrs
import pytest

from proxy.trust.keyring import room
from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.judging import Accepted, Refused, Waiting
from proxy.trust.keyring.reading import MOST_OTHERS
from proxy.trust.keyring.room import family
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import PROVED, UNPROVED, certificate, shown
from tests.trust.showing import DAY, NAME, NOW


@pytest.mark.parametrize(
    ("domain", "common"),
    [
        ("a.b.example.net", "example.net"),
        ("example.net", "example.net"),
        ("localhost", "localhost"),
    ],
)
def test_a_family_ends_in_the_same_two_labels(domain: str, common: str) -> None:
    assert family(domain) == common


def test_proved_ones_give_way_but_no_decision_does(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_PROVED", 3)
    keyring.remember(NAME, "s2s", certificate(0), NOW, how=How.PKIX)
    keyring.revoke(NAME, "alice", NOW)
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.PIN)
    keyring.approve(keyring.hold(NAME, "s2s", certificate(2), "why", NOW).id, "alice", NOW)
    keyring.remember("example.org", "s2s", certificate(3), NOW, how=How.DANE)
    for number in range(3, 9):
        keyring.remember(NAME, "s2s", certificate(number), NOW + number * DAY, how=How.DANE)
        keyring.remember(NAME, "s2s", certificate(3), NOW + number * DAY, how=How.DANE)
    left = {entry.certificate for entry in keyring.find(NAME, "s2s")}
    assert left == {certificate(number) for number in (0, 1, 2, 3, 7, 8)}
    assert len(keyring.find("example.org", "s2s")) == 1
    assert keyring._file.rows("SELECT count(*) FROM certificate") == [(6,)], "nothing else is left"


def test_the_newest_stays_even_if_it_came_in_the_same_second(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_PROVED", 2)
    for number in range(5):
        shown(keyring, certificate(number), PROVED)
    left = [entry.certificate for entry in keyring.find(NAME, "s2s")]
    assert left == [certificate(3), certificate(4)]


def test_a_known_certificate_is_met_without_reading_the_others(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        shown(keyring, certificate(number), PROVED)

    def read(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Keyring, "others", read)
    monkeypatch.setattr(Keyring, "find", read)
    for now in (NOW, NOW + DAY):
        came = shown(keyring, certificate(2), PROVED, now=now)
        assert isinstance(came, Accepted)
        assert came.alert is None


def test_others_are_counted_and_the_latest_are_read(keyring: Keyring) -> None:
    for number in range(MOST_OTHERS + 4):
        keyring.remember(NAME, "s2s", certificate(number), NOW + number * DAY, how=How.PKIX)
    others = keyring.others(NAME, "s2s", certificate(5))
    assert (others.count, len(others.latest), others.more) == (13, MOST_OTHERS, 3)
    assert others.latest[0].certificate == certificate(13)
    assert not others.by_operators
    assert keyring.others(NAME, "s2s", None).count == 14
    assert keyring.others(NAME, "c2s", None).count == 0
    came = shown(keyring, certificate(99), UNPROVED)
    assert isinstance(came, Waiting)
    assert came.alert is not None
    assert "(and 11 more)" in came.alert.text


@pytest.mark.parametrize("how", [How.PIN, How.OPERATOR])
def test_an_operators_word_counts_however_many_came_since(keyring: Keyring, how: How) -> None:
    keyring.remember(NAME, "s2s", certificate(99), NOW, how=how)
    for number in range(MOST_OTHERS + 1):
        keyring.remember(NAME, "s2s", certificate(number), NOW + DAY, how=How.PKIX)
    assert keyring.others(NAME, "s2s", None).by_operators
    assert isinstance(shown(keyring, certificate(98), PROVED, now=NOW + DAY), Waiting)


def test_one_that_is_missing_is_not_passed_over(keyring: Keyring) -> None:
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.OPERATOR)
    keyring._file.rows("PRAGMA foreign_keys = OFF")
    keyring._file.rows("DELETE FROM certificate")
    with pytest.raises(KeyringError):
        keyring.others(NAME, "s2s", certificate(2))
    assert isinstance(shown(keyring, certificate(2), PROVED), Refused)


def test_who_is_replaced(keyring: Keyring) -> None:
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.PKIX)
    (entry,) = keyring.find(NAME, "s2s")
    assert not keyring.is_replaced(entry)
    shorter = attrs.evolve(entry, facts=attrs.evolve(entry.facts, not_after=NOW))
    assert keyring.is_replaced(shorter)
    assert not keyring.is_replaced(attrs.evolve(shorter, last_seen=NOW + DAY))
    keyring.revoke(NAME, "alice", NOW)
    assert not keyring.is_replaced(shorter)


def test_whoever_shows_many_displaces_their_own(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_PENDING", 12)
    others = [f"other{number}.example" for number in range(4)]
    for domain in (f"{each}.org" for each in others[:2]):
        keyring.hold(domain, "s2s", certificate(), "why", NOW)
    for number in range(30):
        for _ in range(2):  # shown more often than the others
            keyring.hold(f"d{number % 7}.example.net", "s2s", certificate(number), "why", NOW)
    for domain in (f"{each}.info" for each in others[2:]):
        keyring.hold(domain, "s2s", certificate(), "why", NOW)
    waiting = [held.domain for held in keyring.pending()]
    assert len(waiting) == 12
    assert {domain for domain in waiting if not domain.endswith(".example.net")} == {
        *(f"{each}.org" for each in others[:2]),
        *(f"{each}.info" for each in others[2:]),
    }


def test_what_is_forgotten_meanwhile_is_not_held_for_a_server_that_connects(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = keyring.hold(NAME, "s2s", certificate(1), "why", NOW)
    keyring.approve(held.id, "alice", NOW)
    original = keyring.changing

    def changing(*, durable: bool = True) -> AbstractContextManager[None]:
        keyring._file.rows("DELETE FROM entry")
        return original(durable=durable)

    monkeypatch.setattr(keyring, "changing", changing)
    came = shown(keyring, certificate(1), UNPROVED, now=NOW + DAY, initiating=True)
    assert came == Refused(None)
    assert keyring.pending() == ()
