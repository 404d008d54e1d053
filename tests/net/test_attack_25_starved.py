"""A peer that sends half of a message makes OpenSSL want to read before it can write anything."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.net.joined import Sockets
from proxy.net.relay import Relay
from tests.authority import Authority
from tests.net.conftest import Turning
from tests.net.test_attack_25_busy import TURNS, Secured, counting, on_leg, pair

HALF_A_KEY_UPDATE = bytes((24, 0, 0, 1))
"""The header of a message whose one byte does not come (RFC 8446, section 4.6.3)."""
REST = bytes((0,))
HANDSHAKE = 0x16


@pytest.fixture
def on_a_leg(
    turning: Turning, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Secured]:
    yield from on_leg(turning, authority, tmp_path, monkeypatch)


def send(secured: Secured, content: bytes) -> None:
    secured.ends.peer.sendall(secured.updates.record(HANDSHAKE, content))


def wake_ups(turning: Turning, secured: Secured) -> int:
    """How often the peer's socket has the hub called in `TURNS` turns in which nothing happens."""
    turning.turn(5)
    secured.calls.clear()
    turning.turn(TURNS)
    return len(secured.calls)


def came(turning: Turning, secured: Secured, wanted: bytes) -> None:
    """Wait until the peer has got a record of that many bytes at least."""
    secured.ends.peer.settimeout(0.01)
    got = bytearray()

    def arrived() -> bool:
        try:
            got.extend(secured.ends.peer.recv(65536))
        except TimeoutError:
            return False
        return len(got) > len(wanted)

    turning.until(arrived)


def test_attack_25_a_leg_that_cannot_write_does_not_spin(
    turning: Turning, on_a_leg: Secured
) -> None:
    send(on_a_leg, HALF_A_KEY_UPDATE)
    turning.turn(5)
    on_a_leg.ends.leg.write(b"<message/>")
    assert wake_ups(turning, on_a_leg) < 5
    send(on_a_leg, REST)
    came(turning, on_a_leg, b"<message/>")


def test_attack_25_a_leg_that_is_held_writes_as_soon_as_it_can(
    turning: Turning, on_a_leg: Secured
) -> None:
    send(on_a_leg, HALF_A_KEY_UPDATE)
    turning.turn(5)
    on_a_leg.ends.leg.write(b"<message/>")
    on_a_leg.ends.leg.hold()
    on_a_leg.ends.leg.write(b"<message/>")
    assert wake_ups(turning, on_a_leg) < 5
    send(on_a_leg, REST)
    came(turning, on_a_leg, b"<message/>" * 2)
    assert wake_ups(turning, on_a_leg) < 5


@pytest.fixture
def behind(
    turning: Turning, on_a_leg: Secured, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The server's end of a relay."""
    counting(monkeypatch, Relay, "_on_wire", on_a_leg.calls)
    server, behind = pair()
    client, tls, _ = on_a_leg.ends.leg.detach()
    relay = Relay(turning.hub, Sockets(client, tls, server), None, lambda _reason: None)
    yield behind
    relay.end("the test is over")
    behind.close()


def test_attack_25_a_relay_that_cannot_write_does_not_spin(
    turning: Turning, on_a_leg: Secured, behind: socket.socket
) -> None:
    send(on_a_leg, HALF_A_KEY_UPDATE)
    turning.turn(5)
    behind.sendall(b"<message/>")
    assert wake_ups(turning, on_a_leg) < 5
    send(on_a_leg, REST)
    came(turning, on_a_leg, b"<message/>")
