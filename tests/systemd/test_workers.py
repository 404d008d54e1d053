"""Several processes under a real systemd: one service, whose sockets all of them share."""

import json
from functools import partial
from typing import Any

import pytest

from tests.systemd.box import Box
from tests.systemd.conftest import write
from tests.systemd.test_service import CROWD, PYTHON, greeted, journal, now

WORKERS = 2
BASCULE = "/opt/bascule/bin/bascule"
MORE = """\
[[listener]]
name = "more"
direction = "reverse"
stream = "c2s"
address = "127.0.0.1:5322"
"""
IN_VAIN = """\
import socket, ssl
context = ssl.create_default_context(cafile="/etc/bascule/ca.crt")
context.set_alpn_protocols(["xmpp-client"])
with socket.create_connection(("127.0.0.1", 5222), timeout=20) as connection:
    with context.wrap_socket(connection, server_hostname="example.com") as secured:
        secured.sendall(
            b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
            b"xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        said = b""
        while b"</stream:stream>" not in said:
            said += secured.recv(4096)
print(b"<remote-connection-failed" in said)
"""
STAY = """\
import socket
header = (
    b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams'>"
)
with socket.create_connection(("127.0.0.1", 5222), timeout=60) as connection:
    connection.sendall(header)
    said = b""
    while b"</stream:features>" not in said:
        said += connection.recv(4096)
    print("begun", flush=True)
    while more := connection.recv(4096):
        said += more
print(b"<system-shutdown" in said)
"""


@pytest.fixture
def service(box: Box) -> Box:
    """The container, where the service with its socket has just said that it is ready."""
    write(box, "systemd:c2s")
    conf = box.shared / "bascule.toml"
    conf.write_text(f"{conf.read_text()}\n[bascule]\nworkers = {WORKERS}\n")
    box.told("systemctl", "start", "bascule.socket", "bascule")
    return box


def supervisor(box: Box) -> str:
    return box.property("bascule", "MainPID")


def status(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.told(BASCULE, "status", "--json"))
    return found


def running(box: Box) -> dict[int, str]:
    """Return the process of each worker that runs, by its number."""
    workers = status(box)["workers"]
    return {each["number"]: str(each["pid"]) for each in workers if each["state"] == "running"}


def is_there(box: Box, process: str) -> bool:
    return box.run("test", "-e", f"/proc/{process}").returncode == 0


def test_the_service_is_ready_when_all_its_workers_are_and_they_are_hardened(service: Box) -> None:
    workers = running(service)
    assert list(workers) == [1, 2]
    assert service.property("bascule", "StatusText") == f"0 sessions in {WORKERS} workers"
    assert service.property("bascule", "NRestarts") == "0"
    user = service.told("stat", "--format=%u", f"/proc/{supervisor(service)}")
    for process in workers.values():
        found = service.told("cat", f"/proc/{process}/status")
        assert "CapEff:\t0000000000000000" in found
        assert "NoNewPrivs:\t1" in found
        assert "Seccomp:\t2" in found
        assert service.told("stat", "--format=%u", f"/proc/{process}") == user
        assert user.strip() != "0"
        assert service.told("cat", f"/proc/{process}/cgroup").endswith("/bascule.service\n")
        environment = service.told("cat", f"/proc/{process}/environ").split("\0")
        names = {each.partition("=")[0] for each in environment}
        assert "JOURNAL_STREAM" in names
        assert not {name for name in names if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))}


def test_each_worker_accepts_from_the_socket_of_systemd_and_writes_to_the_journal(
    service: Box,
) -> None:
    before = now(service)
    workers = running(service)
    for number, process in workers.items():
        others = set(workers.values()) - {process}
        service.told("kill", "-STOP", *others)
        assert greeted(service, 5222)
        # There is no server behind it, of which the service warns.
        assert service.told(PYTHON, "-c", IN_VAIN) == "True\n"
        service.told("kill", "-CONT", *others)
        tells = partial(_tells, service, number, process, before)
        service.until(tells, f"what worker {number} tells")


