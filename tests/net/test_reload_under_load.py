"""A conf, and certificates, are taken up under load: no session is lost, no connection refused."""

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import changed
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer

STAYING = 40
COMING = 4
RELOADS = 6


@pytest.fixture
def legacy() -> Iterator[LegacyServer]:
    with LegacyServer() as server:
        yield server


class Coming:
    """Clients that come, say something and go, as long as the test lasts."""

    def __init__(self, front: Front, authority: Authority) -> None:
        self.served = 0
        self.over = threading.Event()
        self._front = front
        self._authority = authority

    def run(self) -> None:
        while not self.over.is_set():
            with logged_in(self._front.port, self._authority.ca_path) as stream:
                stream.send("<presence/></stream:stream>")
            self.served += 1


@contextlib.contextmanager
def load(front: Front, authority: Authority) -> Iterator[Callable[[], None]]:
    """Have clients come and go; gives what waits until each of them has come again."""
    coming = Coming(front, authority)
    with ThreadPoolExecutor(COMING) as pool:
        running = [pool.submit(coming.run) for _ in range(COMING)]

        def wait() -> None:
            before, end = coming.served, time.monotonic() + 60
            while coming.served < before + 2 * COMING:
                assert time.monotonic() < end, "no client is served"
                assert not any(each.done() for each in running)
                time.sleep(0.01)

        try:
            yield wait
        finally:
            coming.over.set()
        for each in running:
            each.result(60)


def test_reloads_under_load(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> None:
    certificate, key = tmp_path / "crt", tmp_path / "key"

    def renew() -> None:
        for path, place in zip(authority.issue(DOMAIN), (certificate, key), strict=True):
            shutil.copyfile(path, place)

    renew()
    tables = {"deadlines": {"connect": 10}}
    front = Front(tmp_path, [served(legacy, [(certificate, key)])], tables=tables)
    with front, contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(logged_in(front.port, authority.ca_path)) for _ in range(STAYING)
        ]
        up = list(legacy.connections)
        with load(front, authority) as wait:
            for turn in range(RELOADS):
                renew()
                old, new = (f"connect = {seconds}" for seconds in (10 + turn, 11 + turn))
                changed(front.configuration_path, (old, new))
                front.processes[0].send_signal(signal.SIGHUP)
                wait()
                end = time.monotonic() + 60
                while front.log().count(" info reloaded ") <= turn:
                    assert time.monotonic() < end, "it is not reloaded"
                    time.sleep(0.01)
        for stream in streams:
            stream.send("<presence id='after'/>")
        for server in up:
            server.read_until(b"<presence id='after'/>")
            server.send(b"<message id='answer'/>")
        for stream in streams:
            stream.read_until("<message id='answer'/>")
        log = front.log()
    told = f" info reloaded changed=deadlines certificates={DOMAIN}"
    assert log.count(told) == RELOADS
    assert " error " not in log
    assert "warning connection closed" not in log
