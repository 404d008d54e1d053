"""From plaintext to TLS in place, as it looks on the wire."""

import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.authority import Authority
from tests.net.client import (
    ALERT,
    HANDSHAKE,
    PROCEED,
    HandTLS,
    await_proceed,
    connected,
    lax_context,
    log_in,
    logged_in,
    offered,
    proceeding,
    read_all,
)
from tests.net.front import DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.net.test_client_hello import spread
from tests.servers.stream import STARTTLS, Stream, plaintext, tls_context

FATAL = 2
DECODE_ERROR = 50

Cut = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def drips(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


def halves(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    yield data[len(data) // 2 :]


def records(data: bytes) -> Iterator[bytes]:
    """The same message in many TLS records, one segment for each."""
    message = data[5:]
    for at in range(0, len(message), 50):
        yield spread(message[at : at + 50], 50)


def greet(connection: socket.socket, tls: HandTLS) -> None:
    """Open a stream under TLS as far as the server's features."""
    tls.send(
        connection,
        f"<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>",
    )
    assert b"PLAIN" in tls.read_until(connection, b"</stream:features>")


@pytest.mark.parametrize("cut", [whole, drips, halves, records])
@pytest.mark.parametrize("direct", [False, True], ids=["starttls", "direct"])
def test_a_client_hello_in_any_pieces(
    front: Front, legacy: LegacyServer, cut: Cut, *, direct: bool
) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        if not direct:
            proceeding(stream)
        stream.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = HandTLS(lax_context())
        for piece in cut(tls.hello()):
            stream.send(piece)
        tls.finish(stream.connection)
        greet(stream.connection, tls)


@pytest.mark.parametrize("space", [b"", b" ", b"\r\n\t "])
@pytest.mark.parametrize("cut", [whole, drips])
def test_a_client_hello_pipelined_behind_starttls_goes_to_tls(
    front: Front, legacy: LegacyServer, cut: Cut, space: bytes
) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        offered(stream)
        tls = HandTLS(lax_context())
        for piece in cut(STARTTLS + space + tls.hello()):
            stream.send(piece)
        await_proceed(stream.connection)
        tls.finish(stream.connection)
        greet(stream.connection, tls)


def test_header_starttls_and_client_hello_in_one_segment(
    front: Front, legacy: LegacyServer
) -> None:
    with connected(front.port) as connection:
        tls = HandTLS(lax_context())
        header = (
            f"<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        ).encode()
        connection.sendall(header + STARTTLS + tls.hello())
        read = b""
        while PROCEED not in read:
            read += connection.recv(1)
        assert read.endswith(PROCEED)
        tls.finish(connection)
        greet(connection, tls)


def test_white_space_after_starttls_is_tolerated(front: Front, legacy: LegacyServer) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        offered(stream)
        stream.send(STARTTLS + b"\n")
        stream.read_until("<proceed [^>]*/>")
        tls = HandTLS(lax_context())
        stream.send(tls.hello())
        tls.finish(stream.connection)
        greet(stream.connection, tls)


def test_attack_03_proceed_is_the_last_plaintext_byte(front: Front, legacy: LegacyServer) -> None:
    """What follows ``<starttls/>`` belongs to TLS, and so does what follows ``<proceed/>``."""
    with connected(front.port) as connection:
        stream = Stream(connection, DOMAIN)
        offered(stream)
        connection.sendall(STARTTLS)
        await_proceed(connection)
        tls = HandTLS(lax_context())
        connection.sendall(tls.hello())
        first = connection.recv(65536)
        assert first[0] == HANDSHAKE
        tls.incoming.write(first)
        tls.finish(connection)
        greet(connection, tls)


def test_attack_03_the_hello_never_reaches_the_xml_parser(
    front: Front, legacy: LegacyServer
) -> None:
    """Binary bytes right behind ``<starttls/>``: no stream error about XML, but TLS."""
    with plaintext(front.port, DOMAIN) as stream:
        offered(stream)
        hello = HandTLS(lax_context()).hello()
        stream.send(STARTTLS + hello)
        await_proceed(stream.connection)
        assert stream.connection.recv(65536)[0] == HANDSHAKE


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\xff\xff" + bytes(300),
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
        spread(b"\x01\x00\x10\x00" + bytes(4096), 1),
    ],
    ids=["HTTP", "server hello", "too long", "record too long", "cut short", "crumbs"],
)
def test_what_is_no_client_hello_after_proceed_gets_no_xml(
    front: Front, legacy: LegacyServer, bad: bytes
) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        proceeding(stream)
        stream.send(bad)
        assert b"<" not in read_all(stream.connection)
    assert not legacy.connections


def test_half_a_client_hello_and_then_the_end(front: Front, legacy: LegacyServer) -> None:
    for direct in (False, True):
        with plaintext(front.port, DOMAIN) as stream:
            if not direct:
                proceeding(stream)
            hello = HandTLS(lax_context()).hello()
            stream.send(hello[: len(hello) // 2])
            stream.connection.shutdown(socket.SHUT_WR)
            assert read_all(stream.connection) == b""
    assert not legacy.connections


def test_a_reset_in_the_middle_of_the_client_hello(front: Front, authority: Authority) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        proceeding(stream)
        stream.send(HandTLS(lax_context()).hello()[:40])
    with logged_in(front.port, authority.ca_path):
        pass


def test_an_http_request_over_the_direct_tls_port(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with plaintext(front.named["direct"], DOMAIN) as stream:
        stream.secure(tls_context(authority.ca_path))
        stream.send("GET /secret HTTP/1.1\r\nHost: example.com\r\n\r\n")
        answer = stream.read_to_end()
        assert "secret" not in answer
        assert "<not-well-formed " in answer
    assert not legacy.connections


def test_plaintext_on_a_direct_listener_is_refused(front: Front, legacy: LegacyServer) -> None:
    with plaintext(front.named["direct"], DOMAIN) as stream:
        stream.send_header()
        answer = stream.read_to_end()
        assert "starttls" not in answer
        assert "<policy-violation " in answer
    assert not legacy.connections


def test_an_old_tls_version_is_refused_with_an_alert(front: Front, legacy: LegacyServer) -> None:
    with connected(front.port) as connection:
        # A ClientHello of TLS 1.0 with one suite; nothing here can still make one.
        body = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
        connection.sendall(spread(b"\x01" + len(body).to_bytes(3) + body, 500))
        answer = read_all(connection)
    assert (answer[0], answer[5]) == (ALERT, FATAL)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("way", ["starttls", "direct"])
def test_a_client_logs_in_and_out(
    front: Front, legacy: LegacyServer, authority: Authority, version: ssl.TLSVersion, way: str
) -> None:
    context = tls_context(authority.ca_path)
    context.maximum_version = context.minimum_version = version
    with plaintext(front.port, DOMAIN) as stream:
        if way == "starttls":
            proceeding(stream)
        stream.secure(context)
        log_in(stream)
        server = legacy.next()
        stream.send("</stream:stream>")
        server.read_until(b"</stream:stream>")
        server.send(b"</stream:stream>")
        server.close()
        assert stream.read_to_end() == "</stream:stream>"
