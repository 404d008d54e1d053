"""What the header of the PROXY protocol tells of a server that connects, and of its certificate."""

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.net.proxy_protocol import Header, Versions, preface, read
from proxy.session.hooks import TLSFacts, View
from proxy.session.kinds import Kind
from tests.authority import Authority
from tests.net.proxies import CLIENT, PLACE
from tests.net.test_proxy_protocol import walked
from tests.plugins.views import view


def server_session(client_identity: str) -> View:
    """The session of a server that has connected, with what its certificate has proved."""
    facts = TLSFacts("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "X25519", "", None, False, False)
    return attrs.evolve(
        view(),
        client=CLIENT,
        kind=Kind.S2S,
        origin="example.net",
        domain="example.com",
        tls=facts,
        client_identity=client_identity,
    )


def der(authority: Authority, common_name: str | None) -> bytes:
    path, _ = authority.issue("example.net", common_name=common_name)
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


def told_of_tls(header: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Return the fixed part of what a preface tells of TLS, and its values."""
    (tls,) = [value for kind, value in walked(header[28:]) if kind == 0x20]
    return tls[:5], dict(walked(tls[5:]))


@pytest.mark.parametrize("identity", ["DNS-ID example.net", ""])
@pytest.mark.parametrize("name", ["a name", "ü" * 32, None])
def test_the_preface_tells_of_a_server_and_its_certificate(
    authority: Authority, identity: str, name: str | None
) -> None:
    session = server_session(identity)
    header = preface(session, PLACE, (der(authority, name), b"an authority's"))
    assert walked(header[28:])[:3] == [
        (1, b"xmpp-server"),
        (2, b"example.com"),
        (5, session.id.encode()),
    ]
    fixed, values = told_of_tls(header)
    assert fixed == b"\3" + (b"\0\0\0\0" if identity else b"\0\0\0\1")
    assert values.pop(0x21) == b"TLSv1.2"
    assert values.pop(0x23) == b"ECDHE-RSA-AES128-GCM-SHA256"
    assert values == ({} if name is None else {0x22: name.encode()})
    assert isinstance(read(header, Versions.V2), Header)


def test_the_preface_tells_of_a_server_without_a_certificate() -> None:
    fixed, values = told_of_tls(preface(server_session(""), PLACE, ()))
    assert fixed == b"\1\0\0\0\1"
    assert values.keys() == {0x21, 0x23}


@pytest.mark.parametrize("shown", [b"", b"\x30\x03\x02\x01\x00", bytes(1000)])
def test_a_certificate_that_cannot_be_read_has_no_name(shown: bytes) -> None:
    fixed, values = told_of_tls(preface(server_session(""), PLACE, (shown,)))
    assert fixed == b"\3\0\0\0\1"
    assert values.keys() == {0x21, 0x23}
