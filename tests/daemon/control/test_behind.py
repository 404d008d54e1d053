"""Operators ask whether the legacy servers are there, by ``bascule status --probe``."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from twisted.internet.defer import Deferred

from proxy.daemon.control.behind import answering
from proxy.daemon.control.facts import ServerFacts
from proxy.daemon.control.protocol import Arguments, RefusedError
from proxy.daemon.metrics.behind import Asked, Behind
from proxy.daemon.metrics.legacy import Outcome
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from tests.authority import Authority
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST, free_port

BASCULE = Path(sys.executable).with_name("bascule")
DOWN = "down.example"
BEHIND = Behind(DOMAIN, Kind.C2S, Address(HOST, 15222))


# What is answered


def test_every_server_is_an_item_once_all_have_answered() -> None:
    asking: Deferred[tuple[Asked, ...]] = Deferred()
    items = answering(lambda: asking)(Arguments({}))
    assert next(items) is asking
    good = Asked(BEHIND, Outcome("", 0.0123456, reached=True, version="1.0", features=True))
    bad = Asked(attrs.evolve(BEHIND, kind=Kind.S2S), Outcome("says \x1b[2J", reached=True))
    asking.callback((good, bad))
    where = {"domain": DOMAIN, "server": "127.0.0.1:15222", "reached": True}
    said = {"answered": True, "seconds": 0.012, "version": "1.0", "features": True, "problem": ""}
    silent = {"answered": False, "seconds": None, "version": None, "features": False}
    assert [*items] == [
        ServerFacts(stream="c2s", **where, **said),  # type: ignore[arg-type]
        ServerFacts(stream="s2s", **where, **silent, problem="says \\x1b[2J"),  # type: ignore[arg-type]
    ]


def test_the_command_takes_no_arguments() -> None:
    asked: list[Deferred[tuple[Asked, ...]]] = []

    def ask() -> Deferred[tuple[Asked, ...]]:
        asked.append(Deferred())
        return asked[-1]

    with pytest.raises(RefusedError):
        answering(ask)(Arguments({"domain": DOMAIN}))
    assert not asked


# Through a real daemon


@pytest.fixture(params=[1, 2], ids=["one process", "workers"])
def front(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, legacy: LegacyServer
) -> Iterator[Front]:
    tables: Mapping[str, Mapping[str, object]] = {
        "bascule": {"control_socket": f"{tmp_path}/control", "workers": request.param}
    }
    down = Served(DOWN, [authority.issue(DOWN)], free_port())
    domains = [served(legacy, [authority.issue(DOMAIN)]), down]
    with Front(tmp_path, domains, tables=tables) as front:
        yield front


def status(front: Front, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BASCULE, "status", "-c", front.configuration_path, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_status_has_what_the_servers_answer(front: Front, legacy: LegacyServer) -> None:
    done = status(front, "--probe", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert told["listeners"]
    good, bad = told["servers"]
    assert good["seconds"] >= 0
    assert (good["domain"], good["server"]) == (DOMAIN, f"{HOST}:{legacy.port}")
    assert (good["version"], good["features"], good["problem"]) == ("1.0", True, "")
    assert (bad["domain"], bad["reached"], bad["answered"]) == (DOWN, False, False)
    assert bad["problem"] == "cannot be reached: Connection refused"


def test_it_is_shown_to_people(front: Front) -> None:
    done = status(front, "--probe")
    assert (done.returncode, done.stderr) == (1, "")
    *_, head, good, bad = done.stdout.splitlines()
    assert head.split() == ["SERVER", "OF", "STREAM", "ADDRESS", "ANSWER"]
    assert good.startswith(DOMAIN)
    assert good.endswith(" ms, XMPP 1.0, with features")
    assert bad.startswith(DOWN)
    assert bad.endswith("cannot be reached: Connection refused")


def test_nobody_is_asked_unless_that_is_wanted(front: Front, legacy: LegacyServer) -> None:
    done = status(front, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "servers" not in json.loads(done.stdout)
    assert legacy.connections == []
