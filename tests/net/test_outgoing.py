import socket

from proxy.net.connector import Race
from proxy.net.listener import client_address
from proxy.net.outgoing import Outgoing
from tests.net.conftest import Turning
from tests.servers.program import HOST, free_port


def test_a_connection_is_known_before_it_is_up(turning: Turning) -> None:
    """Where the other end is ours too, that may accept it first."""
    outgoing, won = Outgoing(), list[socket.socket]()
    with socket.create_server((HOST, 0)) as listening:
        race = _race(turning, listening.getsockname()[1], outgoing, won)
        race.start()
        accepted, address = listening.accept()
        accepted.close()
        assert not won
        place = client_address(address)
        assert place in outgoing
        turning.until(lambda: won)
    won[0].close()
    assert place in outgoing
    outgoing.discard(place)
    assert place not in outgoing


def test_a_connection_that_is_given_up_is_forgotten(turning: Turning) -> None:
    outgoing = Outgoing()
    with socket.create_server((HOST, 0)) as listening:
        race = _race(turning, listening.getsockname()[1], outgoing, [])
        race.start()
        accepted, address = listening.accept()
        accepted.close()
        race.stop()
    assert client_address(address) not in outgoing


def test_a_connection_that_fails_is_forgotten(turning: Turning) -> None:
    outgoing, lost = Outgoing(), list[str]()
    race = Race(
        turning.reactor, [HOST], free_port(), lambda *_: None, lost.append, outgoing=outgoing
    )
    race.start()
    turning.until(lambda: lost)
    assert not outgoing._places


def _race(turning: Turning, port: int, outgoing: Outgoing, won: list[socket.socket]) -> Race:
    return Race(
        turning.reactor,
        [HOST],
        port,
        lambda connection, _address: won.append(connection),
        lambda _reason: None,
        outgoing=outgoing,
    )
