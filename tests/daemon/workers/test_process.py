"""What a worker is started with: a channel and nothing else, and no code of strangers."""

import datetime as dt
import json
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon.exits import Exit
from proxy.daemon.workers.channel import VERSION
from proxy.trust.keyring.database import FILE_NAME
from tests.authority import Authority
from tests.daemon.workers.running import SECONDS, WORKERS, comes, is_gone, running, settled, table
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, free_port

CHANNEL = 3

SUPERVISOR = """\
import os, signal, sys
import proxy.daemon.workers.crew as crew
import proxy.daemon.workers.supervisor as supervisor
sys.executable = sys.argv.pop(1)
supervisor.GRACE = float(sys.argv.pop(1))
crew._DYING = 600.0

class Hasty(crew.Crew):
    def want(self, number):
        signal.signal(signal.SIGUSR2, lambda *_: self._reactor.callFromThread(self.look_often))
        return super().want(number)

    def look_often(self):
        self._looking.stop()
        self._looking.start(1.0, now=False)

supervisor.Crew = Hasty
os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
from proxy.daemon.cli import main
sys.exit(main())
"""
"""Starts its workers by another program, waits for their end for another time, and has a descriptor
that whatever it starts would inherit.

SIGUSR2 has it look after them every second: not before they have begun, which may take its time.
One that dies is never too slow in it to be shown where it was.
"""

TELLING = """\
import json, os, sys
file, program, *arguments = sys.argv[1:]
descriptors = {}
for each in os.listdir("/proc/self/fd"):
    try:
        descriptors[each] = os.readlink(f"/proc/self/fd/{each}")
    except FileNotFoundError:  # that by which the directory was read
        pass
part = f"{file}.part{os.getpid()}"  # several may write at the same time
with open(part, "w") as told:
    json.dump([arguments, dict(os.environ), descriptors], told)
os.rename(part, f"{file}.{os.getpid()}")
place = arguments.index("-c") + 1
arguments[place] = f'''
import importlib.metadata, os, signal
if os.path.exists("{file}.version"):
    true = importlib.metadata.version
    importlib.metadata.version = lambda name: "99.0" if name == "bascule" else true(name)

def loop(*_):
    while True:
        pass
signal.signal(signal.SIGUSR1, loop)
''' + arguments[place]
os.execv(program, [program, *arguments])
"""
"""Tells what it was started with, then becomes what was meant: a worker, which SIGUSR1 hangs up.

It is of another version once there is a file that wants it so.
"""

TRAP = "raise SystemExit('the code of a stranger has run')\n"


@attrs.frozen
class Told:
    """What a worker was started with.

    Attributes:
        arguments: of its interpreter.
        environment: its variables.
        descriptors: what each of its descriptors is.
    """

    arguments: list[str]
    environment: dict[str, str]
    descriptors: dict[str, str]


