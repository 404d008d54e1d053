"""Attacks 21 and 22: where nobody may be led, and circles."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net.client import AUTH, connected, read_all
from tests.net.forward import HOSTING, Forward, meeting, told_nothing
from tests.net.hostile import (
    MECHANISMS,
    OFFER,
    PROCEED,
    Peer,
    Script,
    header,
    login,
    pointing,
    saying,
    showing,
    upgraded,
)
from tests.net.name_server import NameServer
from tests.servers.program import HOST

DOMAIN = "example.net"
GUARDED = "guarded.example.net"


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


@pytest.fixture(scope="module")
def _forward(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, names: NameServer
) -> Iterator[Forward]:
    met: dict[str, dict[str, object]] = {DOMAIN: {"private_addresses": True}, GUARDED: {}}
    directory = tmp_path_factory.mktemp("forward")
    others = [{"domain": f"*.{GUARDED}"}]
    with meeting(directory, authority, met, others=others, names=names) as forward:
        yield forward


@pytest.fixture
def forward(_forward: Forward) -> Iterator[Forward]:
    yield _forward
    _forward.hostile.play(login)


PLACES = {
    "loopback": ("A", HOST),
    "loopback-2": ("A", "127.255.255.254"),
    "unspecified": ("A", "0.0.0.0"),
    "private-10": ("A", "10.0.0.1"),
    "private-172": ("A", "172.31.255.1"),
    "private-192": ("A", "192.168.1.1"),
    "metadata": ("A", "169.254.169.254"),
    "carrier": ("A", "100.64.0.1"),
    "v6": ("AAAA", "::1"),
    "mapped": ("AAAA", f"::ffff:{HOST}"),
    "translated": ("AAAA", f"64:ff9b::{HOST}"),
    "six-to-four": ("AAAA", "2002:7f00:1::1"),
    "local": ("AAAA", "fd00::1"),
    "link": ("AAAA", "fe80::1"),
    "any": ("AAAA", "::"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("service", ["_xmpp-client", "_xmpps-client", None])
def test_attack_21_dns_leads_nobody_to_forbidden_places(
    forward: Forward, names: NameServer, place: str, service: str | None
) -> None:
    kind, address = PLACES[place]
    domain = f"{place}{service or '-itself'}.{GUARDED}".replace("_", "-")
    host = domain if service is None else f"{place}.hosting.example"
    names.add(host, kind, address)
    if service is not None:
        names.add(f"{service}._tcp.{domain}", "SRV", f"0 5 {forward.hostile.port} {host}.")
    refusal = forward.refusal(domain)
    assert refusal.condition == "policy-violation"
    assert " is a" in refusal.text
    assert refusal.peers == []


REDIRECTIONS = [
    "127.0.0.1:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "0:{port}",
    "0.0.0.0:{port}",
    "localhost:{port}",
    "[::1]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "[::]:{port}",
    "::1",
    "[fe80::1%lo]:{port}",
    "10.0.0.1",
    "169.254.169.254:80",
    f"{HOSTING}:{{port}}",
    f"{HOSTING}.:{{port}}",
    HOSTING,
    "127.0.0.1:22",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:-1",
    ":{port}",
    "",
    " ",
    "a b",
    "a&#10;b",
    "x" * 299,
    "faß.example.net",
    "http://127.0.0.1:{port}/",
    "alice@127.0.0.1",
]


@pytest.mark.parametrize("under_tls", [False, True])
@pytest.mark.parametrize("written", REDIRECTIONS)
def test_attack_21_servers_lead_nobody_to_forbidden_places(
    forward: Forward, authority: Authority, written: str, *, under_tls: bool
) -> None:
    secure = showing(authority.issue(GUARDED)) if under_tls else None
    script = pointing(written.format(port=forward.hostile.port), secure=secure)
    forward.hostile.play(script, upgraded(showing(authority.issue(GUARDED))))
    said = forward.attempt(GUARDED)
    (peer,) = forward.hostile.settle()
    assert b"<success" not in said
    assert b"<stream:error><" in said
    assert said.count(b"<stream:stream ") == 1
    if not under_tls:
        told_nothing(peer, GUARDED)


@pytest.mark.parametrize("by", ["srv", "srv-direct", "redirect", "redirect-mapped"])
def test_attack_21_and_22_our_own_listeners_are_no_servers(
    forward: Forward, names: NameServer, by: str
) -> None:
    """Even where private addresses are allowed."""
    port = forward.ports["report"]
    domain = DOMAIN
    if by.startswith("srv"):
        domain = f"{by}.own.example"
        service = "_xmpps-client" if by == "srv-direct" else "_xmpp-client"
        names.add(f"{service}._tcp.{domain}", "SRV", f"0 5 {port} {HOSTING}.")
    place = f"[::ffff:{HOST}]:{port}" if by == "redirect-mapped" else f"{HOSTING}:{port}"
    forward.hostile.play(pointing(place))
    refusal = forward.refusal(domain)
    assert refusal.condition in ("policy-violation", "remote-connection-failed")
    assert "is a listener of this proxy" in refusal.text


@pytest.mark.parametrize("written", [f"{HOST}", "localhost", "[::1]", "10.0.0.1"])
def test_attack_21_clients_ask_for_no_places(forward: Forward, written: str) -> None:
    said = forward.attempt(written)
    assert re.search(b"<(host-unknown|policy-violation|remote-connection-failed) ", said)
    assert forward.hostile.settle() == []


# Attack 22: circles


@pytest.mark.parametrize("under_tls", [False, True])
def test_attack_22_redirections_are_followed_three_times(
    forward: Forward, authority: Authority, *, under_tls: bool
) -> None:
    secure = showing(authority.issue(DOMAIN)) if under_tls else None
    forward.hostile.play(pointing(f"{HOSTING}:{forward.hostile.port}", secure=secure))
    said = forward.attempt(DOMAIN)
    peers = forward.hostile.settle()
    assert len(peers) == 4
    assert b"<stream:error><" in said
    assert said.count(b"<stream:stream ") == 1
    if not under_tls:
        assert b"redirects too often" in said
        assert forward.refusal(DOMAIN).condition == "remote-connection-failed"


def test_a_redirection_keeps_the_domain(forward: Forward, authority: Authority) -> None:
    """The place is the server's to say, what its certificate must prove is not."""
    place = f"{HOSTING}:{forward.hostile.port}"
    pair = authority.issue(HOSTING)
    forward.hostile.play(pointing(place), upgraded(showing(pair)))
    assert f"is for {HOSTING}, not for {DOMAIN}" in forward.refusal(DOMAIN).text
    good = showing(authority.issue(DOMAIN))
    for secure in (None, good):
        forward.hostile.play(pointing(place, secure=secure), upgraded(good))
        forward.login(DOMAIN)
        assert len(forward.hostile.peers) == 2


