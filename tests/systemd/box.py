"""A container with a systemd of its own: this machine's files under a layer that is thrown away."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
PROGRAMS = ("systemd-nspawn", "nsenter", "unshare", "mount")

_BOOT_SECONDS = 30
_LAYER = """\
set -e
mount -t tmpfs bascule-box "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1"
shift
exec "$@"
"""
_PROGRAM = """\
#!/opt/bascule/bin/python
import sys

sys.path.insert(0, "/opt/bascule/source")
from proxy.daemon.cli import main

sys.exit(main())
"""


class BoxError(Exception):
    """The container does not run; the message says why."""


class Box:
    """A container without a network, Bascule installed as the guide says.

    ``shared`` is a directory that both sides see; in the container it is ``/etc/bascule``.

    Args:
        directory: what the container is made of.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.shared = directory / "etc"
        self.shared.mkdir()
        self._console = directory / "console"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def start(self) -> None:
        """Boot.

        Raises:
            BoxError: that cannot be done here.
        """
        layer = self._directory / "layer"
        layer.mkdir()
        program = self._installed()
        binds = {
            self.shared: "/etc/bascule",
            program: "/opt/bascule",
            Path(sys.prefix) / "lib": "/opt/bascule/lib",
            ROOT: "/opt/bascule/source",
        }
        binds |= {unit: f"/etc/systemd/system/{unit.name}" for unit in UNITS.glob("bascule*.*")}
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _LAYER, "sh"]
        command += [str(layer), "systemd-nspawn", "--quiet", "--register=no", "--keep-unit"]
        command += ["--private-network", "--directory=root", "--console=pipe", "--boot"]
        command += [f"--bind{_ro(path, self.shared)}={path}:{to}" for path, to in binds.items()]
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [*command, "systemd.unit=basic.target"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_for_boot()

    def _installed(self) -> Path:
        """Make what the guide installs in /opt/bascule, apart from what is bound there."""
        program = self._directory / "opt"
        for name in ("bin", "lib", "source"):
            (program / name).mkdir(parents=True)
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", program)
        (program / "bin/python").symlink_to(Path(sys.executable).resolve())
        (program / "bin/bascule").write_text(_PROGRAM)
        (program / "bin/bascule").chmod(0o755)
        return program

    def _wait_for_boot(self) -> None:
        process = self._process
        assert process is not None
        end = time.monotonic() + _BOOT_SECONDS
        while process.poll() is None and time.monotonic() < end:
            self._leader = self._leader or _first_process(process.pid)
            if self._leader and self.run("systemctl", "is-active", "basic.target").returncode == 0:
                return
            time.sleep(0.1)
        said = self._console.read_text(errors="replace").strip().rpartition("\n")[2]
        self.stop()
        raise BoxError(f"no container boots here: {said}")

    def run(self, *command: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end."""
        return subprocess.run(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def begin(self, *command: str) -> "subprocess.Popen[str]":
        """Begin a command inside; it can be written to, and read from, while it runs."""
        return subprocess.Popen(
            self._inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", "--target", str(self._leader), "--all", "--", *command]

    def told(self, *command: str) -> str:
        """Run a command inside that must go well; return what it says."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def property(self, unit: str, name: str) -> str:
        """Return a property that ``systemctl show`` has."""
        return self.told("systemctl", "show", unit, "--value", f"--property={name}").strip()

    def journal(self) -> str:
        """Return the end of the journal, for a test that failed."""
        return self.run("journalctl", "--boot", "--no-pager", "--lines=40").stdout

    def until(self, true: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Return when something is true inside."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what} did not come about:\n{self.journal()}"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, at once: nothing in it is worth an orderly end."""
        process, self._process = self._process, None
        if process is None:
            return
        # With the first process inside all others end, and then what has started it.
        leader = self._leader or _first_process(process.pid)
        os.kill(leader or process.pid, signal.SIGKILL)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        """Boot."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()


def lack() -> str | None:
    """Say why no container can run here; None if one may."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    python = Path(sys.executable).resolve()
    if not python.is_relative_to("/usr"):
        return f"the service does not see the Python of this environment, {python}"
    return None


def _ro(path: Path, writable: Path) -> str:
    return "" if path == writable else "-ro"


def _first_process(nspawn: int) -> int:
    """Return the process of this machine that is the first one inside; 0 if there is none yet."""
    try:
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        for child in children:
            status = Path(f"/proc/{child}/status").read_text()
            [inside] = [line for line in status.splitlines() if line.startswith("NSpid:")]
            if inside.split()[-1] == "1":
                return int(child)
    except OSError:
        return 0
    return 0
