"""A daemon that is told to end lets its clients go one after another."""

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.net.client import FOOTER, logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.net.proxies import until
from tests.net.test_attack_12_growth import allow_descriptors
from tests.servers.program import HOST, listens
from tests.servers.stream import Stream, plaintext

MANY = 30
NEVER = 1000
"""Seconds that no test waits."""


@pytest.fixture
def legacy() -> Iterator[LegacyServer]:
    with LegacyServer() as server:
        yield server


def fronted(
    directory: Path, legacy: LegacyServer, authority: Authority, drain: float, **told: str
) -> Front:
    return Front(
        directory,
        [served(legacy, [authority.issue(DOMAIN)])],
        tables={"deadlines": {"drain": drain, "negotiation": NEVER}},
        environment=told,
    )


@contextlib.contextmanager
def clients(front: Front, authority: Authority, count: int) -> Iterator[list[Stream]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(logged_in(front.port, authority.ca_path)) for _ in range(count)]


def is_told(stream: Stream) -> bool:
    """Whether a client has been sent something; its stream's end is all that comes."""
    stream.connection.settimeout(0)
    try:
        # Bytes of TLS that say nothing to the client, such as tickets, have been read before.
        return bool(stream.connection.recv(1))
    except OSError:
        return False
    finally:
        stream.connection.settimeout(20)


def test_clients_go_one_after_another(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    """In the time that few of them take, however much they may."""
    front = fronted(tmp_path, legacy, authority, NEVER)
    with front, clients(front, authority, MANY) as streams:
        (daemon,) = front.processes
        done = bascule(front, "drain")
        assert done.stdout == f"{MANY} sessions will be ended within {MANY * 0.02:.1f} seconds\n"
        for stream in streams:
            answer = stream.read_to_end()
            assert "<stream:error><system-shutdown " in answer
            assert answer.endswith(FOOTER)
            stream.connection.close()
        assert daemon.wait(20) == 0
        assert not listens(front.port)
        front.processes.clear()
    assert "info stopping" in front.log()
    assert len(front.summaries()) >= MANY


def test_no_session_begins_while_others_end_and_a_second_signal_ends_them(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    """There are so many that the others would have to be waited for, if the daemon did so."""
    front = fronted(tmp_path, legacy, authority, NEVER)
    count = 1000
    allow_descriptors(3 * count)
    with front, clients(front, authority, MANY) as streams, contextlib.ExitStack() as stack:
        for _ in range(count - MANY):
            stack.enter_context(socket.create_connection((HOST, front.port)))
        until(lambda: sessions(front) == count)
        (daemon,) = front.processes
        daemon.send_signal(signal.SIGTERM)
        front.wait_for_log("info stopping")
        assert not listens(front.port)
        until(lambda: sessions(front) < count)
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(10) == 0
        for stream in streams:
            assert "<system-shutdown " in stream.read_to_end()
        front.processes.clear()
    assert "info ending at once" in front.log()


def sessions(front: Front) -> int:
    """Ask how many there are."""
    status = json.loads(bascule(front, "status", "--json").stdout)
    return int(sum(status["sessions"].values()))


def test_a_drain_that_takes_no_time(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    front = fronted(tmp_path, legacy, authority, 0)
    with front, clients(front, authority, 5) as streams:
        assert bascule(front, "drain").stdout == "5 sessions will be ended within 0.0 seconds\n"
        for stream in streams:
            assert "<system-shutdown " in stream.read_to_end()
            stream.connection.close()
        assert front.processes[0].wait(20) == 0
        front.processes.clear()


def test_old_sessions_end_and_the_daemon_goes_on(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    front = fronted(tmp_path, legacy, authority, 10)
    with front:
        with clients(front, authority, 5) as old:
            between = datetime.now(UTC).isoformat()
            with clients(front, authority, 2) as young, plaintext(front.port, DOMAIN):
                done = bascule(front, "drain", "--older-than", between)
                assert done.stdout == "5 sessions will be ended within 0.1 seconds\n"
                for stream in old:
                    answer = stream.read_to_end()
                    assert "<stream:error><reset " in answer
                    assert answer.endswith(FOOTER)
                assert not any(map(is_told, young))
                assert listens(front.port)
                done = bascule(front, "drain", "--older-than", "yesterday")
                assert done.returncode == 64
                assert "allowed: an age as 30m" in done.stderr
        assert f"info old sessions are ended older_than={between} sessions=5" in front.log()
        assert front.alive()


def test_systemd_is_told_how_many_are_left_and_asked_for_time(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    address = str(tmp_path / "notify")
    count = 600
    told = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    front = fronted(tmp_path, legacy, authority, 20, **told)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        with front:
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    connection = socket.create_connection((HOST, front.port))
                    stack.enter_context(connection)
                heard(manager, b"WATCHDOG=1\nSTATUS=600 sessions")
                front.processes[0].send_signal(signal.SIGTERM)
                heard(manager, b"STOPPING=1\nSTATUS=Ending ")
                # 20 ms for each session, the grace, and a margin.
                asked = heard(manager, b"EXTEND_TIMEOUT_USEC=")
                assert 26e6 < int(asked.partition(b"=")[2]) <= 27e6
                while (left := int(heard(manager, b"STATUS=Ending ").split()[1])) == count:
                    pass
                assert 0 < left < count
                # Systemd hears from a daemon that is alive, though it ends.
                heard(manager, b"WATCHDOG=1")
                front.processes[0].send_signal(signal.SIGTERM)
            assert front.processes[0].wait(20) == 0
            front.processes.clear()


def heard(manager: socket.socket, beginning: bytes) -> bytes:
    """Wait for a message with this beginning."""
    while not (said := manager.recv(500)).startswith(beginning):
        pass
    return said
