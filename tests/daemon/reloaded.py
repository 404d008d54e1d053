"""Daemons whose conf and files a test changes while they run."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self
from unittest import mock

from twisted.internet.threads import blockingCallFromThread

from proxy.daemon.control.facts import Reloaded
from proxy.daemon.reloading import ConfFile
from proxy.daemon.service import Service
from tests.net import in_process
from tests.net.forward import Logged
from tests.net.front import Front

BASCULE = Path(sys.executable).with_name("bascule")
LOOKS = 0.2
"""Seconds between looks at files."""

SECONDS = 60.0
"""Enough for anything that comes at all."""


class Changing(Logged):
    """The service on a reactor of its own in a thread; it looks at its files very often.

    Args:
        path: where its conf goes.
        written: its conf.
        looks: seconds between looks.
    """

    def __init__(self, path: Path, written: str, looks: float = LOOKS) -> None:
        self.path = path
        # Wherever it is made, it knows its file.
        making = partial(Service, source=ConfFile(path.absolute()), interval=looks)
        self._making = mock.patch.object(in_process, "Service", making)
        self._making.start()
        try:
            super().__init__(path, written)
        except BaseException:
            self._making.stop()
            raise

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        finally:
            self._making.stop()

    @property
    def service(self) -> Service:
        return self._service

    def look(self, times: int = 3) -> None:
        """Have it look at its files some times, and see to what it finds there."""
        watch = self._service._renewal.watch
        looks = list[Any]()  # those that are to come, and the last one is being waited for

        def is_over() -> bool:
            due = watch._next  # None while it sees to what it has found
            if due is not None and due not in looks:
                looks.append(due)
                due.reset(0)
            return len(looks) > times

        end = time.monotonic() + SECONDS
        while not self.call(is_over):
            assert time.monotonic() < end, "it does not look any more"
            time.sleep(0.01)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call something in the service's thread, and wait for what comes of it."""
        return blockingCallFromThread(self._reactor, function, *arguments)

    def reload(self, *changes: tuple[str, str]) -> Reloaded:
        """Change the conf's text and have it taken up."""
        changed(self.path, *changes)
        reloaded = self.call(self._service.reload)
        assert isinstance(reloaded, Reloaded)
        return reloaded


def changed(path: Path, *changes: tuple[str, str]) -> None:
    """Replace parts of a conf, each of which stands there once; an empty one is its end."""
    text = path.read_text()
    for old, new in changes:
        assert not old or text.count(old) == 1, (old, text)
        text = text.replace(old, new) if old else text + new
    path.write_text(text)


def bascule(front: Front, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that speaks with a daemon."""
    name, *rest = words
    return subprocess.run(
        [BASCULE, name, "-c", front.configuration_path, *rest],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
