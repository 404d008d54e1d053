"""Attack 25: nobody keeps the process busy, and nobody who is gone keeps a descriptor.

What is counted is how often a session is called and what is left unread, never how long it takes.
"""

import array
import fcntl
import os
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from proxy.net import joined
from proxy.net.closing import BRIEF_LINGER, LINGER
from proxy.net.joined import Joined, Sockets
from proxy.net.leg import Leg
from proxy.net.plain_relay import PlainRelay
from proxy.net.relay import Relay
from tests.authority import Authority
from tests.net.client import AUTH, HandTLS, connected, lax_context
from tests.net.conftest import Turning
from tests.net.forward import LISTENERS, greeting, meeting
from tests.net.hostile import STREAM, Peer
from tests.net.key_updates import KeyUpdates
from tests.net.legacy import reset
from tests.net.steady import SteadyTurning, turning
from tests.net.test_leg import DOMAIN, Ends, secure
from tests.servers.program import HOST

__all__ = ["turning"]

FLOOD = 2000
"""KeyUpdates, 27 bytes each: they fit into the buffer of any socket."""

TURNS = 60
FEW = 6
"""Calls in `TURNS` turns that are no busy loop."""

CONNECT_DEADLINE = 600
"""Seconds that a server has: more than a test."""


@attrs.define
class Secured:
    """A client's TLS connection, by hand, and what reads it: a leg, or a relay."""

    ends: Ends
    updates: KeyUpdates
    descriptor: int
    tls: HandTLS
    taken: Callable[[], bytes] = lambda: b""
    """What has come through."""
    calls: list[str] = attrs.Factory(list)
    """A name for each time that the leg or relay was called for the client's socket."""

    def unread(self) -> int:
        """Return how many bytes wait on the socket."""
        return waiting(self.descriptor)


