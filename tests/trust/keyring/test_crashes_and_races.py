"""Processes that are killed lose nothing they acknowledged, and several spoil nothing together."""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from proxy.trust.keyring.entry import How, State
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import HANDED_DOWN, LATER, certificate, original
from tests.trust.showing import NAME, NOW

DECIDING = """
import sys
from pathlib import Path
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import certificate
from tests.trust.showing import NAME, NOW
keyring = Keyring(Path(sys.argv[1]), patience=30)
for number in range(int(sys.argv[2]), 10**6):
    held = keyring.hold(f"d{number}.{NAME}", "s2s", certificate(number), "why", NOW)
    print("held", number, flush=True)
    keyring.approve(held.id, "alice", NOW)
    print("approved", number, flush=True)
    keyring.remember(f"e{number}.{NAME}", "s2s", certificate(number), NOW, how=How.PKIX)
    print("remembered", number, flush=True)
    keyring.note_seen(f"d{number}.{NAME}", "s2s", NOW, tls=True)
    print("noted", number, flush=True)
    keyring.reject(held.id, "bob", NOW)
    print("rejected", number, flush=True)
"""
"""A process that says what it has done after each thing it does."""

SHOWING = """
import json, sys
from pathlib import Path
from proxy.trust.keyring.judging import Accepted
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring import made
from tests.trust.showing import NAME
keyring = Keyring(Path(sys.argv[1]), patience=30)
print("ready", flush=True)
sys.stdin.readline()
told = {"alerts": [], "ids": []}
for turn in range(int(sys.argv[3])):
    for number in range(int(sys.argv[2]), 48, 2):
        came = made.shown(keyring, made.certificate(number), made.PROVED)
        assert isinstance(came, Accepted), came
        if came.alert is not None:
            told["alerts"].append(came.alert.key)
    for number in range(100, 105):
        came = made.shown(keyring, made.certificate(number), domain="example.org")
        if not isinstance(came, Accepted):
            told["ids"].append(came.held.id)
print(json.dumps(told))
"""
"""A worker: certificates of one domain that are proved, and of another that are not."""

APPROVING = """
import sys, time
from datetime import timedelta
from pathlib import Path
from proxy.trust.keyring.judging import Accepted
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring import made
from tests.trust.showing import NOW
keyring = Keyring(Path(sys.argv[1]), patience=30)
print("ready", flush=True)
sys.stdin.readline()
done = set()
until = time.monotonic() + 60
while len(done) < 5 and time.monotonic() < until:
    for held in keyring.pending():
        entry = keyring.approve(held.id, "alice", NOW)
        done.add(entry.certificate)
        came = made.shown(keyring, entry.certificate, domain="example.org")
        assert isinstance(came, Accepted), came
    time.sleep(0.01)
print(len(done))
"""
"""A command, run again and again beside them, which approves what it finds."""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {HANDED_DOWN: original().hex()},
    )


def acknowledged(child: subprocess.Popen[str], words: int, seconds: float) -> list[tuple[str, int]]:
    """Kill a process a while after it has said so much, and return all that it has said."""
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(words)]
    time.sleep(seconds)
    child.kill()
    lines += child.stdout.read().splitlines(keepends=True)
    child.communicate()
    said = [line.split() for line in lines if line.endswith("\n")]
    return [(word, int(number)) for word, number in said]


def check_acknowledged(keyring: Keyring, said: list[tuple[str, int]]) -> None:
    for word, number in said:
        der = certificate(number)
        domain = f"d{number}.{NAME}"
        held = keyring.held_for(domain, "s2s", der)
        assert held is not None, (word, number)
        if word == "approved":
            assert held.state is not State.PENDING
            assert [entry.how for entry in keyring.find(domain, "s2s")] == [How.OPERATOR]
        elif word == "remembered":
            assert len(keyring.find(f"e{number}.{NAME}", "s2s")) == 1
        elif word == "noted":
            assert keyring.seen(domain, "s2s").tls
        elif word == "rejected":
            assert held.state is State.REJECTED
            assert keyring.find(domain, "s2s")[0].revoked


def test_a_process_that_is_killed_at_any_moment(path: Path) -> None:
    chance = random.Random(5)
    number = 0
    words = set()
    for _ in range(8):
        child = started(DECIDING, path, number)
        said = acknowledged(child, chance.randint(1, 50), chance.uniform(0, 0.01))
        words.add(said[-1][0])
        number = said[-1][1] + 1
        with closing(Keyring(path, create=False)) as keyring:
            check_acknowledged(keyring, said)
    assert number > 20
    assert len(words) > 1, "it was always killed at the same place"


def test_two_that_are_killed_together(path: Path) -> None:
    for turn in range(3):
        children = [
            started(DECIDING, path, turn * 100_000),
            started(DECIDING, path, turn * 100_000 + 50_000),
        ]
        said = [acknowledged(child, 20, 0.01) for child in children]
        with closing(Keyring(path, create=False)) as keyring:
            for each in said:
                check_acknowledged(keyring, each)


def test_two_workers_and_a_command_race(path: Path) -> None:
    Keyring(path).close()
    workers = [started(SHOWING, path, first, 4) for first in (0, 1)]
    command = started(APPROVING, path)
    children = [*workers, command]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate(timeout=90)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    told = [json.loads(output) for output in outputs[:2]]
    assert outputs[2] == "5\n"

    with closing(Keyring(path, create=False)) as keyring:
        entries = keyring.find(NAME, "s2s")
        assert {entry.certificate for entry in entries} == set(map(certificate, range(48)))
        alerts = [key for each in told for key in each["alerts"]]
        # Of the first one nobody is told, and of each of the others one worker, once.
        assert len(alerts) == len(set(alerts)) == 47
        approved = keyring.find("example.org", "s2s")
        assert {entry.certificate for entry in approved} == set(map(certificate, range(100, 105)))
        assert all(entry.authorised(LATER) for entry in approved)
        ids = [each for worker in told for each in worker["ids"]]
        counts = {held.id: held.count for held in keyring.all_held("example.org")}
        assert len(counts) == 5, "one certificate has one id, whoever holds it first"
        assert sum(counts.values()) == len(ids), "each time is counted"


def test_several_that_make_it_at_once(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from proxy.trust.keyring.store import Keyring;"
        "sys.stdin.readline(); k = Keyring(Path(sys.argv[1]), patience=30);"
        "from tests.trust.showing import NOW;"
        "k.note_seen(f'd{sys.argv[2]}.example', 's2s', NOW, tls=True); k.close()"
    )
    children = [started(script, path, number) for number in range(4)]
    for child in children:
        child.communicate("go\n", timeout=60)
    assert [child.returncode for child in children] == [0] * 4
    with closing(Keyring(path, create=False)) as keyring:
        assert len(keyring.all_seen()) == 4
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_change_that_was_begun_by_a_killed_process_is_undone(path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from proxy.trust.keyring.store import Keyring;"
        "from tests.trust.showing import NOW; k = Keyring(Path(sys.argv[1]));"
        "c = k.changing(); c.__enter__(); k.note_seen('a.example', 's2s', NOW, tls=True);"
        "k._file.rows('PRAGMA cache_size = 1'); os.kill(os.getpid(), 9)"
    )
    child = started(script, path)
    child.communicate(timeout=60)
    assert child.returncode == -9
    with closing(Keyring(path, create=False)) as keyring:
        assert keyring.all_seen() == ()
        assert keyring.note_seen(NAME, "s2s", NOW, tls=True).tls
