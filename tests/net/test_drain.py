"""A daemon that is told to end lets its clients go one after another."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.net.client import FOOTER, logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import listens
from tests.servers.stream import Stream, plaintext

MANY = 30


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
        tables={"deadlines": {"drain": drain}},
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
    front = fronted(tmp_path, legacy, authority, 10)
    with front, clients(front, authority, MANY) as streams:
        (daemon,) = front.processes
        began = time.monotonic()
        done = bascule(front, "drain")
        assert done.stdout == f"{MANY} sessions will be ended within {MANY * 0.02:.1f} seconds\n"
        ends = []
        for stream in streams:
            answer = stream.read_to_end()
            ends.append(time.monotonic())
            assert "<stream:error><system-shutdown " in answer
            assert answer.endswith(FOOTER)
            stream.connection.close()
        assert daemon.wait(20) == 0
        assert not listens(front.port)
        assert time.monotonic() - began < 10
        front.processes.clear()
    assert "info stopping" in front.log()
    # Which goes first is not said; that they go within as long as was said, is.
    assert len(front.summaries()) >= MANY


def test_no_session_begins_while_others_end_and_a_second_signal_ends_them(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    front = fronted(tmp_path, legacy, authority, 10)
    count = 100
    with front, clients(front, authority, count) as streams:
        (daemon,) = front.processes
        daemon.send_signal(signal.SIGTERM)
        front.wait_for_log("info stopping")
        assert not listens(front.port)
        status = json.loads(bascule(front, "status", "--json").stdout)
        left = sum(status["sessions"].values())
        assert 0 < left < count
        began = time.monotonic()
        daemon.send_signal(signal.SIGINT)
        for stream in streams:
            assert "<system-shutdown " in stream.read_to_end()
        assert daemon.wait(20) == 0
        assert time.monotonic() - began < 2
        front.processes.clear()
    assert "info ending at once" in front.log()


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
    count = 300
    told = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    front = fronted(tmp_path, legacy, authority, 20, **told)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        with front:
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    connection = socket.create_connection(("127.0.0.1", front.port))
                    stack.enter_context(connection)
                until(manager, b"WATCHDOG=1\nSTATUS=300 sessions")
                front.processes[0].send_signal(signal.SIGTERM)
                until(manager, b"STOPPING=1\nSTATUS=Ending ")
                # 20 ms for each session, the grace, and a margin.
                asked = until(manager, b"EXTEND_TIMEOUT_USEC=")
                assert 20e6 < int(asked.partition(b"=")[2]) <= 21e6
                while (left := int(until(manager, b"STATUS=Ending ").split()[1])) == count:
                    pass
                assert count // 4 < left < count
                # Systemd hears from a daemon that is alive, though it ends.
                until(manager, b"WATCHDOG=1")
                front.processes[0].send_signal(signal.SIGTERM)
            assert front.processes[0].wait(20) == 0
            front.processes.clear()


def until(manager: socket.socket, beginning: bytes) -> bytes:
    while not (said := manager.recv(500)).startswith(beginning):
        pass
    return said
