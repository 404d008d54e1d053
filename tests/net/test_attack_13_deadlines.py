"""Attack 13: nobody waits for ever, nobody takes more than their share.

Whatever is waited for in vain is begun at once, and then waited for together: each deadline is so
long that what has to come before it comes in time, even where the machine stands still meanwhile.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from tests.authority import Authority
from tests.net import legacy as rote
from tests.net.client import (
    ALERT,
    AUTH,
    FOOTER,
    HANDSHAKE,
    HandTLS,
    await_proceed,
    lax_context,
    log_in,
    logged_in,
    offered,
    proceeding,
    read_all,
    secure,
)
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import Connection, LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST, free_port
from tests.servers.stream import STARTTLS, Stream, plaintext

HEADER = "<?xml version='1.0'?><stream:stream "
TIMEOUT = "<stream:error><connection-timeout "
DEADLINES = {"negotiation": 5.0, "authentication": 8.0, "connect": 4.0}
"""While the server is waited for, the client's time to authenticate runs too."""

LISTENERS = {"c2s": "required", "none": "none"}
WAYS = ("starttls", "direct", "plaintext")

DOWN = "down.example"
"""A domain where no server listens."""

UNASKED = "unasked.example"
"""One whose server is not to be connected to."""

FORGETFUL = "forgetful.example"
"""One whose server falls silent after success."""


def forgetful(connection: Connection) -> None:
    """Authenticate a client, and say nothing from then on."""
    rote.features(connection)
    connection.read_until(b"</auth>")
    connection.send(rote.SUCCESS)


SERVERS: dict[str, tuple[rote.Script, str]] = {
    "silent": (rote.silence, "did not answer in time"),
    "SMTP": (lambda peer: peer.send(b"220 mail.example ESMTP\r\n"), "does not speak XMPP"),
    "half a header": (lambda peer: peer.send(b"<stream:stream "), "did not answer in time"),
    "binary": (lambda peer: peer.send(b"\x00\xff"), "does not speak XMPP"),
    "closes": (Connection.close, "closed the connection"),
    "resets": (Connection.reset, "closed the connection"),
}
"""Servers that do not do their part, and what is told of each."""


def domain_of(server: str) -> str:
    """Return the domain of one of `SERVERS`."""
    return f"{server.replace(' ', '-').lower()}.example"


Begin = Callable[[Stream, Path], None]
"""What a client does until it waits; the file is the authority that it trusts."""


def saying(text: str | bytes, before: Callable[[Stream], None] = lambda _: None) -> Begin:
    """Return what gets somewhere, and says something there."""

    def begin(stream: Stream, _authority: Path) -> None:
        before(stream)
        stream.send(text)

    return begin


def under_tls(domain: str = DOMAIN, then: Callable[[Stream], None] = Stream.send_header) -> Begin:
    """Return what begins with TLS, and goes on under it."""

    def begin(stream: Stream, authority: Path) -> None:
        secure(stream, authority, domain)
        then(stream)

    return begin


def silent_under_tls(stream: Stream, authority: Path) -> None:
    """Turn to TLS, and say nothing."""
    proceeding(stream)
    secure(stream, authority, UNASKED)


def silent_at_features(stream: Stream, authority: Path) -> None:
    """Turn to TLS, and do not log in."""
    proceeding(stream)
    secure(stream, authority)
    offered(stream)


def authenticated(stream: Stream) -> None:
    """Log in as far as a forgetful server lets one."""
    offered(stream)
    stream.send(AUTH)
    stream.read_until("<success [^>]*/>")
    stream.send_header()


HELLO = HandTLS(lax_context()).hello()
FIRST = ("", "<", f"<stream:stream to='{DOMAIN}'")
ORDERS = ("", "<starttls", "   ")
BEGUN: dict[str, tuple[str, str, Begin]] = {
    **{f"{name} {text}": (name, DOMAIN, saying(text)) for name in LISTENERS for text in FIRST},
    **{f"offer {text}": ("c2s", DOMAIN, saying(text, offered)) for text in ORDERS},
    "no hello": ("c2s", DOMAIN, saying("", proceeding)),
    "a byte of a hello": ("c2s", DOMAIN, saying(HELLO[:1], proceeding)),
    "most of a hello": ("c2s", DOMAIN, saying(HELLO[:-1], proceeding)),
    "a byte of a first hello": ("c2s", DOMAIN, saying(HELLO[:1])),
    "most of a first hello": ("c2s", DOMAIN, saying(HELLO[:-1])),
    "half a handshake": ("c2s", DOMAIN, saying(HELLO)),
    "no header": ("c2s", UNASKED, silent_under_tls),
    "no login": ("c2s", DOMAIN, silent_at_features),
    **{each: ("c2s", domain_of(each), under_tls(domain_of(each))) for each in SERVERS},
    DOWN: ("c2s", DOWN, under_tls(DOWN)),
    FORGETFUL: ("c2s", FORGETFUL, under_tls(FORGETFUL, authenticated)),
    # What is begun last waits until after every deadline of the others.
    "last header": ("c2s", DOMAIN, saying("")),
    "last login": ("c2s", UNASKED, silent_under_tls),
    "last server": ("c2s", domain_of("silent"), under_tls(domain_of("silent"))),
}
"""For each client where it connects, for which domain, and what it does until it waits."""


