"""Connecting the server leg, on a real reactor."""

import resource
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address, IPv6Address

from proxy.net.connector import Connector
from tests.net.conftest import Turning
from tests.servers.program import HOST, free_port


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


def connector(turning: Turning, outcome: Outcome, host: str, port: int) -> Connector:
    return Connector(turning.reactor, host, port, outcome.sockets.append, outcome.failures.append)


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_an_address_or_a_name_is_connected_to(
    turning: Turning, outcome: Outcome, host: str
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        connector(turning, outcome, host, listening.getsockname()[1]).start()
        turning.until(lambda: outcome)
        (connection,) = outcome.sockets
        assert not connection.getblocking()
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not outcome.failures


def test_ipv6_is_connected_to(turning: Turning, outcome: Outcome) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        connector(turning, outcome, "::1", listening.getsockname()[1]).start()
        turning.until(lambda: outcome)
    assert len(outcome.sockets) == 1


def test_a_refusal_is_told_once_and_in_words(turning: Turning, outcome: Outcome) -> None:
    connector(turning, outcome, HOST, free_port()).start()
    turning.until(lambda: outcome)
    turning.turn()
    assert outcome.failures == ["Connection refused"]
    assert not outcome.sockets


class Resolver:
    """Answers with addresses of its own."""

    def __init__(self, *addresses: IPv4Address | IPv6Address) -> None:
        self.addresses = addresses

    def resolveHostName(self, receiver: Connector, _host: str, _port: int) -> None:
        receiver.resolutionBegan(self)
        for address in self.addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()


def test_the_addresses_of_a_name_are_tried_in_order(turning: Turning, outcome: Outcome) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        turning.reactor.installNameResolver(
            Resolver(  # type: ignore[arg-type]
                IPv6Address("TCP", "::1", port),  # where nothing listens
                IPv4Address("TCP", "127.0.0.2", port),
                IPv4Address("TCP", HOST, port),
            )
        )
        connector(turning, outcome, "example.com", port).start()
        turning.until(lambda: outcome)
        (connection,) = outcome.sockets
        assert connection.getpeername()[0] == HOST


def test_a_name_without_addresses_fails(turning: Turning, outcome: Outcome) -> None:
    turning.reactor.installNameResolver(Resolver())  # type: ignore[arg-type]
    connector(turning, outcome, "example.com", 5222).start()
    turning.until(lambda: outcome)
    assert outcome.failures == ["the name example.com has no address"]


def test_a_network_that_cannot_be_reached_fails(turning: Turning, outcome: Outcome) -> None:
    """A multicast address takes no TCP connection; the system says so at once."""
    connector(turning, outcome, "224.0.0.1", 5222).start()
    turning.until(lambda: outcome)
    assert len(outcome.failures) == 1


def test_without_a_descriptor_it_fails_in_words(turning: Turning, outcome: Outcome) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        connector(turning, outcome, HOST, 5222).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.failures == ["Too many open files"]


def test_a_cancelled_attempt_calls_nobody(turning: Turning, outcome: Outcome) -> None:
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
