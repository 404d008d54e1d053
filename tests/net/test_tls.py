"""TLS contexts: what they agree to, and what cannot be made into one."""

import contextlib
import gc
import ssl
from pathlib import Path
from typing import get_args

import pytest
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from proxy.net import openssl
from proxy.net.client_hello import Hello
from proxy.net.peer import shown
from proxy.net.tls import (
    TLSSetupError,
    alert,
    client_context,
    describe,
    facts,
    server_context,
    server_facts,
)
from proxy.session.kinds import Kind
from proxy.trust.policy import Pattern, Policy
from tests.authority import Authority, KeyKind
from tests.net.peers import VERSIONS, agree, handshake, remote
from tests.trust.showing import chain_of


@pytest.fixture
def client() -> SSL.Context:
    return SSL.Context(SSL.TLS_CLIENT_METHOD)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


@pytest.mark.parametrize("kind", [Kind.C2S, Kind.S2S])
@pytest.mark.parametrize("others", [[], [b"h2"]])
def test_the_protocol_is_that_of_the_streams(
    authority: Authority, client: SSL.Context, kind: Kind, others: list[bytes]
) -> None:
    server = server_context([authority.issue("example.com")], "some", kind)
    client.set_alpn_protos([*others, kind.protocol])
    ours, theirs = agree(server, client)
    assert kind.protocol == ours.get_alpn_proto_negotiated()
    hello = Hello(server_name="example.com", protocols=(*others, kind.protocol))
    found = facts(ours, hello, direct=True, kind=kind)
    assert found.protocol == kind.protocol.decode()
    assert server_facts(theirs, "example.com", direct=True).protocol == found.protocol


@pytest.mark.parametrize("kind", Kind)
def test_no_protocol_need_be_named(authority: Authority, client: SSL.Context, kind: Kind) -> None:
    ours, theirs = agree(server_context([authority.issue("example.com")], "some", kind), client)
    assert ours.get_alpn_proto_negotiated() == b""
    hello = Hello(server_name="example.com", protocols=())
    assert facts(ours, hello, direct=True, kind=kind).protocol == ""
    assert server_facts(theirs, "example.com", direct=True).protocol == ""


@pytest.mark.parametrize("offered", [b"h2", b"xmpp-client", b"xmpp-server", b"xmpp"])
@pytest.mark.parametrize("kind", Kind)
def test_attack_06_another_protocol_is_refused(
    authority: Authority, client: SSL.Context, kind: Kind, offered: bytes
) -> None:
    server = server_context([authority.issue("example.com")], "some", kind)
    client.set_alpn_protos([offered])
    if offered == kind.protocol:
        assert agree(server, client)[0].get_alpn_proto_negotiated() == offered
        return
    with pytest.raises(SSL.Error, match="no application protocol"):
        agree(server, client)


@pytest.mark.parametrize("kind", [Kind.C2S, Kind.S2S])
def test_ours_is_found_among_others(authority: Authority, client: SSL.Context, kind: Kind) -> None:
    client.set_alpn_protos([b"h2", kind.protocol + b"x", kind.protocol, b"http/1.1"])
    server = server_context([authority.issue("example.com")], "some", kind)
    for connection in agree(server, client):
        assert connection.get_alpn_proto_negotiated() == kind.protocol


@pytest.mark.parametrize("within", [b"x\x0bxmpp-client", b"xmpp-client\x01"])
def test_attack_06_ours_within_another_is_not_ours(
    authority: Authority, client: SSL.Context, within: bytes
) -> None:
    client.set_alpn_protos([within])
    with pytest.raises(SSL.Error, match="no application protocol"):
        agree(server_context([authority.issue("example.com")], "some", Kind.C2S), client)


