"""What the processes of a real daemon with several workers tell as one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.control.client import ask
from proxy.daemon.control.protocol import RefusedError
from tests.authority import Authority
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, free_port

BASCULE = Path(sys.executable).with_name("bascule")
WORKERS = 2
SECONDS = 60.0


@pytest.fixture
def port() -> int:
    """Where metrics are read."""
    return free_port()


@pytest.fixture
def legacy() -> Iterator[LegacyServer]:
    with LegacyServer() as server:
        yield server


@pytest.fixture
def front(tmp_path: Path, legacy: LegacyServer, authority: Authority, port: int) -> Iterator[Front]:
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    tables: dict[str, dict[str, object]] = {
        "bascule": {"control_socket": f"{tmp_path}/control", "workers": WORKERS},
        "metrics": {"address": f"{HOST}:{port}"},
    }
    with Front(tmp_path, domains, listeners={"c2s": "required"}, tables=tables) as front:
        comes(lambda: states(front) == ["running"] * WORKERS)
        yield front


def comes(fact: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SECONDS
    while not fact():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.05)


def asked(front: Front, command: str, **arguments: object) -> list[Any]:
    return list(ask(front.configuration_path.with_name("control"), command, arguments))


def workers(front: Front) -> list[dict[str, Any]]:
    (status,) = asked(front, "status")
    return list(status["workers"])


def states(front: Front) -> list[str]:
    return [each["state"] for each in workers(front)]


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


def crowd(opened: ExitStack, front: Front, legacy: LegacyServer, authority: Authority) -> int:
    """Log in until each worker has a session; return how many there are."""
    count = 0
    end = time.monotonic() + SECONDS
    while not all(each["sessions"] for each in workers(front)):
        assert time.monotonic() < end, "one worker takes all sessions"
        for _ in range(4):
            opened.enter_context(logged_in(front.port, authority.ca_path))
            legacy.next()
            count += 1
    return count


STARTED = 'bascule_sessions_started_total{listener="c2s"}'
ESTABLISHED = 'bascule_sessions{listener="c2s",state="established"}'
RUNNING = 'bascule_workers{state="running"}'
RESTARTS = "bascule_worker_restarts_total"


def test_metrics_are_of_the_whole_and_counters_outlive_a_worker(
    front: Front, legacy: LegacyServer, authority: Authority, port: int
) -> None:
    before = metrics(port)[STARTED]
    with ExitStack() as opened:
        count = crowd(opened, front, legacy, authority)
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
