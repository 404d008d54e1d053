"""Attacks 6, 19 and 24: other protocols, certificates that are none, and forged lines."""

from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.authority import Authority
from tests.net.client import AUTH
from tests.net.forward import MESSAGE, Forward, greeting, meeting
from tests.net.hostile import (
    MECHANISMS,
    OFFER,
    STREAM,
    Peer,
    Script,
    direct,
    header,
    login,
    proceed,
    saying,
    showing,
    stream_error,
    upgraded,
)
from tests.net.test_attack_24_logs import FORGED, NASTY, attribute

DOMAIN = "example.net"
DIRECT = "direct.example.net"
NEWEST = "newest.example.net"
GUARDED = "guarded.example.net"
HEADER = header("outside")
PAGE = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>reflected</html>\r\n"

Pair = tuple[object, object]


@pytest.fixture(scope="module")
def _forward(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Forward]:
    met: dict[str, dict[str, object]] = {
        DOMAIN: {},
        DIRECT: {"direct_tls": True},
        NEWEST: {"min_version": "TLSv1.3"},
    }
    with meeting(tmp_path_factory.mktemp("forward"), authority, met) as forward:
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
    forward.login(domain)
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
    forward.login(NEWEST)


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


# Attack 24: the log

TOLD: dict[str, Script] = {}
for number, nasty in enumerate(NASTY):
    written = attribute(nasty).encode("utf-8", "replace")
    forged = header("1").replace(b"'1'", b"'" + written + b"'")
    TOLD[f"id-{number}"] = saying(forged, closing=True)
    TOLD[f"element-{number}"] = saying(HEADER + b"<" + written + b">")
    TOLD[f"from-{number}"] = saying(HEADER[:-1] + b" from='" + written + b"'>" + OFFER, b"<x/>")
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
    pair = authority.issue(DOMAIN, common_name="x" + nasty)
    for said in (HEADER + error, header(attribute(nasty)) + MECHANISMS + b"<" + nasty.encode()):
        since = len(forward.lines())
        forward.hostile.play(upgraded(showing(pair), saying(said, closing=True)))
        forward.attempt(DOMAIN, listener)
        forward.wait_for_line("session ended", since)
        for line in forward.lines(since):
            assert "session=forged" not in line.partition('"')[0]