def waiting(descriptor: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def counting(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, calls: list[str]) -> None:
    """Have every call of a method noted."""
    method = getattr(owner, name)

    def noted(self: object, events: int) -> None:
        calls.append(name)
        method(self, events)

    monkeypatch.setattr(owner, name, noted)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a TCP connection, the first not blocking."""
    with socket.create_server((HOST, 0)) as listening:
        theirs = socket.create_connection(listening.getsockname(), timeout=20)
        ours, _ = listening.accept()
    ours.setblocking(False)
    return ours, theirs


def on_leg(
    turning: Turning, authority: Authority, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Secured]:
    """A session before login: a leg reads the client."""
    context = lax_context()
    context.keylog_filename = str(directory / "keys")
    ends, tls = Ends(turning, peek=True), HandTLS(context, DOMAIN)
    ends.leg.await_hello(direct=True)
    secure(turning, ends, tls, authority, tls.hello())
    updates = KeyUpdates(directory / "keys", tls.tls)
    secured = Secured(ends, updates, ends.leg.fileno(), tls, taken=lambda: ends.notes.data)
    turning.hub.removeReader(ends.leg)
    counting(monkeypatch, Leg, "ready", secured.calls)
    turning.hub.addReader(ends.leg)
    yield secured
    ends.close()


def in_relay(
    turning: Turning, authority: Authority, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Secured]:
    """A session after login: a relay reads the client."""
    for secured in on_leg(turning, authority, directory, monkeypatch):
        server, behind = pair()
        behind.setblocking(False)
        got = bytearray()

        def taken(behind: socket.socket = behind, got: bytearray = got) -> bytes:
            with suppress(BlockingIOError):
                got.extend(behind.recv(65536))
            return bytes(got)

        secured.taken = taken
        counting(monkeypatch, Relay, "_on_wire", secured.calls)
        client, tls, _ = secured.ends.leg.detach()
        relay = Relay(turning.hub, Sockets(client, tls, server), None, lambda _reason: None)
        yield secured
        relay.end("the test is over")
        behind.close()


@pytest.fixture(params=[on_leg, in_relay], ids=["before login", "in the relay"])
def secured(
    request: pytest.FixtureRequest,
    turning: Turning,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Secured]:
    yield from request.param(turning, authority, tmp_path, monkeypatch)


def test_attack_25_a_flood_of_key_updates_keeps_nobody_waiting(
    turning: Turning, secured: Secured
) -> None:
    other = Ends(turning, peek=False)
    turning.turn(3)
    flood = secured.updates.flood(FLOOD, answer=False)
    secured.ends.peer.sendall(flood + secured.updates.data(b"after"))
    other.peer.sendall(b"ping")
    turning.until(lambda: other.notes.data)
    assert secured.unread() > len(flood) // 2
    assert not secured.taken()
    turning.until(lambda: secured.taken() == b"after")
    other.close()


def test_attack_25_a_read_that_waits_for_writing_does_not_spin(
    turning: Turning, secured: Secured
) -> None:
    """KeyUpdates that ask for answers, from a client that takes no answer."""
    with socket.socket(fileno=os.dup(secured.descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    secured.ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    data = secured.updates.flood(3 * FLOOD, answer=True) + secured.updates.data(b"after")
    secured.ends.peer.sendall(data)
    before = 0
    while secured.unread() != before:
        before = secured.unread()
        turning.turn(30)
    assert before, "all was answered: the test has not filled the buffers"
    secured.calls.clear()
    turning.turn(TURNS)
    assert len(secured.calls) < FEW
    assert secured.unread() == before
    secured.ends.peer.settimeout(0)
    secured.ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def drained() -> bool:
        with suppress(BlockingIOError):
            secured.ends.peer.recv(65536)
        return secured.taken() == b"after"

    turning.until(drained)


@pytest.mark.parametrize("under_tls", [False, True])
def test_attack_25_a_leg_that_closes_with_much_to_say_neither_reads_nor_spins(
    turning: Turning,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    *,
    under_tls: bool,
) -> None:
    calls: list[str] = []
    counting(monkeypatch, Leg, "ready", calls)
    ends = Ends(turning, peek=under_tls)
    tls = HandTLS(lax_context(), DOMAIN)
    if under_tls:
        ends.leg.await_hello(direct=True)
        secure(turning, ends, tls, authority, tls.hello())
    ends.leg.write(b"x" * (32 << 20))
    turning.turn(10)
    ends.leg.loseConnection()
    if under_tls:
        tls.send(ends.peer, b"not wanted")
    else:
        ends.peer.sendall(b"not wanted")
    turning.turn(10)
    before = waiting(ends.leg.fileno())
    assert before
    calls.clear()
    turning.turn(TURNS)
    assert len(calls) < FEW
    assert waiting(ends.leg.fileno()) == before
    assert not ends.notes.data
    ends.close()


# Sessions of which one side is gone


@attrs.define
class Stalled:
    """A relay, and what is at its ends."""

    relay: Joined
    client: socket.socket
    server: socket.socket
    reasons: list[str]
    descriptors: tuple[int, int]
    """The relay's own, towards the client and the server."""
    seal: Callable[[bytes], bytes]
    """Makes what the client sends of what it says."""


@pytest.fixture(params=["plaintext", "TLS"])
def stalled(
    request: pytest.FixtureRequest,
    turning: Turning,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stalled]:
    """A relay that gives one direction little time after the other."""
    monkeypatch.setattr(joined, "HALF_CLOSED", 0.2)
    server, behind = pair()
    reasons: list[str] = []
    relay: Joined
    if request.param == "TLS":
        ends, tls = Ends(turning, peek=True), HandTLS(lax_context(), DOMAIN)
        ends.leg.await_hello(direct=True)
        secure(turning, ends, tls, authority, tls.hello())
        client, ssl, _ = ends.leg.detach()
        peer = ends.peer

        def seal(data: bytes) -> bytes:
            tls.tls.write(data)
            return tls.outgoing.read()

        relay = Relay(turning.hub, Sockets(client, ssl, server), None, reasons.append)
    else:
        client, peer = pair()
        seal = lambda data: data  # noqa: E731
        relay = PlainRelay(turning.hub, Sockets(client, None, server), None, reasons.append)
    for connection in (client, server):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for connection in (peer, behind):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    descriptors = (client.fileno(), server.fileno())
    yield Stalled(relay, peer, behind, reasons, descriptors, seal)
    relay.end("the test is over")
    peer.close()
    behind.close()


def fill(
    turning: Turning, source: socket.socket, descriptor: int, make: Callable[[bytes], bytes]
) -> None:
    """Send until the relay, whose ``descriptor`` gets it, reads no more; its end may follow."""
    source.settimeout(1)
    unread = 0
    while not unread or waiting(descriptor) != unread:
        unread = waiting(descriptor)
        if not unread:
            source.sendall(make(b"x" * 16_000))
        turning.turn(3)


def test_attack_25_a_client_that_resets_while_the_server_stalls_is_let_go(
    turning: Turning, stalled: Stalled
) -> None:
    fill(turning, stalled.client, stalled.descriptors[0], stalled.seal)
    reset(stalled.client)
    turning.until(lambda: stalled.reasons)


def test_attack_25_a_server_that_resets_while_the_client_stalls_is_let_go(
    turning: Turning, stalled: Stalled
) -> None:
    fill(turning, stalled.server, stalled.descriptors[1], bytes)
    reset(stalled.server)
    turning.until(lambda: stalled.reasons)


def test_attack_25_a_server_that_closes_while_the_client_stalls_is_let_go(
    turning: Turning, stalled: Stalled
) -> None:
    fill(turning, stalled.server, stalled.descriptors[1], bytes)
    stalled.server.close()
    turning.until(lambda: stalled.reasons)


def test_attack_25_a_client_that_closes_while_the_server_stalls_is_let_go(
    turning: Turning, stalled: Stalled
) -> None:
    fill(turning, stalled.client, stalled.descriptors[0], stalled.seal)
    stalled.client.shutdown(socket.SHUT_WR)
    turning.until(lambda: stalled.reasons)


def test_attack_25_a_half_closed_session_does_not_spin(
    turning: Turning, stalled: Stalled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides stall, and one after the other closes its direction."""
    monkeypatch.setattr(joined, "HALF_CLOSED", 20)
    turns: list[int] = []
    poll = turning.hub.doRead

    def counted() -> None:
        turns.append(1)
        poll()

    monkeypatch.setattr(turning.hub, "doRead", counted)
    fill(turning, stalled.client, stalled.descriptors[0], stalled.seal)
    fill(turning, stalled.server, stalled.descriptors[1], bytes)
    for end in (stalled.client, stalled.server):
        end.shutdown(socket.SHUT_WR)
        turning.turn(5)
        turns.clear()
        turning.turn(TURNS)
        assert len(turns) < FEW
    assert not stalled.reasons


# Clients that may not stay


def test_attack_25_a_client_that_may_not_stay_is_not_waited_for(turning: SteadyTurning) -> None:
    ends = Ends(turning, peek=False)
    ends.leg.write(b"no")
    ends.leg.close(BRIEF_LINGER)
    turning.until(lambda: "lost" in ends.notes.told)
    assert BRIEF_LINGER <= turning.reactor.seconds() < LINGER
    assert ends.peer.recv(100) == b"no"
    ends.close()


# Clients that leave


@pytest.mark.parametrize("rule", LISTENERS)
@pytest.mark.parametrize("way", ["closes", "resets"])
def test_attack_25_a_client_that_leaves_while_its_server_is_looked_for_is_let_go(
    tmp_path: Path, authority: Authority, rule: str, way: str
) -> None:
    """The server has been connected to, and says nothing: no deadline is waited for."""
    heard = threading.Event()

    def silent(peer: Peer) -> None:
        peer.read_until(STREAM)
        heard.set()

    tables = {"deadlines": {"connect": CONNECT_DEADLINE}}
    with meeting(tmp_path, authority, {DOMAIN: {}}, tables=tables) as forward:
        forward.hostile.play(silent)
        with connected(forward.ports[rule]) as client:
            client.sendall((greeting(DOMAIN) + AUTH).encode())
            assert heard.wait(20)
            if way == "resets":
                reset(client)
        line = forward.wait_for_line("session ended")
        assert "the client went away" in line
        assert forward.hostile.settle()
