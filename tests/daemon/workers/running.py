"""Daemons of several processes, as whoever asks them sees them: who runs, and who serves whom."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from proxy.daemon.control.client import ask
from tests.authority import Authority
from tests.net.client import logged_in
from tests.net.front import Front
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST
from tests.servers.stream import Stream

WORKERS = 2
SECONDS = 60.0
"""Enough for anything that comes at all."""


def table(directory: Path) -> dict[str, dict[str, object]]:
    """Return the part of a conf that makes them several, with their state in a directory."""
    return {
        "bascule": {
            "state_directory": str(directory),
            "control_socket": f"{directory}/control",
            "workers": WORKERS,
        }
    }


def listener(port: int) -> str:
    """Return the text of one listener more, named ``new``."""
    return (
        '\n[[listener]]\nname = "new"\ndirection = "reverse"\nstream = "c2s"\n'
        f'address = "{HOST}:{port}"\ntls = "required"\n'
    )


def comes(fact: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SECONDS
    while not fact():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.05)


def asked(front: Front, command: str, **arguments: object) -> list[Any]:
    """Ask as the commands do, without a process for each question."""
    return list(ask(front.configuration_path.with_name("control"), command, arguments))


def status(front: Front) -> Any:
    [found] = asked(front, "status")
    return found


def workers(front: Front) -> list[dict[str, Any]]:
    """Return what is told of each worker, in the order of their numbers."""
    return list(status(front)["workers"])


def states(front: Front) -> list[str]:
    """Return the state of each worker, in the order of their numbers."""
    return [each["state"] for each in workers(front)]


def running(front: Front) -> dict[int, int]:
    """Return the process of each worker that runs, by its number, once none is slow to answer."""
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        found[:] = workers(front)
        return not any(each["state"] == "silent" for each in found)

    comes(is_told)
    return {each["number"]: each["pid"] for each in found if each["state"] == "running"}


def settled(front: Front, count: int = WORKERS) -> dict[int, int]:
    """Wait until there are so many workers and all run; return the process of each."""
    comes(lambda: states(front) == ["running"] * count)
    return running(front)


def is_gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def crowd(
    opened: ExitStack, front: Front, legacy: LegacyServer, authority: Authority
) -> list[Stream]:
    """Log in until each worker has a session; return the streams."""
    streams = []
    end = time.monotonic() + SECONDS
    while not all(each["sessions"] for each in workers(front)):
        assert time.monotonic() < end, "one worker takes all sessions"
        for _ in range(4):
            streams.append(opened.enter_context(logged_in(front.port, authority.ca_path)))
            legacy.next()
    return streams