@attrs.frozen
class Waiting:
    """All that waits.

    Attributes:
        front: the daemon, whose deadlines are `DEADLINES`.
        clients: the clients of `BEGUN`, by their names.
        idle: for each of `WAYS`, a client that had logged in before, and its server's end.
        unasked: the server of `UNASKED`.
    """

    front: Front
    clients: dict[str, Stream]
    idle: dict[str, tuple[Stream, Connection]]
    unasked: LegacyServer


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Waiting]:
    scripts: dict[str, rote.Script] = {DOMAIN: rote.login, UNASKED: rote.login}
    scripts |= {FORGETFUL: forgetful}
    scripts |= {domain_of(each): script for each, (script, _) in SERVERS.items()}
    with contextlib.ExitStack() as stack:
        servers = {domain: stack.enter_context(LegacyServer()) for domain in scripts}
        for domain, script in scripts.items():
            servers[domain].script = script
        domains = [served(each, [authority.issue(name)], name) for name, each in servers.items()]
        domains.append(Served(DOWN, [authority.issue(DOWN)], free_port()))
        front = Front(
            tmp_path_factory.mktemp("hasty"),
            domains,
            listeners=LISTENERS,
            tables={"deadlines": DEADLINES},
        )
        stack.enter_context(front)
        idle: dict[str, tuple[Stream, Connection]] = {}
        for way in WAYS:
            port = front.named["none" if way == "plaintext" else "c2s"]
            client = stack.enter_context(logged_in(port, authority.ca_path, way))
            idle[way] = (client, servers[DOMAIN].next())
        clients: dict[str, Stream] = {}
        for name, (listener, domain, begin) in BEGUN.items():
            clients[name] = stack.enter_context(plaintext(front.named[listener], domain))
            begin(clients[name], authority.ca_path)
        yield Waiting(front, clients, idle, servers[UNASKED])
        assert front.alive()


def test_attack_13_the_first_header_is_waited_for_in_vain(waiting: Waiting) -> None:
    late = {"none": "no stream was opened in time", "c2s": "TLS was not established in time"}
    for name, said in late.items():
        for text in FIRST:
            answer = waiting.clients[f"{name} {text}"].read_to_end()
            assert answer.startswith(HEADER)
            assert TIMEOUT in answer
            assert said in answer
            assert answer.endswith(FOOTER)


def test_attack_13_starttls_is_waited_for_in_vain(waiting: Waiting) -> None:
    for text in ORDERS:
        answer = waiting.clients[f"offer {text}"].read_to_end()
        assert answer.startswith(TIMEOUT)
        assert answer.endswith(FOOTER)


@pytest.mark.parametrize("which", [each for each in BEGUN if each.endswith("hello")])
def test_attack_13_the_client_hello_is_waited_for_in_vain(waiting: Waiting, which: str) -> None:
    assert read_all(waiting.clients[which].connection) == b""


def test_attack_13_the_end_of_the_handshake_is_waited_for_in_vain(waiting: Waiting) -> None:
    answer = read_all(waiting.clients["half a handshake"].connection)
    assert answer[0] == HANDSHAKE
    assert b"<stream:" not in answer
    waiting.front.wait_for_log("TLS was not established in time")


def test_attack_13_authentication_is_waited_for_in_vain(waiting: Waiting) -> None:
    answer = waiting.clients["no header"].read_to_end()
    assert answer.startswith(HEADER)
    assert TIMEOUT in answer
    assert "not authenticated in time" in answer
    assert not waiting.unasked.connections
    answer = waiting.clients["no login"].read_to_end()
    assert answer.startswith(TIMEOUT)


@pytest.mark.parametrize("server", SERVERS)
def test_attack_13_a_server_that_does_not_do_its_part_is_named(
    waiting: Waiting, server: str
) -> None:
    answer = waiting.clients[server].read_to_end()
    assert answer.startswith(HEADER)
    assert "<stream:error><remote-connection-failed " in answer
    assert SERVERS[server][1] in answer
    assert answer.endswith(FOOTER)


def test_attack_13_a_server_that_is_down_is_named(waiting: Waiting) -> None:
    answer = waiting.clients[DOWN].read_to_end()
    assert answer.startswith(HEADER)
    assert "<remote-connection-failed " in answer
    assert "cannot be reached: Connection refused" in answer


def test_attack_13_a_server_that_falls_silent_after_success_is_named(waiting: Waiting) -> None:
    assert "did not answer in time" in waiting.clients[FORGETFUL].read_to_end()


def test_an_idle_session_outlives_all_deadlines(waiting: Waiting) -> None:
    """Those of who came after it have passed."""
    for which in ("last header", "last login", "last server"):
        assert "in time" in waiting.clients[which].read_to_end()
    for client, server in waiting.idle.values():
        client.send("<presence/>")
        server.read_until(b"<presence/>")
        server.send(b"<message/>")
        client.read_until("<message/>")


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
    held = [socket.create_connection((HOST, stingy.port), timeout=20) for _ in range(3)]
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
        with admitted(stingy) as stream:
            stream.send(STARTTLS)
            await_proceed(stream.connection)
            secure(stream, authority.ca_path)
            log_in(stream)
    with admitted(stingy) as stream:
        stream.send(STARTTLS)
        await_proceed(stream.connection)
        stream.send(HandTLS(lax_context()).hello())
        answer_to_hello = read_all(stream.connection)
    assert answer_to_hello[0] == ALERT


@contextlib.contextmanager
def admitted(front: Front) -> Iterator[Stream]:
    """Give a connection that is offered TLS, once those before it are counted off."""
    while True:
        with plaintext(front.port, DOMAIN) as stream:
            with contextlib.suppress(OSError):  # it may be closed already
                stream.send_header()
            if FOOTER not in stream.read_until(f"</stream:features>|{FOOTER}"):
                yield stream
                return
