"""A handshake of which OpenSSL sees one record at a time."""

import contextlib
import functools
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from proxy.net import client_hello, openssl
from proxy.net.handshake import LARGEST, Handshake, HandshakeError, Next
from proxy.net.leg import Leg
from proxy.net.tls import client_context, server_context
from proxy.trust.policy import Pattern, Policy
from tests.authority import Authority
from tests.net.client import HandTLS, lax_context
from tests.net.conftest import Turning
from tests.net.key_updates import KeyUpdates
from tests.net.test_attack_25_busy import FEW, TURNS, counting, waiting
from tests.net.test_leg import DOMAIN, Ends


class HandServer:
    """The server's side of TLS with its records in the hand."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.done = False

    def take(self, data: bytes) -> bytes:
        """Take what the client sends; return the answer."""
        self.incoming.write(data)
        if not self.done:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                self.done = True
        return self.outgoing.read()

    def say(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()


class Between:
    """A handshake as the client, and its server's end of the connection."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, server: HandServer) -> None:
        self.theirs = theirs
        self.server = server
        self.handshake = Handshake(_context(), ours, accept=False)
        self.handshake.tls.set_tlsext_host_name(DOMAIN.encode())

    def heard(self) -> bytes:
        """Return what the client has sent."""
        with contextlib.suppress(BlockingIOError):
            return self.theirs.recv(65_536)
        return b""

    def settle(self) -> None:
        """Give the server the last of the handshake; it may answer with tickets."""
        self.theirs.sendall(self.server.take(self.heard()))

    def finish(self, step: Next) -> None:
        """Go on to the end."""
        for _ in range(20):
            if step is Next.DONE:
                self.settle()
                return
            if data := self.heard():
                self.theirs.sendall(self.server.take(data))
            step = self.handshake.advance()
        pytest.fail("the handshake does not end")


@functools.cache
def _context() -> SSL.Context:
    return client_context(Policy(Pattern.parse(DOMAIN)))


@pytest.fixture
def serving(authority: Authority) -> ssl.SSLContext:
    """What the server speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(DOMAIN))
    return context


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def between(pair: tuple[socket.socket, socket.socket], serving: ssl.SSLContext) -> Between:
    return Between(*pair, HandServer(serving))


@pytest.fixture(params=["TLSv1.2", "TLSv1.3", "another group"])
def kind(request: pytest.FixtureRequest, serving: ssl.SSLContext) -> str:
    """Which handshake it is; for another group the server asks with a HelloRetryRequest."""
    if request.param == "TLSv1.2":
        serving.maximum_version = ssl.TLSVersion.TLSv1_2
    elif request.param == "another group":
        serving.set_ecdh_curve("secp384r1")
    return str(request.param)


def both_ways(between: Between) -> None:
    """Pass data in both directions."""
    tls, server = between.handshake.tls, between.server
    between.theirs.sendall(server.say(b"from the server"))
    while True:
        with contextlib.suppress(SSL.WantReadError):  # tickets
            assert tls.recv(100) == b"from the server"
            break
    tls.send(b"from the client")
    server.incoming.write(between.heard())
    assert server.tls.read(100) == b"from the client"


def test_every_kind_of_handshake_goes_on_on_the_socket(kind: str, between: Between) -> None:
    between.finish(between.handshake.advance())
    both_ways(between)
    tls = between.handshake.tls
    version = "TLSv1.2" if kind == "TLSv1.2" else "TLSv1.3"
    assert tls.get_protocol_version_name() == version
    with pytest.raises(TypeError):
        tls.bio_read(1)
    tls.shutdown()
    between.server.incoming.write(between.heard())
    assert between.server.tls.read(1) == b""


def test_nothing_behind_the_handshake_is_taken(kind: str, between: Between) -> None:
    """The server's Finished of TLS 1.2 and its first data in one segment."""
    step = between.handshake.advance()
    last = b""
    while not between.server.done:
        last = between.server.take(between.heard())
        if not between.server.done:
            between.theirs.sendall(last)
            step = between.handshake.advance()
    if kind == "TLSv1.2":
        assert step is Next.READABLE
    between.theirs.sendall(last + between.server.say(b"at once"))
    if kind == "TLSv1.2":
        step = between.handshake.advance()
    assert step is Next.DONE
    while True:
        with contextlib.suppress(SSL.WantReadError):
            assert between.handshake.tls.recv(100) == b"at once"
            break


