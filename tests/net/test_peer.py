"""proxy.net.peer: what servers that connect to us show in real handshakes, and what comes of it."""

import gc
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from proxy.net import openssl
from proxy.net.peer import Verifier, shown
from proxy.net.tls import TLSSetupError, evidence, server_context
from proxy.session.kinds import Kind
from proxy.trust.identities import SERVER_SERVICE
from proxy.trust.policy import Level, Pattern, Policy, pin_of
from proxy.trust.verdict import Status, UntrustedError, judge
from tests.authority import ANY, CLIENT, CODE, MAIL, SERVER, STRONG, Authority, now, self_signed
from tests.net.peers import Pair, Trusting, agree, certificates, handshake, remote, sending
from tests.trust.showing import DAY, NAME, chain_of, raw_dns

OURS = "the certificate of example.net"


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    return Authority(tmp_path_factory.mktemp("middle"), name="middle", key="rsa", parent=authority)


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> Trusting:
    return Trusting(Policy(Pattern("*"), anchors=authority.ca_path))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> SSL.Context:
    return server_context([authority.issue("example.com")], "s2s/example.com", Kind.S2S)


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), name="nobody's root")


@attrs.frozen
class Row:
    """What `Authority.issue` is asked for, and what is made of it."""

    status: Status
    words: str
    identities: dict[str, Any]


GOOD = {
    "for servers": Row(Status.VERIFIED, "DNS-ID example.net", {"usages": [SERVER]}),
    "for clients": Row(Status.VERIFIED, "DNS-ID example.net", {"usages": [CLIENT]}),
    "for both": Row(Status.VERIFIED, "DNS-ID example.net", {"usages": [SERVER, CLIENT]}),
    "for any": Row(Status.VERIFIED, "DNS-ID example.net", {"usages": [ANY]}),
    "no uses": Row(Status.VERIFIED, "DNS-ID example.net", {"usages": None}),
    "SRV-ID": Row(
        Status.VERIFIED,
        "SRV-ID _xmpp-server.example.net",
        {"dns": [], "srv": ["_xmpp-server.example.net"]},
    ),
    "XmppAddr": Row(Status.VERIFIED, "XmppAddr example.net", {"dns": [], "xmpp": [NAME]}),
    **{f"key {kind}": Row(Status.VERIFIED, "DNS-ID example.net", {"key": kind}) for kind in STRONG},
}
BAD = {
    "for code": Row(
        Status.UNTRUSTED,
        f"{OURS} is meant neither for servers nor for their clients (extended key usage)",
        {"usages": [CODE]},
    ),
    "expired": Row(
        Status.UNTRUSTED,
        f"{OURS} expired on {now() - DAY:%Y-%m-%d}",
        {"not_before": now() - 9 * DAY, "not_after": now() - DAY},
    ),
    "not yet": Row(
        Status.UNTRUSTED,
        f"{OURS} is not valid before {now() + DAY:%Y-%m-%d}",
        {"not_before": now() + DAY},
    ),
    "another's": Row(
        Status.TRUSTED,
        "the certificate is for other.example, not for example.net",
        {"dns": ["other.example"]},
    ),
    "SRV-ID for clients": Row(
        Status.TRUSTED,
        "the certificate is for _xmpp-client.example.net, not for example.net",
        {"dns": [], "srv": ["_xmpp-client.example.net"]},
    ),
    "common name": Row(
        Status.TRUSTED,
        f"{OURS} has no subjectAltName, and the common name does not count",
        {"dns": [], "common_name": NAME},
    ),
    "NUL": Row(
        Status.TRUSTED,
        f"{OURS} names no domain that can be understood",
        {"dns": [], "names": [raw_dns(b"example.net\0.evil.example")]},
    ),
    "authority": Row(
        Status.UNTRUSTED, f"{OURS} is one of an authority, not of a server", {"ca": True}
    ),
    "short key": Row(
        Status.UNTRUSTED,
        f"{OURS} has a key that is too weak (RSA of 1024 bits)",
        {"key": "rsa 1024"},
    ),
    "SHA-1": Row(Status.UNTRUSTED, f"{OURS} is signed too weakly (SHA-1)", {"digest": "sha1"}),
}


@pytest.mark.parametrize("row", [*GOOD.values(), *BAD.values()], ids=[*GOOD, *BAD])
def test_certificates(
    ours: SSL.Context, trusting: Trusting, middle: Authority, version: str, row: Row
) -> None:
    pair = middle.issue(NAME, **row.identities)
    chain = shown(handshake(ours, remote(pair, version), version))
    assert chain == chain_of(pair[0]), "its own first, and all of them"
    assert (row.status, row.words) == trusting.outcome(chain)


