"""A worker is killed while clients talk: only its own sessions end, and nobody is refused."""

import json
import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.load.clients import Stage, Way
from tests.load.crowd import PATIENCE, Crowd
from tests.load.echo_server import EchoServer
from tests.load.prepared import house
from tests.net.front import DOMAIN, Front
from tests.servers.bascule import Served

WORKERS = 2
STAYING = 400
COMING = 24
KILLED = 3
BROKEN = {"closed", "closed without close_notify", "Connection reset by peer"}
"""All that a process can still say that is killed: its system closes what it had open."""


def workers(front: Front) -> dict[int, Mapping[str, Any]]:
    """Return what the daemon tells of each worker that runs, by its number."""
    status = json.loads(bascule(front, "status", "--json").stdout)
    return {each["number"]: each for each in status["workers"] if each["state"] == "running"}


def renewed(front: Front, process: int) -> bool:
    """Whether all workers run, and none of them is a process that was killed."""
    running = workers(front)
    return len(running) == WORKERS and process not in {each["pid"] for each in running.values()}


def shared(front: Front) -> bool:
    """Whether every worker has a session."""
    return all(each["sessions"] for each in workers(front).values())


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_a_worker_that_is_killed_takes_only_its_own_sessions_along(
    tmp_path: Path, echo: EchoServer, authority: Authority
) -> None:
    tables: dict[str, dict[str, object]] = {
        "bascule": house(tmp_path, WORKERS),
        # Were those of the killed counted on, there would soon be none left.
        "plugins.limits": {
            "connections_per_address": 2 * STAYING,
            "handshakes_per_minute": 0,
        },
    }
    domain = Served(DOMAIN, [authority.issue(DOMAIN)], echo.port)
    with Front(tmp_path, [domain], tables=tables) as front:
        crowd = Crowd(echo.loop, authority.ca_path)
        crowd.wait(lambda: len(workers(front)) == WORKERS, "not all workers run")
        crowd.add(STAYING, front.port)
        crowd.wait_until_up(STAYING)
        crowd.add(COMING, front.port, [Way.FOOTER])
        crowd.wait_for_logins(COMING)
        for turn in range(KILLED):
            before = workers(front)
            victim = before[1 + turn % WORKERS]
            others = sum(each["sessions"] for each in before.values()) - victim["sessions"]
            logins = crowd.logins_of_each()
            os.kill(victim["pid"], signal.SIGKILL)
            crowd.wait(partial(renewed, front, victim["pid"]), "it is not started anew")
            crowd.wait_for_logins(COMING)
            crowd.wait_until_up(STAYING)
            crowd.wait_for_echoes()
            stayed = sum(each.logins == count for each, count in logins.items())
            assert others - COMING <= stayed < STAYING
            # Every worker takes its share again.
            crowd.wait(partial(shared, front), "one worker takes all sessions")
        assert {how.partition(": ")[2] for how in crowd.troubles()} <= BROKEN
        assert not any(how.startswith(Stage.CONNECTING.value) for how in crowd.ends)
        crowd.leave()
        crowd.wait(lambda: not echo.connections, "the server keeps connections")
        assert front.alive()
