"""Programs that a test starts and stops: real servers, and the daemon itself."""

import contextlib
import functools
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

HOST = "127.0.0.1"

RUNNING: list["Program"] = []
"""Programs that run now, for the report of a test that failed."""


_PORTS = range(20_000, 30_000)
"""Below the ports that Linux gives to outgoing connections, which could take one meanwhile."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 on which nothing listens, a different one each time."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            _given.add(port)
            return port


_given: set[int] = set()


@attrs.frozen
class Way:
    """How one server authenticated itself to another.

    Attributes:
        sender: the domain that opened the stream.
        receiver: the domain that it was opened to.
        mechanism: ``EXTERNAL`` or ``dialback``.
    """

    sender: str
    receiver: str
    mechanism: str


class Program(ABC):
    """Some processes that make up one server on 127.0.0.1.

    Args:
        name: what a report calls it.
        directory: state, configuration and log; made if it does not exist.
        ports: where it listens when it is ready.
    """

    def __init__(self, name: str, directory: Path, ports: Sequence[int]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.directory = directory
        self.ports = tuple(ports)
        self.log_path = directory / f"{name}.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log_start = 0

    @abstractmethod
    def start(self) -> None:
        """Start and return when every port accepts connections.

        Raises:
            RuntimeError: if it leaves, or does not listen within thirty seconds.
        """

    def launch(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> None:
        """Start one process of it, its output at the end of the log, or all of it at a terminal."""
        if not self.processes:
            self._log_start = len(self.whole_log())
        with self.log_path.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL if terminal is None else terminal,
                    stdout=log if terminal is None else terminal,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            )
        if self not in RUNNING:
            RUNNING.append(self)

    def wait_until_ready(self, *ports: int, seconds: float = 30) -> None:
        """Return when `ports`, or all of its ports, accept connections.

        Raises:
            RuntimeError: if a process leaves or the time is up; the message ends with the log.
        """
        for port in ports or self.ports:
            self._wait(functools.partial(listens, port), f"no port {port}", seconds)

    def wait_for_log(self, text: str, *, seconds: float = 30) -> None:
        """Return when `text` stands in its log of this start.

        Raises:
            RuntimeError: if a process leaves or the time is up; the message ends with the log.
        """
        self._wait(
            lambda: text in self.whole_log()[self._log_start :], f"its log lacks {text!r}", seconds
        )

    def _wait(self, ready: Callable[[], bool], complaint: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not ready():
            gone = [each for each in self.processes if each.poll() is not None]
            if gone or time.monotonic() > end:
                why = f"exit status {gone[0].returncode}" if gone else complaint
                log = self.log_text()
                self.stop()
                raise RuntimeError(f"{self.name} did not start ({why}):\n{log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask its own processes to end, last started first; kill those that do not in ten seconds.

        Nothing happens if it is not running.
        """
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        if self in RUNNING:
            RUNNING.remove(self)

    def log_text(self, characters: int = 4000) -> str:
        """Return the last `characters` of its log."""
        return self.whole_log()[-characters:]

    def whole_log(self) -> str:
        """Return its log, from its first start on."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="replace")

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()


def listens(port: int) -> bool:
    """Tell whether something accepts connections on a port of 127.0.0.1."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
