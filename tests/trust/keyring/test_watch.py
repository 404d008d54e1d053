"""proxy.trust.keyring.watch: less security than before, and certificates that end."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from proxy.trust.keyring.alerts import Alert, Kind
from proxy.trust.keyring.entry import How, Seen
from proxy.trust.keyring.store import Keyring
from proxy.trust.keyring.watch import downgrade, endings
from tests.authority import Authority
from tests.trust.keyring.made import LATER, certificate
from tests.trust.showing import DAY, NAME, NOW, issued


def reached(keyring: Keyring, *, tls: bool, dane: bool, domain: str = NAME) -> Alert | None:
    return downgrade(keyring, domain, "s2s", LATER, tls=tls, dane=dane)


@pytest.mark.parametrize(
    ("before", "now", "missing"),
    [
        ((False, False), (False, False), ""),
        ((False, False), (True, True), ""),
        ((True, False), (True, False), ""),
        ((True, False), (True, True), ""),
        ((True, True), (True, True), ""),
        ((True, False), (False, False), "TLS"),
        ((True, False), (False, True), "TLS"),
        ((True, True), (False, False), "TLS"),
        ((True, True), (True, False), "DANE"),
        ((False, True), (True, False), "DANE"),
    ],
)
def test_never_less_than_before(
    keyring: Keyring, before: tuple[bool, bool], now: tuple[bool, bool], missing: str
) -> None:
    keyring.note_seen(NAME, "s2s", NOW, tls=before[0], dane=before[1])
    told = reached(keyring, tls=now[0], dane=now[1])
    if not missing:
        assert told is None
        assert keyring.seen(NAME, "s2s").tls is (before[0] or now[0])
        assert keyring.seen(NAME, "s2s").dane is (before[1] or now[1])
        return
    assert told is not None
    assert (told.kind, told.fields["missing"]) == (Kind.DOWNGRADE, missing)
    again = reached(keyring, tls=now[0], dane=now[1])
    assert again is not None, "it does not wear off"
    assert again.key == told.key


def test_only_forgetting_helps(keyring: Keyring) -> None:
    assert reached(keyring, tls=True, dane=True) is None
    assert reached(keyring, tls=True, dane=False) is not None
    keyring.forget(NAME)
    assert reached(keyring, tls=True, dane=False) is None
    assert keyring.seen(NAME, "s2s") == Seen(tls_since=LATER)


def test_kinds_of_streams_and_domains_have_memories_of_their_own(keyring: Keyring) -> None:
    assert reached(keyring, tls=True, dane=True) is None
    assert reached(keyring, tls=False, dane=False, domain="example.org") is None
    assert downgrade(keyring, NAME, "c2s", NOW, tls=False, dane=False) is None


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError(), BaseException("a panic")])
def test_without_an_answer_nothing_less_is_let_in(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(keyring, "seen", fail)
    told = reached(keyring, tls=True, dane=True)
    assert told is not None
    assert told.kind is Kind.FAULT


def test_a_memory_that_cannot_be_kept_is_a_fault(keyring: Keyring, other: Keyring) -> None:
    with other.changing():
        told = reached(keyring, tls=True, dane=False)
    assert told is not None
    assert told.kind is Kind.FAULT
    assert "is locked" in told.text


def test_leaving_is_not_kept_from(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keyring, "seen", leave)
    with pytest.raises(KeyboardInterrupt):
        reached(keyring, tls=True, dane=True)


@pytest.mark.parametrize(
    ("left", "warned"),
    [
        (dt.timedelta(days=22), None),
        (dt.timedelta(days=21), "21"),
        (dt.timedelta(days=7, seconds=1), "21"),
        (dt.timedelta(days=7), "7"),
        (dt.timedelta(days=1, seconds=1), "7"),
        (dt.timedelta(days=1), "1"),
        (dt.timedelta(), "1"),
        (dt.timedelta(seconds=-1), None),
    ],
)
def test_warnings_before_the_end(keyring: Keyring, left: dt.timedelta, warned: str | None) -> None:
    end = keyring.remember(NAME, "s2s", certificate(), NOW, how=How.PKIX).facts.not_after
    told = endings(keyring, end - left)
    assert [alert.fields["days"] for alert in told] == ([] if warned is None else [warned])
    assert all(alert.kind is Kind.EXPIRY for alert in told)
    assert len({alert.key for alert in (*told, *endings(keyring, end - left))}) == len(told)


def test_no_warning_of_what_was_replaced(keyring: Keyring, authority: Authority) -> None:
    old = issued(authority, not_after=NOW + 5 * DAY)[0]
    new = issued(authority)[0]
    keyring.remember(NAME, "s2s", old, NOW, how=How.PKIX)
    assert len(endings(keyring, NOW)) == 1
    keyring.remember(NAME, "s2s", new, LATER, how=How.PKIX)
    assert endings(keyring, LATER) == ()
    keyring.remember(NAME, "s2s", old, NOW + DAY, how=How.PKIX)
    assert len(endings(keyring, NOW + DAY)) == 1, "the old one is in use again"


def test_a_revoked_one_takes_nobodys_place(keyring: Keyring, authority: Authority) -> None:
    old, new = issued(authority, not_after=NOW + 5 * DAY)[0], issued(authority)[0]
    keyring.remember(NAME, "s2s", old, NOW, how=How.PKIX)
    replacing = keyring.remember(NAME, "s2s", new, LATER, how=How.PKIX)
    keyring.revoke(replacing.facts.fingerprint, "bob", LATER)
    assert len(endings(keyring, LATER)) == 1


def test_no_warning_of_what_was_revoked(keyring: Keyring, authority: Authority) -> None:
    keyring.remember(NAME, "s2s", issued(authority, not_after=NOW + DAY)[0], NOW, how=How.PKIX)
    keyring.revoke(NAME, "bob", NOW)
    assert endings(keyring, NOW) == ()


def test_a_keyring_that_cannot_be_asked(keyring: Keyring, path: Path) -> None:
    path.unlink()
    (told,) = endings(keyring, NOW)
    assert told.kind is Kind.FAULT
    assert "is gone" in told.text
