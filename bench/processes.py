"""The processes of a benchmark: bound to a processor, ready when they listen, ended at the end."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench.errors import BenchError
from bench.ground import BUILD, ROOT

START_SECONDS = 15.0
END_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Running:
    """A process that was started here.

    Attributes:
        name: For messages and for its log file.
        process: The process itself.
        log: What it said.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def family(self) -> list[int]:
        """The numbers of the process and of all its descendants."""
        found = [self.process.pid]
        for number in found:
            for children in Path(f"/proc/{number}/task").glob("*/children"):
                try:
                    found += [int(child) for child in children.read_text().split()]
                except OSError:
                    continue
        return found

    def last_words(self) -> str:
        """The last line that it said."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def raise_file_limit() -> None:
    """Lets the processes started here have as many sockets open as this user may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def running(
    name: str, command: Sequence[str], processor: int, ports: set[int]
) -> Iterator[Running]:
    """Runs a command on one processor until the block is left.

    Args:
        name: What to call it.
        command: The program and its arguments.
        processor: The processor it is bound to.
        ports: Where it must accept connections before the block is entered.

    Raises:
        BenchError: It ended, or does not listen after `START_SECONDS`.
    """
    log = BUILD / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(processor), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    one = Running(name, process, log)
    try:
        for port in ports:
            _wait_until_listening(one, port)
        yield one
    finally:
        _end(process)


def _wait_until_listening(one: Running, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if one.process.poll() is not None:
            raise BenchError(f"{one.name} does not start: {one.last_words()}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"{one.name} does not listen on port {port}: {one.last_words()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def processor_seconds(number: int) -> float:
    """The processor time of a process and all its threads so far; 0 if it has ended."""
    # The kernel's clock number of another process's processor time (clock_getcpuclockid).
    try:
        return time.clock_gettime((~number << 3) | 2)
    except OSError:
        return 0.0


def own_seconds() -> float:
    """The processor time of this process and of those it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def busy_seconds() -> float:
    """How long all processors together have been busy since the machine's start.

    Of a virtual machine, the time that its host has kept from it counts too: others were busy.
    """
    first = Path("/proc/stat").read_text().split("\n", 1)[0]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, first.split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / TICKS
