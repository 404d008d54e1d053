"""Connecting the server leg, on a real reactor."""

import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from proxy.net import connector as connector_module
from proxy.net.connector import ATTEMPT_DELAY, Connector, Race
from tests.net.steady import SteadyTurning, turning
from tests.servers.program import HOST, free_port

__all__ = ["turning"]


class Outcome:
    """What a connector calls back."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.failures: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.sockets or self.failures)


@pytest.fixture
def outcome() -> Iterator[Outcome]:
    outcome = Outcome()
    yield outcome
    for connection in outcome.sockets:
        connection.close()


def connector(turning: SteadyTurning, outcome: Outcome, host: str, port: int) -> Connector:
    return Connector(turning.reactor, host, port, outcome.sockets.append, outcome.failures.append)


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_an_address_or_a_name_is_connected_to(
    turning: SteadyTurning, outcome: Outcome, host: str
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        connector(turning, outcome, host, listening.getsockname()[1]).start()
        turning.until(lambda: outcome)
        (connection,) = outcome.sockets
        assert not connection.getblocking()
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not outcome.failures


def test_ipv6_is_connected_to(turning: SteadyTurning, outcome: Outcome) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        connector(turning, outcome, "::1", listening.getsockname()[1]).start()
        turning.until(lambda: outcome)
    assert len(outcome.sockets) == 1


def test_a_refusal_is_told_once_and_in_words(turning: SteadyTurning, outcome: Outcome) -> None:
    connector(turning, outcome, HOST, free_port()).start()
    turning.until(lambda: outcome)
    turning.turn()
    assert outcome.failures == ["Connection refused"]
    assert not outcome.sockets


class Resolver:
    """Answers with addresses of its own."""

    def __init__(self, *addresses: IPv4Address | IPv6Address) -> None:
        self.addresses = addresses

    def resolveHostName(self, receiver: Any, _host: str, _port: int) -> None:
        receiver.resolutionBegan(self)
        for address in self.addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()


def test_the_addresses_of_a_name_are_tried_in_order(
    turning: SteadyTurning, outcome: Outcome
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        turning.reactor.installNameResolver(
            Resolver(
                IPv6Address("TCP", "::1", port),  # where nothing listens
                IPv4Address("TCP", "127.0.0.2", port),
                IPv4Address("TCP", HOST, port),
            )
        )
        connector(turning, outcome, "example.com", port).start()
        turning.until(lambda: outcome)
        (connection,) = outcome.sockets
        assert connection.getpeername()[0] == HOST


def test_a_name_without_addresses_fails(turning: SteadyTurning, outcome: Outcome) -> None:
    turning.reactor.installNameResolver(Resolver())
    connector(turning, outcome, "example.com", 5222).start()
    turning.until(lambda: outcome)
    assert outcome.failures == ["the name example.com has no address"]


def test_a_network_that_cannot_be_reached_fails(turning: SteadyTurning, outcome: Outcome) -> None:
    """A multicast address takes no TCP connection; the system says so at once."""
    connector(turning, outcome, "224.0.0.1", 5222).start()
    turning.until(lambda: outcome)
    assert len(outcome.failures) == 1


def test_without_a_descriptor_it_fails_in_words(turning: SteadyTurning, outcome: Outcome) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        connector(turning, outcome, HOST, 5222).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not outcome  # nothing is called back before `start` has returned
    turning.until(lambda: outcome)
    assert outcome.failures == ["Too many open files"]


def test_a_cancelled_attempt_calls_nobody(turning: SteadyTurning, outcome: Outcome) -> None:
    with socket.create_server((HOST, 0)) as listening:
        attempt = connector(turning, outcome, HOST, listening.getsockname()[1])
        attempt.start()
        attempt.cancel()
        turning.turn()
        attempt = connector(turning, outcome, "localhost", listening.getsockname()[1])
        attempt.start()
        attempt.cancel()
        turning.turn()
    assert not outcome


# Races

SILENT = "127.0.0.9"


@contextlib.contextmanager
def silent(port: int, host: str = SILENT) -> Iterator[None]:
    """Have ``host`` answer no attempt to connect: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((host, port), backlog=0))
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.1)
            try:
                waiting.connect(listening.getsockname())
            except TimeoutError:
                break
        yield


class Raced(Outcome):
    """What a race calls back."""

    def __init__(self) -> None:
        super().__init__()
        self.winners: list[str] = []

    def won(self, connection: socket.socket, address: str) -> None:
        self.sockets.append(connection)
        self.winners.append(address)

    def begin(
        self, turning: SteadyTurning, port: int, *addresses: str, seconds: float | None = None
    ) -> Race:
        race = Race(
            turning.reactor, addresses, port, self.won, self.failures.append, seconds=seconds
        )
        race.start()
        assert not self
        return race


