"""What a server can make the daemon hold, and do, once it is let in."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net.federation import (
    LEGACY,
    REMOTE,
    FederationFront,
    context_of,
    zone,
)
from tests.net.hostile import Hostile
from tests.net.legacy import LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import (
    Sender,
    result,
    script,
    taking,
)
from tests.servers.stream import plaintext

BOUND = 8 << 20
"""Bytes that one server may make the daemon hold."""


@pytest.fixture(scope="module")
def remote(authority: Authority) -> Iterator[Hostile]:
    with Hostile() as remote:
        yield remote


@pytest.fixture(scope="module")
def behind() -> Iterator[LegacyServer]:
    with LegacyServer() as legacy:
        yield legacy


@pytest.fixture(scope="module")
def _front(
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    remote: Hostile,
    behind: LegacyServer,
) -> Iterator[FederationFront]:
    with NameServer() as names:
        zone(names, remote.port)
        directory = tmp_path_factory.mktemp("bounds")
        with FederationFront(
            directory, authority, {LEGACY: behind.port}, names.port
        ) as front:
            yield front
            assert front.alive()


@pytest.fixture
def front(
    _front: FederationFront, authority: Authority, remote: Hostile, behind: LegacyServer
) -> FederationFront:
    """The daemon; nothing is connected to it."""
    behind.forget()
    behind.script = taking()
    remote.play(script(authority.issue(REMOTE)))
    return _front


@contextlib.contextmanager
def incoming(front: FederationFront, authority: Authority) -> Iterator[Sender]:
    """Connect as a server without a certificate, and open a stream under TLS."""
    with plaintext(front.named["in"], LEGACY) as bare:
        stream = Sender(bare, REMOTE, LEGACY)
        stream.ask_for_tls()
        stream.secure(context_of(authority))
        with stream.connection:
            stream.open()
            stream.read_features()
            yield stream


@contextlib.contextmanager
def outgoing(front: FederationFront) -> Iterator[Sender]:
    """Connect as the legacy server, and open a stream."""
    with plaintext(front.named["out"], REMOTE) as bare:
        stream = Sender(bare, LEGACY, REMOTE)
        stream.open()
        stream.read_features()
        yield stream


def stuff(connection: socket.socket, data: bytes, seconds: float) -> tuple[int, bool]:
    """Write something again and again for a while, or until nothing is taken for a second.

    Returns:
        How many bytes were written, and whether they got stuck.
    """
    connection.settimeout(1)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection.sendall(data)
        except TimeoutError:
            return sent, True
        sent += len(data)
    return sent, False


NOBODY = ".".join(["x" * 60] * 3)

ANSWERED = {
    "nobody's": result(REMOTE, NOBODY),
    "ours": result(REMOTE, NOBODY, "k" * 1000),
}


@pytest.mark.parametrize("what", ANSWERED)
def test_who_does_not_read_the_answers_is_not_read_either(
    front: FederationFront, authority: Authority, behind: LegacyServer, what: str
) -> None:
    with incoming(front, authority) as stream:
        stream.let_pass(behind.next())
        stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = front.resident()
        sent, stuck = stuff(stream.connection, (ANSWERED[what] * 10).encode(), 8)
        print(sent, stuck, front.resident() - before, len(front.log()))
        assert front.resident() - before < BOUND
