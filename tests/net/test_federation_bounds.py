"""What a server can make the daemon hold, and do, once it is let in."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.session.federation import MOST_PAIRS, MOST_REFUSALS
from tests.authority import Authority
from tests.net.federation import (
    LEGACY,
    REMOTE,
    FederationFront,
    context_of,
    zone,
)
from tests.net.hostile import FAULTS, Hostile
from tests.net.legacy import LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import (
    Sender,
    accepting,
    message,
    result,
    script,
    taking,
    verify,
)
from tests.servers.stream import plaintext

BOUND = 8 << 20
"""Bytes that one server may make the daemon hold."""

FLOOD = 64 << 20
"""Bytes that are more than sockets buffer."""


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
        with FederationFront(directory, authority, {LEGACY: behind.port}, names.port) as front:
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


def stuff(connection: socket.socket, data: bytes) -> bool:
    """Write a flood of something; return whether that got stuck for a second."""
    connection.settimeout(1)
    for _ in range(FLOOD // len(data)):
        try:
            connection.sendall(data)
        except TimeoutError:
            return True
    return False


def insist(connection: socket.socket, data: bytes, done: Callable[[], bool]) -> None:
    """Write something again and again until something is so, though it may get stuck.

    The kernel may be late to say that nobody is there any more: who reads nothing hears it from
    nothing else.
    """
    connection.settimeout(1)
    gone = False
    while not done():
        try:
            if gone:
                time.sleep(0.01)
            else:
                connection.send(data)
        except TimeoutError:
            pass  # OpenSSL wants to be given the same again, which it is
        except FAULTS:
            gone = True


NOBODY = ".".join(["x" * 60] * 3)
ASKED = {
    "a pair for nobody": result(REMOTE, NOBODY),
    "a key of nobody's": verify(REMOTE, NOBODY, "x"),
}


ENOUGH = f"more than {MOST_REFUSALS} requests were refused"


@pytest.mark.parametrize("what", ASKED)
def test_who_asks_in_vain_and_does_not_read_the_answers_is_let_go(
    front: FederationFront, authority: Authority, behind: LegacyServer, what: str
) -> None:
    """The proxy answers itself: that must not pile up."""
    with incoming(front, authority) as stream:
        stream.let_pass(behind.next())
        stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = front.resident()
        ended = front.whole_log().count(ENOUGH)
        ask = (ASKED[what] * 10).encode()
        insist(stream.connection, ask, lambda: front.whole_log().count(ENOUGH) > ended)
        assert front.resident() - before < BOUND


@pytest.mark.parametrize("what", ASKED)
def test_so_many_questions_are_answered_in_vain_and_no_more(
    front: FederationFront, authority: Authority, behind: LegacyServer, what: str
) -> None:
    with incoming(front, authority) as stream:
        stream.let_pass(behind.next())
        stream.send(ASKED[what] * (MOST_REFUSALS + 1))
        said = stream.read_to_end()
        assert said.count("<item-not-found ") == MOST_REFUSALS
        assert "<policy-violation " in said


def test_a_server_of_ours_that_does_not_read_the_answers_is_not_read_either(
    front: FederationFront, authority: Authority, remote: Hostile
) -> None:
    """Asked again, the proxy says again that SASL EXTERNAL has proved a pair."""
    remote.play(script(authority.issue(REMOTE), accepting()))
    with outgoing(front) as stream:
        stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = front.resident()
        assert stuff(stream.connection, (result(LEGACY, REMOTE) * 10).encode())
        assert front.resident() - before < BOUND


def test_a_server_of_ours_that_does_not_read_holds_the_other_one_up(
    front: FederationFront, authority: Authority, behind: LegacyServer
) -> None:
    stanza = message(REMOTE, LEGACY, "x" * 1000).encode()
    with incoming(front, authority) as stream:
        ours = behind.next()
        stream.let_pass(ours)
        before = front.resident()
        sent = held_up(stream.connection, stanza)
        assert front.resident() - before < BOUND
        assert ours.read(sent) == stanza * (sent // len(stanza))


def test_another_server_that_does_not_read_holds_ours_up(
    front: FederationFront, remote: Hostile
) -> None:
    stanza = message(LEGACY, REMOTE, "x" * 1000).encode()
    with outgoing(front) as stream:
        peer = remote.next()
        stream.let_pass(peer)
        before, heard = front.resident(), len(peer.sealed)
        sent = held_up(stream.connection, stanza)
        assert front.resident() - before < BOUND
        while len(peer.sealed) - heard < sent:
            peer.read_until(b"</message>")
        assert peer.sealed[heard:] == stanza * (sent // len(stanza))


def held_up(connection: socket.socket, stanza: bytes) -> int:
    """Write stanzas until nothing more is taken, then the rest of them from a thread.

    Returns:
        How many bytes were written, or will be once they are taken.
    """
    sent = 0
    while sent < FLOOD:
        writing = threading.Thread(target=connection.sendall, args=(stanza * 100,), daemon=True)
        writing.start()
        writing.join(1)
        sent += len(stanza) * 100
        if writing.is_alive():
            return sent
    raise AssertionError("it does not get stuck")


def test_a_flood_of_unanswered_pairs_costs_little(
    front: FederationFront, authority: Authority, behind: LegacyServer
) -> None:
    with incoming(front, authority) as stream:
        ours = behind.next()
        stream.let_pass(ours)
        before = front.resident()
        asked = [result(f"{n}.example", LEGACY, "k" * 1000) for n in range(MOST_PAIRS)]
        stream.send("".join(asked))
        stream.read_until("</db:result>")  # one too many
        stream.send("".join(asked[: MOST_REFUSALS - 1]))
        for _ in range(MOST_REFUSALS - 1):
            stream.read_until("</db:result>")
        assert front.resident() - before < BOUND


def test_verifications_that_nobody_answers_cost_little_either(
    front: FederationFront, remote: Hostile
) -> None:
    with outgoing(front) as stream:
        peer = remote.next()
        stream.let_pass(peer)
        before = front.resident()
        asked = [verify(LEGACY, REMOTE, f"{n}-" + "i" * 900) for n in range(MOST_PAIRS)]
        for number in range(0, MOST_PAIRS, 100):
            stream.send("".join(asked[number : number + 100]))
            peer.read_until(b"</db:verify>")
        stream.read_until("</db:verify>")  # one too many
        stream.send("".join(asked[: MOST_REFUSALS - 1]))
        for _ in range(MOST_REFUSALS - 1):
            stream.read_until("</db:verify>")
        assert front.resident() - before < BOUND
