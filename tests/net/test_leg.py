"""A leg by itself: a transport that turns to TLS in place."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from proxy.net.client_hello import Hello
from proxy.net.leg import Leg
from proxy.net.tls import server_context
from proxy.session.hooks import TLSFacts
from tests.authority import Authority
from tests.net.client import HandTLS, lax_context
from tests.net.conftest import Turning
from tests.net.legacy import reset
from tests.servers.program import HOST

DOMAIN = "example.com"
LITTLE = 65_536
"""Bytes that may wait without a producer being paused."""


class Notes:
    """A protocol that writes down what it is told, and takes what it is told to take."""

    def __init__(self) -> None:
        self.data = b""
        self.take: Callable[[bytes], int] = len
        self.told: list[str] = []
        self.facts: TLSFacts | None = None
        self.hellos: list[Hello] = []
        self.then: Callable[[], None] = lambda: None

    def makeConnection(self, transport: Leg) -> None:
        self.told.append("connected")

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def dataPeeked(self, data: bytes) -> int:
        taken = self.take(data)
        self.data += data[:taken]
        return taken

    def dataTaken(self) -> None:
        self.then()

    def helloReceived(self, hello: Hello) -> None:
        self.hellos.append(hello)

    def tlsEstablished(self, facts: TLSFacts) -> None:
        self.facts = facts

    def tlsFailed(self, reason: str) -> None:
        self.told.append(f"TLS failed: {reason}")

    def readConnectionLost(self) -> None:
        self.told.append("half closed")

    def connectionLost(self, reason: Failure) -> None:
        self.told.append("lost")


class Ends:
    """A leg, what it tells, and the peer's plain socket."""

    def __init__(self, turning: Turning, *, peek: bool) -> None:
        with socket.create_server((HOST, 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname(), timeout=20)
            ours, _ = listening.accept()
        ours.setblocking(False)
        self.notes = Notes()
        self.leg = Leg(turning.hub, ours, self.notes, peek=peek)
        self.leg.start()

    def close(self) -> None:
        self.peer.close()
        if self.leg.fileno() >= 0:
            self.leg.forget()


@pytest.fixture
def plain(turning: Turning) -> Iterator[Ends]:
    ends = Ends(turning, peek=False)
    yield ends
    ends.close()


@pytest.fixture
def peeking(turning: Turning) -> Iterator[Ends]:
    ends = Ends(turning, peek=True)
    yield ends
    ends.close()


@pytest.fixture
def secured(turning: Turning, peeking: Ends, authority: Authority) -> tuple[Ends, HandTLS]:
    """A leg under TLS, and the peer's side of it."""
    tls = HandTLS(lax_context(), DOMAIN)
    peeking.leg.await_hello(direct=True)
    secure(turning, peeking, tls, authority, tls.hello())
    return peeking, tls


def secure(turning: Turning, ends: Ends, tls: HandTLS, authority: Authority, hello: bytes) -> None:
    ends.peer.sendall(hello)
    turning.until(lambda: ends.notes.hellos)
    ends.leg.start_tls(server_context([authority.issue(DOMAIN)], "test"))
    thread = threading.Thread(target=tls.finish, args=(ends.peer,))
    thread.start()
    turning.until(lambda: ends.notes.facts)
    turning.until(lambda: not thread.is_alive())


def test_it_is_a_transport_of_twisted(plain: Ends) -> None:
    verifyObject(ITCPTransport, plain.leg)
    verifyObject(IPushProducer, plain.leg)
    assert plain.peer.getsockname() == (plain.leg.getPeer().host, plain.leg.getPeer().port)
    assert plain.peer.getpeername() == (plain.leg.getHost().host, plain.leg.getHost().port)


def test_bytes_pass_both_ways(turning: Turning, plain: Ends) -> None:
    plain.peer.sendall(b"ping")
    turning.until(lambda: plain.notes.data == b"ping")
    plain.leg.write(b"po")
    plain.leg.writeSequence([b"n", b"g"])
    assert plain.peer.recv(4, socket.MSG_WAITALL) == b"pong"


def test_attack_03_what_is_not_taken_stays_on_the_socket(turning: Turning, peeking: Ends) -> None:
    peeking.notes.take = lambda data: data.index(b">") + 1
    peeking.notes.then = lambda: peeking.leg.await_hello(direct=False)
    hello = HandTLS(lax_context(), DOMAIN).hello()
    peeking.peer.sendall(b"<starttls/>" + hello)
    turning.until(lambda: peeking.notes.hellos)
    assert peeking.notes.data == b"<starttls/>"
    assert [Hello(DOMAIN, ())] == peeking.notes.hellos
    connection, _, _ = peeking.leg.detach()
    assert hello == connection.recv(65536)
    connection.close()


def test_tls_begins_in_place(turning: Turning, secured: tuple[Ends, HandTLS]) -> None:
    ends, tls = secured
    facts = ends.notes.facts
    assert facts is not None
    assert (
        facts.version,
        facts.server_name,
        facts.resumed,
        facts.direct,
    ) == ("TLSv1.3", DOMAIN, False, True)
    tls.send(ends.peer, b"ping" * 10_000)
    turning.until(lambda: ends.notes.data == b"ping" * 10_000)
    ends.leg.write(b"pong")
    assert tls.read(ends.peer) == b"pong"


def test_closing_under_tls_says_close_notify(
    turning: Turning, secured: tuple[Ends, HandTLS]
) -> None:
    ends, tls = secured
    ends.leg.write(b"last words")
    ends.leg.loseConnection()
    assert tls.read(ends.peer) == b"last words"
    assert tls.read(ends.peer) == b""
    ends.peer.close()
    turning.until(lambda: "lost" in ends.notes.told)


def test_the_peer_may_say_close_notify(turning: Turning, secured: tuple[Ends, HandTLS]) -> None:
    ends, tls = secured
    tls.send(ends.peer, b"last words")
    with pytest.raises(OSError, match="read"):
        tls.tls.unwrap()
    ends.peer.sendall(tls.outgoing.read())
    turning.until(lambda: "half closed" in ends.notes.told)
    assert ends.notes.data == b"last words"


def test_nonsense_instead_of_a_hello_fails(turning: Turning, peeking: Ends) -> None:
    peeking.leg.await_hello(direct=False)
    peeking.peer.sendall(b"GET / HTTP/1.1\r\n")
    turning.until(lambda: "TLS failed: not a TLS handshake" in peeking.notes.told)


def test_plaintext_still_waiting_ends_the_leg_before_tls(
    turning: Turning, peeking: Ends, authority: Authority
) -> None:
    """What the socket has not taken could only come out in the midst of TLS."""
    peeking.leg.await_hello(direct=False)
    peeking.peer.sendall(HandTLS(lax_context(), DOMAIN).hello())
    turning.until(lambda: peeking.notes.hellos)
    peeking.leg.write(b"x" * (64 << 20))
    peeking.leg.start_tls(server_context([authority.issue(DOMAIN)], "test"))
    assert "lost" in peeking.notes.told


def test_an_alert_answers_the_hello(turning: Turning, peeking: Ends) -> None:
    peeking.leg.await_hello(direct=True)
    peeking.peer.sendall(HandTLS(lax_context(), DOMAIN).hello())
    turning.until(lambda: peeking.notes.hellos)
    peeking.leg.send_alert(112)
    assert peeking.peer.recv(100) == b"\x15\x03\x01\x00\x02\x02\x70"
    assert peeking.peer.recv(100) == b""


def test_last_words_arrive_though_the_peer_goes_on_sending(turning: Turning, plain: Ends) -> None:
    """A socket closed with bytes unread would send RST and destroy them."""
    plain.peer.sendall(b"x" * 100_000)
    plain.leg.write(b"last words")
    plain.leg.loseConnection()
    plain.peer.sendall(b"x" * 100_000)
    turning.turn()
    assert plain.peer.recv(100) == b"last words"
    assert plain.peer.recv(100) == b""


def test_aborting_tells_and_closes(turning: Turning, plain: Ends) -> None:
    plain.leg.abortConnection()
    plain.leg.abortConnection()
    assert plain.notes.told == ["connected", "lost"]
    assert plain.peer.recv(1) == b""


def test_a_reset_is_told_once(turning: Turning, plain: Ends) -> None:
    reset(plain.peer)
    turning.until(lambda: "lost" in plain.notes.told)
    plain.leg.write(b"x")
    plain.leg.loseConnection()
    turning.turn()
    assert plain.notes.told.count("lost") == 1


class Producer:
    """Counts how often it is paused and resumed."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


def test_a_producer_is_paused_while_much_is_waiting(turning: Turning, plain: Ends) -> None:
    producer = Producer()
    plain.leg.registerProducer(producer, streaming=True)
    plain.leg.write(b"x" * LITTLE)
    assert not producer.calls
    size = 32 << 20
    plain.leg.write(b"x" * size)
    assert producer.calls == ["pause"]

    def drain() -> None:
        left = size + LITTLE
        while left:
            left -= len(plain.peer.recv(1 << 20))

    thread = threading.Thread(target=drain)
    thread.start()
    turning.until(lambda: not thread.is_alive())
    turning.turn(3)
    assert producer.calls == ["pause", "resume"]


def test_only_streaming_producers_are_taken(plain: Ends) -> None:
    with pytest.raises(ValueError, match="streaming"):
        plain.leg.registerProducer(Producer(), streaming=False)


@pytest.mark.parametrize("under_tls", [False, True])
def test_a_paused_leg_reads_nothing(
    request: pytest.FixtureRequest, turning: Turning, *, under_tls: bool
) -> None:
    tls: HandTLS | None = None
    if under_tls:
        ends, tls = request.getfixturevalue("secured")
    else:
        ends = request.getfixturevalue("plain")
    ends.leg.pauseProducing()
    if tls is None:
        ends.peer.sendall(b"wait")
    else:
        tls.send(ends.peer, b"wait")
    turning.turn()
    assert not ends.notes.data
    ends.leg.resumeProducing()
    turning.until(lambda: ends.notes.data == b"wait")


@pytest.mark.parametrize("under_tls", [False, True])
@pytest.mark.parametrize("first", ["hold", "pause"])
def test_a_hold_and_a_pause_do_not_undo_each_other(
    request: pytest.FixtureRequest, turning: Turning, first: str, *, under_tls: bool
) -> None:
    """Under TLS some bytes wait in OpenSSL, where no socket tells of them."""
    ends: Ends
    if under_tls:
        ends, tls = request.getfixturevalue("secured")
        tls.tls.write(b"x" * 20_000)
        data = tls.outgoing.read()
    else:
        ends = request.getfixturevalue("plain")
        data = b"x" * 20_000
    ends.leg.hold()
    ends.leg.pauseProducing()
    ends.peer.sendall(data)
    (ends.leg.release if first == "hold" else ends.leg.resumeProducing)()
    turning.turn()
    assert not ends.notes.data
    (ends.leg.resumeProducing if first == "hold" else ends.leg.release)()
    turning.until(lambda: len(ends.notes.data) == 20_000)


def test_what_openssl_holds_waits_for_the_end_of_a_hold(
    turning: Turning, secured: tuple[Ends, HandTLS]
) -> None:
    ends, tls = secured
    hold = ends.leg.hold

    class Holding(Notes):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            hold()

    ends.leg.protocol = notes = Holding()
    ends.leg.pauseProducing()
    at_once = 65_536  # as much as a leg reads before it tells its protocol
    for _ in range(16):
        tls.send(ends.peer, b"x" * 16_384)
    ends.leg.resumeProducing()
    turning.until(lambda: notes.data)
    for count in (1, 2, 3):
        ends.leg.pauseProducing()
        ends.leg.resumeProducing()
        turning.turn()
        assert len(notes.data) == count * at_once
        ends.leg.release()
        turning.until(lambda count=count: len(notes.data) > count * at_once)  # type: ignore[misc]


def test_an_end_of_tls_that_came_with_data_is_told_after_a_pause(
    turning: Turning, secured: tuple[Ends, HandTLS]
) -> None:
    ends, tls = secured
    pause = ends.leg.pauseProducing

    class Pausing(Notes):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            pause()

    ends.leg.protocol = notes = Pausing()
    pause()
    tls.tls.write(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.tls.unwrap()
    ends.peer.sendall(tls.outgoing.read())
    ends.leg.resumeProducing()
    turning.until(lambda: notes.data)
    turning.turn()
    assert "half closed" not in notes.told
    ends.leg.resumeProducing()
    turning.until(lambda: "half closed" in notes.told)
    assert notes.data == b"last"


# A peer that leaves while its leg is held


@pytest.mark.parametrize("peek", [False, True])
@pytest.mark.parametrize("unread", [b"", b"pipelined"])
def test_a_peer_that_leaves_a_held_leg_is_told_of_at_once(
    turning: Turning, monkeypatch: pytest.MonkeyPatch, unread: bytes, *, peek: bool
) -> None:
    ends = Ends(turning, peek=peek)
    calls: list[int] = []
    ready = Leg.ready

    def counted(leg: Leg, events: int) -> None:
        calls.append(events)
        ready(leg, events)

    monkeypatch.setattr(Leg, "ready", counted)
    ends.leg.hold()
    if unread:
        ends.peer.sendall(unread)
        turning.turn(5)
        assert not calls
    ends.peer.shutdown(socket.SHUT_WR)
    turning.until(lambda: "half closed" in ends.notes.told)
    turning.turn()
    assert len(calls) == 1
    assert ends.notes.told == ["connected", "half closed"]
    assert ends.notes.data == b""
    ends.leg.write(b"last words")
    ends.leg.loseConnection()
    turning.until(lambda: "lost" in ends.notes.told)
    assert ends.peer.recv(100) == b"last words"
    assert ends.peer.recv(100) == b""
    ends.close()


def test_a_peer_that_leaves_a_held_leg_under_tls_is_told_of(
    turning: Turning, secured: tuple[Ends, HandTLS]
) -> None:
    ends, _ = secured
    ends.leg.hold()
    ends.peer.shutdown(socket.SHUT_WR)
    turning.until(lambda: "half closed" in ends.notes.told)


def test_a_peer_that_resets_a_held_leg_ends_it(turning: Turning, plain: Ends) -> None:
    plain.leg.hold()
    reset(plain.peer)
    turning.until(lambda: "lost" in plain.notes.told)
    assert plain.notes.told == ["connected", "lost"]


def test_a_peer_that_has_half_closed_is_read_after_a_hold(turning: Turning, plain: Ends) -> None:
    plain.leg.hold()
    plain.peer.sendall(b"pipelined")
    plain.peer.shutdown(socket.SHUT_WR)
    turning.until(lambda: "half closed" in plain.notes.told)
    plain.leg.release()
    turning.until(lambda: plain.notes.told.count("half closed") == 2)
    assert plain.notes.data == b"pipelined"


def test_a_peer_that_half_closes_a_paused_leg_is_not_told_of(turning: Turning, plain: Ends) -> None:
    """It may wait for an answer, which back-pressure alone delays."""
    plain.leg.pauseProducing()
    plain.peer.shutdown(socket.SHUT_WR)
    turning.turn()
    assert plain.notes.told == ["connected"]
    plain.leg.resumeProducing()
    turning.until(lambda: "half closed" in plain.notes.told)


def test_a_held_leg_that_is_given_up_is_watched_no_more(turning: Turning, plain: Ends) -> None:
    plain.leg.hold()
    connection, _, _ = plain.leg.detach()
    with connection:
        plain.peer.shutdown(socket.SHUT_WR)
        turning.turn()
    assert plain.notes.told == ["connected"]


def test_a_leg_on_the_reactor_itself_can_be_held(turning: Turning) -> None:
    """The reactor cannot tell of a peer that leaves; it is read later."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    notes = Notes()
    leg = Leg(turning.reactor, ours, notes, peek=False)
    leg.start()
    leg.hold()
    theirs.close()
    turning.turn()
    assert notes.told == ["connected"]
    leg.release()
    turning.until(lambda: "half closed" in notes.told)
    leg.forget()
