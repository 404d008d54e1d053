"""Sessions come and go in all ways for a while: nothing of them is left, and memory stays flat.

``BASCULE_SOAK=SECONDS,SESSIONS`` has it take longer, with more of them; ``make soak`` sets that.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.load.clients import EARLY, Way
from tests.load.crowd import PATIENCE, Crowd
from tests.load.echo_server import EchoServer
from tests.load.prepared import COUNTS, Prepared
from tests.net.front import DOMAIN
from tests.servers.bascule import Served

SECONDS, SESSIONS = map(int, os.environ.get("BASCULE_SOAK", "10,1000").split(","))
WARM: Final = 0.25
"""The share of the time after which memory is to grow no more."""

GROWTH: Final = 1.1
"""What it may be at the end, beside what it was then: allocators do not give all back."""

GOING: Final = 0.2
"""The share of the sessions that come and go."""

MIB: Final = 1 << 20
TABLES: Final = {
    "deadlines": {"negotiation": 10, "authentication": 12, "connect": 10},
    "plugins.limits": {"connections_per_address": 0, "handshakes_per_minute": 0},
}


def sessions(front: Prepared) -> int:
    """Return how many sessions the daemon says that it has."""
    status = json.loads(bascule(front, "status", "--json").stdout)
    return sum(status["sessions"].values())


def emptied(front: Prepared, crowd: Crowd, sockets: int) -> None:
    """Have all leave, and wait until the daemon has no session, and no sockets but its own."""
    crowd.leave()
    crowd.wait(lambda: sessions(front) == 0, "sessions are left")
    crowd.wait(lambda: front.descriptors()["socket"] == sockets, "sockets are left")


def more(front: Prepared, objects: Counter[str]) -> Counter[str]:
    """Return which objects there are more of, when deadlines have run out that nobody needs."""
    end = time.monotonic() + PATIENCE
    while (left := front.objects() - objects) and time.monotonic() < end:
        time.sleep(0.5)
    return left


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 4 * PATIENCE)
def test_nothing_is_left_of_sessions(
    tmp_path: Path, echo: EchoServer, authority: Authority
) -> None:
    domain = Served(DOMAIN, [authority.issue(DOMAIN)], echo.port)
    with Prepared(tmp_path, domain, COUNTS, TABLES) as front:
        sockets = front.descriptors()["socket"]
        first = Crowd(echo.loop, authority.ca_path, haste=0.1)
        first.add(4 * len(Way), front.port, Way)
        first.wait(lambda: len(first.odd) >= len(EARLY), "not all that do not log in have come")
        first.wait_for_logins(4 * len(Way))
        emptied(front, first, sockets)
        descriptors, objects = front.descriptors(), front.objects()
        assert objects

        crowd = Crowd(echo.loop, authority.ca_path, haste=SESSIONS / 1000)
        going = int(SESSIONS * GOING)
        crowd.add(SESSIONS - going, front.port)
        crowd.add(going, front.port, Way)
        crowd.wait_until_up(SESSIONS - going)
        time.sleep(SECONDS * WARM)
        warm = front.resident()
        time.sleep(SECONDS * (1 - WARM))
        crowd.wait_for_echoes()
        last = front.resident()
        print(f"{crowd}\nRSS: {warm / MIB:.1f} MiB, at the end {last / MIB:.1f} MiB")  # noqa: T201
        assert {each.logins for each in crowd.clients if each.way is None} == {1}
        assert crowd.troubles() == {}
        assert last < warm * GROWTH
        emptied(front, crowd, sockets)
        assert front.descriptors() == descriptors
        assert not more(front, objects)
        assert front.alive()
        assert " error " not in front.log()
