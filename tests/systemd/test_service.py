"""The units do what they promise, under a real systemd."""

import json
import time
from functools import partial
from typing import Any

import pytest

from tests.systemd.box import Box
from tests.systemd.conftest import CONF, write

PYTHON = "/opt/bascule/bin/python"
GREET = """\
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/bascule/ca.crt")
context.set_alpn_protocols(["xmpp-client"])
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as connection:
    with context.wrap_socket(connection, server_hostname="example.com") as secured:
        print(secured.version())
"""
CROWD = """\
import select, socket, sys, time
header = (
    b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams'>"
)
met = {"answered": 0, "ended": 0, "refused": 0}
enough = None
while enough is None or met["answered"] < enough:
    if enough is None and select.select([sys.stdin], [], [], 0)[0]:
        enough = met["answered"] + 10
    try:
        with socket.create_connection(("127.0.0.1", 5222), timeout=20) as connection:
            connection.sendall(header)
            said = b""
            while b"</stream:features>" not in said and (more := connection.recv(4096)):
                said += more
    except ConnectionResetError:
        met["ended"] += 1
    except OSError:
        met["refused"] += 1
    else:
        answered = b"<starttls" in said
        met["answered" if answered else "ended"] += 1
        if answered and met["answered"] == 1:
            print("begun", flush=True)
    time.sleep(0.005)
print(met["ended"], met["refused"])
"""
"""Connects again and again, until ten are answered after its input has ended."""

REDIRECTED = """\
[[listener]]
name = "redirected"
direction = "forward"
stream = "c2s"
address = "systemd:c2s"
domains = ["*"]
destination = "original"
tproxy = true
"""


def greeted(box: Box, port: int) -> bool:
    return box.told(PYTHON, "-c", GREET, str(port)).strip() == "TLSv1.3"


def journal(box: Box, unit: str, since: str) -> list[dict[str, Any]]:
    """What a unit has written since a moment that `now` returned."""
    box.told("journalctl", "--sync")
    told = box.told("journalctl", f"--unit={unit}", "--output=json", f"--after-cursor={since}")
    return [json.loads(line) for line in told.splitlines() if line.startswith("{")]


def now(box: Box) -> str:
    box.told("journalctl", "--sync")
    last = box.told("journalctl", "--lines=1", "--show-cursor", "--quiet").splitlines()[-1]
    return last.removeprefix("-- cursor: ")


def test_the_service_runs_hardened_with_keys_handed_over(box: Box) -> None:
    write(box, "127.0.0.1:5222")
    before = now(box)
    box.told("systemctl", "start", "bascule")
    assert greeted(box, 5222)
    assert box.property("bascule", "ActiveState") == "active"
    assert box.property("bascule", "StatusText") == "0 sessions"
    assert box.property("bascule", "NoNewPrivileges") == "yes"
    pid = box.property("bascule", "MainPID")
    status = box.told("cat", f"/proc/{pid}/status")
    assert "CapEff:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
    assert "Uid:\t0" not in status
    assert box.told("stat", "--format=%a", "/var/lib/private/bascule").strip() == "700"
    assert box.told("readlink", "-f", "/var/lib/bascule").strip() == "/var/lib/private/bascule"
    box.told("test", "-S", "/run/bascule/control")
    # What root can check by hand meanwhile.
    box.told("/opt/bascule/bin/bascule", "check")
    lines = [line for line in journal(box, "bascule", before) if line.get("_PID") == pid]
    [listening] = [line for line in lines if line["MESSAGE"].startswith("listening ")]
    assert listening["PRIORITY"] == "6"
    assert listening["SYSLOG_IDENTIFIER"] == "bascule"
    assert listening["_SYSTEMD_UNIT"] == "bascule.service"
    assert "address=127.0.0.1:5222" in listening["MESSAGE"]
    before = now(box)
    box.told("systemctl", "kill", "--signal=HUP", "bascule")
    box.until(
        lambda: any(line["PRIORITY"] == "4" for line in journal(box, "bascule", before)),
        "a warning in the journal",
    )
    box.told("systemctl", "stop", "bascule")
    assert box.property("bascule", "Result") == "success"


@pytest.mark.usefixtures("_watched")
def test_a_stuck_process_is_started_anew(box: Box) -> None:
    write(box, "127.0.0.1:5222")
    box.told("systemctl", "start", "bascule")
    pid = box.property("bascule", "MainPID")
    fed = partial(box.property, "bascule", "WatchdogTimestampMonotonic")
    first = fed()
    box.until(lambda: fed() != first, "a word to the watchdog")
    assert box.property("bascule", "MainPID") == pid
    box.told("kill", "-STOP", pid)
    box.until(lambda: box.property("bascule", "NRestarts") == "1", "the restart")
    box.until(lambda: box.property("bascule", "ActiveState") == "active", "the start")
    assert box.property("bascule", "MainPID") not in (pid, "0")
    assert greeted(box, 5222)


