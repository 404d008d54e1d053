"""A disk that is full under the keyring: what needs writing is refused until there is room.

A limit on the size of files stands for the end of the disk: what would make a file longer fails.
"""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.net.hostile import Hostile, login, showing, upgraded
from tests.net.trusting import COMMAND, OPERATOR, Operated, alone, fresh, with_level


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture
def bascule(tmp_path: Path, authority: Authority, hostile: Hostile) -> Iterator[Operated]:
    kept = {"level": "keyring", "ca_file": str(authority.ca_path)}
    with Operated(tmp_path, [with_level("kept", hostile.port, **kept)]) as bascule:
        yield bascule
        assert bascule.alive()
    hostile.play(login)


def written(bascule: Operated) -> int:
    """How long the file is that changes of the keyring are written to, at its end."""
    [log] = bascule.state.glob("*-wal")
    return log.stat().st_size


@contextmanager
def full(bascule: Operated) -> Iterator[None]:
    """Let none of the daemon's files become longer than the keyring's is now."""
    bascule.until(lambda: len(bascule.log()) < written(bascule))  # which has room to go on
    limits = (written(bascule), resource.RLIM_INFINITY)
    resource.prlimit(bascule.process_id, resource.RLIMIT_FSIZE, limits)
    yield
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(bascule.process_id, resource.RLIMIT_FSIZE, unlimited)


def test_what_cannot_be_remembered_is_refused_until_there_is_room(
    bascule: Operated, hostile: Hostile, authority: Authority, tmp_path: Path
) -> None:
    known, proved, unknown = (fresh("kept") for _ in range(3))
    certified = {domain: upgraded(showing(authority.issue(domain))) for domain in (known, proved)}
    hostile.play(certified[known])
    bascule.login(hostile, known)
    with full(bascule):
        bascule.login(hostile, known)  # nothing is to be written
        for domain, script, text in (
            (proved, certified[proved], "could not be looked up"),
            (unknown, upgraded(showing(alone(tmp_path, unknown))), "is self-signed, and not"),
        ):
            hostile.play(script)
            said = bascule.refused(hostile, domain)
            assert said.condition == "policy-violation"
            assert said.text.startswith(f"the certificate of {domain} {text}")
            assert not bascule.entries(domain)
            assert not bascule.held(domain)
        [alert] = [line for line in bascule.log().split("\n") if " alert=fault " in line]
        assert " critical " in alert
        assert "the disk" in alert
    hostile.play(certified[proved])
    bascule.login(hostile, proved)
    assert len(bascule.entries(proved)) == 1


def test_what_an_operator_decides_is_not_half_written(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("kept")
    script = upgraded(showing(alone(tmp_path, domain)))
    hostile.play(script)
    held_id = bascule.refused(hostile, domain).held_id
    for words in (["approve", held_id], ["reject", held_id]):
        done = on_a_full_disk(written(bascule), *words, *bascule_words(bascule))
        assert done.returncode != 0
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        assert "the disk" in line
        assert not bascule.entries(domain)
        [held] = bascule.held(domain)
        assert held.state.value == "pending"
        hostile.play(script)
        assert bascule.refused(hostile, domain).held_id == held_id
    bascule.command("approve", held_id, "--by", OPERATOR)
    hostile.play(script)
    bascule.login(hostile, domain)


def bascule_words(bascule: Operated) -> list[str]:
    """What every command of an operator's ends with."""
    return ["-c", str(bascule.configuration_path), "--by", OPERATOR]


def on_a_full_disk(size: int, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run ``bascule keyring``, which cannot make a file longer than so many octets."""
    return subprocess.run(
        ["prlimit", f"--fsize={size}", COMMAND, "keyring", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
