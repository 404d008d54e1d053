"""Streams that a legacy server opens to servers of the network, with real handshakes."""

import base64
import re
from collections.abc import Iterator

import pytest
from cryptography import x509
from OpenSSL import SSL

from proxy.xmpp.headers import opening
from tests.authority import Authority, self_signed
from tests.net import hostile
from tests.net.federation import (
    APART,
    DIRECT,
    LEGACY,
    NOWHERE,
    REMOTE,
    SISTER,
    STRICT,
    Grounds,
)
from tests.net.hostile import OFFER, PROCEED, Peer, Script
from tests.net.server_streams import (
    DIALBACK,
    END,
    EXTERNAL,
    FEATURES,
    KEY,
    SERVER,
    accepting,
    anew,
    answer,
    header,
    message,
    opened,
    refusing,
    result,
    script,
    verify,
)
from tests.servers.stream import STARTTLS

NOT_CLOSING = refusing(
    b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"
)
REFUSALS = {"with an end": refusing(), "without": NOT_CLOSING, "by closing": refusing(b"")}


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("outward"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


def refused(grounds: Grounds, to: str = REMOTE, sender: str = LEGACY) -> str:
    """Say all that a server has to say at once; return the condition of the error.

    The other server must have got nothing of it.
    """
    with grounds.outgoing(sender, to) as stream:
        stream.send(stream.header() + result(sender, to) + message(sender, to))
        said = stream.read_to_end()
    for peer in grounds.remote.settle():
        told_nothing(peer, sender, to)
    assert said.count("<stream:stream ") == 1
    assert said.endswith(f"</stream:error>{END}")
    [condition] = re.findall(r"<stream:error><([a-z-]+) ", said)
    assert isinstance(condition, str)
    return condition


def told_nothing(peer: Peer, sender: str, to: str) -> None:
    """Assert that a server got no more of ours than which of its domains asks for which."""
    plain = peer.plain.removeprefix(opening(to, SERVER, sender)).removeprefix(STARTTLS)
    assert plain == b"" or plain[0] in (0x15, 0x16)
    auth = re.compile(rb"<\?xml.*<auth [^>]*>[^<]*</auth>", re.DOTALL)
    for heard in (peer.plain, auth.sub(b"", peer.sealed)):
        assert b"<db:" not in heard
        assert b"<message" not in heard
        assert KEY.encode() not in heard


# The way there


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("to", [REMOTE, DIRECT])
def test_dialback_passes_with_the_id_of_the_other_server(
    grounds: Grounds, to: str, newest: int
) -> None:
    pair = grounds.certificates[to]
    grounds.remote.play(script(pair, direct=to == DIRECT, newest=newest))
    since = grounds.now()
    with grounds.outgoing(to=to) as stream:
        stream.send(stream.header())
        assert stream.read_until("<stream:stream [^>]*>").encode() == header("remote-1")
        stream.read_features()
        peer = grounds.remote.next()
        assert peer.sealed == stream.header().encode()
        assert peer.server_name == to.encode()
        stream.let_pass(peer)
        stanzas = message(LEGACY, to, "ü") + " " + message(LEGACY, to)
        stream.send(stanzas)
        assert peer.read_until(rb"</message>.*</message>") == stanzas.encode()
        assert peer.sealed.endswith(f"{anew(result(LEGACY, to))}{stanzas}".encode())
        stream.send(END)
        peer.read_until(END.encode())
        peer.send(END.encode())
        assert stream.read_to_end() == END
        peer.close()
    summary = grounds.ended("out", since)
    assert (summary["origin"], summary["domain"]) == (LEGACY, to)
    assert (summary["proof"], summary["authenticated"]) == ("dialback", "yes")
    assert summary["server_identity"] == f"DNS-ID {to}"
    assert summary["tls"] == "none"


def test_the_header_waits_for_that_of_the_other_server(grounds: Grounds) -> None:
    def slow(peer: Peer) -> None:
        peer.read_until(hostile.STREAM)
        peer.established = True

    grounds.remote.play(script(grounds.certificates[REMOTE], slow))
    with grounds.outgoing() as stream:
        stream.send(stream.header())
        peer = grounds.remote.next()
        assert stream.is_silent()
        peer.send(header("late"))
        assert stream.is_silent()  # features, or an order to go elsewhere, must follow
        peer.send(FEATURES)
        assert stream.read_features().encode().startswith(header("late") + b"<stream:features>")


@pytest.mark.parametrize("sender", [LEGACY, SISTER, APART])
def test_the_certificate_of_the_domain_that_asks_is_shown(grounds: Grounds, sender: str) -> None:
    with grounds.outgoing(sender) as stream:
        stream.open()
        peer = grounds.remote.next()
        assert peer.shown is not None
        names = peer.shown.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.DNSName) == [sender]


def test_who_does_not_ask_is_shown_none(grounds: Grounds) -> None:
    grounds.remote.play(script(grounds.certificates[REMOTE], asking=False))
    with grounds.outgoing() as stream:
        stream.open()
        peer = grounds.remote.next()
        assert peer.shown is None
        stream.let_pass(peer)