def test_data_in_one_segment_with_the_finished_of_tls_1_3(
    between: Between, serving: ssl.SSLContext, tmp_path: Path
) -> None:
    serving.keylog_filename = str(tmp_path / "keys")
    between.handshake.advance()
    flight = between.server.take(between.heard())
    early = KeyUpdates(tmp_path / "keys", between.server.tls, "SERVER").data(b"at once")
    between.theirs.sendall(flight + early)
    assert between.handshake.advance() is Next.DONE
    assert between.handshake.tls.recv(100) == b"at once"


def test_key_updates_after_the_handshake(
    pair: tuple[socket.socket, socket.socket], serving: ssl.SSLContext, tmp_path: Path
) -> None:
    serving.keylog_filename = str(tmp_path / "keys")
    serving.num_tickets = 0
    between = Between(*pair, HandServer(serving))
    openssl.read_a_record_at_a_time(between.handshake.tls)
    between.finish(between.handshake.advance())
    updates = KeyUpdates(tmp_path / "keys", between.server.tls, "SERVER")
    between.theirs.sendall(updates.update(answer=True) + updates.data(b"under a new key"))
    with pytest.raises(SSL.WantReadError):
        between.handshake.tls.recv(100)
    assert between.handshake.tls.recv(100) == b"under a new key"
    between.handshake.tls.send(b"and here")
    between.server.incoming.write(between.heard())
    assert between.server.tls.read(100) == b"and here"


def test_records_cut_at_every_byte(serving: ssl.SSLContext, kind: str) -> None:
    """Each cut of the first flight costs a handshake, so of the long ones some are left out."""
    for cut in [*range(1, 12), *range(12, 3000, 61)]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            between = Between(ours, theirs, HandServer(serving))
            between.handshake.advance()
            flight = between.server.take(between.heard())
            if cut >= len(flight):
                assert cut > 100, kind
                break
            theirs.sendall(flight[:cut])
            assert between.handshake.advance() is Next.READABLE
            assert waiting(ours.fileno()) == 0
            theirs.sendall(flight[cut:])
            between.finish(between.handshake.advance())
            both_ways(between)


def test_drips(kind: str, between: Between) -> None:
    step = between.handshake.advance()
    while step is not Next.DONE:
        for byte in between.server.take(between.heard()):
            assert step is Next.READABLE
            between.theirs.sendall(bytes((byte,)))
            step = between.handshake.advance()
    between.settle()
    both_ways(between)


def test_partial_writes(
    pair: tuple[socket.socket, socket.socket], serving: ssl.SSLContext, kind: str
) -> None:
    class Narrow(socket.socket):
        """Takes little at a time, and nothing every other time."""

        turn = 0

        def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
            self.turn += 1
            if self.turn % 2:
                raise BlockingIOError
            return super().send(data[:100], flags)

    with Narrow(fileno=pair[0].detach()) as narrow:
        narrow.setblocking(False)
        between = Between(narrow, pair[1], HandServer(serving))
        assert between.handshake.advance() is Next.WRITABLE
        step = Next.WRITABLE
        for _ in range(200):
            if step is Next.DONE:
                break
            if (data := between.heard()) and (answer := between.server.take(data)):
                between.theirs.sendall(answer)
            step = between.handshake.advance()
        assert step is Next.DONE
        between.settle()
        both_ways(between)


def record(kind: int, content: bytes, size: int | None = None) -> bytes:
    """Return a record in plaintext."""
    return bytes((kind, 3, 3)) + (len(content) if size is None else size).to_bytes(2) + content


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (record(22, b"", LARGEST + 1), "data length too long"),
        (record(22, b"x" * LARGEST), "data length too long"),  # OpenSSL knows better
        (record(0x30, b"abc"), "not a TLS record"),
        (b"<?xml version='1.0'?>", "wrong version number"),
        (record(21, b"\x02\x28"), "handshake failure"),
        (record(22, b"") * 40, "record too small"),
    ],
)
def test_what_cannot_be_a_handshake_fails(between: Between, said: bytes, why: str) -> None:
    between.handshake.advance()
    between.heard()
    between.theirs.sendall(said)
    with pytest.raises((HandshakeError, SSL.Error), match=why):
        between.finish(Next.READABLE)


def test_a_failure_is_told_to_the_peer(between: Between) -> None:
    between.handshake.advance()
    between.heard()
    between.theirs.sendall(record(23, b"no handshake"))
    with pytest.raises(SSL.Error):
        between.handshake.advance()
    assert between.heard()[0] == 0x15