def test_no_certificate(ours: SSL.Context, trusting: Trusting, version: str) -> None:
    chain = shown(handshake(ours, remote(None, version), version))
    assert chain == ()
    assert trusting.evidence(chain).error != 0
    assert trusting.outcome(chain) == (Status.ANONYMOUS, "example.net showed no certificate")


@pytest.mark.parametrize("ca", [True, False])
def test_self_signed(
    ours: SSL.Context, trusting: Trusting, tmp_path: Path, version: str, *, ca: bool
) -> None:
    pair = self_signed(tmp_path, NAME, ca=ca)
    chain = shown(handshake(ours, remote(pair, version), version))
    expected = f"{OURS} is self-signed, and not among the trusted ones"
    assert (Status.UNTRUSTED, expected) == trusting.outcome(chain)
    own = Trusting(Policy(Pattern(NAME), anchors=pair[0]))
    assert own.outcome(chain) == (Status.VERIFIED, "DNS-ID example.net")


def test_an_authority_that_nobody_knows(
    ours: SSL.Context, trusting: Trusting, stranger: Authority, version: str
) -> None:
    chain = shown(handshake(ours, remote(stranger.issue(NAME), version), version))
    status, text = trusting.outcome(chain)
    assert status is Status.UNTRUSTED
    assert 'was issued by "CN=nobody\'s root", which is not a trusted root' in text


def test_the_roots_are_those_of_the_policy(authority: Authority, stranger: Authority) -> None:
    policies = [
        Policy(Pattern("example.net"), anchors=authority.ca_path),
        Policy(Pattern("example.org"), anchors=stranger.ca_path),
        Policy(Pattern("*")),
    ]
    verifier = Verifier(policies)
    for by, trusted in ((authority, policies[0]), (stranger, policies[1])):
        chain = chain_of(by.issue(NAME)[0])
        for policy in policies:
            status, _ = Trusting(policy, verifier).outcome(chain)
            assert (status is Status.VERIFIED) == (policy is trusted)


def test_the_systems_roots(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, middle: Authority
) -> None:
    chain = chain_of(middle.issue(NAME)[0])
    system = Policy(Pattern("*"))
    assert Trusting(system).outcome(chain)[0] is Status.UNTRUSTED
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_path))
    trusting = Trusting(system)
    gc.collect()
    assert trusting.outcome(chain)[0] is Status.VERIFIED


def test_an_authority_below_the_root_that_was_left_out(
    ours: SSL.Context, trusting: Trusting, middle: Authority, version: str
) -> None:
    chain = shown(handshake(ours, sending(middle.issue(NAME), version, []), version))
    assert len(chain) == 1
    status, text = trusting.outcome(chain)
    assert status is Status.UNTRUSTED
    assert text.endswith("and whose certificate the server did not send")


def test_authorities_in_any_order(
    ours: SSL.Context, trusting: Trusting, authority: Authority, middle: Authority, version: str
) -> None:
    """The order above the server's own does not matter; the root may be there, and others, too."""
    lower = Authority(middle.ca_path.parent / "lower", name="lower", parent=middle)
    pair = lower.issue(NAME)
    own, *above = certificates(pair[0])
    some = [authority.certificate, *above[::-1], own]
    chain = shown(handshake(ours, sending(pair, version, some), version))
    assert len(chain) == 5
    assert trusting.outcome(chain) == (Status.VERIFIED, "DNS-ID example.net")
    expected = f"{OURS} is one of an authority, not of a server"
    assert (Status.UNTRUSTED, expected) == trusting.outcome(chain[::-1][1:])


def test_an_authority_for_mail(
    ours: SSL.Context, trusting: Trusting, authority: Authority, tmp_path: Path, version: str
) -> None:
    mail = Authority(tmp_path, name="mail", parent=authority, usages=[MAIL])
    chain = shown(handshake(ours, remote(mail.issue(NAME), version), version))
    status, text = trusting.outcome(chain)
    assert status is Status.UNTRUSTED
    assert text.startswith("an authority's certificate above that of example.net is meant neither")