@pytest.fixture
def raced() -> Iterator[Raced]:
    raced = Raced()
    yield raced
    for connection in raced.sockets:
        connection.close()


def test_a_silent_address_is_not_waited_for_long(turning: SteadyTurning, raced: Raced) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        with silent(port):
            race = raced.begin(turning, port, SILENT, HOST)
            (attempt,) = race._attempts
            turning.until(lambda: raced)
            assert turning.reactor.seconds() >= ATTEMPT_DELAY
            assert raced.winners == [HOST]
            assert raced.sockets[0].getpeername() == (HOST, port)
            assert attempt.fileno() == -1  # the loser is closed
            turning.turn()
            assert not raced.failures


def test_after_a_refusal_the_next_address_follows_at_once(
    turning: SteadyTurning, raced: Raced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "ATTEMPT_DELAY", 1000)
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        raced.begin(turning, port, "::1", "127.0.0.2", "127.0.0.3", HOST)
        turning.until(lambda: raced)
    assert raced.winners == [HOST]
    assert not raced.failures


def test_each_address_has_its_time_to_itself(
    turning: SteadyTurning, raced: Raced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from its own beginning, though the one before it failed early."""
    monkeypatch.setattr(connector_module, "ATTEMPT_DELAY", 1000)
    port = free_port()
    with silent(port):
        race = raced.begin(turning, port, "127.0.0.2", SILENT, HOST)
        turning.until(lambda: SILENT in race._attempts.values())
        assert len(turning.reactor.getDelayedCalls()) == 1
        race.stop()
    assert not turning.reactor.getDelayedCalls()


def test_one_of_two_that_answer_wins(
    turning: SteadyTurning, raced: Raced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "ATTEMPT_DELAY", 0)
    with (
        socket.create_server((HOST, 0)) as one,
        socket.create_server(("127.0.0.2", one.getsockname()[1])) as other,
    ):
        race = raced.begin(turning, one.getsockname()[1], HOST, "127.0.0.2")
        race._try()  # both are under way before either has been heard
        turning.until(lambda: raced)
        turning.turn()
        assert len(raced.winners) == 1
        loser = other if raced.winners == [HOST] else one
        loser.settimeout(5)
        connection, _ = loser.accept()
        with connection, contextlib.suppress(ConnectionResetError):
            connection.settimeout(5)
            assert connection.recv(1) == b""


def test_each_reason_is_told_once(turning: SteadyTurning, raced: Raced) -> None:
    raced.begin(turning, free_port(), "127.0.0.2", "224.0.0.1", HOST)
    turning.until(lambda: raced)
    turning.turn()
    assert raced.failures == ["Connection refused, Network is unreachable"]


def test_a_race_without_addresses_is_lost(turning: SteadyTurning, raced: Raced) -> None:
    raced.begin(turning, 5222)
    turning.until(lambda: raced.failures)
    assert raced.failures == [""]


def test_a_race_ends_in_time(turning: SteadyTurning, raced: Raced) -> None:
    port = free_port()
    with silent(port):
        race = raced.begin(turning, port, "127.0.0.2", SILENT, seconds=0.3)
        turning.until(lambda: SILENT in race._attempts.values())
        turning.until(lambda: raced)
        turning.turn()
    assert raced.failures == ["Connection refused, no connection within 0.3 s"]
    assert not turning.reactor.getDelayedCalls()


def test_a_race_that_is_stopped_calls_nobody(turning: SteadyTurning, raced: Raced) -> None:
    port = free_port()
    with silent(port), socket.create_server((HOST, port)):
        raced.begin(turning, port, SILENT, HOST, seconds=0.2).stop()
        raced.begin(turning, free_port(), HOST).stop()
        raced.begin(turning, port).stop()
        turning.reactor.advance(ATTEMPT_DELAY)
        turning.turn()
    assert not raced
    assert not turning.reactor.getDelayedCalls()


def test_an_attempt_that_a_stopping_reactor_ends_is_no_connection(
    turning: SteadyTurning, raced: Raced
) -> None:
    port = free_port()
    with silent(port):
        race = raced.begin(turning, port, SILENT)
        (attempt,) = race._attempts
        attempt.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        turning.until(lambda: raced)
    assert raced.failures == ["Software caused connection abort"]
