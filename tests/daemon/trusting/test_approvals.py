"""Waiting for operators: what is looked up, and who is told."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from proxy.daemon.trusting.approvals import INTERVAL, Approvals
from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import certificate
from tests.trust.showing import NAME, NOW

SECONDS = 60.0


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    with closing(Keyring(tmp_path / "keyring.sqlite", patience=0.05)) as opened:
        yield opened


class Waiters:
    """Sessions that wait, each for a certificate, and what they were told."""

    def __init__(self, keyring: Keyring, count: int) -> None:
        self.clock = Clock()
        self.told: dict[str, bool] = {}
        self.approvals = Approvals(keyring, self.clock)
        self.ids = [
            keyring.hold(NAME, "s2s", certificate(number), "why", NOW).id for number in range(count)
        ]
        for held_id in self.ids:
            self.approvals.wait(held_id, SECONDS, partial(self.told.__setitem__, held_id))


def test_whatever_is_decided_is_told_and_the_rest_waits(keyring: Keyring) -> None:
    waiters = Waiters(keyring, 4)
    approved, rejected, gone, left = waiters.ids
    keyring.approve(approved, "alice", NOW)
    keyring.reject(rejected, "alice", NOW)
    keyring._file.rows("DELETE FROM held WHERE id = ?", gone)
    waiters.clock.advance(INTERVAL)
    assert waiters.told == {approved: True, rejected: True, gone: True}
    waiters.clock.advance(SECONDS)
    assert waiters.told[left] is False
    assert not len(waiters.approvals)
    assert not waiters.clock.getDelayedCalls()


def test_a_look_reads_no_certificate(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    waiters = Waiters(keyring, 3)
    statements: list[str] = []
    original = keyring._file.rows

    def rows(statement: str, *values: object) -> list[object]:
        statements.append(statement)
        return original(statement, *values)

    monkeypatch.setattr(keyring._file, "rows", rows)
    waiters.clock.advance(INTERVAL)
    assert statements == ["SELECT id FROM held WHERE state = 'pending'"]


def test_a_keyring_that_cannot_be_asked_decides_nothing(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyringError("it is locked")

    waiters = Waiters(keyring, 1)
    monkeypatch.setattr(keyring, "pending_ids", fail)
    waiters.clock.advance(INTERVAL)
    assert not waiters.told
    monkeypatch.undo()
    keyring.approve(waiters.ids[0], "alice", NOW)
    waiters.clock.advance(INTERVAL)
    assert waiters.told == {waiters.ids[0]: True}
