"""Attack 12: what a thousand strangers can make the daemon hold."""

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.authority import Authority
from tests.net.client import logged_in
from tests.net.front import DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST
from tests.servers.stream import SECONDS

CONNECTIONS = 1000
BOUND = 100 << 20
"""Bytes that a thousand strangers may cost together: the 64 KiB that each may send, and a bit."""

UNAUTHENTICATED_BYTES = 65_536
OPENING = (
    f"<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'"
).encode()

Assault = Callable[[list[socket.socket]], None]


def nothing(_connections: list[socket.socket]) -> None:
    """Connect, and leave it at that."""


def huge_start_tag(connections: list[socket.socket]) -> None:
    """As much of one attribute as may be sent without being thrown out."""
    rest = UNAUTHENTICATED_BYTES - len(OPENING) - 100
    for connection in connections:
        connection.sendall(OPENING + b" a='" + b"a" * rest)


def endless_start_tag(connections: list[socket.socket]) -> None:
    """More of one attribute than may be sent, from those who do not mind errors."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(OPENING + b" a='" + b"a" * (1 << 20))


def byte_by_byte(connections: list[socket.socket]) -> None:
    """Each byte a segment of its own."""
    for byte in OPENING[:24]:
        for connection in connections:
            connection.sendall(bytes((byte,)))


def endless_white_space(connections: list[socket.socket]) -> None:
    """An open stream, and then nothing but spaces."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(OPENING + b">" + b" " * 300_000)


def many_attributes(connections: list[socket.socket]) -> None:
    """Attributes without end, in a start tag that does not end."""
    attributes = b"".join(b" a%d=''" % number for number in range(5000))
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(OPENING + attributes)


def half_a_client_hello(connections: list[socket.socket]) -> None:
    """A ClientHello that lacks its end."""
    for connection in connections:
        connection.sendall(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(16_000))


@pytest.fixture
def fresh(
    tmp_path_factory: pytest.TempPathFactory, domains: list[Served], legacy: LegacyServer
) -> Iterator[Front]:
    """A daemon that has seen nobody yet, with patience beyond the test."""
    tables = {"deadlines": {"negotiation": 300}}
    with Front(tmp_path_factory.mktemp("fresh"), domains, tables={**LIMITS, **tables}) as front:
        yield front


LIMITS = {
    "plugins.limits": {
        "connections_per_address": 0,
        "handshakes_per_minute": 0,
        "unauthenticated_bytes": UNAUTHENTICATED_BYTES,
    }
}


@pytest.mark.parametrize(
    "assault",
    [
        nothing,
        huge_start_tag,
        endless_start_tag,
        byte_by_byte,
        endless_white_space,
        many_attributes,
        half_a_client_hello,
    ],
)
def test_attack_12_growth_is_bounded(
    fresh: Front,
    authority: Authority,
    assault: Assault,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    allow_descriptors(3 * CONNECTIONS)
    with logged_in(fresh.port, authority.ca_path):
        pass  # so that everything is loaded
    before = fresh.resident()
    connections: list[socket.socket] = []
    try:
        for _ in range(CONNECTIONS):
            connections.append(  # noqa: PERF401 - what is open must be closed, whatever happens
                socket.create_connection((HOST, fresh.port), timeout=SECONDS)
            )
        assault(connections)
        most = peak(fresh)
        with logged_in(fresh.port, authority.ca_path):
            pass  # it serves others meanwhile, and has seen all that came before
        most = max(most, peak(fresh))
    finally:
        for connection in connections:
            connection.close()
    growth = most - before
    record_property("growth_bytes", growth)
    with capsys.disabled():
        print(  # noqa: T201 - the figure is asked for
            f"\n{assault.__name__}: {growth / (1 << 20):.1f} MiB "
            f"for {CONNECTIONS} connections, {growth // CONNECTIONS} bytes each"
        )
    assert growth < BOUND
    assert fresh.alive()


def peak(front: Front) -> int:
    """Return the most memory seen until it grows no more."""
    seen = [front.resident()]
    while len(seen) < 4 or seen[-1] > seen[-4]:
        time.sleep(0.05)
        seen.append(front.resident())
    return max(seen)


def allow_descriptors(count: int) -> None:
    """Have this process open so many sockets, if the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
