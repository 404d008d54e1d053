"""Daemons and commands that are killed, and several at once on one keyring: nothing is lost."""

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.net.hostile import (
    OFFER,
    PROCEED,
    STARTTLS,
    STREAM,
    Hostile,
    Peer,
    Script,
    Secure,
    header,
    login,
    showing,
    upgraded,
)
from tests.net.trusting import (
    COMMAND,
    PATIENCE,
    Operated,
    alone,
    fresh,
    go_on,
    with_level,
)
from tests.servers.stream import Stream

Pair = tuple[Path, Path]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


def policies(hostile: Hostile) -> list[dict[str, object]]:
    return [
        with_level("kept", hostile.port, level="keyring"),
        with_level("waiting", hostile.port, level="keyring", approval_timeout=PATIENCE),
    ]


def kill(bascule: Operated) -> None:
    """End a daemon as nothing can prevent, and what belongs to it as if it had been stopped."""
    bascule.processes[0].send_signal(signal.SIGKILL)
    bascule.processes[0].wait()
    bascule.stop()


def approving(bascule: Operated, *ids: str) -> subprocess.Popen[str]:
    """Begin to permit certificates by the command."""
    words: list[str | Path] = [COMMAND, "keyring", "approve", "-c", bascule.configuration_path]
    words += ids
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def by_name(shown: Mapping[str, Secure]) -> Script:
    """Return a script that shows each domain's own certificate."""

    def script(peer: Peer) -> None:
        opened = peer.read_until(STREAM).decode()
        [secure] = [secure for domain, secure in shown.items() if domain in opened]
        peer.send(header("outside") + OFFER)
        peer.read_until(STARTTLS)
        peer.send(PROCEED)
        secure(peer)
        login(peer)

    return script


def test_the_daemon_is_killed_while_a_session_waits(tmp_path: Path, hostile: Hostile) -> None:
    domain = fresh("waiting")
    script = upgraded(showing(alone(tmp_path, domain)))
    hostile.play(script)
    bascule = Operated(tmp_path, policies(hostile))
    with bascule:
        stream = bascule.waiting(domain)
        [held] = bascule.held(domain)
        kill(bascule)
        assert stream.connection.recv(1) == b""
        stream.connection.close()
    assert [each["id"] for each in bascule.commanded("pending")] == [held.id]
    bascule.command("approve", held.id)  # while no daemon runs
    with bascule:
        hostile.play(script)
        bascule.login(hostile, domain)


def test_daemon_and_command_are_killed_in_the_middle_of_an_approval(
    tmp_path: Path, hostile: Hostile
) -> None:
    """What the command has said that it has done is done; else it is done or not, as a whole."""
    chance = random.Random(23)
    bascule = Operated(tmp_path, policies(hostile))
    pairs: dict[str, Pair] = {}
    takes = 60.0  # seconds that the command takes, once it is known
    for turn in range(3):
        with bascule:
            domains = [fresh("waiting") for _ in range(3)]
            streams: list[Stream] = []
            for domain in domains:
                pairs[domain] = alone(tmp_path, domain)
                hostile.play(upgraded(showing(pairs[domain])))
                streams.append(bascule.waiting(domain))
            ids = [bascule.held(domain)[0].id for domain in domains]
            began = time.monotonic()
            command = approving(bascule, *ids)
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(takes * chance.uniform(0.7, 1.0) if turn else takes)
            takes = takes if turn else time.monotonic() - began
            command.kill()
            kill(bascule)
            said = command.communicate()[0]
            for stream in streams:
                stream.connection.close()
        whole = [line for line in said.splitlines(keepends=True) if line.endswith("\n")]
        done = {line.split()[2] for line in whole}
        permitted = {domain for domain in domains if bascule.entries(domain)}
        assert permitted in (set(), set(domains)), "all of them or none"
        assert done <= permitted
        assert turn or done == set(domains)
    with bascule:
        for domain, pair in pairs.items():
            hostile.play(upgraded(showing(pair)))
            if bascule.entries(domain):
                bascule.login(hostile, domain)
            else:
                bascule.waiting(domain).connection.close()
                assert bascule.held(domain)[0].count == 2


def test_two_daemons_and_a_command_race_on_one_keyring(tmp_path: Path, hostile: Hostile) -> None:
    """Each certificate is held once, whoever meets it first, and permitted for both at once."""
    state = tmp_path / "both"
    both = [Operated(tmp_path / name, policies(hostile), keyring=state) for name in ("a", "b")]
    domains = [fresh("waiting") for _ in range(5)]
    shown = {domain: showing(alone(tmp_path, domain)) for domain in domains}

    hostile.play(by_name(shown))
    with both[0], both[1]:
        streams = {
            (number, domain): Stream(bascule.connect(), domain)
            for number, bascule in enumerate(both)
            for domain in domains
        }
        for stream in streams.values():
            stream.send_header()
        permitted: set[str] = set()
        end = time.monotonic() + 60
        while len(permitted) < len(domains):
            assert time.monotonic() < end
            waiting = [each["id"] for each in both[0].commanded("pending")]
            if waiting:
                permitted |= {
                    line.split()[2] for line in both[1].command("approve", *waiting).splitlines()
                }
        for stream in streams.values():
            go_on(stream)
            stream.connection.close()
        for domain in domains:
            [held] = both[0].held(domain)
            [entry] = both[1].entries(domain)
            assert entry.certificate == held.certificate
        for bascule in both:
            assert bascule.alive()
            assert "alert=fault" not in bascule.log()