def test_a_mistake_in_the_conf_waits_for_a_person(box: Box) -> None:
    (box.shared / "bascule.toml").write_text("colour = 1\n")
    before = now(box)
    assert box.run("systemctl", "start", "bascule").returncode != 0
    time.sleep(1)
    assert box.property("bascule", "ActiveState") == "failed"
    assert box.property("bascule", "ExecMainStatus") == "78"
    assert box.property("bascule", "NRestarts") == "0"
    said = [line["MESSAGE"] for line in journal(box, "bascule", before)]
    assert any(line.startswith("/etc/bascule/bascule.toml: colour: ") for line in said)


def test_a_restart_with_sockets_of_systemd_refuses_nobody(box: Box) -> None:
    write(box, "systemd:c2s")
    box.told("systemctl", "start", "bascule.socket", "bascule")
    crowd = box.begin(PYTHON, "-c", CROWD)
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "begun\n"
    for _ in range(2):
        time.sleep(0.3)
        box.told("systemctl", "restart", "bascule")
    told, _ = crowd.communicate(timeout=60)
    ended, refused = map(int, told.split())
    assert refused == 0
    # Whoever was connected when the service stopped was told so.
    assert ended <= 2


def test_the_first_connection_starts_the_service(box: Box) -> None:
    write(box, "systemd:c2s")
    box.told("systemctl", "start", "bascule.socket")
    assert box.property("bascule", "ActiveState") == "inactive"
    assert greeted(box, 5222)
    assert box.property("bascule", "ActiveState") == "active"


def test_sockets_have_names(box: Box) -> None:
    other = CONF.format(unit="bascule.service", address="systemd:c2s")
    other += 'tls = "direct"\n[[listener]]\nname = "more"\ndirection = "reverse"\n'
    other += 'stream = "c2s"\naddress = "systemd:s2s"\n'
    (box.shared / "bascule.toml").write_text(other)
    before = now(box)
    box.told("systemctl", "start", "bascule.socket", "bascule-s2s.socket", "bascule")
    lines = [line["MESSAGE"] for line in journal(box, "bascule", before)]
    listening = {line for line in lines if line.startswith("listening ")}
    assert {line.split("address=")[1] for line in listening} == {
        "[::]:5222 tls=direct",
        "[::]:5269 tls=required",
    }


def test_a_socket_that_is_missing_is_told(box: Box) -> None:
    write(box, "systemd:c2s")
    before = now(box)
    assert box.run("systemctl", "start", "bascule").returncode != 0
    assert box.property("bascule", "ExecMainStatus") == "78"
    said = " ".join(line["MESSAGE"] for line in journal(box, "bascule", before))
    assert "systemd has passed no socket named c2s" in said


def test_a_socket_for_any_destination_needs_no_capability(box: Box) -> None:
    drop_in = "/etc/systemd/system/bascule.socket.d"
    script = f"mkdir -p {drop_in} && printf '[Socket]\\nTransparent=yes\\n' > {drop_in}/any.conf"
    (box.shared / "bascule.toml").write_text(REDIRECTED)
    try:
        box.told("sh", "-c", script)
        box.told("systemctl", "daemon-reload")
        box.told("systemctl", "start", "bascule.socket", "bascule")
        pid = box.property("bascule", "MainPID")
        assert "CapEff:\t0000000000000000" in box.told("cat", f"/proc/{pid}/status")
    finally:
        box.told("rm", "-r", drop_in)
        box.told("systemctl", "daemon-reload")
        box.run("systemctl", "stop", "bascule.socket", "bascule")
    # Without it the service does not start, and says why.
    before = now(box)
    box.told("systemctl", "start", "bascule.socket")
    assert box.run("systemctl", "start", "bascule").returncode != 0
    said = " ".join(line["MESSAGE"] for line in journal(box, "bascule", before))
    assert "its unit must say Transparent=yes" in said


def test_instances_stand_side_by_side(box: Box) -> None:
    for port, name in ((5322, "one"), (5422, "two")):
        write(box, f"127.0.0.1:{port}", instance=name)
        box.told("systemctl", "start", f"bascule@{name}")
    assert greeted(box, 5322)
    assert greeted(box, 5422)
    users = set()
    for name in ("one", "two"):
        pid = box.property(f"bascule@{name}", "MainPID")
        users.add(box.told("stat", "--format=%u", f"/proc/{pid}"))
        box.told("test", "-d", f"/var/lib/bascule-{name}/")
        box.told("test", "-S", f"/run/bascule-{name}/control")
    assert len(users) == 2


def test_a_user_of_the_system_is_taken(box: Box) -> None:
    source = "/opt/bascule/source/systemd"
    box.told("systemd-sysusers", f"{source}/sysusers.d/bascule.conf")
    box.told("systemd-tmpfiles", "--create", f"{source}/tmpfiles.d/bascule.conf")
    assert box.told("stat", "--format=%a", "/etc/bascule/conf.d").strip() == "755"
    write(box, "127.0.0.1:5222")
    box.told("systemctl", "start", "bascule")
    pid = box.property("bascule", "MainPID")
    assert box.told("stat", "--format=%U", f"/proc/{pid}").strip() == "bascule"
    assert box.told("id", "--user", "bascule") == box.told("stat", "--format=%u", f"/proc/{pid}")
    assert greeted(box, 5222)
