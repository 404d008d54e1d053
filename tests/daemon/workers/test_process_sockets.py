"""Sockets that systemd opens, shared by several processes: what stays open, and what does not."""

import os
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.daemon.test_systemd_sockets import Activated
from tests.daemon.workers.running import SECONDS, WORKERS, comes, is_gone, running, settled
from tests.net.front import DOMAIN
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST
from tests.servers.stream import Stream, plaintext


class Several(Activated):
    """Several processes whose sockets are the test's own."""

    def configuration(self) -> str:
        directory = self.configuration_path.parent
        return (
            f"{super().configuration()}\n[bascule]\nworkers = {WORKERS}\n"
            f'state_directory = "{directory}"\ncontrol_socket = "{directory}/control"\n'
        )


@pytest.fixture
def several(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> Iterator[Several]:
    with ExitStack() as opened:
        several = Several(tmp_path, legacy, authority)
        for name, host in (("c2s", HOST), ("c2s", "::1"), ("unused", HOST)):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = opened.enter_context(socket.create_server((host, 0), family=family))
            several.sockets.append((name, made))
        try:
            yield several
        finally:
            several.stop()


def descriptors(process: int) -> list[str]:
    """Return what a process has open: of each kind how many."""
    found = []
    for each in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.append(re.sub(r"\d+", "N", str(each.readlink())))
        except FileNotFoundError:
            continue  # closed meanwhile
    return sorted(found)


@contextmanager
def halted(processes: Sequence[int]) -> Iterator[None]:
    """Have processes do nothing for a while."""
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            os.kill(each, signal.SIGCONT)


def serves(made: socket.socket) -> None:
    """Connect, and be offered TLS."""
    with socket.create_connection(made.getsockname()[:2], timeout=SECONDS) as connection:
        stream = Stream(connection, DOMAIN)
        stream.send_header()
        assert "<starttls" in stream.read_until("</stream:features>")


def test_each_worker_accepts_from_every_passed_socket(several: Several) -> None:
    several.start()
    workers = settled(several)
    for process in workers.values():
        with halted([each for each in workers.values() if each != process]):
            for name, made in several.sockets:
                if name == "c2s":
                    serves(made)
    # What nobody wants the supervisor alone has, and says so.
    log = several.log()
    assert log.count("no listener wants a socket of systemd name=unused descriptor=5") == 1


def test_connections_wait_while_the_supervisor_is_dead(several: Several) -> None:
    several.start()
    workers = settled(several)
    port = several.sockets[0][1].getsockname()[1]
    several.processes[0].kill()
    several.processes[0].wait()
    several.processes.clear()
    for process in workers.values():
        comes(partial(is_gone, process))
    with ExitStack() as waiting:
        streams = [waiting.enter_context(plaintext(port, DOMAIN)) for _ in range(20)]
        for stream in streams:
            stream.send_header()
        several.start()
        settled(several)
        for stream in streams:
            assert "<starttls" in stream.read_until("</stream:features>")


def test_a_restart_keeps_connections_waiting(several: Several) -> None:
    several.start()
    workers = settled(several)
    port = several.sockets[0][1].getsockname()[1]
    with plaintext(port, DOMAIN) as before:
        before.send_header()
        before.read_until("</stream:features>")
        several.processes[0].send_signal(signal.SIGTERM)
        assert "<system-shutdown " in before.read_to_end()
    assert several.processes[0].wait(SECONDS) == 0
    assert all(map(is_gone, workers.values()))
    several.processes.clear()
    with ExitStack() as waiting:
        streams = [waiting.enter_context(plaintext(port, DOMAIN)) for _ in range(20)]
        for stream in streams:
            stream.send_header()
        several.start()
        settled(several)
        for stream in streams:
            assert "<starttls" in stream.read_until("</stream:features>")


def test_reloads_give_sockets_back_and_take_them_again_and_leave_nothing_open(
    several: Several,
) -> None:
    several.start()
    workers = settled(several)
    everyone = [several.processes[0].pid, *workers.values()]
    by_name = dict(reversed(several.sockets))  # of those of one name the first
    path = several.configuration_path
    before: dict[int, list[str]] = {}
    for round_ in range(2):
        for name, other in (("unused", "c2s"), ("c2s", "unused")):
            path.write_text(re.sub("systemd:[a-z0-9]*", f"systemd:{name}", path.read_text()))
            done = bascule(several, "reload")
            assert done.returncode == 0, done.stderr
            serves(by_name[name])
            # As with a daemon that is not there: systemd's socket holds the connection.
            with plaintext(by_name[other].getsockname()[1], DOMAIN) as waiting:
                waiting.connection.settimeout(0.2)
                waiting.send_header()
                with pytest.raises(TimeoutError):
                    waiting.connection.recv(1)
        if round_ == 0:
            before = {each: descriptors(each) for each in everyone}
    assert running(several) == workers
    for each in everyone:
        comes(partial(_has_no_more_open, each, before[each]))


def _has_no_more_open(process: int, before: Sequence[str]) -> bool:
    return len(descriptors(process)) <= len(before)
