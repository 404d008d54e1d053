"""A restart while a thousand clients talk: systemd's sockets hold those that come meanwhile."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import BASCULE
from tests.daemon.test_systemd_sockets import ACTIVATE
from tests.load.clients import Stage, Way
from tests.load.crowd import PATIENCE, Crowd
from tests.load.echo_server import BACKLOG, EchoServer
from tests.load.prepared import house
from tests.net.front import DOMAIN, Front
from tests.servers.bascule import Served
from tests.servers.program import HOST, RUNNING

STAYING = {1: 500, 2: 100}
"""How many clients stay, by the number of workers."""

COMING = 24
DRAIN = 2
RESTARTS = 2


class Activated(Front):
    """A Bascule that is passed its socket, which stays when it ends.

    Args:
        directory: its state.
        domain: what it serves.
        listening: the socket.
        workers: how many processes it has.
    """

    def __init__(
        self, directory: Path, domain: Served, listening: socket.socket, workers: int
    ) -> None:
        tables: dict[str, dict[str, object]] = {
            "deadlines": {"drain": DRAIN},
            "bascule": house(directory, workers),
        }
        super().__init__(directory, [domain], tables=tables)
        self._listening = listening
        self.port = listening.getsockname()[1]

    def configuration(self) -> str:
        return re.sub('(?m)^address = "[^"]*"', 'address = "systemd:c2s"', super().configuration())

    def start(self) -> None:
        """Start with the socket passed, and return when it says that it listens."""
        self.write()
        self._log_start = len(self.whole_log())
        passed = self._listening.fileno()
        command = [sys.executable, "-c", ACTIVATE, "c2s", str(passed), str(BASCULE), "run"]
        with self.log_path.open("ab") as log:
            started = subprocess.Popen(
                [*command, "-c", self.configuration_path],
                pass_fds=[passed],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.processes.append(started)
        RUNNING.append(self)
        self.wait_for_log(" listening ")

    def finish(self) -> int:
        """Tell it to end, wait until it has, and return its exit status."""
        (daemon,) = self.processes
        daemon.send_signal(signal.SIGTERM)
        status = daemon.wait(60)
        self.processes.clear()
        RUNNING.remove(self)
        return status


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """The socket that systemd would hold."""
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listening:
        yield listening


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("workers", STAYING)
def test_nobody_is_refused_while_the_daemon_is_started_anew(
    tmp_path: Path,
    echo: EchoServer,
    authority: Authority,
    listening: socket.socket,
    workers: int,
) -> None:
    staying = STAYING[workers]
    domain = Served(DOMAIN, [authority.issue(DOMAIN)], echo.port)
    with Activated(tmp_path, domain, listening, workers) as daemon:
        crowd = Crowd(echo.loop, authority.ca_path)
        crowd.add(staying, daemon.port)
        crowd.wait_until_up(staying)
        crowd.add(COMING, daemon.port, [Way.FOOTER])
        crowd.wait_for_logins(COMING)
        for _ in range(RESTARTS):
            assert daemon.finish() == 0
            before = crowd.logins_of_each()
            daemon.start()
            crowd.wait_until_again(before)
        crowd.wait_for_echoes()
        # Each was told to come again, each time; by one worker, and perhaps by another that has
        # taken more than a second to hear that it is to end.
        logins = set(crowd.logins_of_each().values())
        assert min(logins) == 1 + RESTARTS
        assert max(logins) <= 1 + workers * RESTARTS
        # Who is in the TLS handshake cannot be told anything.
        shaking = Stage.SECURING.value
        assert {how for how in crowd.troubles() if not how.startswith(shaking)} == set()
        assert crowd.ends["logged in: system-shutdown"] >= staying * RESTARTS
        crowd.leave()
        log = daemon.log()
    assert log.count(" info stopping") >= RESTARTS
    assert " error " not in log
