"""Two services that share what they count, as workers do."""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from proxy.daemon.service import Service
from proxy.daemon.shared import SECRET, Shared
from proxy.net.board import Board
from tests.authority import Authority
from tests.net import in_process
from tests.net.client import logged_in
from tests.net.forward import Logged
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.stream import plaintext

PATIENCE = 60.0
TOO_MANY = "more than 2 connections from one address"


@pytest.fixture
def services(tmp_path: Path, authority: Authority) -> Iterator[list[Logged]]:
    """Two services of one conf, each on a reactor and ports of its own."""
    limits = {"plugins.limits": {"connections_per_address": 2, "handshakes_per_minute": 0}}
    board, secret = Board.create(), secrets.token_bytes(SECRET)
    with ExitStack() as stack:
        stack.callback(board.close)
        legacy = stack.enter_context(LegacyServer())
        made = list[Logged]()
        for number in range(2):
            house = tmp_path / str(number)
            house.mkdir()
            front = Front(house, [served(legacy, [authority.issue(DOMAIN)])], tables=limits)
            front.write()
            making = partial(Service, shared=Shared.among(board.descriptor, secret, number))
            with mock.patch.object(in_process, "Service", making):
                path = front.configuration_path
                made.append(stack.enter_context(Logged(path, path.read_text())))
        yield made


def test_connections_to_one_count_with_the_other(
    services: list[Logged], authority: Authority
) -> None:
    one, other = (service.ports["c2s"] for service in services)
    with logged_in(one, authority.ca_path), logged_in(other, authority.ca_path):
        for port in (one, other):
            with plaintext(port, DOMAIN) as third:
                assert TOO_MANY in third.read_to_end()
    end = time.monotonic() + PATIENCE
    while any(service._service.sessions for service in services):
        assert time.monotonic() < end, "a session does not end"
        time.sleep(0.01)
    with (
        logged_in(one, authority.ca_path),
        logged_in(one, authority.ca_path),
        plaintext(other, DOMAIN) as third,
    ):
        assert TOO_MANY in third.read_to_end()


def test_each_knows_the_streams_of_the_other(services: list[Logged]) -> None:
    one, other = (service._service._lasting.marks for service in services)
    assert other.ids.issued(one.ids.new())