def test_a_server_of_the_old_days_gets_no_features(grounds: Grounds) -> None:
    with grounds.outgoing() as stream:
        stream.send(stream.header(version=None, declared=False))
        said = stream.read_until("<stream:stream [^>]*>")
        peer = grounds.remote.next()
        assert b'version="1.0"' in peer.sealed or b"version='1.0'" in peer.sealed
        assert DIALBACK.encode() in peer.sealed.replace(b'"', b"'")
        assert "id='remote-1'" in said
        named = result(LEGACY, REMOTE).replace("<db:result", f"<db:result {DIALBACK}")
        stream.send(named)
        peer.read_until(rb"</db:result>")
        peer.send(answer(REMOTE, LEGACY).encode())
        assert stream.read_until("<db:result [^>]*/>") == anew(answer(REMOTE, LEGACY))


def test_what_is_not_for_ours_is_cut_out_of_the_features(grounds: Grounds) -> None:
    kept = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
    cut = (
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>"
        "</mechanisms><bidi xmlns='urn:xmpp:features:bidi'/>"
    )
    features = f"<stream:features>{cut}{kept}</stream:features>".encode()
    grounds.remote.play(script(grounds.certificates[REMOTE], opened(features=features)))
    with grounds.outgoing() as stream:
        stream.open()
        said = stream.read_features()
        assert said.startswith(f"<stream:features>{kept}")
        assert not re.search("starttls|mechanism|bidi", said)


# SASL EXTERNAL


def test_external_makes_dialback_with_the_other_server_needless(grounds: Grounds) -> None:
    grounds.remote.play(script(grounds.certificates[REMOTE], accepting()))
    since = grounds.now()
    with grounds.outgoing() as stream:
        assert stream.open().encode() == header("remote-2")
        stream.read_features()
        peer = grounds.remote.next()
        told = base64.b64encode(LEGACY.encode())
        assert re.search(rb"<auth [^>]*mechanism='EXTERNAL'>([^<]*)<", peer.sealed)[1] == told  # type: ignore[index]
        stream.send(result(LEGACY, REMOTE))
        assert "type='valid'" in stream.read_until("<db:result [^>]*/>")
        stream.send(message(LEGACY, REMOTE))
        assert peer.read_until(rb"</message>") == message(LEGACY, REMOTE).encode()
        assert b"<db:" not in peer.sealed
        peer.close()
        assert stream.read_to_end() == ""
    assert grounds.ended("out", since)["proof"] == "external"


def test_a_second_domain_of_ours_does_dialback_itself(grounds: Grounds) -> None:
    grounds.remote.play(script(grounds.certificates[REMOTE], accepting()))
    with grounds.outgoing() as stream:
        stream.open()
        peer = grounds.remote.next()
        stream.read_features()
        stream.send(result(LEGACY, REMOTE))
        stream.read_until("<db:result [^>]*/>")
        stream.send(result(SISTER, REMOTE))
        assert peer.read_until(rb"</db:result>") == anew(result(SISTER, REMOTE)).encode()
        peer.send(answer(REMOTE, SISTER).encode())
        assert stream.read_until("<db:result [^>]*/>") == anew(answer(REMOTE, SISTER))
        both = message(SISTER, REMOTE) + message(LEGACY, REMOTE)
        stream.send(both)
        assert peer.read_until(rb"</message>.*</message>") == both.encode()


@pytest.mark.parametrize("how", REFUSALS)
def test_where_external_is_refused_dialback_remains(grounds: Grounds, how: str) -> None:
    pair = grounds.certificates[REMOTE]
    grounds.remote.play(script(pair, REFUSALS[how]), script(pair, opened("remote-9", EXTERNAL)))
    with grounds.outgoing() as stream:
        assert stream.open().encode() == header("remote-9")
        assert "mechanism" not in stream.read_features()
        peer = grounds.remote.next()
        assert b"<auth" not in peer.sealed  # it is not tried again
        stream.let_pass(peer)
        stream.send(message(LEGACY, REMOTE))
        peer.read_until(rb"</message>")
    assert len(grounds.remote.peers) == 2


@pytest.mark.parametrize("how", REFUSALS)
def test_where_dialback_is_ruled_out_nothing_remains(grounds: Grounds, how: str) -> None:
    pair = grounds.certificates[STRICT]
    grounds.remote.play(script(pair, REFUSALS[how]), script(pair, deaf(opened("x", EXTERNAL))))
    assert refused(grounds, STRICT) == "not-authorized"
    assert len(grounds.remote.peers) == 2


@pytest.mark.parametrize("features", [FEATURES, None])
def test_nothing_is_said_to_who_offers_no_external_where_it_is_needed(
    grounds: Grounds, features: bytes | None
) -> None:
    """Neither to one that knows no features."""
    then = opened(version=False) if features is None else opened(features=features)
    grounds.remote.play(script(grounds.certificates[STRICT], deaf(then)))
    assert refused(grounds, STRICT) == "not-authorized"


