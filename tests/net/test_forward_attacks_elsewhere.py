"""Attacks 6, 19, 21, 22 and 24: other protocols, forbidden places, circles, and forged lines."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.authority import Authority
from tests.net.client import AUTH, connected, log_in, read_all
from tests.net.forward import HOSTING, MESSAGE, Forward, greeting, told_nothing
from tests.net.hostile import (
    MECHANISMS,
    OFFER,
    PROCEED,
    STREAM,
    Hostile,
    Peer,
    Script,
    direct,
    header,
    login,
    pointing,
    proceed,
    saying,
    showing,
    stream_error,
    upgraded,
)
from tests.net.name_server import NameServer
from tests.net.test_attack_24_logs import FORGED, NASTY, attribute
from tests.servers.program import HOST
from tests.servers.stream import plaintext

DOMAIN = "example.net"
DIRECT = "direct.example.net"
NEWEST = "newest.example.net"
GUARDED = "guarded.example.net"
HEADER = header("outside")
PAGE = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>reflected</html>\r\n"

Pair = tuple[object, object]


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


@pytest.fixture(scope="module")
def _forward(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, names: NameServer
) -> Iterator[Forward]:
    with Hostile() as server:
        place = {"server": f"{HOST}:{server.port}"}
        policies: list[dict[str, object]] = [
            {"domain": DOMAIN, "private_addresses": True, **place},
            {"domain": DIRECT, "direct_tls": True, **place},
            {"domain": NEWEST, "min_version": "TLSv1.3", **place},
            {"domain": GUARDED, **place},
            {"domain": f"*.{GUARDED}"},
        ]
        directory = tmp_path_factory.mktemp("forward")
        # A server may be slow to say no, but these tests do not wait for it.
        with Forward(directory, authority, server, names, policies=policies) as forward:
            yield forward


@pytest.fixture
def forward(_forward: Forward) -> Iterator[Forward]:
    yield _forward
    _forward.hostile.play(login)


# Attack 6: other protocols


@pytest.mark.parametrize("protocol", [b"h2", b"http/1.1", b"xmpp-server", b"xmpp-client2"])
def test_attack_06_a_server_that_chooses_another_protocol_is_refused(
    forward: Forward, authority: Authority, protocol: bytes
) -> None:
    """However good its certificate: it was made for this domain, but not for XMPP (ALPACA)."""
    pair = authority.issue(DIRECT)
    forward.hostile.play(
        direct(lambda peer: peer.secure(*pair, SSL.TLS1_3_VERSION, protocol=protocol))
    )
    refusal = forward.refusal(DIRECT)
    assert refusal.condition == "policy-violation"


@pytest.mark.parametrize("domain", [DOMAIN, DIRECT])
@pytest.mark.parametrize("at_once", [True, False])
def test_attack_06_http_over_tls_gets_no_credential_and_is_not_reflected(
    forward: Forward, authority: Authority, domain: str, *, at_once: bool
) -> None:
    def answer(peer: Peer) -> None:
        if not at_once:
            peer.read_until(STREAM)
        peer.send(PAGE)

    kind = direct if domain == DIRECT else upgraded
    forward.hostile.play(kind(showing(authority.issue(domain)), answer))
    said = forward.attempt(domain)
    (peer,) = forward.hostile.settle()
    assert b"reflected" not in said
    assert b"<remote-connection-failed " in said
    assert AUTH.encode() not in peer.sealed
    assert MESSAGE.encode() not in peer.sealed
    assert peer.sealed in (b"", greeting(domain).encode())


@pytest.mark.parametrize("domain", [DOMAIN, DIRECT])
def test_attack_06_the_server_name_is_the_domain(
    forward: Forward, authority: Authority, domain: str
) -> None:
    kind = direct if domain == DIRECT else upgraded
    forward.hostile.play(kind(showing(authority.issue(domain))))
    logged_in(forward, domain)
    assert forward.hostile.peers[0].server_name == domain.encode()


def record(kind: int, body: bytes, version: int = 3) -> bytes:
    return bytes((kind, 3, version)) + len(body).to_bytes(2) + body


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3) + body


def server_hello(version: int) -> bytes:
    """Return the beginning of a server's flight: 3 for TLS 1.2, 2 for TLS 1.1."""
    suite = b"\xc0\x2b" if version == 3 else b"\xc0\x09"
    extensions = b"\xff\x01\x00\x01\x00"
    body = bytes((3, version)) + b"r" * 32 + b"\x00" + suite + b"\x00"
    return message(2, body + len(extensions).to_bytes(2) + extensions)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_attack_06_old_versions_are_not_spoken(forward: Forward, version: int) -> None:
    """SSL 3, TLS 1.0 and 1.1; by hand, for OpenSSL itself may have forgotten them."""

    def answer(peer: Peer) -> None:
        proceed(peer)
        peer.read_until(b"\x16\x03")
        peer.send(record(0x16, server_hello(version), version))

    forward.hostile.play(answer)
    refusal = forward.refusal(DOMAIN)
    assert refusal.condition == "policy-violation"
    assert "failed to establish TLS" in refusal.text
    assert record(0x15, b"\x02\x46")[5:] == refusal.peers[0].plain[-2:]  # protocol_version


