"""A certificate is renewed while a thousand clients talk."""

from pathlib import Path

import pytest
from cryptography import x509

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.load.clients import Client, Way
from tests.load.crowd import PATIENCE, Crowd
from tests.load.echo_server import EchoServer
from tests.load.prepared import LOOKS, Prepared, renew
from tests.net.front import DOMAIN
from tests.servers.bascule import Served

STAYING = 500
LATER = 30
"""How many come when it has been renewed, and stay as well."""

COMING = 24
DRAIN = 5


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_old_sessions_stay_until_they_are_told_to_come_again(
    tmp_path: Path, echo: EchoServer, authority: Authority
) -> None:
    before = renew(tmp_path, authority)
    domain = Served(DOMAIN, [(tmp_path / "crt", tmp_path / "key")], echo.port)
    with Prepared(tmp_path, domain, LOOKS, {"deadlines": {"drain": DRAIN}}) as front:
        crowd = Crowd(echo.loop, authority.ca_path)
        crowd.add(STAYING, front.port)
        crowd.wait_until_up(STAYING)
        assert set(crowd.serials()) == {before}
        crowd.add(COMING, front.port, [Way.FOOTER])
        crowd.wait_for_logins(COMING)
        after = renew(tmp_path, authority)
        front.wait_for_log(" certificate taken up ", seconds=60)
        crowd.add(LATER, front.port)
        crowd.wait_until_up(STAYING + LATER)
        crowd.wait_for_echoes()
        staying = [each for each in crowd.clients if each.way is None]
        assert {each.logins for each in staying} == {1}
        assert set(crowd.ends) == {"logged in: left"}
        first, later = staying[:STAYING], staying[STAYING:]
        assert _serials(first) == {before}
        assert _serials(later) == {after}
        before_drain = {each: each.logins for each in first}
        done = bascule(front, "drain", "--older-than", "certificate")
        assert done.returncode == 0, done.stderr
        crowd.wait_until_again(before_drain)
        crowd.wait_until_up(STAYING + LATER)
        crowd.wait_for_echoes()
        assert set(crowd.serials()) == {after}
        assert {each.logins for each in later} == {1}
        assert crowd.troubles() == {}
        assert crowd.ends["logged in: reset"] >= STAYING
        crowd.leave()
        log = front.log()
    assert log.count(" certificate taken up ") == 1
    assert " error " not in log


def _serials(clients: list[Client]) -> set[int]:
    shown = {each.shown for each in clients}
    return {x509.load_der_x509_certificate(each).serial_number for each in shown}
