"""The relay: what passes after login, and how it ends."""

import contextlib
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import attrs
import pytest
from OpenSSL import SSL

from tests.authority import Authority
from tests.net.client import log_in, logged_in, read_all
from tests.net.front import DOMAIN, Front
from tests.net.legacy import Connection, LegacyServer, reset
from tests.servers.program import HOST
from tests.servers.stream import Stream

BULK = 10 << 20
PLENTY = 200 << 20
STANZA_BYTES = 262_144
"""The default of the plugin ``limits``."""

WAYS = {"starttls": "c2s", "direct": "direct", "report": "report", "none": "none"}

each_way = pytest.mark.parametrize("way", list(WAYS))
under_tls = pytest.mark.parametrize("way", ["starttls", "direct"])


@attrs.frozen
class Joined:
    """A session that is relayed: the client's end and the server's."""

    client: Stream
    server: Connection


@contextlib.contextmanager
def joined(front: Front, legacy: LegacyServer, authority: Authority, way: str) -> Iterator[Joined]:
    how = way if way in ("starttls", "direct") else "plaintext"
    with logged_in(front.named[WAYS[way]], authority.ca_path, how) as client:
        server = legacy.next()
        yield Joined(client, server)
        server.close()


def stanzas(chance: random.Random, size: int) -> bytes:
    """Valid stanzas of all sizes, entities, sections and foreign scripts among them."""
    made: list[bytes] = []
    total = 0
    while total < size:
        text = chance.choice(["x", "ß", "水", "&lt;", "&#x1F600;", "<![CDATA[</a> > ]]>", " "])
        body = text * int(chance.paretovariate(0.6) % (250_000 / len(text.encode())))
        stanza = chance.choice(
            [
                f"<message to='b@{DOMAIN}' id='{chance.random()}'><body>{body}</body></message>",
                f"<iq type='get' id=\"'{len(made)}>\"><query xmlns='jabber:iq:roster'/></iq>",
                "<presence/>",
                " \n",
            ]
        ).encode()
        made.append(stanza)
        total += len(stanza)
    return b"".join(made)


def sending(chance: random.Random, connection: socket.socket, data: bytes) -> threading.Thread:
    """Send in chunks of all sizes, with a pause now and then."""

    def send() -> None:
        at = 0
        while at < len(data):
            size = int(chance.paretovariate(0.3) % 300_000) + 1
            connection.sendall(data[at : at + size])
            at += size
            if chance.random() < 0.02:
                time.sleep(0.005)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def receiving(chance: random.Random, connection: socket.socket, size: int) -> bytes:
    """Read so many bytes in pieces of all sizes, with a pause now and then."""
    parts = []
    while size:
        part = connection.recv(min(size, chance.choice([1000, 16384, 1 << 20])))
        assert part, f"{size} bytes are missing"
        parts.append(part)
        size -= len(part)
        if chance.random() < 0.01:
            time.sleep(0.01)
    return b"".join(parts)


@each_way
@pytest.mark.parametrize("to_server", [True, False], ids=["to server", "to client"])
def test_stanzas_in_bulk_pass_byte_for_byte(
    front: Front, legacy: LegacyServer, authority: Authority, way: str, *, to_server: bool
) -> None:
    chance = random.Random(f"{way}{to_server}")
    with joined(front, legacy, authority, way) as ends:
        data = stanzas(chance, BULK)
        pair = [ends.client.connection, ends.server.socket]
        source, target = pair if to_server else reversed(pair)
        thread = sending(chance, source, data)
        got = receiving(chance, target, len(data))
        thread.join()
    assert data == got


