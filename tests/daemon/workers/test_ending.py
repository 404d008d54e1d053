"""Workers that end while the others go on: what they hold back, and what they must not."""

import datetime as dt
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import changed
from tests.daemon.workers.running import (
    SECONDS,
    asked,
    comes,
    crowd,
    is_gone,
    listener,
    settled,
    table,
    workers,
)
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, free_port

LISTENS = "0A"
"""The state of a socket that listens (proc_pid_net(5))."""


@pytest.fixture
def front(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> Iterator[Front]:
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    with Front(tmp_path, domains, tables=table(tmp_path)) as front:
        settled(front)
        yield front


def reload(front: Front) -> None:
    """Have the conf taken up, which finds no mistake in it."""
    [done] = asked(front, "reload")
    assert not done["mistakes"]


def is_refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def listening(port: int) -> set[str]:
    """Return the sockets that listen on a port, as links to them read."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = (line.split() for line in lines)
    at = f":{port:04X}"
    return {f"socket:[{it[9]}]" for it in found if it[3] == LISTENS and it[1].endswith(at)}


def holding(process: int, links: set[str]) -> int:
    """Return how many descriptors a process has of some sockets."""
    descriptors = Path(f"/proc/{process}/fd").iterdir()
    return sum(str(each.readlink()) in links for each in descriptors)


def test_a_conf_is_taken_up_while_the_first_worker_ends(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with ExitStack() as opened:
        crowd(opened, front, legacy, authority)
        port = free_port()
        changed(front.configuration_path, ("", listener(port)))
        os.kill(workers(front)[0]["pid"], signal.SIGTERM)
        # Whether it has begun to end by now, or does so meanwhile, another one is asked.
        reload(front)
        with logged_in(port, authority.ca_path):
            legacy.next()
        settled(front)
        assert "is replaced" not in front.log()


def test_each_has_a_port_once_and_lets_go_of_it_when_it_ends(front: Front) -> None:
    """Were there another one that only waits, a port would seem open while its worker ends."""
    inodes = listening(front.port)
    assert inodes
    for _ in range(2):
        for worker in workers(front):
            assert holding(worker["pid"], inodes) == 1
        reload(front)


def test_a_port_is_free_when_no_conf_wants_it(front: Front) -> None:
    port = free_port()
    text = front.configuration_path.read_text()
    for _ in range(3):
        changed(front.configuration_path, ("", listener(port)))
        reload(front)
        assert not is_refused(port)
        front.configuration_path.write_text(text)
        reload(front)
        assert is_refused(port)


def test_a_command_for_alerts_is_waited_for_even_if_it_closes_all_that_it_has(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    command, said = tmp_path / "command", tmp_path / "said"
    command.write_text(
        f"#!/bin/sh\ncat >/dev/null\nexec <&- >&- 2>&-\nsleep 0.2\necho $$ >{said}.new\n"
        f"mv {said}.new {said}\n"
    )
    command.chmod(0o755)
    # What ends soon is told of when a worker begins to speak.
    pair = authority.issue(DOMAIN, not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=3))
    more: dict[str, dict[str, object]] = {"alerts": {"command": [str(command)]}}
    tables = table(tmp_path) | more
    with Front(tmp_path, [served(legacy, [pair])], tables=tables):
        comes(said.exists)
        comes(partial(is_gone, int(said.read_text())))
