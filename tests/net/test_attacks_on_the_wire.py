"""Attacks on a reverse listener, by their number in the list of the project's requirements."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.authority import Authority
from tests.net.client import (
    ALERT,
    AUTH,
    FOOTER,
    HandTLS,
    connected,
    lax_context,
    log_in,
    logged_in,
    offered,
    proceeding,
    read_all,
    secure,
)
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST
from tests.servers.stream import SECONDS, STARTTLS, Stream, plaintext, tls_context

FATAL = 2
UNRECOGNIZED_NAME = 112
NO_APPLICATION_PROTOCOL = 120
INJECTED = STARTTLS + AUTH.encode()


# 1: injection


def test_attack_01_injection_in_one_segment(front: Front, legacy: LegacyServer) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        offered(stream)
        stream.send(INJECTED)
        answer = stream.read_to_end()
    assert "<proceed" not in answer
    assert answer.endswith("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + FOOTER)
    assert not legacy.connections


def test_attack_01_injection_split_at_every_byte(front: Front, legacy: LegacyServer) -> None:
    """Wherever the segments end: never an answer to ``<auth/>``, never a byte at the server."""
    for cut in range(len(INJECTED)):
        with plaintext(front.port, DOMAIN) as stream:
            offered(stream)
            stream.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.send(INJECTED[:cut])
            time.sleep(0.003)  # for most cuts to be two segments to the proxy, too
            stream.send(INJECTED[cut:])
            answer = read_all(stream.connection)
            assert b"xmpp-sasl" not in answer
            # Where TLS had begun, the rest is no ClientHello and gets no answer in XML.
            assert b"<stream:" not in answer.partition(b"<proceed")[2]
    assert not legacy.connections


def test_attack_01_nothing_injected_is_answered_under_tls(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    """Even if the ClientHello follows: what stood before it is not read again afterwards."""
    for injected in (AUTH, "<iq type='get' id='1'/>", "x", " <auth", "</stream:stream>"):
        with plaintext(front.port, DOMAIN) as stream:
            offered(stream)
            tls = HandTLS(lax_context())
            stream.send(STARTTLS + injected.encode() + tls.hello())
            assert b"<proceed" not in read_all(stream.connection)
    assert not legacy.connections


def test_attack_01_white_space_before_tls_is_not_seen_after_it(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        offered(stream)
        stream.send(STARTTLS + b" \n")
        stream.read_until("<proceed [^>]*/>")
        secure(stream, authority.ca_path)
        log_in(stream)
        server = legacy.next()
    assert server.got.startswith(b"<?xml version='1.0'?><stream:stream to='example.com'")


# 5: desynchronisation of direct TLS and STARTTLS


def test_attack_05_a_stream_spliced_before_direct_tls_has_no_effect(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    """An attacker speaks first and says who he is; the client's TLS follows, and its own header."""
    with plaintext(front.port, DOMAIN) as stream:
        stream.send(
            f"<stream:stream to='{DOMAIN}' from='mallory@{DOMAIN}' id='evil' version='1.0' "
            "xml:lang='xx' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        before = stream.read_until("</stream:features>")
        stream.send(STARTTLS)
        stream.read_until("<proceed [^>]*/>")
        # The client believes in direct TLS: it knows of nothing that has gone before.
        secure(stream, authority.ca_path)
        log_in(stream)
        server = legacy.next()
    assert b"mallory" not in server.got
    assert b"evil" not in server.got
    assert b"'xx'" not in server.got
    assert b"legacy-1" not in before.encode()


def test_attack_05_a_spliced_stream_to_another_domain_is_refused(
    front: Front, legacy: LegacyServer
) -> None:
    with plaintext(front.port, OTHER_DOMAIN) as stream:
        proceeding(stream)
        stream.send(HandTLS(lax_context(), DOMAIN).hello())
        answer = read_all(stream.connection)
    assert (answer[0], answer[5], answer[6]) == (ALERT, FATAL, UNRECOGNIZED_NAME)
    assert not legacy.connections


# 6: ALPACA


@pytest.mark.parametrize("direct", [False, True], ids=["starttls", "direct"])
@pytest.mark.parametrize(
    ("name", "protocols", "expected"),
    [
        (DOMAIN, ["h2", "http/1.1"], NO_APPLICATION_PROTOCOL),
        ("www.example.net", [], UNRECOGNIZED_NAME),
        ("www.example.net", ["xmpp-client"], UNRECOGNIZED_NAME),
    ],
    ids=["ALPN h2", "unknown SNI", "unknown SNI with ALPN"],
)
def test_attack_06_tls_meant_for_another_service_gets_a_fatal_alert(
    front: Front,
    legacy: LegacyServer,
    name: str,
    protocols: list[str],
    expected: int,
    *,
    direct: bool,
) -> None:
    context = lax_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    with plaintext(front.port, DOMAIN) as stream:
        if not direct:
            proceeding(stream)
        stream.send(HandTLS(context, name).hello())
        answer = read_all(stream.connection)
    assert bytes((ALERT, 3, 1, 0, 2, FATAL, expected)) == answer
    assert not legacy.connections


def test_attack_06_nothing_of_an_http_request_is_reflected(
    front: Front, legacy: LegacyServer
) -> None:
    request = b"GET /?q=<script>alert(1)</script> HTTP/1.1\r\nHost: reflected.example\r\n\r\n"
    with connected(front.port) as connection:
        connection.sendall(request)
        answer = read_all(connection)
    assert b"script" not in answer
    assert b"reflected" not in answer
    assert b"<not-well-formed " in answer
    assert not legacy.connections


# 7: another domain after authentication


def test_attack_07_a_restart_to_another_domain_is_not_authorized(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        stream.send_header()
        stream.read_until("</stream:features>")
        stream.send(AUTH)
        stream.read_until("<success [^>]*/>")
        Stream(stream.connection, OTHER_DOMAIN).send_header()
        assert "<not-authorized " in stream.read_to_end()
    assert len(legacy.connections) == 1
    assert OTHER_DOMAIN.encode() not in legacy.connections[0].read_to_end()


def test_attack_07_another_domain_than_that_of_the_certificate_is_refused(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with plaintext(front.port, DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        Stream(stream.connection, OTHER_DOMAIN).send_header()
        assert "<policy-violation " in stream.read_to_end()
    assert not legacy.connections


# 14: renegotiation


def test_attack_14_renegotiation_is_refused(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.load_verify_locations(str(authority.ca_path))
    context.set_verify(SSL.VERIFY_PEER)
    with connected(front.port) as connection:
        connection.settimeout(None)  # which pyOpenSSL needs
        tls = SSL.Connection(context, connection)
        tls.set_tlsext_host_name(DOMAIN.encode())
        tls.set_connect_state()
        tls.do_handshake()
        assert tls.renegotiate()
        with pytest.raises(SSL.Error, match=r"no renegotiation|handshake failure|NO_RENEGOTIATION"):
            tls.do_handshake()
    assert front.alive()


# 22: loops


class Forwarder:
    """Passes connections on to a port, so that one address looks like another."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        self.target = 0
        self.count = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SECONDS)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listening.accept()
            except OSError:
                return
            self.count += 1
            thread = threading.Thread(target=self._join, args=(inner,))
            self._threads.append(thread)
            thread.start()

    def _join(self, inner: socket.socket) -> None:
        with inner, socket.create_connection((HOST, self.target), timeout=SECONDS) as outer:
            back = threading.Thread(target=_pump, args=(outer, inner))
            back.start()
            _pump(inner, outer)
            back.join(SECONDS)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def forwarder() -> Iterator[Forwarder]:
    forwarder = Forwarder()
    yield forwarder
    forwarder.close()


@pytest.fixture
def circle(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, forwarder: Forwarder
) -> Iterator[Front]:
    """A daemon whose server is one of its own listeners, which its conf does not show."""
    pairs = [authority.issue(DOMAIN)]
    with Front(
        tmp_path_factory.mktemp("circle"),
        [Served(DOMAIN, pairs, forwarder.port)],
        listeners={"c2s": "required", "none": "none"},
        tables={
            "plugins.limits": {"connections_per_address": 12, "handshakes_per_minute": 0},
            "deadlines": {"connect": 60},
        },
    ) as front:
        yield front


def test_attack_22_a_loop_through_a_listener_with_tls_ends_at_once(
    circle: Front, forwarder: Forwarder, authority: Authority
) -> None:
    forwarder.target = circle.named["c2s"]
    with plaintext(circle.port, DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        stream.send_header()
        answer = stream.read_to_end()
    assert "<remote-connection-failed " in answer
    assert "connected to itself" in answer
    assert forwarder.count == 1


def test_attack_22_a_loop_through_a_listener_without_tls_is_no_storm(
    circle: Front, forwarder: Forwarder
) -> None:
    """Each turn is a connection more from the proxy's own address, until that has its fill."""
    forwarder.target = circle.named["none"]
    with plaintext(circle.named["none"], DOMAIN) as stream:
        stream.send_header()
        answer = stream.read_to_end()
    assert re.search("<(remote-connection-failed|resource-constraint) ", answer)
    assert forwarder.count <= 12
    circle.wait_for_log("session ended")
    assert circle.alive()


# The rest that one login shows


def test_the_server_sees_what_the_client_sends_after_tls_and_nothing_else(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(front.port, authority.ca_path) as stream:
        server = legacy.next()
        stream.send("<presence/>")
        server.read_until(b"<presence/>")
    header = (
        f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client'"
        " xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    bind = (
        "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
        "<resource>x</resource></bind></iq>"
    )
    assert (header + AUTH + header + bind + "<presence/>").encode() == server.got


def test_a_client_without_sni_gets_the_certificate_of_its_stream(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    context = tls_context(authority.ca_path)
    context.check_hostname = False
    with plaintext(front.port, OTHER_DOMAIN) as stream:
        proceeding(stream)
        stream.connection = context.wrap_socket(stream.connection, server_hostname=None)
        certificate = stream.connection.getpeercert()
        assert isinstance(stream.connection, ssl.SSLSocket)
        assert certificate is not None
        assert certificate["subjectAltName"] == (("DNS", OTHER_DOMAIN),)