def test_a_pin(ours: SSL.Context, stranger: Authority, version: str) -> None:
    pairs = [stranger.issue("other.example") for _ in range(2)]
    known, other = (shown(handshake(ours, remote(pair, version), version)) for pair in pairs)
    pin = pin_of(known[0])
    pinned = Trusting(Policy(Pattern("*"), Level.PIN, pins=frozenset({pin})))
    assert pinned.judged(known).identity == f"pin {pin}"
    with pytest.raises(UntrustedError, match="is not one of its pins"):
        pinned.judged(other)


def test_attack_19_a_hundred_certificates(
    ours: SSL.Context, trusting: Trusting, middle: Authority, version: str
) -> None:
    context = sending(middle.issue(NAME), version, [middle.certificate] * 99)
    chain = shown(handshake(ours, context, version))
    assert len(chain) == 100
    assert trusting.evidence(chain).error == 22  # X509_V_ERR_CERT_CHAIN_TOO_LONG
    status, text = trusting.outcome(chain)
    assert status is Status.UNTRUSTED
    assert text.endswith("it came in a chain of 100; at most 10 are read")
    assert trusting.outcome(chain[:10])[0] is Status.VERIFIED


def test_attack_19_more_than_openssl_takes_ends_the_handshake(
    ours: SSL.Context, middle: Authority, version: str
) -> None:
    context = sending(middle.issue(NAME), version, [middle.certificate] * 300)
    with pytest.raises(SSL.Error, match="excessive message size"):
        agree(ours, context)


def test_attack_20_a_handshake_is_no_verdict(
    ours: SSL.Context, authority: Authority, version: str
) -> None:
    """Who takes the connection for one to a server finds nothing to believe."""
    connection = handshake(ours, remote(authority.issue(NAME), version), version)
    assert openssl.verify_result(connection)[0] != 0
    found = evidence(connection)
    for mistaken in (found, attrs.evolve(found, chain=shown(connection))):
        with pytest.raises(UntrustedError):
            judge(NAME, SERVER_SERVICE, Policy(Pattern("*")), mistaken, now(), initiating=True)


@pytest.mark.parametrize("fault", ["no file", "no PEM", "a directory"])
def test_roots_that_cannot_be_read(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "roots"
    if fault == "no PEM":
        path.write_text("nonsense")
    elif fault == "a directory":
        path.mkdir()
    with pytest.raises(TLSSetupError, match=str(path)) as told:
        Verifier([Policy(Pattern("*"), anchors=path)])
    assert "\n" not in str(told.value)


def test_what_a_client_sees_of_a_server(middle: Authority) -> None:
    """There OpenSSL's chain has the server's own certificate; it is not there twice."""
    pair = middle.issue("example.com")
    _, theirs = agree(server_context([pair], "s2s/example.com", Kind.S2S), remote(None))
    assert shown(theirs) == chain_of(pair[0])


def test_before_a_handshake_nothing_is_shown(ours: SSL.Context) -> None:
    assert shown(SSL.Connection(ours, None)) == ()


def again(ours: SSL.Context, version: str, first: Pair, second: Pair | None) -> SSL.Connection:
    """Our end when a server has connected with one certificate, then resumed with another."""
    context = remote(None, version)
    # The first must last as long as the second: OpenSSL marks sessions that end without a close.
    begun, taken_up = SSL.Connection(context, None), SSL.Connection(context, None)
    present(begun, first)
    handshake(ours, begun, version)
    session = begun.get_session()
    assert session is not None
    taken_up.set_session(session)
    if second is not None:
        present(taken_up, second)
    return handshake(ours, taken_up, version)


def present(theirs: SSL.Connection, pair: Pair) -> None:
    key = load_pem_private_key(pair[1].read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    theirs.use_certificate(certificates(pair[0])[0])
    theirs.use_privatekey(key)


def test_attack_08_no_session_is_resumed(
    ours: SSL.Context, authority: Authority, version: str
) -> None:
    pair = authority.issue(NAME)
    connection = again(ours, version, pair, pair)
    assert not openssl.was_resumed(connection)
    assert shown(connection) == chain_of(pair[0])


def test_attack_08_resumption_without_certificate(
    ours: SSL.Context, trusting: Trusting, authority: Authority, version: str
) -> None:
    """A session does not carry what was proven when it began over to whoever takes it up."""
    connection = again(ours, version, authority.issue(NAME), None)
    assert not openssl.was_resumed(connection)
    assert trusting.outcome(shown(connection))[0] is Status.ANONYMOUS


def test_sessions_of_clients_are_resumed(authority: Authority, version: str) -> None:
    """So the two above would see it."""
    pair = authority.issue("example.com")
    assert openssl.was_resumed(again(server_context([pair], "c2s"), version, pair, None))
