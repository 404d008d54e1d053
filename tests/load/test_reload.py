"""Confs are taken up while a thousand clients talk: none is lost, nobody is refused."""

import signal
import time
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule, changed
from tests.load.clients import Way
from tests.load.crowd import PATIENCE, Crowd
from tests.load.echo_server import EchoServer
from tests.load.prepared import house, renew
from tests.net.front import DOMAIN, Front
from tests.servers.bascule import Served
from tests.servers.program import HOST, free_port

STAYING = {1: 1_000, 2: 100}
"""How many clients stay, by the number of workers."""

COMING = 24
ELSEWHERE = 20
"""How many clients come by each of the listeners that are added."""

RELOADS = 6
LIMITS = "stanza_bytes = {}"


def listener(name: str, port: int) -> str:
    return (
        f'\n[[listener]]\nname = "{name}"\ndirection = "reverse"\nstream = "c2s"\n'
        f'address = "{HOST}:{port}"\n'
    )


def reload(front: Front, turn: int) -> None:
    """Have the conf taken up, by a signal and by the command in turn."""
    if turn % 2:
        front.processes[0].send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while front.log().count(" info reloaded ") <= turn:
            assert time.monotonic() < end, "it is not reloaded"
            time.sleep(0.02)
    else:
        done = bascule(front, "reload")
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("workers", STAYING)
def test_clients_do_not_notice_ten_reloads(
    tmp_path: Path, echo: EchoServer, authority: Authority, workers: int
) -> None:
    staying = STAYING[workers]
    renew(tmp_path, authority)
    limits = {"stanza_bytes": 100_000, "connections_per_address": 0, "handshakes_per_minute": 0}
    front = Front(
        tmp_path,
        [Served(DOMAIN, [(tmp_path / "crt", tmp_path / "key")], echo.port)],
        tables={"plugins.limits": limits, "bascule": house(tmp_path, workers)},
    )
    extra = free_port()
    with front:
        crowd = Crowd(echo.loop, authority.ca_path)
        crowd.add(staying, front.port)
        crowd.wait_until_up(staying)
        crowd.add(COMING, front.port, [Way.FOOTER])
        for turn in range(RELOADS):
            old, new = (LIMITS.format(100_000 + each) for each in (turn, turn + 1))
            added = listener("extra", extra).rstrip("\n")
            changed(front.configuration_path, (old, new), (added, "") if turn % 2 else ("", added))
            renew(tmp_path, authority)
            reload(front, turn)
            crowd.wait_for_logins(COMING)
            if not turn % 2:
                # They stay when their listener goes.
                crowd.add(ELSEWHERE, extra)
                crowd.wait_for_logins(ELSEWHERE)
        crowd.wait_until_up(staying + ELSEWHERE * RELOADS // 2)
        crowd.wait_for_echoes()
        stayed = [each for each in crowd.clients if each.way is None]
        assert {each.logins for each in stayed} == {1}
        assert crowd.troubles() == {}
        assert set(crowd.ends) == {"logged in: left"}
        log = front.log()
        crowd.leave()
        assert front.alive()
    assert log.count(" info reloaded ") == RELOADS
    assert " error " not in log
    assert "warning connection closed" not in log
