"""Attack 13: nobody waits for ever, nobody takes more than their share."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net import legacy as rote
from tests.net.client import (
    ALERT,
    AUTH,
    FOOTER,
    HANDSHAKE,
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
from tests.net.legacy import Connection, LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import free_port
from tests.servers.stream import Stream, plaintext

HEADER = "<?xml version='1.0'?><stream:stream "
TIMEOUT = "<stream:error><connection-timeout "
SHORT = {"negotiation": 0.4, "authentication": 0.6, "connect": 0.4}


@pytest.fixture(scope="module")
def hasty(
    tmp_path_factory: pytest.TempPathFactory, domains: list[Served], authority: Authority
) -> Iterator[Front]:
    """A daemon with short deadlines; no server listens behind its second domain."""
    down = Served(OTHER_DOMAIN, [authority.issue(OTHER_DOMAIN)], free_port())
    with Front(
        tmp_path_factory.mktemp("hasty"),
        [domains[0], down],
        listeners={"c2s": "required", "none": "none"},
        tables={"deadlines": SHORT},
    ) as front:
        yield front
        assert front.alive()


def test_attack_13_the_first_header_is_waited_for_in_vain(hasty: Front) -> None:
    for sent in ("", "<", f"<stream:stream to='{DOMAIN}'"):
        for port in hasty.ports:
            with plaintext(port, DOMAIN) as stream:
                stream.send(sent)
                answer = stream.read_to_end()
            assert answer.startswith(HEADER)
            assert TIMEOUT in answer
            late = (
                "no stream was opened" if port == hasty.named["none"] else "TLS was not established"
            )
            assert f"{late} in time" in answer
            assert answer.endswith(FOOTER)


def test_attack_13_starttls_is_waited_for_in_vain(hasty: Front) -> None:
    for sent in ("", "<starttls", "   "):
        with plaintext(hasty.port, DOMAIN) as stream:
            offered(stream)
            stream.send(sent)
            answer = stream.read_to_end()
        assert answer.startswith(TIMEOUT)
        assert answer.endswith(FOOTER)


def test_attack_13_the_client_hello_is_waited_for_in_vain(hasty: Front) -> None:
    hello = HandTLS(lax_context()).hello()
    for sent in (b"", hello[:1], hello[:-1]):
        with plaintext(hasty.port, DOMAIN) as stream:
            proceeding(stream)
            stream.send(sent)
            assert read_all(stream.connection) == b""
        if sent:
            with connected(hasty.port) as connection:
                connection.sendall(sent)
                assert read_all(connection) == b""


def test_attack_13_the_end_of_the_handshake_is_waited_for_in_vain(hasty: Front) -> None:
    with connected(hasty.port) as connection:
        connection.sendall(HandTLS(lax_context()).hello())
        answer = read_all(connection)
    assert answer[0] == HANDSHAKE
    assert b"<stream:" not in answer
    hasty.wait_for_log("TLS was not established in time")


def test_attack_13_authentication_is_waited_for_in_vain(
    hasty: Front, legacy: LegacyServer, authority: Authority
) -> None:
    legacy.script = rote.features
    with plaintext(hasty.port, DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        answer = stream.read_to_end()
        assert answer.startswith(HEADER)
        assert TIMEOUT in answer
        assert "not authenticated in time" in answer
    assert not legacy.connections
    with plaintext(hasty.port, DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        stream.send_header()
        stream.read_until("</stream:features>")
        answer = stream.read_to_end()
        assert answer.startswith(TIMEOUT)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (rote.silence, "did not answer in time"),
        (lambda connection: connection.send(b"220 mail.example ESMTP\r\n"), "does not speak XMPP"),
        (lambda connection: connection.send(b"<stream:stream "), "did not answer in time"),
        (lambda connection: connection.send(b"\x00\xff"), "does not speak XMPP"),
        (Connection.close, "closed the connection"),
        (Connection.reset, "closed the connection"),
    ],
    ids=["silent", "SMTP", "half a header", "binary", "closes", "resets"],
)
def test_attack_13_a_server_that_does_not_do_its_part_is_named(
    hasty: Front,
    legacy: LegacyServer,
    authority: Authority,
    script: rote.Script,
    text: str,
) -> None:
    legacy.script = script
    with plaintext(hasty.port, DOMAIN) as stream:
        secure(stream, authority.ca_path)
        stream.send_header()
        answer = stream.read_to_end()
    assert answer.startswith(HEADER)
    assert "<stream:error><remote-connection-failed " in answer
    assert text in answer
    assert answer.endswith(FOOTER)


def test_attack_13_a_server_that_is_down_is_named(hasty: Front, authority: Authority) -> None:
    with plaintext(hasty.port, OTHER_DOMAIN) as stream:
        secure(stream, authority.ca_path, OTHER_DOMAIN)
        stream.send_header()
        answer = stream.read_to_end()
    assert answer.startswith(HEADER)
    assert "<remote-connection-failed " in answer
    assert "cannot be reached: Connection refused" in answer


def test_attack_13_a_server_that_falls_silent_after_success_is_named(
    hasty: Front, legacy: LegacyServer, authority: Authority
) -> None:
    def script(connection: Connection) -> None:
        rote.features(connection)
        connection.read_until(b"</auth>")
        connection.send(rote.SUCCESS)

    legacy.script = script
    with plaintext(hasty.port, DOMAIN) as stream:
        secure(stream, authority.ca_path)
        stream.send_header()
        stream.read_until("</stream:features>")
        stream.send(AUTH)
        stream.read_until("<success [^>]*/>")
        stream.send_header()
        answer = stream.read_to_end()
    assert "did not answer in time" in answer


@pytest.mark.parametrize("way", ["starttls", "direct", "plaintext"])
def test_an_idle_session_outlives_all_deadlines(
    hasty: Front, legacy: LegacyServer, authority: Authority, way: str
) -> None:
    port = hasty.named["none"] if way == "plaintext" else hasty.port
    with logged_in(port, authority.ca_path, way) as stream:
        server = legacy.next()
        time.sleep(sum(SHORT.values()) + 0.2)
        stream.send("<presence/>")
        server.read_until(b"<presence/>")
        server.send(b"<message/>")
        stream.read_until("<message/>")


@pytest.fixture(scope="module")
def stingy(tmp_path_factory: pytest.TempPathFactory, domains: list[Served]) -> Iterator[Front]:
    """A daemon that grants an address little."""
    limits = {"connections_per_address": 3, "handshakes_per_minute": 2}
    with Front(
        tmp_path_factory.mktemp("stingy"), domains, tables={"plugins.limits": limits}
    ) as front:
        yield front


def test_attack_13_connections_and_handshakes_of_an_address_are_capped(
    stingy: Front, legacy: LegacyServer, authority: Authority
) -> None:
    held = [socket.create_connection(("127.0.0.1", stingy.port), timeout=20) for _ in range(3)]
    try:
        with plaintext(stingy.port, DOMAIN) as stream:
            answer = stream.read_to_end()
        assert answer.startswith(HEADER)
        assert "<resource-constraint " in answer
        assert "more than 3 connections from one address" in answer
    finally:
        for connection in held:
            connection.close()
    for _ in range(2):
        with retry(stingy) as stream:
            secure(stream, authority.ca_path)
            log_in(stream)
    with retry(stingy) as stream:
        stream.send(HandTLS(lax_context()).hello())
        answer_to_hello = read_all(stream.connection)
    assert answer_to_hello[0] == ALERT


class retry:  # noqa: N801 - reads as the context manager it is
    """A plaintext connection that is not refused, once those before it are counted off."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def __enter__(self) -> Stream:
        while True:
            connection = socket.create_connection(("127.0.0.1", self._front.port), timeout=20)
            connection.settimeout(0.1)
            try:
                refused = connection.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                refused = b""
            if not refused:
                self._stream = Stream(connection, DOMAIN)
                return self._stream
            connection.close()

    def __exit__(self, *_error: object) -> None:
        self._stream.connection.close()
