"""A forward session that is established: what passes, what is filtered before, and how it ends."""

import contextlib
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import attrs
import pytest
from OpenSSL import SSL

from tests.authority import Authority
from tests.net.client import AUTH, BIND, log_in, read_all
from tests.net.forward import PASSWORD, ForwardFront, greeting
from tests.net.hostile import (
    BOUND,
    FOOTER,
    Hostile,
    Peer,
    Script,
    direct,
    header,
    login,
    saying,
    showing,
    upgraded,
)
from tests.net.legacy import reset
from tests.net.test_relay import BULK, PLENTY, STANZA_BYTES, receiving, sending, stanzas
from tests.servers.stream import Stream, plaintext

STARTTLS = "example.net"
DIRECT = "direct.example.net"
OLD = "old.example.net"
MET: dict[str, dict[str, object]] = {STARTTLS: {}, DIRECT: {"direct_tls": True}, OLD: {}}

each_way = pytest.mark.parametrize("domain", [STARTTLS, DIRECT, OLD])


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with Hostile() as hostile:
        yield hostile


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, hostile: Hostile
) -> Iterator[ForwardFront]:
    directory = tmp_path_factory.mktemp("front")
    with ForwardFront(directory, authority, MET, hostile.port) as front:
        yield front
        assert front.alive()
    assert PASSWORD not in front.log()
    assert "fault" not in front.log()


@attrs.frozen
class Joined:
    """A session that is relayed: the client's end and the server's."""

    client: Stream
    server: Peer


@pytest.fixture(autouse=True)
def _at_home(authority: Authority, hostile: Hostile) -> Iterator[None]:
    yield
    hostile.play(login)


def at_home(authority: Authority, domain: str, then: Script = login) -> Script:
    """Return the script of an honest server of a domain."""
    newest = SSL.TLS1_2_VERSION if domain == OLD else SSL.TLS1_3_VERSION
    secure = showing(authority.issue(domain), newest)
    return direct(secure, then) if domain == DIRECT else upgraded(secure, then)


