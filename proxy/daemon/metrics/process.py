"""What the system knows of this process: processor time, memory, descriptors.

`prometheus_client` can tell the same, but lists every descriptor to count them, which takes as long
as a hundred messages where there are many sessions.
"""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.daemon.metrics.families import DESCRIPTORS, MAX_FDS, OPEN_FDS
from proxy.daemon.metrics.snapshot import Labels, Numbers

COUNTED_EVERY: Final = 60.0
"""Seconds for which a number of descriptors holds, where Linux (before 6.2) does not keep it."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = resource.getpagesize()


class Process:
    """This process.

    Args:
        proc: where the system's files about processes are.
        clock: tells the time, in seconds.
    """

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._counted: tuple[float, int] | None = None

    def values(self) -> dict[str, dict[Labels, Numbers]]:
        """Return values of the metrics of a process.

        Raises:
            OSError, ValueError: The system does not tell.
        """
        # Behind the name of the program, which may have anything in it.
        fields = (self._proc / "self/stat").read_bytes().rpartition(b")")[2].split()
        user, system, started = (int(fields[place]) / _TICKS for place in (11, 12, 19))
        opened = self._descriptors()
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        values = {
            "process_cpu_seconds_total": user + system,
            "process_resident_memory_bytes": int(fields[21]) * _PAGE,
            "process_virtual_memory_bytes": int(fields[20]),
            "process_start_time_seconds": started + self._boot(),
            OPEN_FDS: opened,
        }
        if allowed != resource.RLIM_INFINITY:
            values |= {MAX_FDS: allowed, DESCRIPTORS.name: opened / allowed}
        return {name: {(): (float(value),)} for name, value in values.items()}

    def _descriptors(self) -> int:
        """How many descriptors are open."""
        directory = self._proc / "self/fd"
        known = directory.stat().st_size
        if known:
            return known
        now = self._clock()
        if self._counted is None or now - self._counted[0] >= COUNTED_EVERY:
            self._counted = (now, len(os.listdir(directory)))  # noqa: PTH208 - names are enough
        return self._counted[1]

    def _boot(self) -> float:
        """When the machine was started, in seconds since 1970."""
        for line in (self._proc / "stat").read_bytes().split(b"\n"):
            name, _, value = line.partition(b" ")
            if name == b"btime":
                return float(value)
        raise ValueError("the system does not say when it was started")
