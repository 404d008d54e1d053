"""Attacks 2 and 4: what a server, or whoever stands before it, can do to the way to TLS."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.net.client import AUTH, connected, read_all
from tests.net.forward import MESSAGE, Forward, greeting, meeting, told_nothing
from tests.net.hostile import (
    BIND,
    FAILURE,
    FOOTER,
    MECHANISMS,
    OFFER,
    PROCEED,
    SUCCESS,
    Peer,
    Script,
    Secure,
    direct,
    header,
    login,
    offer,
    proceed,
    saying,
    showing,
    stream_error,
    upgraded,
)
from tests.servers.program import HOST
from tests.servers.stream import plaintext

DOMAIN = "example.net"
DIRECT = "direct.example.net"
ENCRYPT = "encrypt.example.net"
MAY = "may.example.net"
NONE = "none.example.net"

HEADER = header("outside")
OLD = header("outside", version=False)
EMPTY = b"<stream:features/>"
ELSEWHERE = (
    b"<stream:features><compression xmlns='http://jabber.org/features/compress'/></stream:features>"
)
RESPONSE = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>x-mole</html>"


@pytest.fixture(scope="module")
def _forward(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Forward]:
    met: dict[str, dict[str, object]] = {
        DOMAIN: {},
        DIRECT: {"direct_tls": True},
        ENCRYPT: {"level": "encrypt"},
        MAY: {"level": "may"},
        NONE: {"level": "none"},
    }
    directory = tmp_path_factory.mktemp("forward")
    with meeting(directory, authority, met) as forward:
        yield forward


@pytest.fixture
def forward(_forward: Forward) -> Iterator[Forward]:
    yield _forward
    _forward.hostile.play(login)


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Secure:
    return showing(authority.issue(DOMAIN, dns=[DOMAIN, "*.example.net"]))


def then(script: Script, action: Script) -> Script:
    def both(peer: Peer) -> None:
        script(peer)
        action(peer)

    return both


def later(data: bytes) -> Script:
    """Send something in a segment of its own, mostly."""

    def send(peer: Peer) -> None:
        time.sleep(0.05)
        peer.send(data)

    return send


def at_hello(data: bytes) -> Script:
    """Send something when the ClientHello is there, so that all that was said before is read."""

    def send(peer: Peer) -> None:
        peer.socket.recv(1, socket.MSG_PEEK)
        peer.send(data)

    return send


STRIPPED = {
    "no-offer": saying(HEADER + ELSEWHERE, FAILURE + FOOTER, closing=True),
    "mechanisms": saying(HEADER + MECHANISMS, FAILURE + FOOTER, closing=True),
    "mechanisms-again": saying(HEADER + MECHANISMS, MECHANISMS),
    "empty": saying(HEADER + EMPTY, FAILURE + FOOTER, closing=True),
    "empty-and-success": saying(HEADER + EMPTY, SUCCESS),
    "empty-and-bind": saying(HEADER + EMPTY, BIND),
    "twice": saying(HEADER + OFFER + MECHANISMS),
    "twice-later": then(saying(HEADER + OFFER), later(MECHANISMS)),
    "offered-twice": saying(HEADER + OFFER + OFFER),
    "version": saying(OLD, FAILURE, closing=True),
    "version-and-mechanisms": saying(OLD + MECHANISMS),
    "version-and-error": saying(OLD, stream_error("unsupported-stanza-type"), closing=True),
    "nothing": saying(HEADER, closing=True),
    "success": saying(HEADER + SUCCESS),
    "message": saying(HEADER + OFFER + b"<message><body>x</body></message>"),
    "iq": saying(HEADER + b"<iq type='result' id='auth'/>"),
    "failure": saying(HEADER + OFFER, FAILURE),
    "failure-and-proceed": saying(HEADER + OFFER, FAILURE + PROCEED),
    "proceed-unasked": saying(HEADER + PROCEED),
    "other-proceed": saying(HEADER + OFFER, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
    "challenge": saying(HEADER + OFFER, b"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
    "footer": saying(HEADER + OFFER, FOOTER),
    "header-twice": saying(HEADER + HEADER),
    "components": saying(HEADER.replace(b"jabber:client", b"jabber:component:accept") + OFFER),
    "servers": saying(HEADER.replace(b"jabber:client", b"jabber:server") + OFFER),
    "version-2": saying(HEADER.replace(b"'1.0' xmlns:", b"'2.0' xmlns:") + OFFER),
    "entities": saying(b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + HEADER + OFFER),
    "not-xml": saying(HEADER + b"<<<<"),
    "http": saying(RESPONSE, closing=True),
    "flood": saying(HEADER + b"<stream:features>" + b"<x/>" * 20_000),
    "endless-tag": saying(HEADER + b"<x y='" + b"z" * 70_000),
}


@pytest.mark.parametrize("script", STRIPPED.values(), ids=STRIPPED)
@pytest.mark.parametrize("domain", [DOMAIN, ENCRYPT])
def test_attack_04_what_strips_the_offer_gets_nothing(
    forward: Forward, domain: str, script: Script
) -> None:
    forward.hostile.play(script)
    refusal = forward.refusal(domain)
    assert refusal.condition in ("policy-violation", "remote-connection-failed")
    assert f"{HOST}:{forward.hostile.port} " in refusal.text
    assert len(refusal.peers) == 1


@pytest.mark.parametrize(
    "first", [HEADER + MECHANISMS, HEADER + EMPTY, HEADER + ELSEWHERE, OLD], ids=range(4)
)
@pytest.mark.parametrize("domain", [DOMAIN, ENCRYPT])
def test_attack_04_an_offer_that_was_stripped_is_taken_all_the_same(
    forward: Forward, secure: Secure, domain: str, first: bytes
) -> None:
    """RFC 7590, section 3.2: the server itself would have agreed."""
    forward.hostile.play(then(saying(first, PROCEED), then(secure, login)))
    lines = forward.login(domain)
    assert any(" TLS connection established to " in line for line in lines)


def test_attack_04_what_worked_before_is_not_believed_again(
    forward: Forward, secure: Secure
) -> None:
    """A connection is stripped after one that was not (CVE-2016-10027)."""
    forward.hostile.play(upgraded(secure))
    forward.login(DOMAIN)
    forward.hostile.play(STRIPPED["mechanisms"])
    assert forward.refusal(DOMAIN).condition == "policy-violation"


@pytest.mark.parametrize("name", ["mechanisms", "failure", "version", "empty"])
def test_plaintext_is_spoken_only_where_the_policy_says_so(forward: Forward, name: str) -> None:
    forward.hostile.play(STRIPPED[name], login)
    lines = forward.login(MAY)
    assert not any("TLS connection established" in line for line in lines)
    told_nothing(forward.hostile.peers[0], MAY)
    forward.hostile.play(STRIPPED[name], login)
    lines = forward.login(DOMAIN, "report")
    assert any(" warning would be refused: the server of example.net " in line for line in lines)
    told_nothing(forward.hostile.peers[0], DOMAIN)


def test_a_policy_of_no_tls_speaks_none(forward: Forward) -> None:
    forward.login(NONE)
    (peer,) = forward.hostile.peers
    assert b"<starttls" not in peer.plain


AFTER = {
    "stream": HEADER + MECHANISMS,
    "features": MECHANISMS,
    "success": SUCCESS,
    "white-space": b"\n",
    "footer": FOOTER,
    "alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "record": b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00",
    "zero": b"\x00",
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("domain", [DOMAIN, ENCRYPT])
def test_attack_02_bytes_after_proceed_end_it(
    forward: Forward, secure: Secure, domain: str, after: bytes
) -> None:
    """Even if TLS would come about: nothing of what was said in plaintext may reach beyond it."""
    forward.hostile.play(then(saying(HEADER + OFFER, PROCEED + after), then(secure, login)))
    refusal = forward.refusal(domain)
    assert refusal.condition == "remote-connection-failed"
    assert "sent plaintext after its consent to TLS" in refusal.text


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_attack_02_bytes_after_proceed_in_a_segment_of_their_own_are_no_tls(
    forward: Forward, secure: Secure, after: bytes
) -> None:
    forward.hostile.play(then(then(proceed, at_hello(after)), then(secure, login)))
    refusal = forward.refusal(DOMAIN)
    assert "failed to establish TLS" in refusal.text or "closed the connection" in refusal.text


@pytest.mark.parametrize("split", range(1, len(PROCEED), 7))
def test_attack_02_an_answer_in_pieces_is_one_answer(
    forward: Forward, secure: Secure, split: int
) -> None:
    forward.hostile.play(
        then(
            saying(HEADER + OFFER, PROCEED[:split]),
            then(later(PROCEED[split:]), then(secure, login)),
        )
    )
    forward.login(DOMAIN)
    forward.hostile.play(
        then(saying(HEADER + OFFER, PROCEED[:split]), later(PROCEED[split:] + b" "))
    )
    assert "sent plaintext" in forward.refusal(DOMAIN).text


@pytest.mark.parametrize(
    "said", [HEADER + MECHANISMS, RESPONSE, b"\x80\x2e\x01\x00\x02", b"<a></a>"]
)
@pytest.mark.parametrize("domain", [DIRECT, DOMAIN, ENCRYPT])
def test_attack_02_plaintext_instead_of_a_server_hello(
    forward: Forward, domain: str, said: bytes
) -> None:
    forward.hostile.play(at_hello(said) if domain == DIRECT else then(proceed, at_hello(said)))
    refusal = forward.refusal(domain)
    assert refusal.condition == "policy-violation"
    assert "failed to establish TLS" in refusal.text


def test_attack_02_what_was_said_before_tls_is_forgotten(forward: Forward, secure: Secure) -> None:
    """Another id, other features, a language: only those under TLS reach the client."""
    forward.hostile.play(upgraded(secure))
    with plaintext(forward.ports["legacy"], DOMAIN) as stream:
        stream.send_header()
        said = stream.read_until("</stream:features>")
        forward.hostile.peers[0].close()
    assert "id='inside-1'" in said
    assert "outside" not in said
    assert "starttls" not in said


def silent(_peer: Peer) -> None:
    """Say nothing."""


STEPS: dict[str, tuple[str, Script]] = {
    "connected": (DOMAIN, silent),
    "header": (DOMAIN, saying(HEADER)),
    "features": (DOMAIN, offer),
    "proceed": (DOMAIN, proceed),
    "half-a-tag": (DOMAIN, saying(HEADER + b"<stream:feat")),
    "direct": (DIRECT, silent),
}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Forward]:
    """One whose servers have little time; if it is over early, that is told in the same words."""
    directory = tmp_path_factory.mktemp("hasty")
    met: dict[str, dict[str, object]] = {DOMAIN: {}, DIRECT: {"direct_tls": True}}
    with meeting(directory, authority, met, tables={"deadlines": {"connect": 1}}) as forward:
        yield forward


@pytest.mark.parametrize(("domain", "script"), STEPS.values(), ids=STEPS)
def test_attack_04_a_server_that_falls_silent_is_left_in_time(
    hasty: Forward, domain: str, script: Script
) -> None:
    hasty.hostile.play(script)
    refusal = hasty.refusal(domain)
    assert refusal.condition == "remote-connection-failed"
    assert "did not answer in time" in refusal.text


def test_attack_04_a_server_that_falls_silent_under_tls(
    tmp_path: Path, authority: Authority, secure: Secure
) -> None:
    """It has proved itself, so the client's header has gone out; the rest follows features.

    Two servers do so beside each other, one of which answers the header.
    """
    scripts = [upgraded(secure, say) for say in (silent, saying(HEADER))]
    with contextlib.ExitStack() as stack:
        tables = {"deadlines": {"connect": 5}}
        forward = stack.enter_context(meeting(tmp_path, authority, {DOMAIN: {}}, tables=tables))
        hostile = forward.hostile
        hostile.play(*scripts)
        clients = []
        for count, _ in enumerate(scripts, 1):
            client = stack.enter_context(connected(forward.ports["legacy"]))
            client.sendall((greeting(DOMAIN) + AUTH + MESSAGE).encode())
            clients.append(client)
            while len(hostile.peers) < count:
                time.sleep(0.005)
        answers = [read_all(client) for client in clients]
        peers = hostile.settle()
    assert len(peers) == len(scripts)
    for peer, said in zip(peers, answers, strict=True):
        assert peer.sealed.startswith(b"<?xml")
        assert b"<auth" not in peer.sealed
        assert b"<remote-connection-failed " in said
        assert b"did not answer in time" in said


@pytest.mark.parametrize(("domain", "script"), STEPS.values(), ids=STEPS)
def test_attack_04_a_server_may_leave_at_every_step(
    forward: Forward, domain: str, script: Script
) -> None:
    forward.hostile.play(then(script, Peer.close))
    refusal = forward.refusal(domain)
    assert refusal.condition in ("remote-connection-failed", "policy-violation")


def test_direct_tls_begins_with_the_first_byte(forward: Forward, secure: Secure) -> None:
    forward.hostile.play(direct(secure))
    forward.login(DIRECT)
    (peer,) = forward.hostile.peers
    assert peer.plain == b""
