"""TLS contexts: what they agree to, and what cannot be made into one."""

import contextlib
import ssl
from pathlib import Path

import pytest
from OpenSSL import SSL

from proxy.net.tls import TLSSetupError, alert, describe, server_context
from tests.authority import Authority


@pytest.fixture
def client() -> SSL.Context:
    return SSL.Context(SSL.TLS_CLIENT_METHOD)


@pytest.fixture
def server(authority: Authority) -> SSL.Context:
    return server_context([authority.issue("example.com")], "c2s/example.com")


def test_the_best_is_chosen(server: SSL.Context, client: SSL.Context) -> None:
    ours, _ = agree(server, client)
    assert ours.get_protocol_version_name() == "TLSv1.3"
    assert ours.get_group_name() == "X25519MLKEM768"


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_old_versions_are_refused(server: SSL.Context, client: SSL.Context, version: int) -> None:
    client.set_min_proto_version(version)
    client.set_max_proto_version(version)
    client.set_cipher_list(b"ALL:@SECLEVEL=0")
    with pytest.raises(SSL.Error):
        agree(server, client)


@pytest.mark.parametrize(
    "suites",
    [b"ECDHE-ECDSA-AES128-SHA256", b"ECDHE-ECDSA-AES256-SHA", b"AES128-GCM-SHA256"],
)
def test_weak_suites_are_refused(server: SSL.Context, client: SSL.Context, suites: bytes) -> None:
    client.set_max_proto_version(SSL.TLS1_2_VERSION)
    client.set_cipher_list(suites)
    with pytest.raises(SSL.Error):
        agree(server, client)


@pytest.mark.parametrize(
    ("offered", "expected"),
    [([b"xmpp-client"], b"xmpp-client"), ([b"h2", b"xmpp-client"], b"xmpp-client"), ([], b"")],
)
def test_xmpp_client_is_the_protocol(
    server: SSL.Context, client: SSL.Context, offered: list[bytes], expected: bytes
) -> None:
    if offered:
        client.set_alpn_protos(offered)
    ours, _ = agree(server, client)
    assert expected == ours.get_alpn_proto_negotiated()


def test_attack_06_another_protocol_is_refused(server: SSL.Context, client: SSL.Context) -> None:
    client.set_alpn_protos([b"h2"])
    with pytest.raises(SSL.Error):
        agree(server, client)


@pytest.mark.parametrize("fault", ["no file", "no PEM", "another key", "key for certificate"])
def test_what_is_no_pair_is_a_setup_error(authority: Authority, tmp_path: Path, fault: str) -> None:
    certificate, key = authority.issue("example.com")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    pair = {
        "no file": (tmp_path / "nowhere", key),
        "no PEM": (nonsense, key),
        "another key": (certificate, authority.issue("example.com")[1]),
        "key for certificate": (key, key),
    }[fault]
    with pytest.raises(TLSSetupError, match=str(pair[0])) as told:
        server_context([pair], "c2s/example.com")
    assert "\n" not in str(told.value)


def test_an_alert_is_a_record_in_plaintext() -> None:
    assert alert(120) == b"\x15\x03\x01\x00\x02\x02\x78"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SSL.SysCallError(-1, "Unexpected EOF"), "connection lost"),
        (SSL.SysCallError(104, "ECONNRESET"), "ECONNRESET"),
        (SSL.Error([("SSL routines", "", "bad"), ("", "", "bad"), ("x", "", "")]), "bad; x"),
        (SSL.Error([]), "unknown TLS error"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (ValueError("words"), "words"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_described_in_words(error: BaseException, expected: str) -> None:
    assert expected == describe(error)


def test_the_standard_library_is_content_with_the_chain(
    server: SSL.Context, authority: Authority
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(authority.ca_path))
    ours = SSL.Connection(server, None)
    ours.set_accept_state()
    theirs = context.wrap_bio(incoming, outgoing, server_hostname="example.com")
    for _ in range(10):
        for shake in (theirs.do_handshake, ours.do_handshake):
            with contextlib.suppress(ssl.SSLWantReadError, SSL.WantReadError):
                shake()
        if data := outgoing.read():
            ours.bio_write(data)
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(ours.bio_read(65536))
    certificate = theirs.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "example.com"),)