def test_attack_22_an_id_of_our_own_is_a_circle(forward: Forward, authority: Authority) -> None:
    """Before TLS and after it."""
    for under_tls in (False, True):
        with connected(forward.ports["legacy"]) as connection:
            connection.sendall(b"<oops>")
            own = re.search(rb"id=.([0-9a-f]+)", read_all(connection))
        assert own is not None
        said = header(own[1].decode())
        if under_tls:
            pair = authority.issue(DOMAIN)
            forward.hostile.play(upgraded(showing(pair), saying(said + MECHANISMS)))
            answer = forward.attempt(DOMAIN)
            assert b"connected to itself" in answer
            assert AUTH.encode() not in forward.hostile.settle()[0].sealed
        else:
            forward.hostile.play(saying(said + OFFER, PROCEED))
            assert "is this proxy itself" in forward.refusal(DOMAIN).text


def tunnel(port: int) -> Script:
    """Return a script that leads to another port of this machine."""

    def script(peer: Peer) -> None:
        with socket.create_connection((HOST, port)) as onward:
            back = threading.Thread(target=_pump, args=(onward, peer.socket), daemon=True)
            back.start()
            _pump(peer.socket, onward)
            back.join()

    return script


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_attack_22_a_circle_through_others_ends(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> None:
    """Each turn is a client of ours; the last one that may come is told so, and so are all."""
    directory = tmp_path_factory.mktemp("circle")
    tables = {"plugins.limits": {"connections_per_address": 10}}
    with meeting(directory, authority, {DOMAIN: {}}, tables=tables) as forward:
        forward.hostile.play(tunnel(forward.ports["legacy"]))
        said = forward.attempt(DOMAIN)
        peers = forward.hostile.settle()
        assert len(peers) == 10
        for peer in peers:
            told_nothing(peer, DOMAIN)
        assert b"<remote-connection-failed " in said
