"""One daemon for most tests, and a reactor for parts of it."""

import time
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.epollreactor import EPollReactor

from proxy.net.hub import Hub
from tests.authority import Authority
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served

RULES = {
    "c2s": "required",
    "second": "required",
    "direct": "direct",
    "report": "report",
    "none": "none",
}


@pytest.fixture(scope="package")
def _legacy() -> Iterator[LegacyServer]:
    with LegacyServer() as server:
        yield server


@pytest.fixture
def legacy(_legacy: LegacyServer) -> Iterator[LegacyServer]:
    """The server behind both domains of `front`, as new for each test."""
    _legacy.forget()
    yield _legacy
    _legacy.forget()


@pytest.fixture(scope="package")
def domains(authority: Authority, _legacy: LegacyServer) -> list[Served]:
    """Two domains, each with a certificate of its own."""
    return [served(_legacy, [authority.issue(name)], name) for name in (DOMAIN, OTHER_DOMAIN)]


@pytest.fixture(scope="package")
def front(tmp_path_factory: pytest.TempPathFactory, domains: list[Served]) -> Iterator[Front]:
    """A daemon with a listener for each rule, and a second one that requires TLS."""
    with Front(tmp_path_factory.mktemp("front"), domains, listeners=RULES) as front:
        yield front
        assert front.alive()


class Turning:
    """A reactor that a test turns by hand, and a hub on it."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()  # type: ignore[no-untyped-call]
        self.reactor.startRunning(installSignalHandlers=False)
        self.hub = Hub(self.reactor)

    def until(self, done: Callable[[], object], seconds: float = 20) -> None:
        """Turn the reactor until something is true."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "nothing came of it in time"
            self.reactor.iterate(0.01)

    def turn(self, times: int = 20) -> None:
        """Turn the reactor some times, for what must not happen."""
        for _ in range(times):
            self.reactor.iterate(0.005)

    def stop(self) -> None:
        self.hub.close()
        self.reactor.stop()
        self.turn(3)


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.stop()