@contextlib.contextmanager
def joined(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> Iterator[Joined]:
    hostile.play(at_home(authority, domain))
    with plaintext(front.port, domain) as client:
        log_in(client)
        server = hostile.next()
        yield Joined(client, server)
        server.close()


@each_way
@pytest.mark.parametrize("to_server", [True, False], ids=["to server", "to client"])
def test_stanzas_in_bulk_pass_byte_for_byte(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str, *, to_server: bool
) -> None:
    chance = random.Random(f"{domain}{to_server}")
    with joined(front, hostile, authority, domain) as ends:
        data = stanzas(chance, BULK)
        pair = [ends.client.connection, ends.server.socket]
        source, target = pair if to_server else reversed(pair)
        thread = sending(chance, source, data)
        got = receiving(chance, target, len(data))
        thread.join()
    assert data == got


@each_way
def test_stanzas_pass_both_ways_at_once(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    """The server's end is served by turns, for its TLS is for one thread."""
    chance = random.Random(domain)
    up, down = stanzas(chance, BULK // 4), stanzas(chance, BULK // 4)
    with joined(front, hostile, authority, domain) as ends:
        connection = ends.client.connection
        got_down: list[bytes] = []
        reader = threading.Thread(
            target=lambda: got_down.append(receiving(random.Random(1), connection, len(down)))
        )
        reader.start()
        writer = sending(chance, connection, up)
        got_up = by_turns(ends.server.socket, down, len(up))
        for thread in (reader, writer):
            thread.join()
    assert up == got_up
    assert [down] == got_down


def by_turns(connection: SSL.Connection, out: bytes, expected: int) -> bytes:
    """Send and receive under TLS without blocking."""
    connection.setblocking(False)
    blocked = (SSL.WantReadError, SSL.WantWriteError)
    at = 0
    got = bytearray()
    end = time.monotonic() + 60
    while at < len(out) or len(got) < expected:
        assert time.monotonic() < end
        moved = False
        with contextlib.suppress(*blocked):
            if at < len(out):
                at += connection.send(out[at : at + 16_384])
                moved = True
        with contextlib.suppress(*blocked):
            got += connection.recv(65_536)
            moved = True
        if not moved:
            time.sleep(0.001)
    return bytes(got)


@each_way
@pytest.mark.parametrize("to_server", [True, False], ids=["to server", "to client"])
def test_attack_13_a_slow_reader_pauses_the_other_leg(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str, *, to_server: bool
) -> None:
    """A source floods, nobody reads: what the proxy holds stays small, and nothing is lost."""
    with joined(front, hostile, authority, domain) as ends:
        stanza = b"<message><body>" + b"x" * 16_000 + b"</body></message>"
        before = front.resident()
        if to_server:
            ends.client.connection.settimeout(0.5)
            source, target = ends.client.connection, ends.server.socket
        else:
            ends.server.socket.setblocking(False)
            source, target = ends.server.socket, ends.client.connection
        sent = flood(source, stanza)
        assert sent < PLENTY, "the source was never paused"
        assert front.resident() - before < 8 << 20
        pattern = stanza * (sent // len(stanza) + 1)
        assert pattern[:sent] == receiving(random.Random(1), target, sent)


def flood(source: socket.socket | SSL.Connection, stanza: bytes) -> int:
    """Send until nothing has been taken for half a second; return how much was."""
    sent = 0
    last = time.monotonic()
    while sent < PLENTY and time.monotonic() - last < 0.5:
        rest = stanza[sent % len(stanza) :]
        try:
            sent += source.send(rest)
            last = time.monotonic()
        except TimeoutError:
            break
        except SSL.WantWriteError:
            # OpenSSL takes the very same bytes again.
            time.sleep(0.01)
    return sent


@each_way
def test_the_client_may_close_its_direction_first(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    """The server sees ``close_notify``; what it still sends arrives."""
    with joined(front, hostile, authority, domain) as ends:
        ends.client.send(b"<message/></stream:stream>")
        ends.client.connection.shutdown(socket.SHUT_WR)
        assert read_to_notice(ends.server.socket) == b"<message/></stream:stream>"
        ends.server.send(b"<presence/>" * 1000 + FOOTER)
        ends.server.socket.shutdown()
        assert ends.client.read_to_end() == "<presence/>" * 1000 + FOOTER.decode()


def read_to_notice(connection: SSL.Connection) -> bytes:
    """Read to ``close_notify``; that there is none is an error."""
    got = b""
    with contextlib.suppress(SSL.ZeroReturnError):
        while True:
            got += connection.recv(65_536)
    return got


@each_way
def test_the_server_may_close_its_direction_first(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    with joined(front, hostile, authority, domain) as ends:
        ends.server.send(b"<presence/></stream:stream>")
        ends.server.socket.shutdown()
        assert ends.client.read_to_end() == "<presence/></stream:stream>"
        ends.client.send("<message/></stream:stream>")
        ends.client.connection.shutdown(socket.SHUT_WR)
        assert read_to_notice(ends.server.socket) == b"<message/></stream:stream>"


@each_way
def test_a_server_that_vanishes_gets_no_end_of_stream_invented(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    with joined(front, hostile, authority, domain) as ends:
        ends.server.send(b"<message/>")
        ends.server.close()  # without close_notify
        assert read_all(ends.client.connection) == b"<message/>"


@each_way
def test_a_client_that_vanishes_gets_no_end_of_stream_invented(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    with joined(front, hostile, authority, domain) as ends:
        reset(ends.client.connection)
        assert b"</stream" not in ends.server.read_to_end()
    assert front.alive()


@each_way
def test_a_stanza_that_is_too_large_is_a_policy_violation(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    with joined(front, hostile, authority, domain) as ends:
        connection = ends.client.connection
        connection.sendall(b"<message><body>" + b"x" * (STANZA_BYTES - 100))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * 50_000)
        answer = read_all(connection)
        assert answer.startswith(b"<stream:error><policy-violation ")
        assert answer.endswith(b"</stream:error></stream:stream>")
        assert b"</stream" not in ends.server.read_to_end()


OFFERED = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    b"<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>"
    b"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>"
    b"</sasl-channel-binding><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>PLAIN</mechanism></mechanisms>"
    b"<register xmlns='http://jabber.org/features/iq-register'/></stream:features>"
)


@each_way
def test_what_cannot_hold_is_not_offered_and_the_header_is_the_server_s(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    def offer(peer: Peer) -> None:
        peer.read_until(rb"<stream:stream [^>]*>")
        peer.send(header("the-server-s:\xc3\xa4&lt;id") + OFFERED)

    hostile.play(at_home(authority, domain, offer))
    with plaintext(front.port, domain) as stream:
        stream.send(greeting(domain))
        said = stream.read_until("</stream:features>")
    own, _, features = said.partition("<stream:features>")
    assert own.encode() == header("the-server-s:\xc3\xa4&lt;id")
    for gone in ("starttls", "compress", "channel-binding", "-PLUS"):
        assert gone not in features
    assert "<mechanism>PLAIN</mechanism></mechanisms><register " in features
    (peer,) = hostile.settle()
    assert peer.sealed == greeting(domain).encode()


@each_way
def test_a_client_from_before_1_0_is_carried_verbatim(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    """As far as the server goes along: no features, ``jabber:iq:auth``."""
    opening = header("digest-me", version=False)
    query = (
        "<iq type='set' id='a'><query xmlns='jabber:iq:auth'><username>alice</username>"
        "<digest>0123456789abcdef</digest><resource>x</resource></query></iq>"
    )
    result = b"<iq type='result' id='a'/>"

    def old(peer: Peer) -> None:
        peer.read_until(rb"<stream:stream [^>]*>")
        peer.send(opening)
        peer.read_until(rb"</iq>")
        peer.established = True
        peer.send(result)

    hostile.play(at_home(authority, domain, old))
    with plaintext(front.port, domain) as stream:
        stream.send(greeting(domain, None) + query)
        assert stream.read_until(r"id='a'/>").encode() == opening + result
        stream.send("<presence/>")
        peer = hostile.next()
        peer.read_until(rb"<presence/>")
        assert peer.sealed.decode() == greeting(domain, None) + query + "<presence/>"
        peer.close()


@each_way
def test_everything_reaches_the_server_verbatim(
    front: ForwardFront, hostile: Hostile, authority: Authority, domain: str
) -> None:
    hostile.play(at_home(authority, domain))
    with plaintext(front.port, domain) as stream:
        stream.send(greeting(domain))
        stream.read_until("</stream:features>")
        stream.send(AUTH)
        stream.read_until("<success [^>]*/>")
        stream.send(greeting(domain))
        stream.read_until("</stream:features>")
        stream.send(BIND)
        assert stream.read_until("</iq>").encode() == BOUND
        peer = hostile.next()
        assert peer.sealed.decode() == greeting(domain) + AUTH + greeting(domain) + BIND
        peer.close()


def test_a_daemon_that_ends_says_so_to_every_session(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, hostile: Hostile
) -> None:
    """To those that are up, and to those that are on their way."""
    directory = tmp_path_factory.mktemp("ending")
    with ForwardFront(directory, authority, MET, hostile.port) as front:
        waits = saying(header("waits"))
        hostile.play(at_home(authority, STARTTLS), waits, at_home(authority, STARTTLS, waits))
        with contextlib.ExitStack() as stack:
            up, before, after = [
                stack.enter_context(plaintext(front.port, STARTTLS)) for _ in range(3)
            ]
            log_in(up)
            peer = hostile.next()
            before.send_header()
            wait_for(lambda: len(hostile.peers) == 2 and bool(hostile.peers[1].plain))
            after.send_header()
            wait_for(lambda: len(hostile.peers) == 3 and bool(hostile.peers[2].sealed))
            front.processes[0].send_signal(signal.SIGTERM)
            for stream in (up, before, after):
                said = stream.read_to_end()
                assert said.count("<stream:error><system-shutdown ") == 1
                assert said.endswith("</stream:error></stream:stream>")
                assert said.startswith("<stream:error>" if stream is up else "<?xml ")
            assert b"</stream" not in peer.read_to_end()
        assert front.processes[0].wait(10) == 0


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)
