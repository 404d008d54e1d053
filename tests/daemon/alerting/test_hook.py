"""The command, as a real process."""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock, deferLater

from proxy.daemon.alerting import hook
from proxy.daemon.alerting.hook import Hook, environment
from proxy.daemon.alerting.launch import DESCRIPTORS
from proxy.session.commands import Severity
from tests.daemon.alerting.made import Reports, run, told, until

STANDARD = (1 << 31) - 1
"""The signals that are not those of a C library or of programs' own making."""

Program = Callable[[str], tuple[str, ...]]


@pytest.fixture
def python(tmp_path: Path) -> Program:
    """Give the command that runs some lines of Python; ``sys.argv[1]`` is the test's directory."""

    def made(lines: str) -> tuple[str, ...]:
        path = tmp_path / "program.py"
        path.write_text(lines)
        return sys.executable, str(path), str(tmp_path)

    return made


def tell(command: tuple[str, ...], times: int = 1) -> Reports:
    """Tell of some alerts, and wait for the command to have ended as often as it began."""
    reports = Reports()

    async def scenario(reactor: Any) -> None:
        ours = Hook(command, reactor, reports)
        for _ in range(times):
            ours.tell(told())
        await until(reactor, lambda: not ours._running)

    run(scenario)
    return reports


class Slow:
    """A reactor on which no time passes but what a test lets pass."""

    def __init__(self, reactor: Any) -> None:
        self.spawnProcess = reactor.spawnProcess
        self.clock = Clock()
        self.callLater = self.clock.callLater


