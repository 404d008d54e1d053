"""Accepting connections through a hub."""

import errno
import socket
from collections.abc import Iterator

import pytest

from proxy.net.listener import Listener, client_address
from proxy.session.hooks import Address
from tests.net.conftest import Turning
from tests.servers.program import HOST

Taken = list[tuple[socket.socket, Address]]


@pytest.fixture
def taken() -> Iterator[Taken]:
    taken: Taken = []
    yield taken
    for connection, _ in taken:
        connection.close()


def test_connections_are_handed_over(turning: Turning, taken: Taken) -> None:
    listener = Listener(turning.hub, HOST, 0, lambda *accepted: taken.append(accepted))
    listener.start()
    with socket.create_connection((HOST, listener.port)) as client:
        turning.until(lambda: taken)
        connection, address = taken[0]
        assert Address(*client.getsockname()) == address
        assert not connection.getblocking()
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    port = listener.port
    listener.stop()
    listener.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))


def test_both_families_come_through_one_socket(turning: Turning, taken: Taken) -> None:
    listener = Listener(turning.hub, "::", 0, lambda *accepted: taken.append(accepted))
    listener.start()
    clients = [socket.create_connection((host, listener.port)) for host in (HOST, "::1")]
    turning.until(lambda: len(taken) == 2)
    assert {HOST, "::1"} == {address.host for _, address in taken}
    for client in clients:
        client.close()
    listener.stop()


def test_an_address_in_use_is_an_error(turning: Turning, taken: Taken) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        listener = Listener(turning.hub, HOST, port, lambda *accepted: taken.append(accepted))
        with pytest.raises(OSError, match="in use") as told:
            listener.start()
    assert told.value.errno == errno.EADDRINUSE
    listener.stop()


def test_a_fault_of_one_connection_leaves_the_next_alone(turning: Turning) -> None:
    taken: Taken = []

    def accepted(connection: socket.socket, address: Address) -> None:
        taken.append((connection, address))
        if len(taken) == 1:
            raise RuntimeError("made up")

    listener = Listener(turning.hub, HOST, 0, accepted)
    listener.start()
    clients = []
    for count in (1, 2):
        clients.append(socket.create_connection((HOST, listener.port)))
        turning.until(lambda count=count: len(taken) == count)  # type: ignore[misc]
    for each in (*clients, *(connection for connection, _ in taken)):
        each.close()
    listener.stop()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("192.0.2.1", 1), "192.0.2.1:1"),
        (("::ffff:192.0.2.1", 2, 0, 0), "192.0.2.1:2"),
        (("2001:db8::1", 3, 0, 0), "[2001:db8::1]:3"),
        (("fe80::1%lo", 4, 0, 1), "[fe80::1%lo]:4"),
    ],
)
def test_addresses_as_plugins_and_the_log_see_them(name: tuple[object, ...], expected: str) -> None:
    assert expected == str(client_address(name))