@pytest.mark.filterwarnings("ignore")
def test_a_choice_that_fails_refuses(
    authority: Authority, client: SSL.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        NULL = ffi.NULL

    client.set_alpn_protos([b"xmpp-client"])
    server = server_context([authority.issue("example.com")], "some", Kind.C2S)
    monkeypatch.setattr(openssl, "ffi", Failing)
    with pytest.raises(SSL.Error, match="no application protocol"):
        agree(server, client)


def test_only_servers_are_asked_for_certificates(authority: Authority, version: str) -> None:
    pair = authority.issue("example.net")
    for kind in Kind:
        server = server_context([authority.issue("example.com")], "some", kind)
        chain = shown(handshake(server, remote(pair, version), version))
        assert chain == (chain_of(pair[0]) if kind is Kind.S2S else ())


def test_whoever_is_asked_is_told_of_no_authorities(authority: Authority, version: str) -> None:
    """A list would tell strangers whom we trust, and keep those quiet who are not on it."""
    server = server_context([authority.issue("example.com")], "some", Kind.S2S)
    _, theirs = agree(server, remote(authority.issue("example.net"), version))
    assert theirs.get_client_ca_list() == []


def test_a_handshake_outlives_its_object(authority: Authority, version: str) -> None:
    """OpenSSL's own object goes on for as long as a leg needs it, without pyOpenSSL's."""
    server = server_context([authority.issue("example.com")], "some", Kind.S2S)
    ours = SSL.Connection(server, None)
    theirs = SSL.Connection(remote(authority.issue("example.net"), version), None)
    ours.set_accept_state()
    theirs.set_connect_state()
    ssl_object, arriving, leaving = openssl.inside(ours), ours._into_ssl, ours._from_ssl
    del ours
    gc.collect()
    finished = 0
    for _ in range(10):
        with contextlib.suppress(SSL.WantReadError):
            theirs.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            data = theirs.bio_read(65536)
            lib.BIO_write(arriving, data, len(data))
        finished = lib.SSL_do_handshake(ssl_object)
        buffer = ffi.new("char[]", 65536)
        count = lib.BIO_read(leaving, buffer, len(buffer))
        if count > 0:
            theirs.bio_write(ffi.buffer(buffer, count)[:])
    assert finished == 1
    assert lib.SSL_get_verify_result(ssl_object) != 0


@pytest.mark.parametrize("keys", [("ec",), ("rsa",), ("ec", "rsa")])
def test_a_server_that_asks_is_shown_a_certificate(
    authority: Authority, version: str, keys: tuple[KeyKind, ...]
) -> None:
    pairs = [authority.issue("example.com", key=key) for key in keys]
    theirs = server_context([authority.issue("example.net")], "theirs", Kind.S2S)
    ours = limited(client_context(Policy(Pattern("*"), anchors=authority.ca_path), pairs), version)
    chain = shown(handshake(theirs, ours, version))
    assert chain in [chain_of(pair[0]) for pair in pairs]


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_the_certificate_is_one_that_the_server_takes(
    authority: Authority, version: str, key: KeyKind
) -> None:
    """With TLS 1.2 a client of OpenSSL has only the one that it was given last."""
    kinds = sorted(get_args(KeyKind), key=key.__eq__, reverse=version == "TLSv1.3")
    pairs = {each: authority.issue("example.com", key=each) for each in kinds}
    theirs = server_context([authority.issue("example.net", key=key)], "theirs", Kind.S2S)
    algorithms = {"ec": b"ECDSA+SHA256", "rsa": b"RSA-PSS+SHA256"}[key]
    assert lib.SSL_CTX_set1_sigalgs_list(theirs._context, algorithms) == 1
    policy = Policy(Pattern("*"), anchors=authority.ca_path)
    ours = limited(client_context(policy, pairs.values()), version)
    assert shown(handshake(theirs, ours, version)) == chain_of(pairs[key][0])


def test_without_certificates_none_is_shown(authority: Authority, version: str) -> None:
    theirs = server_context([authority.issue("example.net")], "theirs", Kind.S2S)
    ours = limited(client_context(Policy(Pattern("*"), anchors=authority.ca_path)), version)
    assert shown(handshake(theirs, ours, version)) == ()


def test_only_the_chain_of_the_file_is_shown(
    authority: Authority, tmp_path: Path, version: str
) -> None:
    """OpenSSL would look for the rest among the roots, and send what it finds."""
    pair = authority.issue("example.com")
    theirs = server_context([authority.issue("example.net")], "theirs", Kind.S2S)
    policy = Policy(Pattern("*"), anchors=authority.ca_path)
    ours = limited(client_context(policy, [pair]), version)
    assert len(shown(handshake(theirs, ours, version))) == 1


def limited(context: SSL.Context, version: str) -> SSL.Context:
    context.set_max_proto_version(VERSIONS[version])
    return context


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
    if fault == "no file":
        assert str(told.value).endswith("nowhere: cannot be read: No such file or directory")
    with pytest.raises(TLSSetupError) as same:
        client_context(Policy(Pattern("*")), [pair])
    assert str(same.value) == str(told.value)


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
