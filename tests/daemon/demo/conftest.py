"""A demo server on a reactor of its own, in a thread."""

import threading
from collections.abc import Iterator

import attrs
import pytest
from twisted.internet.selectreactor import SelectReactor

from proxy.daemon.demo.accounts import Accounts
from proxy.daemon.demo.server import LOOPBACK, Direction, LegacyServer

DOMAIN = "localhost"


@attrs.frozen
class RunningServer:
    """Where the server listens, who may log in, and what it saw."""

    port: int
    passwords: dict[str, str]
    seen: list[tuple[Direction, bytes]]

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.port


@pytest.fixture
def server() -> Iterator[RunningServer]:
    accounts = Accounts.invented(DOMAIN, "juliet", "romeo")
    reactor = SelectReactor()
    legacy = LegacyServer(accounts, reactor)
    seen: list[tuple[Direction, bytes]] = []
    legacy.observer = lambda direction, data: seen.append((direction, data))
    port = legacy.listen(reactor)
    thread = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
    thread.start()
    try:
        yield RunningServer(port, accounts.passwords, seen)
    finally:
        reactor.callFromThread(reactor.stop)
        thread.join(20)
        assert not thread.is_alive()