def test_attack_06_the_oldest_version_is_the_policy_s(
    forward: Forward, authority: Authority
) -> None:
    pair = authority.issue(NEWEST)
    forward.hostile.play(upgraded(showing(pair, SSL.TLS1_2_VERSION)))
    assert "failed to establish TLS" in forward.refusal(NEWEST).text
    forward.hostile.play(upgraded(showing(pair)))
    logged_in(forward, NEWEST)


# Attack 19: what no TLS library would send


CERTIFICATES = {
    "none": [],
    "empty": [b""],
    "not-der": [b"\x30\x84\xff\xff\xff\xff"],
    "zeroes": [bytes(500)],
    "cut": [b"\x30\x82\x02\x00\x30\x82\x01\x00\xa0\x03\x02\x01\x02"],
    "nested": [b"\x30\x80" * 500],
    "many": [b"\x30\x00"] * 100,
    "xml": [MECHANISMS],
}


@pytest.mark.parametrize("chain", CERTIFICATES.values(), ids=CERTIFICATES)
@pytest.mark.parametrize("domain", [DOMAIN, DIRECT])
def test_attack_19_certificates_that_are_none(
    forward: Forward, domain: str, chain: list[bytes]
) -> None:
    listed = b"".join(len(each).to_bytes(3) + each for each in chain)
    flight = server_hello(3) + message(11, len(listed).to_bytes(3) + listed)

    def answer(peer: Peer) -> None:
        if domain == DOMAIN:
            proceed(peer)
        peer.read_until(b"\x16\x03")
        peer.send(record(0x16, flight))

    forward.hostile.play(answer)
    refusal = forward.refusal(domain)
    assert refusal.condition == "policy-violation"
    assert "failed to establish TLS" in refusal.text
    assert refusal.peers[0].plain[-7] == 0x15, "no alert"


# Attack 21: forbidden places

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
        logged_in(forward, DOMAIN)
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
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, names: NameServer
) -> None:
    """Each turn is a client of ours; the last one that may come is told so, and so are all."""
    directory = tmp_path_factory.mktemp("circle")
    tables = {"plugins.limits": {"connections_per_address": 10}}
    with Hostile() as server:
        policies = [{"domain": DOMAIN, "server": f"{HOST}:{server.port}"}]
        with Forward(
            directory, authority, server, names, policies=policies, tables=tables
        ) as forward:
            server.play(tunnel(forward.ports["legacy"]))
            said = forward.attempt(DOMAIN)
            peers = server.settle()
            assert len(peers) == 10
            for peer in peers:
                told_nothing(peer, DOMAIN)
            assert b"<remote-connection-failed " in said


# Attack 24: the log

TOLD: dict[str, Script] = {}
for number, nasty in enumerate(NASTY):
    written = attribute(nasty).encode("utf-8", "replace")
    forged = header("1").replace(b"'1'", b"'" + written + b"'")
    TOLD[f"id-{number}"] = saying(forged, closing=True)
    TOLD[f"element-{number}"] = saying(HEADER + b"<" + written + b">")
    TOLD[f"from-{number}"] = saying(
        HEADER[:-1] + b" from='" + written + b"'>", b"<failure/>", closing=True
    )
    TOLD[f"error-{number}"] = saying(HEADER + stream_error("x" + attribute(nasty)))
    TOLD[f"place-{number}"] = saying(HEADER + stream_error("see-other-host", attribute(nasty)))


@pytest.mark.parametrize("script", TOLD.values(), ids=TOLD)
def test_attack_24_servers_forge_nothing_before_tls(forward: Forward, script: Script) -> None:
    """`Forward.refusal` looks at each line."""
    forward.hostile.play(script)
    refusal = forward.refusal(DOMAIN)
    for line in refusal.lines:
        assert "session=forged" not in line.partition('"')[0]
    assert FORGED not in refusal.text


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("listener", ["legacy", "report"])
def test_attack_24_servers_forge_nothing_under_tls(
    forward: Forward, authority: Authority, nasty: str, listener: str
) -> None:
    text = f"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{attribute(nasty)}</text>"
    error = stream_error("conflict").replace(b"</stream:error>", text.encode() + b"</stream:error>")
    pair = authority.issue(DOMAIN, common_name=nasty.replace("\x00", ""))
    for said in (HEADER + error, header(attribute(nasty)) + MECHANISMS + b"<" + nasty.encode()):
        since = len(forward.lines())
        forward.hostile.play(upgraded(showing(pair), saying(said, closing=True)))
        forward.attempt(DOMAIN, listener)
        forward.wait_for_line("session ended", since)
        for line in forward.lines(since):
            assert "session=forged" not in line.partition('"')[0]


def logged_in(forward: Forward, domain: str) -> None:
    with plaintext(forward.ports["legacy"], domain) as stream:
        log_in(stream)
        forward.hostile.next().close()
