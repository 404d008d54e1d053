"""A peer that sends half of a message makes OpenSSL want to read before it can write anything."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.net.joined import Sockets
from proxy.net.leg import Leg
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
    """Wait until the peer has got these bytes under TLS."""
    secured.ends.peer.settimeout(0.01)
    got = bytearray()

    def arrived() -> bool:
        with suppress(TimeoutError):
            got.extend(secured.tls.read(secured.ends.peer))
        return len(got) >= len(wanted)

    turning.until(arrived)
    assert got == wanted


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


@pytest.mark.parametrize("rest", [Leg.hold, Leg.pauseProducing, Leg.loseConnection])
def test_what_waits_is_written_though_nothing_is_to_be_read(
    turning: Turning, on_a_leg: Secured, rest: Callable[[Leg], None]
) -> None:
    send(on_a_leg, HALF_A_KEY_UPDATE)
    turning.turn(5)
    on_a_leg.ends.leg.write(b"<message/>")
    rest(on_a_leg.ends.leg)
    assert wake_ups(turning, on_a_leg) < 5
    send(on_a_leg, REST)
    came(turning, on_a_leg, b"<message/>")
    assert wake_ups(turning, on_a_leg) < 5
    assert "lost" not in on_a_leg.ends.notes.told


def test_a_leg_that_has_said_all_sees_its_peer_close(turning: Turning, on_a_leg: Secured) -> None:
    """It need not linger until its time is over."""
    send(on_a_leg, HALF_A_KEY_UPDATE)
    turning.turn(5)
    on_a_leg.ends.leg.write(b"<message/>")
    on_a_leg.ends.leg.close(600)
    send(on_a_leg, REST)
    came(turning, on_a_leg, b"<message/>")
    on_a_leg.ends.peer.shutdown(socket.SHUT_WR)
    turning.until(lambda: "lost" in on_a_leg.ends.notes.told)


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
