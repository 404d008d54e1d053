"""Whatever goes wrong while the keyring is consulted is a refusal that says why."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.trust.keyring import alerts
from proxy.trust.keyring.alerts import Kind, Severity
from proxy.trust.keyring.judging import Accepted, Consulted, Refused, Waiting, consult
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import OnChange
from proxy.trust.verdict import UntrustedError, Verdict
from tests.trust.keyring.made import LATER, PROVED, UNPROVED, certificate, shown
from tests.trust.showing import DAY, NAME, NOW, believed

KNOWN, PERMITTED, UNKNOWN = certificate(1), certificate(2), certificate(3)
EACH: list[tuple[bytes, Verdict | UntrustedError]] = [
    (KNOWN, PROVED),
    (PERMITTED, UNPROVED),
    (UNKNOWN, PROVED),
    (UNKNOWN, UNPROVED),
]
each_of = pytest.mark.parametrize(("der", "verdict"), EACH, ids=["known", "ok", "new", "not"])


@pytest.fixture
def filled(keyring: Keyring) -> Keyring:
    """A keyring in which one certificate is known, and one permitted."""
    shown(keyring, KNOWN, PROVED)
    came = shown(keyring, PERMITTED, UNPROVED)
    assert isinstance(came, Waiting)
    keyring.approve(came.held.id, "alice", NOW)
    for der, verdict in EACH[:2]:
        assert isinstance(shown(keyring, der, verdict), Accepted)
    return keyring


def assert_refused(came: Consulted, words: str) -> None:
    assert isinstance(came, Refused)
    assert came.held is None
    assert came.alert is not None
    assert (came.alert.kind, came.alert.severity) == (Kind.FAULT, Severity.CRITICAL)
    assert words in came.alert.text
    assert came.alert.text.isprintable()


@each_of
def test_the_file_is_gone(filled: Keyring, path: Path, der: bytes, verdict: Verdict) -> None:
    path.unlink()
    assert_refused(shown(filled, der, verdict), f"the keyring {path} is gone")


@each_of
def test_the_file_was_replaced(
    filled: Keyring, path: Path, tmp_path: Path, der: bytes, verdict: Verdict
) -> None:
    Keyring(tmp_path / "empty.sqlite").close()
    (tmp_path / "empty.sqlite").rename(path)
    assert_refused(shown(filled, der, verdict), "was replaced")


@each_of
def test_it_was_closed(filled: Keyring, der: bytes, verdict: Verdict) -> None:
    filled.close()
    assert_refused(shown(filled, der, verdict), "closed")


@each_of
@pytest.mark.parametrize(
    "script",
    [
        "DROP VIEW known",
        "DROP VIEW doubted",
        "UPDATE certificate SET der = x'3000'",
        "UPDATE certificate SET fingerprint = randomblob(32)",
        "UPDATE entry SET first_seen = 9000000000000000",
    ],
)
def test_the_file_is_damaged(
    filled: Keyring, path: Path, script: str, der: bytes, verdict: Verdict
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    assert_refused(shown(filled, der, verdict), "is damaged")


@pytest.fixture
def locking(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program on the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("der", "verdict", "now"),
    [(UNKNOWN, PROVED, NOW), (UNKNOWN, UNPROVED, NOW), (KNOWN, PROVED, NOW + DAY)],
)
def test_locked_past_the_patience(
    filled: Keyring,
    locking: sqlite3.Connection,
    der: bytes,
    verdict: Verdict,
    now: datetime,
) -> None:
    locking.execute("BEGIN IMMEDIATE")
    assert_refused(shown(filled, der, verdict, now=now), "is locked by another process")
    came = shown(filled, KNOWN, PROVED, now=LATER)
    assert isinstance(came, Accepted), "what needs no change is answered"
    locking.execute("ROLLBACK")
    assert not isinstance(shown(filled, der, verdict, now=now), Refused)


def test_locked_against_reading(path: Path) -> None:
    with closing(Keyring(path)) as keyring:
        shown(keyring, KNOWN, PROVED)
    with closing(sqlite3.connect(path, isolation_level=None)) as exclusive:
        exclusive.execute("PRAGMA locking_mode = EXCLUSIVE")
        exclusive.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Exception, match="is locked by another process"):
            Keyring(path, patience=0.05)


@each_of
@pytest.mark.parametrize("method", ["entry_for", "held_for"])
@pytest.mark.parametrize(
    "error",
    [RuntimeError("no\nwords"), MemoryError(), BaseException("a panic"), RecursionError()],
    ids=type,
)
def test_any_exception(
    filled: Keyring,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: BaseException,
    *,
    der: bytes,
    verdict: Verdict,
) -> None:
    def fail(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(filled, method, fail)
    assert_refused(shown(filled, der, verdict), type(error).__name__)


@pytest.mark.parametrize(
    ("method", "der", "verdict"),
    [
        ("remember", UNKNOWN, PROVED),
        ("hold", UNKNOWN, UNPROVED),
        ("changing", UNKNOWN, PROVED),
        ("others", UNKNOWN, PROVED),
        ("others", UNKNOWN, UNPROVED),
    ],
)
def test_any_exception_of_a_change(
    filled: Keyring, monkeypatch: pytest.MonkeyPatch, method: str, der: bytes, verdict: Verdict
) -> None:
    def fail(*_arguments: Any, **_named: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(filled, method, fail)
    assert_refused(shown(filled, der, verdict, domain="example.org"), "RuntimeError: no")


def test_what_cannot_be_told_is_not_let_in(
    filled: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("no words")

    monkeypatch.setattr(alerts, "unknown", fail)
    monkeypatch.setattr(alerts, "change", fail)
    monkeypatch.setattr(alerts, "renewal", fail)
    shown(filled, KNOWN, PROVED, domain="example.org")
    for domain in (NAME, "example.org", "example.com"):
        before = filled.find(domain, "s2s")
        assert_refused(shown(filled, UNKNOWN, UNPROVED, domain=domain), "no words")
        assert filled.find(domain, "s2s") == before
    assert_refused(shown(filled, UNKNOWN, PROVED, domain="example.org"), "no words")
    assert len(filled.find("example.org", "s2s")) == 1, "nor is it remembered"
    assert filled.pending() == ()


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_leaving_is_not_kept_from(
    filled: Keyring, monkeypatch: pytest.MonkeyPatch, leaving: type[BaseException]
) -> None:
    def leave(*_arguments: Any) -> None:
        raise leaving

    monkeypatch.setattr(filled, "entry_for", leave)
    with pytest.raises(leaving):
        shown(filled, KNOWN, PROVED)


STRANGE: list[Any] = [None, True, "Verified", object(), UNPROVED.__class__, ("Verified",)]


@pytest.mark.parametrize("verdict", STRANGE, ids=str)
def test_strange_verdicts(filled: Keyring, verdict: Any) -> None:
    assert isinstance(shown(filled, UNKNOWN, verdict), Refused)
    assert isinstance(shown(filled, KNOWN, verdict), Refused)


@pytest.mark.parametrize("on_change", [None, "notify", True])
def test_strange_rules_for_changes_hold(filled: Keyring, on_change: Any) -> None:
    shown(filled, KNOWN, PROVED, domain="example.org")
    came = shown(filled, UNKNOWN, PROVED, domain="example.org", on_change=on_change)
    assert isinstance(came, Waiting)


@pytest.mark.parametrize(
    ("domain", "stream"),
    [("Example.net", "s2s"), ("", "s2s"), ("example.net.", "s2s"), (NAME, "component"), (NAME, "")],
)
def test_strange_places(filled: Keyring, domain: str, stream: str) -> None:
    for der, verdict in EACH:
        came = shown(filled, der, verdict, domain=domain, stream=stream)
        assert isinstance(came, Refused)


@pytest.mark.parametrize("der", [b"", b"no", b"\x30\x00", b"0" * 70_000])
@pytest.mark.parametrize("verdict", [PROVED, UNPROVED])
def test_strange_certificates(
    filled: Keyring, der: bytes, verdict: Verdict | UntrustedError
) -> None:
    assert isinstance(shown(filled, der, verdict), Refused)
    assert filled.pending() == ()


def test_a_time_without_a_zone(filled: Keyring) -> None:
    assert isinstance(shown(filled, UNKNOWN, PROVED, now=NOW.replace(tzinfo=None)), Refused)
    assert isinstance(shown(filled, KNOWN, PROVED, now=NOW.replace(tzinfo=None)), Refused)


def test_no_evidence(filled: Keyring) -> None:
    nothing: Any = None
    came = consult(filled, NAME, "s2s", nothing, PROVED, on_change=OnChange.NOTIFY, now=NOW)
    assert isinstance(came, Refused)
    assert isinstance(
        consult(nothing, NAME, "s2s", believed(KNOWN), PROVED, on_change=OnChange.HOLD, now=NOW),
        Refused,
    )


def test_one_fault_is_one_event_for_all_domains(filled: Keyring, path: Path) -> None:
    path.unlink()
    keys = set()
    for domain in (NAME, "example.org"):
        came = shown(filled, KNOWN, PROVED, domain=domain)
        assert came.alert is not None
        keys.add(came.alert.key)
    assert len(keys) == 1