def is_alive(pid: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_it_gets_the_alert_its_arguments_and_little_else(
    python: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    monkeypatch.setenv("LANG", "C.UTF-8")
    command = python("""
import json, os, resource, signal, sys
from pathlib import Path
out = Path(sys.argv[1]) / "seen"
seen = {
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    "alert": json.loads(sys.stdin.read()),
    "arguments": sys.argv[2:],
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "leads": os.getsid(0) == os.getpid(),
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "ignored": [int(l.split()[1], 16) for l in open("/proc/self/status") if l[:6] == "SigIgn"],
}
out.write_text(json.dumps(seen))
""")
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        reports = tell((*command, "a b", "$(id)", "'"))
    finally:
        os.close(leaked)
    assert reports.lines == []
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["alert"] == json.loads(told().json())
    assert seen["arguments"] == ["a b", "$(id)", "'"]
    assert seen["cwd"] == "/"
    assert seen["leads"]
    assert seen["limit"] <= DESCRIPTORS
    assert set(seen["environment"]) <= {"PATH", "TZ", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE"}
    assert seen["environment"]["LANG"] == "C.UTF-8"
    assert seen["descriptors"] == [0, 1, 2, 3]  # the last one reads the directory
    # Python itself, which the program is, ignores SIGPIPE and SIGXFSZ; nothing else is ignored.
    own = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert [mask & STANDARD for mask in seen["ignored"]] == [own]


def test_a_shell_gets_no_ignored_signals(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ngrep SigIgn /proc/self/status > {tmp_path}/seen\n")
    script.chmod(0o755)
    assert tell((str(script),)).lines == []
    assert int((tmp_path / "seen").read_text().split()[1], 16) & STANDARD == 0


def test_the_path_is_there_where_we_have_none() -> None:
    assert "/usr/bin" in environment({"SECRET": "x"})["PATH"]
    assert environment({"PATH": "/x", "LC_TIME": "C", "HOME": "/root"}) == {
        "PATH": "/x",
        "LC_TIME": "C",
    }


@pytest.mark.parametrize(
    ("lines", "reason", "said"),
    [
        ("raise SystemExit(3)", "exit status 3", ""),
        (
            "import sys; sys.exit('first\\nno such\\x1b room\\n \\n')",
            "exit status 1",
            "no such\\x1b room",
        ),
        ("print('first'); print('second'); raise SystemExit(2)", "exit status 2", "second"),
        ("raise OSError('no route')", "exit status 1", "OSError: no route"),
        ("print('x' * 9000); print('end'); raise SystemExit(2)", "exit status 2", "end"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9", ""),
    ],
)
def test_a_command_that_fails_is_told_of_in_the_log(
    python: Program, lines: str, reason: str, said: str
) -> None:
    command = python(lines)
    fields = {"command": sys.executable, "reason": reason, "alerts": 1, "said": said}
    assert tell(command).lines == [(Severity.ERROR, "the command for alerts failed", fields)]


def test_a_command_that_succeeds_is_not_told_of_whatever_it_prints(python: Program) -> None:
    assert tell(python("print('done')")).lines == []


def test_a_command_that_cannot_be_run_is_told_of(tmp_path: Path) -> None:
    plain, garbage = tmp_path / "plain", tmp_path / "garbage"
    plain.write_text("#!/bin/sh\n")
    garbage.write_bytes(b"\x7fELF nonsense")
    garbage.chmod(0o755)
    said = [
        tell((str(path),)).lines[0][2]["said"]
        for path in (tmp_path / "missing", plain, garbage, tmp_path)
    ]
    assert said == [
        "it cannot be run: No such file or directory",
        "it cannot be run: Permission denied",
        "it cannot be run: Exec format error",
        "it cannot be run: Permission denied",
    ]


def test_no_process_at_all_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports()

    async def scenario(reactor: Any) -> None:
        def full(*_arguments: object, **_options: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(reactor, "spawnProcess", full)
        Hook(("/bin/true",), reactor, reports).tell(told())

    run(scenario)
    assert reports.reasons == ["no process: Resource temporarily unavailable"]


def test_a_command_that_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    script, pid = tmp_path / "hangs", tmp_path / "pid"
    script.write_text(f"#!/bin/sh\nsleep 300 & echo $! > {pid}.new; mv {pid}.new {pid}\nwait\n")
    script.chmod(0o755)
    reports = Reports()

    async def scenario(reactor: Any) -> None:
        slow = Slow(reactor)
        ours = Hook((str(script),), slow, reports)
        ours.tell(told())
        await until(reactor, pid.exists)
        slow.clock.advance(hook.SECONDS - 1)
        assert reports.lines == []
        slow.clock.advance(1)
        await until(reactor, lambda: not ours._running)
        await until(reactor, lambda: not is_alive(int(pid.read_text())))

    run(scenario)
    assert reports.reasons == ["it did not end within 30 seconds"]


def test_a_command_that_does_not_want_to_end_is_killed(python: Program, tmp_path: Path) -> None:
    """It is asked to end first, and what it has started does not want to end, either."""
    command = python("""
import os, signal, subprocess, sys, time
asked = sys.argv[1] + "/asked"
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"])
signal.signal(signal.SIGTERM, lambda *_: os.close(os.open(asked, os.O_CREAT)))
with open(sys.argv[1] + "/new", "w") as new:
    new.write(str(child.pid))
os.rename(sys.argv[1] + "/new", sys.argv[1] + "/pid")
time.sleep(300)
""")
    reports = Reports()

    async def scenario(reactor: Any) -> None:
        slow = Slow(reactor)
        ours = Hook(command, slow, reports)
        ours.tell(told())
        await until(reactor, (tmp_path / "pid").exists)
        child = int((tmp_path / "pid").read_text())
        slow.clock.advance(hook.SECONDS)
        await until(reactor, (tmp_path / "asked").exists)
        slow.clock.advance(hook.FAREWELL - 1)
        assert is_alive(child)
        assert ours._running
        slow.clock.advance(1)
        await until(reactor, lambda: not ours._running)
        await until(reactor, lambda: not is_alive(child))

    run(scenario)
    assert reports.reasons == ["it did not end within 30 seconds"]


def test_what_a_command_leaves_behind_does_not_hold_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that goes on in the background has our pipes, for longer than `tell` waits."""
    monkeypatch.setattr(hook, "LINGER", 0.2)
    script = tmp_path / "daemonises"
    script.write_text(f"#!/bin/sh\nsleep 300 & echo $! > {tmp_path}/pid\nexit 0\n")
    script.chmod(0o755)
    assert tell((str(script),)).lines == []
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_command_that_prints_without_end_finds_nobody_who_reads(python: Program) -> None:
    command = python("""
import signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
import os
while True:
    os.write(1, b"spam" * 16384)
""")
    reports = tell(command)
    assert reports.reasons == ["it printed more than 65536 bytes"]
    assert len(str(reports.lines[0][2]["said"])) <= hook.LONGEST_LINE


def test_a_command_that_does_not_read_its_input_is_fine(python: Program) -> None:
    big = told(fields={str(number): "x" * 4_000 for number in range(100)})
    reports = Reports()

    async def scenario(reactor: Any) -> None:
        ours = Hook(python("import os; os.close(0)"), reactor, reports)
        ours.tell(big)
        await until(reactor, lambda: not ours._running)

    run(scenario)
    assert reports.lines == []


def test_only_a_few_run_at_once_and_all_have_their_turn(python: Program, tmp_path: Path) -> None:
    command = python("""
import os, sys, time
at_once = sys.argv[1] + "/running"
os.makedirs(at_once, exist_ok=True)
mine = f"{at_once}/{os.getpid()}"
open(mine, "w").close()
time.sleep(0.2)
with open(sys.argv[1] + "/most", "a") as most:
    print(len(os.listdir(at_once)), file=most)
os.unlink(mine)
""")
    assert tell(command, times=6).lines == []
    counts = [int(line) for line in (tmp_path / "most").read_text().split()]
    assert len(counts) == 6
    assert max(counts) <= hook.AT_ONCE


def test_alerts_beyond_those_that_may_wait_are_told_of() -> None:
    reports = Reports()

    async def scenario(reactor: Any) -> None:
        ours = Hook(("/bin/sleep", "300"), reactor, reports)
        for _ in range(hook.AT_ONCE + hook.MOST_WAITING + 2):
            ours.tell(told())
        assert reports.reasons == ["too many wait for it already"] * 2
        ours.stop()
        await until(reactor, lambda: not ours._running)
        ours.tell(told())

    run(scenario)
    assert [fields["alerts"] for _, _, fields in reports.lines[2:3]] == [hook.MOST_WAITING]
    assert reports.reasons[2] == "Bascule stops"
    assert reports.reasons[3:-1] == ["ended by signal 15"] * hook.AT_ONCE
    assert reports.reasons[-1] == "Bascule stops"


def test_the_reactor_goes_on_meanwhile(tmp_path: Path) -> None:
    """The command ends when the reactor has gone on, and not before."""
    go = tmp_path / "go"
    waiting = f"while [ ! -e {go} ]; do sleep 0.05; done"

    async def scenario(reactor: Any) -> None:
        ours = Hook(("/bin/sh", "-c", waiting), reactor, Reports())
        ours.tell(told())
        await deferLater(reactor, 0.1)
        assert ours._running
        go.touch()
        await until(reactor, lambda: not ours._running)

    run(scenario)
