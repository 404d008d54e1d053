"""Which accepted connections are our own, led back to us."""

import socket
from collections.abc import Callable

import pytest

from proxy.net.connector import Race
from proxy.net.listener import client_address
from proxy.net.outgoing import Ends, Outgoing
from proxy.session.hooks import Address
from tests.net.conftest import Turning
from tests.servers.program import HOST, free_port


def test_a_connection_is_known_before_it_is_up_and_until_it_is_handed_over(
    turning: Turning,
) -> None:
    """Where the other end is ours too, that may accept it first."""
    outgoing, known = Outgoing(), list[bool]()
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]

        def won(connection: socket.socket) -> None:
            known.append(ends in outgoing)
            connection.close()

        race = _race(turning, port, outgoing, won)
        race.start()
        accepted, address = listening.accept()
        accepted.close()
        ends = Ends(client_address(address), Address(HOST, port))
        assert not known
        assert ends in outgoing
        turning.until(lambda: known)
    assert known == [True]
    assert ends not in outgoing


def test_a_connection_that_is_given_up_is_forgotten(turning: Turning) -> None:
    outgoing = Outgoing()
    with socket.create_server((HOST, 0)) as listening:
        race = _race(turning, listening.getsockname()[1], outgoing, socket.socket.close)
        race.start()
        accepted, address = listening.accept()
        accepted.close()
        assert outgoing.begins_at(client_address(address))
        race.stop()
    assert not outgoing.begins_at(client_address(address))


def test_a_connection_that_fails_is_forgotten(turning: Turning) -> None:
    outgoing, lost = Outgoing(), list[str]()
    race = Race(
        turning.reactor, [HOST], free_port(), lambda *_: None, lost.append, outgoing=outgoing
    )
    race.start()
    turning.until(lambda: lost)
    assert len(outgoing) == 0


def test_what_is_noted_twice_is_forgotten_twice() -> None:
    outgoing, remote = Outgoing(), Address("192.0.2.1", 5222)
    with socket.create_server((HOST, 0)) as somewhere:
        first, second = outgoing.add(somewhere, remote), outgoing.add(somewhere, remote)
    outgoing.discard(first)
    assert second in outgoing
    outgoing.discard(second)
    assert second not in outgoing
    assert not outgoing.begins_at(second.local)
    outgoing.discard(second)  # there is nothing left to forget


def test_attack_a_client_at_the_same_place_as_an_own_connection_is_not_ours() -> None:
    """The kernel gives one address and port to connections that go to different places."""
    outgoing, remote = Outgoing(), Address("192.0.2.1", 5222)
    with socket.create_server((HOST, 0)) as somewhere:
        ours = outgoing.add(somewhere, remote)
        other = outgoing.add(somewhere, Address("192.0.2.2", 5222))
    assert Ends(ours.local, Address(HOST, 5222)) not in outgoing
    outgoing.discard(other)
    assert other not in outgoing
    assert ours in outgoing


@pytest.mark.parametrize(
    ("noted", "asked"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1", "fe80::1%eth0"),
    ],
)
def test_addresses_are_compared_in_their_usual_form(noted: str, asked: str) -> None:
    outgoing = Outgoing()
    with socket.create_server((HOST, 0)) as somewhere:
        ends = outgoing.add(somewhere, Address(noted, 5222))
    assert Ends(ends.local, Address(asked, 5222)) in outgoing


def _race(
    turning: Turning, port: int, outgoing: Outgoing, won: Callable[[socket.socket], None]
) -> Race:
    return Race(
        turning.reactor,
        [HOST],
        port,
        lambda connection, _address: won(connection),
        lambda _reason: None,
        outgoing=outgoing,
    )
