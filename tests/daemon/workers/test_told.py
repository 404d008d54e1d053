"""What the processes of a real daemon with several workers tell as one."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.daemon.control.protocol import RefusedError
from tests.authority import Authority
from tests.daemon.workers.running import (
    SECONDS,
    WORKERS,
    asked,
    comes,
    crowd,
    settled,
    states,
    table,
    workers,
)
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, free_port

BASCULE = Path(sys.executable).with_name("bascule")


@pytest.fixture
def port() -> int:
    """Where metrics are read."""
    return free_port()


@pytest.fixture
def front(tmp_path: Path, legacy: LegacyServer, authority: Authority, port: int) -> Iterator[Front]:
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    page: dict[str, dict[str, object]] = {"metrics": {"address": f"{HOST}:{port}"}}
    with Front(tmp_path, domains, tables=table(tmp_path) | page) as front:
        settled(front)
        yield front


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(port: int) -> dict[str, float]:
    """The values that are told, by name and labels as they are written."""
    lines = get(port, "/metrics")[1].splitlines()
    values = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in values}


STARTED = 'bascule_sessions_started_total{listener="c2s"}'
ESTABLISHED = 'bascule_sessions{listener="c2s",state="established"}'
RUNNING = 'bascule_workers{state="running"}'
RESTARTS = "bascule_worker_restarts_total"


def test_metrics_are_of_the_whole_and_counters_outlive_a_worker(
    front: Front, legacy: LegacyServer, authority: Authority, port: int
) -> None:
    before = metrics(port)[STARTED]
    with ExitStack() as opened:
        count = len(crowd(opened, front, legacy, authority))
        found = metrics(port)
        assert (found[STARTED] - before, found[ESTABLISHED]) == (count, count)
        assert (found[RUNNING], found[RESTARTS], found["bascule_ready"]) == (WORKERS, 0, 1)
        lost = workers(front)[0]
        os.kill(lost["pid"], signal.SIGKILL)
        comes(lambda: workers(front)[0]["restarts"] == 1 and states(front) == ["running"] * 2)
        found = metrics(port)
        assert (found[STARTED] - before, found[ESTABLISHED]) == (count, count - lost["sessions"])
        assert (found[RUNNING], found[RESTARTS]) == (WORKERS, 1)
        with logged_in(front.port, authority.ca_path):
            legacy.next()
            assert metrics(port)[STARTED] - before == count + 1


def test_health_is_of_the_whole(front: Front, port: int) -> None:
    assert get(port, "/healthz") == (200, "ready\n")
    stuck = workers(front)[1]["pid"]
    os.kill(stuck, signal.SIGSTOP)
    try:
        assert get(port, "/healthz") == (200, "ready\nworker 2 does not answer\n")
        assert states(front) == ["running", "silent"]
    finally:
        os.kill(stuck, signal.SIGCONT)
    comes(lambda: get(port, "/healthz") == (200, "ready\n"))
    code, text = get(port, "/healthz?servers")
    assert code == 200, text
    assert len(re.findall("has answered", text)) == 1


def test_the_next_session_is_traced_in_whichever_worker_it_begins(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    command = [str(BASCULE), "trace", "-c", str(front.configuration_path), "--next", "c2s"]
    for _ in range(4):
        with subprocess.Popen(
            [*command, "--count", "2", "--json"], stdout=subprocess.PIPE, text=True
        ) as tracing:
            assert tracing.stdout is not None
            assert json.loads(tracing.stdout.readline())["session"] == ""
            for _ in range(2):
                with logged_in(front.port, authority.ca_path):
                    legacy.next()
            said, _ = tracing.communicate(timeout=SECONDS)
        lines = [json.loads(line) for line in said.splitlines()]
        last = [each for each in lines if each["last"]]
        assert [each["text"] for each in last] == ["negotiation is over; the legs are joined"] * 2
        assert len({each["session"] for each in lines}) == 2


def test_one_session_is_traced_and_its_worker_is_found(front: Front) -> None:
    with pytest.raises(RefusedError, match="there is no session with this id"):
        asked(front, "trace", session="nobody")
    assert asked(front, "log-level", level="warning") == [{"level": "warning"}]
    assert asked(front, "drain", older_than="1h") == [{"sessions": 0, "seconds": 0.0}]