def deaf(then: Script) -> Script:
    """Return a script after which the connection is read to its end."""

    def done(peer: Peer) -> None:
        then(peer)
        peer.established = False

    return done


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_questions_about_keys_need_no_proof_of_ours(grounds: Grounds, kind: str) -> None:
    """The other server is the one that has to prove itself, for it is the one that answers."""
    grounds.remote.play(script(grounds.certificates[STRICT]))
    with grounds.outgoing(to=STRICT) as stream:
        stream.open()
        stream.read_features()
        peer = grounds.remote.next()
        asked = verify(LEGACY, STRICT, "legacy-7")
        stream.send(asked)
        assert peer.read_until(b"</db:verify>") == anew(asked).encode()
        said = answer(STRICT, LEGACY, kind, "legacy-7")
        peer.send(said.encode())
        assert stream.read_until("<db:verify [^>]*/>") == anew(said)


def test_external_is_enough_where_dialback_is_ruled_out(grounds: Grounds) -> None:
    grounds.remote.play(script(grounds.certificates[STRICT], accepting()))
    with grounds.outgoing(to=STRICT) as stream:
        stream.open()
        stream.read_features()
        stream.send(result(LEGACY, STRICT) + message(LEGACY, STRICT))
        peer = grounds.remote.next()
        assert peer.read_until(rb"</message>").endswith(message(LEGACY, STRICT).encode())
        # A second domain of ours would have to be proved by dialback.
        stream.send(result(SISTER, STRICT))
        said = stream.read_until("</db:result>")
        assert "<not-authorized " in said
        assert b"<db:" not in peer.sealed


# Who is not what it must be


STRIPPED = {
    "no offer": hostile.saying(header("x") + FEATURES, b"", closing=True),
    "no features": hostile.saying(header("x", version=False), b"", closing=True),
    "mechanisms": hostile.saying(header("x") + EXTERNAL, hostile.FAILURE),
    "failure": hostile.saying(header("x") + OFFER, hostile.FAILURE + END.encode()),
    "more than proceed": hostile.saying(header("x") + OFFER, PROCEED + header("y") + FEATURES),
    "success": hostile.saying(header("x") + OFFER, hostile.SUCCESS),
    "a result": hostile.saying(
        header("x") + OFFER + answer(REMOTE, LEGACY).encode(), b"", closing=True
    ),
}


@pytest.mark.parametrize("how", STRIPPED)
def test_without_tls_nothing_leaves(grounds: Grounds, how: str) -> None:
    grounds.remote.play(STRIPPED[how])
    assert refused(grounds) in ("policy-violation", "remote-connection-failed")
    assert all(not peer.secured for peer in grounds.remote.peers)


@pytest.mark.parametrize("to", [REMOTE, DIRECT])
@pytest.mark.parametrize("what", ["other name", "target", "self-signed", "client service"])
def test_a_wrong_certificate_gets_nothing(grounds: Grounds, what: str, to: str) -> None:
    authority = grounds.authority
    pair = {
        "other name": lambda: authority.issue("elsewhere.example"),
        "target": lambda: authority.issue("xmpp.hosting.example"),
        "self-signed": lambda: self_signed(authority.ca_path.parent, to),
        "client service": lambda: authority.issue(to, dns=[], srv=[f"_xmpp-client.{to}"]),
    }[what]()
    grounds.remote.play(script(pair, accepting(), direct=to == DIRECT))
    assert refused(grounds, to) == "policy-violation"
    assert all(peer.sealed == b"" for peer in grounds.remote.peers)


def test_a_certificate_for_the_service_is_enough(grounds: Grounds) -> None:
    pair = grounds.authority.issue(REMOTE, dns=[], srv=[f"_xmpp-server.{REMOTE}"])
    grounds.remote.play(script(pair))
    with grounds.outgoing() as stream:
        stream.open()
        stream.let_pass(grounds.remote.next())


@pytest.mark.parametrize(
    ("to", "condition"),
    [(NOWHERE, "remote-connection-failed"), ("unknown.example", "host-unknown")],
)
def test_who_cannot_be_reached_is_told_of(grounds: Grounds, to: str, condition: str) -> None:
    since = grounds.now()
    assert refused(grounds, to) == condition
    assert grounds.ended("out", since)["domain"] == to


@pytest.mark.parametrize("external", [True, False])
def test_the_other_server_restarts(grounds: Grounds, external: bool) -> None:
    """No end of the stream is invented, and the next connection goes to the new one."""
    then = accepting() if external else opened()
    grounds.remote.play(script(grounds.certificates[REMOTE], then))
    for _ in range(2):
        with grounds.outgoing() as stream:
            stream.open()
            stream.read_features()
            peer = grounds.remote.next()
            if external:
                stream.send(result(LEGACY, REMOTE))
                stream.read_until("<db:result [^>]*/>")
            else:
                stream.let_pass(peer)
            stream.send(message(LEGACY, REMOTE))
            peer.read_until(rb"</message>")
            peer.close()
            assert stream.read_to_end() == ""
