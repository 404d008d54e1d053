"""A peer that stops reading costs nothing but its own session, and that one can be ended."""

import json
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer

STANZA = b"<message><body>" + b"x" * 16_000 + b"</body></message>"
PLENTY = 256 << 20
"""Octets that no system's buffers take."""

MOST = 8 << 20
"""Octets of memory that a session may take which is stalled."""

SLOW = 90.0
"""Seconds that are enough for anything."""


@pytest.fixture
def front(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> Iterator[Front]:
    with Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])]) as front:
        yield front


def flood(source: socket.socket) -> None:
    """Send until nothing more is taken."""
    source.settimeout(1)
    sent = 0
    with suppress(TimeoutError, ssl.SSLWantWriteError):
        while sent < PLENTY:
            sent += source.send(STANZA[sent % len(STANZA) :])
    assert sent < PLENTY, "the source was never paused"
    source.settimeout(SLOW)


def is_ended(connection: socket.socket) -> bool:
    """Whether a connection ends, whatever was still said on it."""
    connection.settimeout(SLOW)
    with suppress(ConnectionError, ssl.SSLError, BrokenPipeError):
        while connection.recv(65_536):
            pass
    return True


def sessions(front: Front) -> list[str]:
    """The sessions that there are, the oldest first."""
    done = bascule(front, "sessions", "--json")
    assert done.returncode == 0, done.stderr
    found = sorted(json.loads(done.stdout), key=lambda each: -float(each["seconds"]))
    return [str(each["id"]) for each in found]


@pytest.mark.parametrize("way", ["kick", "drain", "stop"])
@pytest.mark.parametrize("stalled", ["server", "client"])
def test_a_session_whose_peer_does_not_read_can_be_ended(
    front: Front, legacy: LegacyServer, authority: Authority, way: str, stalled: str
) -> None:
    with (
        logged_in(front.port, authority.ca_path) as client,
        logged_in(front.port, authority.ca_path) as other,
    ):
        server, others = legacy.next(), legacy.next()
        before = front.resident()
        flood(client.connection if stalled == "server" else server.socket)
        assert front.resident() - before < MOST
        other.send("<presence/>")
        others.read_until(b"<presence/>")
        [first, second] = sessions(front)
        if way == "kick":
            done = bascule(front, "kick", first)
            assert done.returncode == 0, done.stderr
            end = time.monotonic() + SLOW
            while sessions(front) != [second]:
                assert time.monotonic() < end, "it was not ended"
            other.send("<message/>")
            others.read_until(b"<message/>")
        elif way == "drain":
            done = bascule(front, "drain", "--older-than", "0s")
            assert done.returncode == 0, done.stderr
            end = time.monotonic() + SLOW
            while sessions(front):
                assert time.monotonic() < end, "they were not ended"
        else:
            front.processes[0].send_signal(signal.SIGTERM)
            assert front.processes[0].wait(SLOW) == 0
        assert is_ended(client.connection if stalled == "server" else server.socket)
        assert is_ended(server.socket if stalled == "server" else client.connection)