def test_what_is_left_in_openssl_ends_it(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "unread", lambda _connection: 1)
    with pytest.raises(HandshakeError, match="something is left"):
        between.finish(between.handshake.advance())


HELLO_REQUEST = b"\x00\x00\x00\x00"
FLOOD = 2_000_000
"""Bytes, more than any handshake may take."""


def flooded(turning: Turning, ends: Ends, flood: bytes, calls: list[str]) -> int:
    """Send a flood while another leg waits; return how many calls that took."""
    other = Ends(turning, peek=False)
    ends.peer.setblocking(False)
    other.peer.sendall(b"ping")
    rest = flood * (FLOOD // len(flood))
    served_after = None

    def ended() -> bool:
        nonlocal rest, served_after
        with contextlib.suppress(OSError):
            rest = rest[ends.peer.send(rest) :]
        if other.notes.data and served_after is None:
            served_after = len(calls)
        return any(told.startswith("TLS failed") for told in ends.notes.told)

    turning.until(ended)
    other.close()
    assert served_after is not None
    assert served_after < FEW
    assert waiting(ends.leg.fileno()), "all of it was taken"
    assert "TLS failed: the handshake takes too much" in ends.notes.told
    return len(calls)


@pytest.mark.parametrize("size", [4, 16_384])
def test_attack_25_a_flood_of_hello_requests_keeps_nobody_waiting(
    turning: Turning, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    calls: list[str] = []
    counting(monkeypatch, Leg, "ready", calls)
    ends = Ends(turning, peek=False)
    ends.leg.start_client_tls(_context(), DOMAIN, direct=True)
    assert ends.peer.recv(65_536)
    taken = flooded(turning, ends, record(22, HELLO_REQUEST * (size // 4)), calls)
    assert taken >= (128 if size == 4 else 16) // 8
    ends.close()


def with_early_data(hello: bytes) -> bytes:
    """Have a ClientHello, alone in its record, announce early data (RFC 8446, 4.2.10)."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2])
    at += 1 + hello[at]
    extensions = hello[at + 2 :] + b"\x00\x2a\x00\x00"
    body = hello[9:at] + len(extensions).to_bytes(2) + extensions
    return record(22, b"\x01" + len(body).to_bytes(3) + body)


def test_early_data_is_seen_in_a_hello() -> None:
    hello = HandTLS(lax_context(), DOMAIN).hello()
    plain, early = (client_hello.read(each) for each in (hello, with_early_data(hello)))
    assert isinstance(plain, client_hello.Hello)
    assert isinstance(early, client_hello.Hello)
    assert (plain.goes_on, early.goes_on) == (False, True)


def test_attack_25_a_flood_of_empty_early_data_keeps_nobody_waiting(
    turning: Turning, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    counting(monkeypatch, Leg, "ready", calls)
    ends = Ends(turning, peek=True)
    ends.leg.await_hello(direct=True)
    ends.peer.sendall(with_early_data(HandTLS(lax_context(), DOMAIN).hello()))
    turning.until(lambda: ends.notes.hellos)
    ends.leg.start_tls(server_context([authority.issue(DOMAIN)], "test"))
    assert flooded(turning, ends, record(23, b""), calls) >= 128 // 8
    ends.close()


def test_attack_25_a_handshake_that_cannot_write_does_not_spin(
    turning: Turning, serving: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sends, but takes nothing, and the client has not even sent its ClientHello."""
    calls: list[str] = []
    counting(monkeypatch, Leg, "ready", calls)
    ends = Ends(turning, peek=False)
    junk = 0
    with (
        socket.socket(fileno=os.dup(ends.leg.fileno())) as same,
        contextlib.suppress(BlockingIOError),
    ):
        while True:
            junk += same.send(b"x" * 65_536)
    ends.leg.start_client_tls(_context(), DOMAIN, direct=True)
    ends.peer.sendall(record(22, HELLO_REQUEST))
    turning.turn(5)
    calls.clear()
    turning.turn(TURNS)
    assert len(calls) < FEW
    assert waiting(ends.leg.fileno())
    while junk:
        junk -= len(ends.peer.recv(min(junk, 65_536)))
    server = HandServer(serving)
    ends.peer.settimeout(0)

    def established() -> bool:
        with contextlib.suppress(BlockingIOError):
            ends.peer.sendall(server.take(ends.peer.recv(65_536)))
        return ends.notes.facts is not None

    turning.until(established)
    ends.close()
