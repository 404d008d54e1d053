"""The daemon as a process whose insides a test prepares before it begins."""

import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509

from tests.authority import Authority
from tests.net.front import DOMAIN, Front
from tests.servers.bascule import Served

LOOKS: Final = """
import proxy.daemon.file_watch
proxy.daemon.file_watch.INTERVAL = 0.5
"""
"""Has it look at certificates twice a second."""

COUNTS: Final = """
import collections, gc, json, os, signal, sys

def count(_signal, _frame):
    gc.collect()
    counted = collections.Counter()
    for each in gc.get_objects():
        kind = type(each)
        if kind.__module__.split(".")[0] in ("proxy", "plugins", "OpenSSL"):
            counted[f"{kind.__module__}.{kind.__qualname__}"] += 1
    place = os.environ["BASCULE_COUNTS"]
    with open(place + ".new", "w") as written:
        json.dump(counted, written)
    os.rename(place + ".new", place)

signal.signal(signal.SIGUSR2, count)
"""
"""Has it count its objects, by class, whenever it gets SIGUSR2."""

_RUN: Final = """
import sys
from proxy.daemon.cli import main
sys.exit(main())
"""


def house(directory: Path, workers: int) -> dict[str, object]:
    """Return the table of a conf that says where its state is, and how many workers there are."""
    return {
        "state_directory": str(directory),
        "control_socket": f"{directory}/control",
        "workers": workers,
    }


def renew(place: Path, authority: Authority) -> int:
    """Replace certificate and key by renaming; return the new serial number."""
    pair = authority.issue(DOMAIN)
    for path, name in zip(pair, ("crt", "key"), strict=True):
        shutil.copy(path, place / "new")
        (place / "new").rename(place / name)
    return x509.load_pem_x509_certificate(pair[0].read_bytes()).serial_number


class Prepared(Front):
    """A Bascule that runs some lines before it begins.

    Args:
        directory: its state.
        domain: what it serves.
        lines: Python, such as `LOOKS` or `COUNTS`.
        tables: what else stands in its conf.
    """

    def __init__(
        self,
        directory: Path,
        domain: Served,
        lines: str,
        tables: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self._counts = directory / "counts.json"
        environment = {"BASCULE_COUNTS": str(self._counts)}
        super().__init__(directory, [domain], tables=tables, environment=environment)
        self._lines = lines

    def launch(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> None:
        # What would run the command runs the lines before it.
        started = (sys.executable, "-c", self._lines + _RUN, *arguments[1:])
        super().launch(*started, environment=environment, terminal=terminal)

    def descriptors(self) -> Counter[str]:
        """Return how many descriptors of each kind it has open: ``socket``, or what file."""
        kinds: Counter[str] = Counter()
        for each in Path(f"/proc/{self.process_id}/fd").iterdir():
            with suppress(FileNotFoundError):  # it has been closed meanwhile
                kinds[str(each.readlink()).partition(":[")[0]] += 1
        return kinds

    def objects(self) -> Counter[str]:
        """Return how many objects it has that the collector knows, by class; see `COUNTS`."""
        self._counts.unlink(missing_ok=True)
        self.processes[0].send_signal(signal.SIGUSR2)
        end = time.monotonic() + 60
        while not self._counts.exists():
            assert self.alive()
            assert time.monotonic() < end, "it does not count"
            time.sleep(0.02)
        return Counter(json.loads(self._counts.read_text()))
