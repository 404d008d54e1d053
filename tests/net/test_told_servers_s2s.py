"""What the header of the PROXY protocol tells our servers of others, and us of those in front."""

from collections.abc import Iterator
from struct import unpack

import pytest

from proxy.net.proxy_protocol import Header, Versions, read
from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net.client import read_all
from tests.net.federation import DIRECT, LEGACY, REMOTE, SISTER, Grounds, believe
from tests.net.legacy import Connection
from tests.net.proxies import BLOCK, BLOCK6, CLIENT, CLIENT6, LINE, PLACE, PLACE6
from tests.net.server_streams import message
from tests.net.test_proxy_protocol import walked
from tests.servers.program import HOST

ADDRESSES = {4: 12, 6: 36}
"""Bytes of both addresses and ports."""

ALPN, AUTHORITY, UNIQUE_ID, SSL = 0x01, 0x02, 0x05, 0x20
SSL_VERSION, COMMON_NAME, SSL_CIPHER = 0x21, 0x22, 0x23
OVER_TLS, WITH_CERTIFICATE = 1, 2
VERIFIED, UNVERIFIED = 0, 1


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(
        tmp_path_factory.mktemp("told"),
        authority,
        rules={
            "in": ("reverse", "required"),
            "proxied": ("reverse", "required"),
            "out": ("forward", "required"),
            "proxied-out": ("forward", "required"),
        },
        told=[LEGACY],
        proxied=["proxied", "proxied-out"],
    ) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test; the server of `LEGACY` is told of others."""
    _grounds.renew()
    return _grounds


def told(connection: Connection) -> tuple[Header, dict[int, bytes], bytes]:
    """Return the header that a connection begins with, its values, and what follows it."""
    header = read(connection.got, Versions.V2)
    assert isinstance(header, Header)
    assert header.source is not None
    start = 16 + ADDRESSES[6 if ":" in header.source.host else 4]
    values = walked(connection.got[start : header.length])
    assert len(dict(values)) == len(values)
    return header, dict(values), connection.got[header.length :]


def of_tls(values: dict[int, bytes]) -> tuple[int, int, dict[int, bytes]]:
    """Return what is told of TLS: the flags, whether it was verified, and the rest."""
    flags, verified = unpack("!BI", values[SSL][:5])
    return flags, verified, dict(walked(values[SSL][5:]))


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("way", ["starttls", "direct"])
def test_a_server_that_has_proved_itself_is_told_of(
    grounds: Grounds, way: str, version: str
) -> None:
    pair = grounds.authority.issue(REMOTE, common_name="Jürgens server")
    since = grounds.now()
    with grounds.incoming(pair=pair, way=way, version=version) as stream:
        real = Address(*stream.connection.getsockname())
        assert grounds.legacy.connections == []  # nobody is told before TLS is up
        stream.authenticate()
        for _ in range(2):  # before EXTERNAL, and after it
            header, values, rest = told(grounds.legacy.next())
            place = Address(HOST, grounds.service.ports["in"])
            assert (header.source, header.destination) == (real, place)
            assert rest == stream.header().encode()
            assert values.keys() == {ALPN, AUTHORITY, UNIQUE_ID, SSL}
            assert values[ALPN] == b"xmpp-server"
            assert values[AUTHORITY] == LEGACY.encode()
            flags, verified, more = of_tls(values)
            assert (flags, verified) == (OVER_TLS | WITH_CERTIFICATE, VERIFIED)
            assert more[COMMON_NAME].decode() == "Jürgens server"
            assert more[SSL_VERSION].decode() == version
            assert more.keys() == {COMMON_NAME, SSL_VERSION, SSL_CIPHER}
    assert values[UNIQUE_ID].decode() == grounds.ended("in", since)["session"]


def test_the_conversion_to_dialback_comes_after_it(grounds: Grounds) -> None:
    with grounds.authenticated() as stream:
        grounds.legacy.next()
        ours = grounds.legacy.next()
        stream.send(message(REMOTE, LEGACY))
        believe(grounds, ours, "legacy-2")
        assert ours.read_until(b"</message>") == message(REMOTE, LEGACY).encode()


@pytest.mark.parametrize("named", [DIRECT, "", "legacy.example"])
def test_a_certificate_that_proves_nothing_is_told_of_as_such(grounds: Grounds, named: str) -> None:
    """Its common name proves nothing in any case, whatever it says."""
    pair = grounds.authority.issue(DIRECT, common_name=named or None)
    with grounds.incoming(pair=pair) as stream:
        stream.open()
        _, values, _ = told(grounds.legacy.next())
        flags, verified, more = of_tls(values)
        assert (flags, verified) == (OVER_TLS | WITH_CERTIFICATE, UNVERIFIED)
        assert more.get(COMMON_NAME, b"").decode() == named


def test_no_certificate_is_not_told_of(grounds: Grounds) -> None:
    with grounds.incoming() as stream:
        stream.open()
        _, values, _ = told(grounds.legacy.next())
        flags, verified, more = of_tls(values)
        assert (flags, verified) == (OVER_TLS, UNVERIFIED)
        assert more.keys() == {SSL_VERSION, SSL_CIPHER}


def test_the_server_of_another_domain_is_not_told(grounds: Grounds) -> None:
    with grounds.incoming(to=SISTER) as stream:
        stream.open()
        assert grounds.legacy.next().got == stream.header().encode()


@pytest.mark.parametrize(
    ("ahead", "client", "place"),
    [(LINE, CLIENT, PLACE), (BLOCK, CLIENT, PLACE), (BLOCK6, CLIENT6, PLACE6)],
)
def test_what_a_proxy_in_front_says_is_passed_on(
    grounds: Grounds, ahead: bytes, client: Address, place: Address
) -> None:
    since = grounds.now()
    pair = grounds.certificates[REMOTE]
    with grounds.incoming(pair=pair, listener="proxied", ahead=ahead) as stream:
        stream.open()
        header, values, _ = told(grounds.legacy.next())
        assert (header.source, header.destination) == (client, place)
        assert of_tls(values)[:2] == (OVER_TLS | WITH_CERTIFICATE, VERIFIED)
    line = grounds.service.wait_for_line("Verified TLS connection established from", since)
    assert f"{REMOTE}[{client.host}]:{client.port}: " in line
    assert grounds.ended("proxied", since)["client"] == str(client)


def test_our_server_may_come_through_a_proxy_too(grounds: Grounds) -> None:
    since = grounds.now()
    with grounds.outgoing(listener="proxied-out") as stream:
        stream.send(LINE)
        stream.open()
        stream.read_features()
        peer = grounds.remote.next()
        stream.let_pass(peer)
        assert peer.plain.startswith(b"<?xml")  # of this the other server hears nothing
        peer.close()
    assert grounds.ended("proxied-out", since)["client"] == str(CLIENT)


@pytest.mark.parametrize("ahead", [b"", b"PROXY TCP4 x y 1 2\r\n", BLOCK[:12] + b"\x31"])
def test_without_a_header_a_proxied_connection_is_closed(grounds: Grounds, ahead: bytes) -> None:
    for listener in ("proxied", "proxied-out"):
        with grounds.connecting(grounds.service.ports[listener], REMOTE, LEGACY) as stream:
            stream.send(ahead + stream.header().encode())
            assert read_all(stream.connection) == b""
    assert grounds.legacy.connections == []
    assert grounds.remote.peers == []
