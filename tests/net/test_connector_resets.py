"""Connections that are accepted, and reset before the reactor turns."""

import select
import socket
from collections.abc import Iterator

import pytest

from proxy.net import connector as connector_module
from proxy.net.connector import Race
from tests.net.legacy import reset
from tests.net.steady import SteadyTurning, turning
from tests.net.test_connector import SILENT, Raced, connector, silent
from tests.servers.program import HOST

__all__ = ["turning"]

SECOND = "127.0.0.2"


@pytest.fixture
def raced() -> Iterator[Raced]:
    raced = Raced()
    yield raced
    for connection in raced.sockets:
        connection.close()


def accept_and_reset(race: Race, listening: socket.socket, *, closed: bool = False) -> None:
    """Accept the connection of a race's only attempt, and reset it; ``closed``: after a FIN."""
    (attempt,) = race._attempts
    connection, _ = listening.accept()
    if closed:
        connection.shutdown(socket.SHUT_WR)
    reset(connection)
    waiting = select.poll()
    waiting.register(attempt.fileno(), 0)
    assert waiting.poll(5_000)  # an error, which is told of in any case


@pytest.mark.parametrize("closed", [False, True])
def test_a_connection_that_is_reset_at_once_is_one_that_has_ended(
    turning: SteadyTurning, raced: Raced, *, closed: bool
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        race = raced.begin(turning, listening.getsockname()[1], HOST)
        accept_and_reset(race, listening, closed=closed)
        turning.until(lambda: raced)
        turning.turn()
    assert raced.winners == [HOST]
    assert not raced.failures
    assert raced.sockets[0].recv(1) == b""


def test_a_configured_server_that_resets_at_once_is_connected_to(
    turning: SteadyTurning, raced: Raced
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        attempt = connector(turning, raced, HOST, listening.getsockname()[1])
        attempt.start()
        assert attempt._race is not None
        accept_and_reset(attempt._race, listening)
        turning.until(lambda: raced)
    assert not raced.failures
    assert raced.sockets[0].recv(1) == b""


def test_after_a_reset_the_next_address_follows_at_once(
    turning: SteadyTurning, raced: Raced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "ATTEMPT_DELAY", 1000)
    with (
        socket.create_server((SECOND, 0)) as resetting,
        socket.create_server((HOST, resetting.getsockname()[1])),
    ):
        race = raced.begin(turning, resetting.getsockname()[1], SECOND, HOST)
        accept_and_reset(race, resetting)
        turning.until(lambda: race._ended_at_once)
        assert race._ended_at_once is not None
        loser = race._ended_at_once[0]
        turning.until(lambda: raced)
    assert raced.winners == [HOST]
    assert loser.fileno() == -1  # closed
    assert not raced.failures


def test_a_reset_connection_wins_where_no_other_address_answers(
    turning: SteadyTurning, raced: Raced
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        race = raced.begin(turning, port, HOST, SECOND)  # where nothing listens
        accept_and_reset(race, listening)
        turning.until(lambda: raced)
        turning.turn()
    assert raced.winners == [HOST]
    assert not raced.failures


def test_the_first_of_several_reset_connections_wins(turning: SteadyTurning, raced: Raced) -> None:
    with (
        socket.create_server((HOST, 0)) as one,
        socket.create_server((SECOND, one.getsockname()[1])) as other,
    ):
        race = raced.begin(turning, one.getsockname()[1], HOST, SECOND)
        accept_and_reset(race, one)
        turning.until(lambda: SECOND in race._attempts.values())
        accept_and_reset(race, other)
        turning.until(lambda: raced)
        turning.turn()
    assert raced.winners == [HOST]


def test_a_reset_connection_wins_when_time_is_up(turning: SteadyTurning, raced: Raced) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        with silent(port):
            race = raced.begin(turning, port, HOST, SILENT, seconds=0.3)
            accept_and_reset(race, listening)
            turning.until(lambda: raced)
            turning.turn()
    assert raced.winners == [HOST]
    assert not turning.reactor.getDelayedCalls()


def test_a_race_that_is_stopped_closes_a_reset_connection(
    turning: SteadyTurning, raced: Raced
) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        with silent(port):
            race = raced.begin(turning, port, HOST, SILENT)
            accept_and_reset(race, listening)
            turning.until(lambda: race._ended_at_once)
            assert race._ended_at_once is not None
            kept = race._ended_at_once[0]
            race.stop()
            assert kept.fileno() == -1
            turning.turn()
    assert not raced
