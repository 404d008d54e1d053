"""What the header tells a server of a client, with which each connection to it begins."""

from collections.abc import Iterator
from struct import unpack

import pytest

from proxy.net.proxy_protocol import Versions, read
from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net.client import log_in, proceeding, secure
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.net.proxies import (
    BLOCK,
    BLOCK6,
    CLIENT,
    CLIENT6,
    LINE,
    PLACE,
    PLACE6,
    Ended,
    daemon,
    opened,
)
from tests.net.test_proxy_protocol import walked
from tests.servers.program import HOST


@pytest.fixture(scope="module")
def fronted(
    tmp_path_factory: pytest.TempPathFactory, _legacy: LegacyServer, authority: Authority
) -> Iterator[Front]:
    """A daemon behind proxies; see `daemon`."""
    with daemon(tmp_path_factory.mktemp("fronted"), _legacy, authority) as front:
        yield front


def told(legacy: LegacyServer) -> tuple[Address | None, Address | None, dict[int, bytes]]:
    """Return what the header says that the one connection to the server begins with."""
    [connection] = legacy.connections
    got = connection.got
    header = read(got, Versions.V2)
    assert got[header.length :].startswith(b"<?xml"), got  # type: ignore[union-attr]
    addresses = 12 if got[13] == 0x11 else 36
    values = walked(got[16 + addresses : header.length])  # type: ignore[union-attr]
    return header.source, header.destination, dict(values)  # type: ignore[union-attr]


@pytest.mark.parametrize("way", [(LINE, CLIENT, PLACE), (BLOCK6, CLIENT6, PLACE6)])
def test_the_server_is_told_of_the_client_before_anything_else(
    fronted: Front,
    legacy: LegacyServer,
    authority: Authority,
    way: tuple[bytes, Address, Address],
) -> None:
    header, client, place = way
    ended = Ended(fronted)
    with opened(fronted, header) as stream:
        proceeding(stream)
        assert not legacy.connections  # nobody is told before TLS is up
        secure(stream, authority.ca_path)
        log_in(stream)
        source, destination, values = told(legacy)
    assert (source, destination) == (client, place)
    session = ended.session()
    assert values.keys() == {1, 2, 5, 0x20}
    assert values[1] == b"xmpp-client"
    assert values[2] == DOMAIN.encode()
    assert values[5] == session["session"].encode()
    version, cipher, _ = session["tls"].split("/")
    assert unpack("!BI", values[0x20][:5]) == (1, 1)
    assert walked(values[0x20][5:]) == [(0x21, version.encode()), (0x23, cipher.encode())]


def test_without_a_proxy_in_front_the_server_is_told_of_real_addresses(
    fronted: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with opened(fronted, listener="bare") as stream:
        real = Address(*stream.connection.getsockname())
        secure(stream, authority.ca_path)
        log_in(stream)
        source, destination, _ = told(legacy)
    assert (source, destination) == (real, Address(HOST, fronted.named["bare"]))


def test_of_a_client_without_tls_the_server_is_told_of_no_tls(
    fronted: Front, legacy: LegacyServer
) -> None:
    with opened(fronted, BLOCK, "none") as stream:
        log_in(stream)
        source, destination, values = told(legacy)
    assert (source, destination) == (CLIENT, PLACE)
    assert values.keys() == {1, 2, 5}


def test_a_server_that_is_not_to_be_told_is_not(
    fronted: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with opened(fronted, BLOCK, domain=OTHER_DOMAIN) as stream:
        secure(stream, authority.ca_path, OTHER_DOMAIN)
        log_in(stream)
        assert legacy.heard.startswith(b"<?xml")