class Begun(Front):
    """A Bascule whose workers tell what they were started with.

    Args:
        directory: its state, and where it runs.
        legacy: the server behind it.
        pair: the certificate of the domain, with its private key.
        isolated: whether its interpreter is, as that of a package is.
        grace: seconds that workers may take for nothing, twice, when they end.
        tables: what else stands in the conf.
        environment: variables for the daemon.
    """

    def __init__(
        self,
        directory: Path,
        legacy: LegacyServer,
        pair: tuple[Path, Path],
        *,
        isolated: bool = False,
        grace: float = 5.0,
        tables: dict[str, dict[str, object]] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        all_tables = table(directory) | (tables or {})
        domains = [served(legacy, [pair])]
        super().__init__(directory, domains, tables=all_tables, environment=environment)
        self._isolation = "-I" if isolated else "-P"
        self._grace = str(grace)

    def start(self) -> None:
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start, and wait for nothing."""
        self.write()
        told = self.directory / "told"
        telling = self.directory / "telling"
        script = f'exec {sys.executable} -I {telling}.py {told} {sys.executable} "$@"\n'
        telling.write_text(f"#!/bin/sh\n{script}")
        telling.chmod(0o755)
        telling.with_suffix(".py").write_text(TELLING)
        python = (sys.executable, self._isolation, "-c", SUPERVISOR)
        conf = self.configuration_path
        self.launch(*python, telling, self._grace, "run", "-c", conf)

    def told(self) -> dict[int, Told]:
        """Return what each worker that there ever was told, by its process."""
        return {
            int(path.suffix[1:]): Told(*json.loads(path.read_text()))
            for path in self.directory.glob("told.[0-9]*")
        }


Begins = Callable[..., Begun]


@pytest.fixture
def begins(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> Iterator[Begins]:
    """Make a Bascule that is stopped when the test ends."""
    made: list[Begun] = []

    def begin(*, ready: bool = True, **more: Any) -> Begun:
        pair = more.pop("pair", None) or authority.issue(DOMAIN)
        front = Begun(tmp_path, legacy, pair, **more)
        made.append(front)
        if ready:
            front.start()
        else:
            front.begin()
        return front

    try:
        yield begin
    finally:
        for each in made:
            each.stop()


def variables(process: int) -> dict[str, str]:
    """Return those that a process was started with."""
    parts = Path(f"/proc/{process}/environ").read_text().split("\0")
    return {name: value for name, _, value in (each.partition("=") for each in parts if each)}


def test_a_worker_is_handed_its_channel_and_nothing_else(begins: Begins) -> None:
    ours = {
        "LISTEN_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "c2s",
        "NOTIFY_SOCKET": "/nonexistent/notify",
        "WATCHDOG_USEC": "20000000",
    }
    front = begins(environment=ours)
    settled(front)
    assert len(front.told()) == WORKERS
    main = Path(f"/proc/{front.process_id}/fd")
    kept = variables(front.process_id)
    assert ours.items() <= kept.items()
    for told in front.told().values():
        assert sorted(told.descriptors) == ["0", "1", "2", str(CHANNEL)]
        for number in ("0", "1", "2"):
            assert told.descriptors[number] == str((main / number).readlink())
        assert told.descriptors[str(CHANNEL)].startswith("socket:")
        assert not ours.keys() & told.environment.keys()
        # Nor is there anything new, such as a secret; the shell and the interpreter may add these.
        assert told.environment.items() - kept.items() <= {
            ("PWD", str(front.directory)),
            ("LC_CTYPE", "C.UTF-8"),
        }
        isolation, dash, begin, *path = told.arguments
        assert (isolation, dash) == ("-P", "-c")
        assert begin.startswith("import sys; ")
        assert all(Path(each).is_absolute() for each in path)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_worker_runs_no_code_that_its_supervisor_would_not(
    begins: Begins, tmp_path: Path, isolated: bool
) -> None:
    """Neither what lies where it was started, nor, isolated, what the environment names."""
    for name in ("json", "twisted", "proxy", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    front = begins(isolated=isolated, environment={"PYTHONPATH": str(tmp_path)} if isolated else {})
    settled(front)
    assert "the code of a stranger" not in front.log()
    assert {told.arguments[0] for told in front.told().values()} == {"-I" if isolated else "-P"}


def test_a_worker_that_hangs_is_replaced_and_the_log_shows_where(
    begins: Begins, authority: Authority
) -> None:
    front = begins()
    before = settled(front)
    os.kill(before[1], signal.SIGUSR1)
    front.processes[0].send_signal(signal.SIGUSR2)
    comes(lambda: running(front).get(1) not in (None, before[1]))
    assert running(front)[2] == before[2]
    log = front.log()
    assert f"worker is stuck, and is ended worker=1 pid={before[1]}" in log
    assert " in loop\n" in log
    assert f"worker ended: killed by signal 6 worker=1 pid={before[1]} again_in=0.1" in log
    with logged_in(front.port, authority.ca_path):
        pass


def test_a_worker_that_hangs_does_not_hold_up_the_end_of_all(begins: Begins) -> None:
    front = begins(grace=1.0, tables={"deadlines": {"drain": 1}})
    before = settled(front)
    os.kill(before[2], signal.SIGUSR1)
    front.processes[0].send_signal(signal.SIGTERM)
    assert front.processes[0].wait(SECONDS) == 0
    log = front.log()
    assert f"worker is stuck, and is ended worker=2 pid={before[2]}" in log
    assert f"worker ended: killed by signal 6 worker=2 pid={before[2]}" in log
    assert all(map(is_gone, before.values()))


def test_workers_that_cannot_begin_end_the_start_with_their_reason(
    begins: Begins, tmp_path: Path
) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no keyring" * 1000)
    (tmp_path / FILE_NAME).chmod(0o600)
    tables: dict[str, dict[str, object]] = {
        "[policy]": {"domain": "*", "level": "keyring"},
        "[listener]": {
            "name": "out",
            "direction": "forward",
            "stream": "c2s",
            "address": f"{HOST}:{free_port()}",
            "domains": ["*"],
        },
    }
    front = begins(tables=tables, ready=False)
    assert front.processes[0].wait(SECONDS) == Exit.CONFIG
    log = front.log()
    assert re.search(r" error worker [12] could not begin: the keyring \S+ is damaged, or ", log)
    assert "Traceback" not in log
    assert all(map(is_gone, front.told()))


def test_no_worker_of_another_version_begins(
    begins: Begins, authority: Authority, tmp_path: Path
) -> None:
    """Another one was installed, and the service not restarted yet."""
    front = begins()
    before = settled(front)
    (tmp_path / "told.version").touch()
    os.kill(before[1], signal.SIGKILL)
    text = f"worker ended: version 99.0 is installed, {VERSION} runs: restart the service"
    comes(lambda: text in front.log())
    assert running(front) == {2: before[2]}
    with logged_in(front.port, authority.ca_path):
        pass
    (tmp_path / "told.version").unlink()
    assert settled(front)[2] == before[2]


def test_one_worker_runs_the_command_for_alerts_and_another_one_after_it(
    begins: Begins, authority: Authority, tmp_path: Path
) -> None:
    """A certificate that ends soon is told of when a worker begins to speak."""
    command, said = tmp_path / "command", tmp_path / "said"
    command.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        alert=$(cat)
        printf '%s %s %s\\n' "$PPID" "$(env | grep -c -e NOTIFY -e BASCULE)" "$alert" >>{said}
        """)
    )
    command.chmod(0o755)

    def lines() -> list[list[str]]:
        text = said.read_text() if said.exists() else ""
        return [line.split(" ", 2) for line in text.splitlines()]

    front = begins(
        pair=authority.issue(DOMAIN, not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=3)),
        tables={"alerts": {"command": [str(command)]}},
        environment={"NOTIFY_SOCKET": "/nonexistent/notify", "BASCULE_TEST": "x"},
    )
    before = settled(front)
    comes(partial(lambda number: len(lines()) == number, 1))
    [(parent, inherited, alert)] = lines()
    speaker = {process: number for number, process in before.items()}[int(parent)]
    assert inherited == "0"
    assert json.loads(alert)["kind"] == "expiry"
    os.kill(before[speaker], signal.SIGKILL)
    comes(partial(lambda number: len(lines()) == number, 2))
    other = next(process for number, process in before.items() if number != speaker)
    assert lines()[1][0] == str(other)
    settled(front)
    assert len(lines()) == 2
