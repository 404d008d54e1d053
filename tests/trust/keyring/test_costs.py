"""What is written through to the disk, and what is found without reading everything."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from proxy.trust.keyring.entry import How
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import certificate
from tests.trust.showing import NAME, NOW


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_what_must_last_is_synchronised(keyring: Keyring, *, durable: bool, level: int) -> None:
    """FULL (2) writes through to the disk before a change ends; NORMAL (1) does not."""
    with keyring.changing(durable=durable):
        assert keyring._file.rows("PRAGMA synchronous") == [(level,)]


def test_decisions_last(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    original = keyring._file.rows

    def rows(statement: str, *values: object) -> list[object]:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            levels.append(original("PRAGMA synchronous")[0][0])
        return original(statement, *values)

    monkeypatch.setattr(keyring._file, "rows", rows)
    held = keyring.hold(NAME, "s2s", certificate(), "why", NOW)
    keyring.approve(held.id, "alice", NOW)
    keyring.reject(held.id, "alice", NOW)
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.PKIX)
    keyring.revoke(NAME, "alice", NOW)
    keyring.note_seen(NAME, "s2s", NOW, tls=True)
    keyring.forget(NAME)
    assert set(levels) == {2}
    levels.clear()
    keyring.hold(NAME, "s2s", certificate(), "why", NOW)
    keyring.remember(NAME, "s2s", certificate(1), NOW + timedelta(days=1), how=How.PKIX)
    assert set(levels) == {1}, "of a count, or a time, nobody is told"


@pytest.mark.parametrize(
    "read",
    [
        lambda keyring: keyring.find(NAME, "s2s"),
        lambda keyring: keyring.entry_for(NAME, "s2s", certificate()),
        lambda keyring: keyring.others(NAME, "s2s", certificate(2)),
        lambda keyring: keyring.is_replaced(keyring.find(NAME, "s2s")[0]),
        lambda keyring: keyring.pending_ids(),
        lambda keyring: keyring.held_for(NAME, "s2s", certificate()),
        lambda keyring: keyring.entries("00" * 32),
        lambda keyring: keyring.ending(NOW, NOW),
        lambda keyring: keyring.seen(NAME, "s2s"),
        lambda keyring: keyring.pending(),
    ],
)
def test_nothing_is_looked_for_by_reading_everything(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch, read: Callable[[Keyring], object]
) -> None:
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.PKIX)
    plans: list[str] = []
    original = keyring._file.rows

    def rows(statement: str, *values: object) -> list[object]:
        found = original(f"EXPLAIN QUERY PLAN {statement}", *values)
        plans.extend(row[3] for row in found)
        return original(statement, *values)

    monkeypatch.setattr(keyring._file, "rows", rows)
    read(keyring)
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN")]