def _tells(box: Box, number: int, process: str, since: str) -> bool:
    """Whether a worker has told of either session, in lines that are marked as its own."""
    lines = [line for line in journal(box, "bascule", since) if line["_PID"] == process]
    for line in lines:
        assert f"worker={number}" in line["MESSAGE"].split()
        assert line["SYSLOG_IDENTIFIER"] == "bascule"
    ended = [line for line in lines if line["MESSAGE"].startswith("session ended ")]
    return sorted(line["PRIORITY"] for line in ended) == ["4", "6"]


def test_all_take_up_another_conf(service: Box) -> None:
    workers = running(service)
    conf = service.shared / "bascule.toml"
    text = conf.read_text()
    conf.write_text(text + MORE)
    service.told("systemctl", "reload", "bascule")
    for process in workers.values():
        service.told("kill", "-STOP", process)
        assert greeted(service, 5322)
        service.told("kill", "-CONT", process)
    conf.write_text("colour = 1\n")
    assert service.run("systemctl", "reload", "bascule").returncode != 0
    assert service.property("bascule", "ActiveState") == "active"
    assert greeted(service, 5322)
    assert running(service) == workers


def test_a_worker_that_is_killed_comes_back_and_systemd_need_not_care(service: Box) -> None:
    workers = running(service)
    main = supervisor(service)
    before = now(service)
    service.told("kill", "-KILL", workers[1])
    service.until(lambda: len(running(service)) == WORKERS, "the other worker")
    assert running(service)[1] != workers[1]
    assert running(service)[2] == workers[2]
    assert supervisor(service) == main
    assert service.property("bascule", "ActiveState") == "active"
    assert service.property("bascule", "NRestarts") == "0"
    [line] = [
        line
        for line in journal(service, "bascule", before)
        if line["MESSAGE"].startswith("worker ended: killed by signal 9 worker=1 ")
    ]
    assert (line["_PID"], line["PRIORITY"]) == (main, "3")


@pytest.mark.usefixtures("_watched")
@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_without_its_supervisor_the_service_begins_anew_on_the_same_socket(
    service: Box, number: str
) -> None:
    """Killed, or stuck for longer than systemd's watchdog waits."""
    workers = running(service)
    opened = service.property("bascule.socket", "ActiveEnterTimestampMonotonic")
    service.told("kill", f"-{number}", supervisor(service))
    service.until(lambda: service.property("bascule", "NRestarts") == "1", "the restart")
    # Whoever connects waits in the socket until the service is back.
    assert greeted(service, 5222)
    service.until(lambda: service.property("bascule", "ActiveState") == "active", "the service")
    assert service.property("bascule", "NRestarts") == "1"
    assert service.property("bascule.socket", "ActiveEnterTimestampMonotonic") == opened
    assert not any(is_there(service, process) for process in workers.values())
    assert len(running(service)) == WORKERS


def test_a_stop_ends_the_sessions_of_all_and_then_all(service: Box) -> None:
    workers = running(service)
    with service.begin(PYTHON, "-c", STAY) as stays:
        assert stays.stdout is not None
        assert stays.stdout.readline() == "begun\n"
        before = now(service)
        service.told("systemctl", "stop", "bascule")
        assert stays.communicate(timeout=60)[0] == "True\n"
    assert service.property("bascule", "Result") == "success"
    assert service.property("bascule", "ExecMainStatus") == "0"
    assert not any(is_there(service, process) for process in workers.values())
    said = [line["MESSAGE"] for line in journal(service, "bascule", before)]
    for number in workers:
        assert any(line.startswith(f"worker ended: exit code 0 worker={number} ") for line in said)
    assert not [line for line in said if "Killing process" in line]


def test_a_restart_with_sockets_of_systemd_refuses_nobody(service: Box) -> None:
    crowd = service.begin(PYTHON, "-c", CROWD)
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "begun\n"
    service.told("systemctl", "restart", "bascule")
    told, _ = crowd.communicate(timeout=60)
    ended, refused = map(int, told.split())
    assert refused == 0
    # Whoever was connected when a worker stopped was told so.
    assert ended <= WORKERS
