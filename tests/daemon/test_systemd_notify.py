"""What systemd hears while the service runs, and what it makes of a service that is stuck."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from proxy.daemon import notify
from proxy.daemon.notify import STATUS_INTERVAL, Pulse, reloading, watchdog
from tests.authority import Authority
from tests.daemon.notifying import Notifying
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.stream import plaintext


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where messages to systemd arrive; it does not wait for any."""
    address = str(tmp_path / "notify")
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(1000).decode())
        except BlockingIOError:
            return found


def test_a_reload_is_told_with_its_time(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    reloading("Reloading")
    [said] = heard(manager)
    told = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=Reloading", said)
    assert told is not None
    assert before <= int(told[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("microseconds", "process", "expected"),
    [
        ("20000000", None, 20.0),
        ("500000", str(os.getpid()), 0.5),
        ("500000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        ("٣", None, None),
        ("-1", None, None),
        (None, None, None),
    ],
)
def test_who_is_watched_and_how_closely(
    microseconds: str | None,
    process: str | None,
    expected: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert watchdog() == expected


def test_the_watchdog_is_fed_twice_as_often_as_it_wants(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    clock = Clock()
    status = ["0 sessions"]
    pulse = Pulse(clock, lambda: status[0])
    pulse.start()
    assert heard(manager) == ["WATCHDOG=1\nSTATUS=0 sessions"]
    clock.advance(1.9)
    assert heard(manager) == []
    clock.advance(0.1)
    assert heard(manager) == ["WATCHDOG=1"]
    status[0] = "1 session"
    clock.pump([2.0, 2.0])
    assert heard(manager) == ["WATCHDOG=1\nSTATUS=1 session", "WATCHDOG=1"]
    pulse.stop()
    pulse.stop()
    clock.advance(60)
    assert heard(manager) == []
    assert clock.getDelayedCalls() == []


def test_without_a_watchdog_the_status_alone_is_told(manager: socket.socket) -> None:
    clock = Clock()
    status = ["0 sessions"]
    pulse = Pulse(clock, lambda: status[0])
    pulse.start()
    assert heard(manager) == ["STATUS=0 sessions"]
    clock.advance(STATUS_INTERVAL)
    assert heard(manager) == []
    status[0] = "2 sessions"
    clock.advance(STATUS_INTERVAL)
    assert heard(manager) == ["STATUS=2 sessions"]


def test_without_a_service_manager_nothing_is_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    clock = Clock()
    Pulse(clock, lambda: "").start()
    assert clock.getDelayedCalls() == []


def test_a_service_manager_that_does_not_listen_does_not_hold_up_the_reactor(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be waited for longer than the test may take, were it waited for at all."""
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setattr(notify, "_PATIENCE", 600.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd:
        crowd.connect(manager.getsockname())
        crowd.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                crowd.send(b"X=1")
    clock = Clock()
    pulse = Pulse(clock, lambda: "")
    pulse.start()
    monkeypatch.setattr(notify, "_PATIENCE", 0.05)
    before = time.monotonic()
    notify.notify("STOPPING=1")
    assert time.monotonic() - before >= 0.05
    assert not any("STOPPING" in said or "WATCHDOG" in said for said in heard(manager))
    # The next one finds room again.
    clock.advance(2)
    assert heard(manager) == ["WATCHDOG=1"]


def test_the_daemon_is_alive_to_systemd_until_it_stops(
    tmp_path: Path, legacy: LegacyServer, authority: Authority, manager: socket.socket
) -> None:
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    front = Notifying(tmp_path, [served(legacy, [authority.issue(DOMAIN)])], environment=told)
    manager.settimeout(20)
    with front:
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1\nSTATUS=0 sessions"
        with plaintext(front.port, DOMAIN) as stream:
            stream.send_header()
            stream.read_until("</stream:features>")
            while manager.recv(100) != b"WATCHDOG=1\nSTATUS=1 session":
                pass
            front.processes[0].send_signal(signal.SIGTERM)
            while (said := manager.recv(100)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1\nSTATUS=Ending 1 session"


def test_the_log_shows_where_a_stuck_daemon_was(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    with Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])]) as front:
        front.wait_for_log("listening")
        front.processes[0].send_signal(signal.SIGABRT)
        assert front.processes[0].wait(20) == -signal.SIGABRT
        log = front.log()
    assert "Fatal Python error: Aborted" in log
    assert re.search(r'File ".*running\.py", line \d+ in run', log)