@each_way
def test_stanzas_pass_both_ways_at_once(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    """TLS of the standard library is for one thread: the client's end is served by turns."""
    chance = random.Random(way)
    up, down = stanzas(chance, BULK // 4), stanzas(chance, BULK // 4)
    with joined(front, legacy, authority, way) as ends:
        server = ends.server
        got_up: list[bytes] = []
        reader = threading.Thread(target=lambda: got_up.append(server.read(len(up))))
        reader.start()
        writer = sending(chance, server.socket, down)
        got_down = _by_turns(ends.client.connection, up, len(down))
        for thread in (reader, writer):
            thread.join()
    assert down == got_down
    assert [up] == got_up


def _by_turns(connection: socket.socket, out: bytes, expected: int) -> bytes:
    """Send and receive on one socket without blocking."""
    connection.setblocking(False)
    view = memoryview(out)
    got = bytearray()
    blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    while view or len(got) < expected:
        moved = False
        with contextlib.suppress(*blocked):
            if view:
                view = view[connection.send(view[:16384]) :]
                moved = True
        with contextlib.suppress(*blocked):
            data = connection.recv(65536)
            assert data
            got += data
            moved = True
        if not moved:
            select.select([connection], [connection] if view else [], [], 0.01)
    return bytes(got)


@each_way
@pytest.mark.parametrize("to_server", [True, False], ids=["to server", "to client"])
def test_attack_13_a_slow_reader_pauses_the_other_leg(
    front: Front, legacy: LegacyServer, authority: Authority, way: str, *, to_server: bool
) -> None:
    """A source floods, nobody reads: what the proxy holds stays small, and nothing is lost."""
    with joined(front, legacy, authority, way) as ends:
        pair = [ends.client.connection, ends.server.socket]
        source, target = pair if to_server else reversed(pair)
        stanza = b"<message><body>" + b"x" * 16_000 + b"</body></message>"
        before = front.resident()
        source.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
            while sent < PLENTY:
                sent += source.send(stanza[sent % len(stanza) :])
        growth = front.resident() - before
        assert sent < PLENTY, "the source was never paused"
        assert growth < 8 << 20
        pattern = stanza * (sent // len(stanza) + 1)
        source.settimeout(20)
        assert pattern[:sent] == receiving(random.Random(1), target, sent)


@under_tls
def test_the_client_may_close_its_direction_first(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    with logged_in_by_pyopenssl(front.named[WAYS[way]], authority) as client:
        server = legacy.next()
        client.sendall(b"<message/></stream:stream>")
        client.shutdown()  # close_notify, and no more
        assert server.read_to_end() == b"<message/></stream:stream>"
        server.send(b"<presence/></stream:stream>")
        assert read_exactly(client, 27) == b"<presence/></stream:stream>"
        server.close()
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(1)


@each_way
def test_the_server_may_close_its_direction_first(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    """The client sees ``close_notify``; what it still sends arrives."""
    with joined(front, legacy, authority, way) as ends:
        ends.server.send(b"<presence/></stream:stream>")
        ends.server.socket.shutdown(socket.SHUT_WR)
        assert ends.client.read_to_end() == "<presence/></stream:stream>"
        ends.client.send(b"<message/></stream:stream>")
        assert ends.server.read_until(b"</stream:stream>").endswith(b"<message/></stream:stream>")


def test_a_plaintext_client_may_close_its_direction_first(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with joined(front, legacy, authority, "none") as ends:
        ends.client.send(b"<message/>")
        ends.client.connection.shutdown(socket.SHUT_WR)
        assert ends.server.read_to_end().endswith(b"<message/>")
        ends.server.send(b"<presence/>" * 1000)
        ends.server.close()
        assert ends.client.read_to_end() == "<presence/>" * 1000


@each_way
def test_a_server_that_vanishes_gets_no_end_of_stream_invented(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    with joined(front, legacy, authority, way) as ends:
        ends.server.send(b"<message/>")
        ends.server.close()
        assert ends.client.read_to_end() == "<message/>"


@each_way
def test_a_server_that_closes_with_a_stream_error_is_heard_out(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    last = stanzas(random.Random(way), 3 << 20) + (
        b"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        b"</stream:stream>"
    )
    with joined(front, legacy, authority, way) as ends:

        def leave() -> None:
            ends.server.send(last)
            ends.server.close()

        thread = threading.Thread(target=leave)
        thread.start()
        assert last == ends.client.read_to_end().encode()
        thread.join()


@each_way
def test_a_reset_by_the_server_ends_the_client(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    with joined(front, legacy, authority, way) as ends:
        ends.server.reset()
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            assert b"</stream" not in ends.client.connection.recv(65536)


@each_way
def test_a_reset_by_the_client_ends_the_server(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    with joined(front, legacy, authority, way) as ends:
        reset(ends.client.connection)
        assert b"</stream" not in read_all(ends.server.socket)
    assert front.alive()


@under_tls
def test_a_client_that_drops_tls_without_notice_ends_the_server(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    """FIN without ``close_notify``: the last bytes arrive, and no end is invented."""
    with joined(front, legacy, authority, way) as ends:
        ends.client.send("<message/>")
        raw = ends.client.connection
        raw.shutdown(socket.SHUT_WR)
        assert ends.server.read_to_end().endswith(b"<message/>")


@each_way
def test_a_stanza_that_is_too_large_is_a_policy_violation(
    front: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    """The error arrives although the client goes on sending."""
    with joined(front, legacy, authority, way) as ends:
        connection = ends.client.connection
        start = b"<message><body>"
        connection.settimeout(20)
        stop = threading.Event()
        flood = b"x" * 50_000
        connection.sendall(start)
        sent = 0
        answer = b""
        connection.setblocking(False)
        blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
        end = time.monotonic() + 60
        while not stop.is_set() and time.monotonic() < end:
            with contextlib.suppress(*blocked, BrokenPipeError, ConnectionResetError):
                sent += connection.send(flood)
            with contextlib.suppress(*blocked):
                data = connection.recv(65536)
                answer += data
                if not data:
                    stop.set()
        assert stop.is_set(), "the connection was not closed"
        assert answer.startswith(b"<stream:error><policy-violation ")
        assert answer.endswith(b"</stream:error></stream:stream>")
        assert sent > STANZA_BYTES
        got = read_all(ends.server.socket)
        assert b"</stream" not in got


@contextlib.contextmanager
def logged_in_by_pyopenssl(port: int, authority: Authority) -> Iterator[SSL.Connection]:
    """A client whose TLS can be closed in one direction."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(authority.ca_path))
    context.set_verify(SSL.VERIFY_PEER)
    with socket.create_connection((HOST, port)) as connection:
        client = SSL.Connection(context, connection)
        client.set_tlsext_host_name(DOMAIN.encode())
        client.set_connect_state()
        client.do_handshake()
        stream = Stream.__new__(Stream)
        stream.connection, stream._domain, stream._buffer = client, DOMAIN, b""  # type: ignore[assignment]
        log_in(stream)
        yield client


def read_exactly(client: SSL.Connection, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += client.recv(size - len(data))
    return data
