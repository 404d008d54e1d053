"""Several processes in front of one server: shared ports, one answer, and what befalls each."""

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from proxy.daemon.control.protocol import RefusedError
from tests.authority import Authority
from tests.daemon.reloaded import bascule, changed
from tests.daemon.workers.running import (
    SECONDS,
    WORKERS,
    asked,
    comes,
    crowd,
    is_gone,
    listener,
    running,
    settled,
    status,
    table,
    workers,
)
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, free_port
from tests.servers.stream import plaintext

RULES = {"c2s": "required", "old": "report"}


@pytest.fixture
def front(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> Iterator[Front]:
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    with Front(tmp_path, domains, listeners=RULES, tables=table(tmp_path)) as front:
        settled(front)
        yield front


def test_all_accept_and_one_answers_for_all(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with ExitStack() as opened:
        streams = crowd(opened, front, legacy, authority)
        found = status(front)
        assert found["pid"] == front.process_id
        assert sum(found["sessions"].values()) == len(streams)
        assert sum(each["sessions"] for each in found["workers"]) == len(streams)
        assert {each["name"]: each["sessions"] for each in found["listeners"]} == {
            "c2s": len(streams),
            "old": 0,
        }
        listed = asked(front, "sessions")
        assert len({each["id"] for each in listed}) == len(streams)


def test_a_session_is_kicked_in_whichever_worker_it_is(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with ExitStack() as opened:
        streams = crowd(opened, front, legacy, authority)
        for each in asked(front, "sessions"):
            assert asked(front, "kick", session=each["id"]) == [{"session": each["id"]}]
        for stream in streams:
            stream.read_until("ended by an operator of the proxy")
        with pytest.raises(RefusedError, match="there is no session with this id"):
            asked(front, "kick", session="nobody")


def test_a_killed_worker_comes_back_and_the_others_go_on(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with ExitStack() as opened:
        crowd(opened, front, legacy, authority)
        before = running(front)
        ended = {
            each["number"]: each["sessions"] for each in workers(front) if each["number"] == 1
        }[1]
        os.kill(before[1], signal.SIGKILL)
        comes(lambda: running(front).keys() == before.keys() and running(front)[1] != before[1])
        found = status(front)
        assert running(front)[2] == before[2]
        assert [each["restarts"] for each in found["workers"]] == [1, 0]
        # What the other one has is still there, and both ends of what is gone are told.
        left = sum(found["sessions"].values())
        assert left == len(legacy.connections) - ended
        with logged_in(front.port, authority.ca_path):
            legacy.next()
        assert 'worker ended: killed by signal 9" worker=1' in front.log() or (
            "worker ended: killed by signal 9 worker=1" in front.log()
        )


def test_both_ends_of_its_sessions_are_told_at_once(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with ExitStack() as opened:
        streams = crowd(opened, front, legacy, authority)
        for process in running(front).values():
            os.kill(process, signal.SIGKILL)
        for stream in streams:
            stream.connection.settimeout(SECONDS)
            with suppress(ConnectionError, ssl.SSLError):
                assert stream.connection.recv(1) == b""
        for connection in legacy.connections:
            connection.read_to_end()


def test_no_connection_is_refused_while_a_worker_is_away(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    for process in running(front).values():
        os.kill(process, signal.SIGKILL)
    # Nobody accepts at this moment; who connects waits, and is not refused.
    with logged_in(front.port, authority.ca_path):
        legacy.next()


def test_all_take_up_another_conf(front: Front, legacy: LegacyServer, authority: Authority) -> None:
    port = free_port()
    with ExitStack() as opened:
        crowd(opened, front, legacy, authority)
        before = running(front)
        changed(front.configuration_path, ("", listener(port)))
        done = bascule(front, "reload")
        assert done.returncode == 0, done.stderr
        assert "listeners_added: new" in done.stdout
        assert running(front) == before
        for _ in range(8):
            opened.enter_context(logged_in(port, authority.ca_path))
            legacy.next()


def test_nothing_changes_by_a_conf_that_one_of_them_cannot_take_up(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    before = running(front)
    with socket.create_server((HOST, 0)) as taken:
        changed(front.configuration_path, ("", listener(taken.getsockname()[1])))
        done = bascule(front, "reload")
    assert done.returncode == 78
    assert "listener new" in done.stderr
    assert [each["name"] for each in status(front)["listeners"]] == list(RULES)
    assert running(front) == before
    with logged_in(front.port, authority.ca_path):
        legacy.next()


def test_their_number_changes_with_the_conf(front: Front) -> None:
    changed(front.configuration_path, (f"workers = {WORKERS}", f"workers = {WORKERS + 1}"))
    assert bascule(front, "reload").returncode == 0
    settled(front, WORKERS + 1)
    changed(front.configuration_path, (f"workers = {WORKERS + 1}", "workers = 1"))
    assert bascule(front, "reload").returncode == 0
    comes(lambda: [each["number"] for each in workers(front)] == [1])


def test_a_worker_that_starts_takes_the_conf_that_holds(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    """The file may say otherwise by then, or be broken."""
    changed(front.configuration_path, ("", "\n[nonsense]\n"))
    before = running(front)
    os.kill(before[2], signal.SIGKILL)
    comes(lambda: running(front).get(2) not in (None, before[2]))
    os.kill(before[1], signal.SIGSTOP)
    try:
        with logged_in(front.port, authority.ca_path):
            legacy.next()
    finally:
        os.kill(before[1], signal.SIGCONT)


def test_connections_of_an_address_are_counted_over_all(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    tables = table(tmp_path) | {
        "plugins.limits": {"connections_per_address": 5, "handshakes_per_minute": 0}
    }
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    with Front(tmp_path, domains, tables=tables) as front, ExitStack() as opened:
        settled(front)
        for _ in range(5):
            opened.enter_context(logged_in(front.port, authority.ca_path))
            legacy.next()
        for _ in range(6):
            with plaintext(front.port, DOMAIN) as stream:
                stream.send_header()
                assert "resource-constraint" in stream.read_until("</stream:stream>")


def test_they_stop_together(front: Front, legacy: LegacyServer, authority: Authority) -> None:
    with ExitStack() as opened:
        streams = crowd(opened, front, legacy, authority)
        before = running(front)
        os.kill(front.process_id, signal.SIGTERM)
        for stream in streams:
            stream.read_until("system-shutdown")
        assert front.processes[0].wait(SECONDS) == 0
        for process in before.values():
            comes(partial(is_gone, process))


def test_workers_end_when_their_supervisor_is_killed(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with ExitStack() as opened:
        streams = crowd(opened, front, legacy, authority)
        before = running(front)
        os.kill(front.process_id, signal.SIGKILL)
        front.processes[0].wait()
        for stream in streams:
            stream.read_until("system-shutdown")
        for process in before.values():
            comes(partial(is_gone, process))
