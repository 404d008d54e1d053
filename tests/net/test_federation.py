"""Streams between servers through the daemon's own service, with real handshakes, both ways."""

import datetime as dt
import re
import ssl
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests.authority import CLIENT, CODE, SERVER, Authority, now, self_signed
from tests.net.federation import (
    APART,
    CLOSED,
    LEGACY,
    REMOTE,
    SISTER,
    STRICT,
    Grounds,
    believe,
)
from tests.net.legacy import Connection
from tests.net.server_streams import (
    AUTH,
    END,
    FEATURES,
    Pair,
    accepting,
    anew,
    answer,
    header,
    message,
    result,
    script,
    taking,
    verify,
)

WAYS = ["starttls", "direct"]
VERSIONS = ["TLSv1.2", "TLSv1.3"]
OLD = b" version='1.0'"


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("federation"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


# Inbound


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("usages", [[SERVER], [SERVER, CLIENT], None])
def test_a_certificate_proves_a_server_and_dialback_convinces_ours(
    grounds: Grounds, way: str, version: str, usages: list[x509.ObjectIdentifier] | None
) -> None:
    pair = grounds.authority.issue(REMOTE, usages=usages)
    since = grounds.now()
    with grounds.incoming(pair=pair, way=way, version=version) as stream:
        assert "id='legacy-1'" in stream.open()
        assert "<mechanism>EXTERNAL</mechanism>" in stream.read_features()
        first = grounds.legacy.next()
        stream.send(AUTH)
        stream.read_until("<success [^>]*/>")
        assert first.read_to_end() == b""  # all that ours has heard is a header
        assert "id='legacy-2'" in stream.open()
        assert "mechanism" not in stream.read_features()
        second = grounds.legacy.next()
        stanza = message(REMOTE, LEGACY, "first")
        stream.send(stanza)
        believe(grounds, second, "legacy-2")
        assert second.read_until(b"</message>") == stanza.encode()
        # Not a word of this has come to the other one, and all that follows passes as it is.
        assert stream.is_silent()
        more = " \n<iq from='remote.example' to='a@legacy.example' type='get' id='&quot;'/>"
        stream.send(more + message(REMOTE, LEGACY, "second"))
        assert second.read_until(b"</message>").decode() == more + message(REMOTE, LEGACY, "second")
        stream.send(END)
        second.read_until(END.encode())
        second.send(END.encode())
        assert stream.read_to_end() == END
    summary = grounds.ended("in", since)
    assert (summary["origin"], summary["domain"]) == (REMOTE, LEGACY)
    assert (summary["proof"], summary["authenticated"]) == ("external", "yes")
    assert summary["client_identity"] == f"DNS-ID {REMOTE}"
    assert (summary["tls"].partition("/")[0], summary["start"]) == (version, way)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_certificate_dialback_passes_with_the_id_of_ours(
    grounds: Grounds, way: str
) -> None:
    odd = (
        b"<stream:stream id='&quot;x&#x41;' xmlns='jabber:server'\n xmlns:stream='http://etherx"
        b".jabber.org/streams' xmlns:db='jabber:server:dialback' from='a' version='1.0' >"
    )

    def taken(connection: Connection) -> None:
        connection.read_until(rb"<stream:stream [^>]*>")
        connection.send(odd + FEATURES)

    grounds.legacy.script = taken
    since = grounds.now()
    with grounds.incoming(way=way) as stream:
        stream.send(stream.header())
        assert stream.read_features().encode().startswith(odd + b"<stream:features>")
        ours = grounds.legacy.next()
        stream.send(result(REMOTE, LEGACY))
        assert ours.read_until(b"</db:result>").endswith(anew(result(REMOTE, LEGACY)).encode())
        ours.send(answer(LEGACY, REMOTE).encode())
        assert stream.read_until("<db:result [^>]*/>") == anew(answer(LEGACY, REMOTE))
        stream.send(message(REMOTE, LEGACY))
        assert ours.read_until(b"</message>") == message(REMOTE, LEGACY).encode()
    summary = grounds.ended("in", since)
    assert (summary["origin"], summary["proof"]) == (REMOTE, "dialback")
    assert "client_identity" not in summary
    assert "Anonymous TLS" in grounds.service.wait_for_line("connection established", since)


def test_ours_gets_the_other_header_as_it_is(grounds: Grounds) -> None:
    with grounds.incoming() as stream:
        stream.open()
        ours = grounds.legacy.next()
        assert ours.got == stream.header().encode()


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("version", ["1.0", None])
def test_dialback_is_announced_to_ours_where_it_was_not(
    grounds: Grounds, declared: bool, version: str | None
) -> None:
    """Without features there is no STARTTLS, and so this is by direct TLS."""
    with grounds.incoming(way="direct") as stream:
        stream.open(version=version, declared=declared)
        ours = grounds.legacy.next()
        written = stream.header(version=version).encode()
        assert sorted(ours.got.split(b" ")) == sorted(written.split(b" ")) or (
            b'xmlns:db="jabber:server:dialback"' in ours.got
        )


def test_a_server_of_ours_that_knows_no_features_is_given_them(grounds: Grounds) -> None:
    grounds.legacy.script = taking(version=False)
    with grounds.authenticated() as stream:
        stream.send(message(REMOTE, LEGACY))
        grounds.legacy.next()
        second = grounds.legacy.next()
        believe(grounds, second, "legacy-2")
        assert second.read_until(b"</message>") == message(REMOTE, LEGACY).encode()


def test_without_external_such_a_server_answers_as_it_is(grounds: Grounds) -> None:
    grounds.legacy.script = taking(version=False)
    with grounds.incoming() as stream:
        said = header("legacy-1", version=False)
        assert said.decode().endswith(stream.open())
        ours = grounds.legacy.next()
        stream.let_pass(ours)
        stream.send(message(REMOTE, LEGACY))
        ours.read_until(b"</message>")


BAD = ["expired", "other name", "unknown", "self-signed", "wrong use"]


def bad(grounds: Grounds, what: str, domain: str) -> Pair:
    authority = grounds.authority
    if what == "expired":
        return authority.issue(domain, not_after=now() - dt.timedelta(hours=1))
    if what == "other name":
        return authority.issue("elsewhere.example")
    if what == "unknown":
        stranger = Authority(authority.ca_path.parent / f"stranger-{domain}")
        return stranger.issue(domain)
    if what == "wrong use":
        return authority.issue(domain, usages=[CODE])
    return self_signed(authority.ca_path.parent, domain)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", BAD)
def test_what_proves_nothing_leaves_dialback(grounds: Grounds, what: str, way: str) -> None:
    since = grounds.now()
    with grounds.incoming(pair=bad(grounds, what, REMOTE), way=way) as stream:
        stream.open()
        assert "mechanism" not in stream.read_features()
        ours = grounds.legacy.next()
        stream.let_pass(ours)
        stream.send(message(REMOTE, LEGACY))
        ours.read_until(b"</message>")
    summary = grounds.ended("in", since)
    assert summary["proof"] == "dialback"
    assert "client_identity" not in summary
    assert not any("Verified TLS" in line for line in grounds.service.lines(since))


@pytest.mark.parametrize("what", BAD)
def test_it_leaves_nothing_where_dialback_is_ruled_out(grounds: Grounds, what: str) -> None:
    pair = bad(grounds, what, STRICT)
    with grounds.incoming(STRICT, pair=pair) as stream:
        stream.send(stream.header())
        said = stream.read_to_end()
    assert "<not-authorized " in said
    assert said.endswith(END)
    assert grounds.legacy.connections == []  # ours has not even been connected to


@pytest.mark.parametrize("way", WAYS)
def test_no_certificate_leaves_nothing_either(grounds: Grounds, way: str) -> None:
    with grounds.incoming(STRICT, way=way) as stream:
        stream.send(stream.header())
        assert "<not-authorized " in stream.read_to_end()
    assert grounds.legacy.connections == []


def test_a_certificate_does_where_dialback_is_ruled_out(grounds: Grounds) -> None:
    pair = grounds.certificates[STRICT]
    grounds.remote.play(script(pair, accepting()))
    with grounds.incoming(STRICT, pair=pair) as stream:
        stream.authenticate()
        stream.send(message(STRICT, LEGACY))
        grounds.legacy.next()
        ours = grounds.legacy.next()
        believe(grounds, ours, "legacy-2")
        ours.read_until(b"</message>")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocols", [["xmpp-client"], ["h2", "http/1.1"]])
def test_alpn_must_be_that_of_servers(grounds: Grounds, protocols: list[str], version: str) -> None:
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"),
        grounds.incoming(way="direct", protocols=protocols, version=version),
    ):
        pass


@pytest.mark.parametrize("protocols", [[], ["xmpp-server"], ["xmpp-client", "xmpp-server"]])
def test_alpn_may_be_left_out_and_may_offer_more(grounds: Grounds, protocols: list[str]) -> None:
    with grounds.incoming(way="direct", protocols=protocols) as stream:
        stream.open()
        assert isinstance(stream.connection, ssl.SSLSocket)
        chosen = "xmpp-server" if protocols else None
        assert stream.connection.selected_alpn_protocol() == chosen


def test_each_domain_of_ours_shows_its_own_certificate(grounds: Grounds) -> None:
    for domain in (LEGACY, SISTER, APART):
        with grounds.incoming(to=domain) as stream:  # names are verified
            stream.open()
            stream.read_features()


def test_pairs_of_two_domains_of_ours_pass_each_by_itself(grounds: Grounds) -> None:
    with grounds.incoming() as stream:
        stream.open()
        stream.read_features()
        ours = grounds.legacy.next()
        stream.let_pass(ours)
        stream.send(result(REMOTE, SISTER))
        ours.read_until(b"</db:result>")
        ours.send(answer(SISTER, REMOTE).encode())
        stream.read_until("<db:result [^>]*/>")
        both = message(REMOTE, SISTER) + message(REMOTE, LEGACY)
        stream.send(both)
        assert ours.read_until(b"</message>.*</message>") == both.encode()


def test_a_key_of_ours_is_verified_on_the_way_in(grounds: Grounds) -> None:
    """Who got a key of our server's asks for it; that needs no proof."""
    with grounds.incoming() as stream:
        stream.open()
        stream.read_features()
        ours = grounds.legacy.next()
        asked = verify(REMOTE, LEGACY, "remote-7")
        stream.send(asked)
        assert ours.read_until(b"</db:verify>").endswith(anew(asked).encode())
        said = answer(LEGACY, REMOTE, "valid", "remote-7")
        ours.send(said.encode())
        assert stream.read_until("<db:verify [^>]*/>") == anew(said)


@pytest.mark.parametrize("kind", ["invalid", "error"])
def test_ours_may_be_unconvinced(grounds: Grounds, kind: str) -> None:
    with grounds.authenticated() as stream:
        stream.send(message(REMOTE, LEGACY, "unheard"))
        grounds.legacy.next()
        ours = grounds.legacy.next()
        ours.read_until(b"</db:result>")
        ours.send(answer(LEGACY, REMOTE, kind).encode())
        said = stream.read_to_end()
        assert "<remote-connection-failed " in said
        assert b"unheard" not in ours.read_to_end()


def test_ours_cannot_be_reached(grounds: Grounds) -> None:
    since = grounds.now()
    with grounds.incoming(to=CLOSED) as stream:
        stream.send(stream.header())
        said = stream.read_to_end()
    assert re.match(r"<\?xml version='1.0'\?><stream:stream from=.closed.example. ", said)
    assert "<remote-connection-failed " in said
    assert said.endswith(END)
    assert "session ended" in grounds.service.wait_for_line("cannot be reached", since)


@pytest.mark.parametrize("proof", ["external", "dialback"])
def test_ours_restarts(grounds: Grounds, proof: str) -> None:
    """No end of the stream is invented, and the next connection goes to the new one."""
    pair = grounds.certificates[REMOTE] if proof == "external" else None
    for _ in range(2):
        grounds.legacy.script = taking()
        with grounds.incoming(pair=pair) as stream:
            if proof == "external":
                stream.authenticate()
                stream.send(message(REMOTE, LEGACY))
                grounds.legacy.next()
                ours = grounds.legacy.next()
                believe(grounds, ours, "legacy-2")
            else:
                stream.open()
                stream.read_features()
                ours = grounds.legacy.next()
                stream.let_pass(ours)
                stream.send(message(REMOTE, LEGACY))
            ours.read_until(b"</message>")
            ours.close()
            assert stream.read_to_end() == ""


def test_two_servers_at_once_are_kept_apart(grounds: Grounds) -> None:
    """Both are authenticated, and ours asks about both keys while both are live."""
    strict = grounds.certificates[STRICT]
    with grounds.authenticated() as one, grounds.incoming(STRICT, pair=strict) as other:
        grounds.legacy.next()
        first = grounds.legacy.next()
        other.authenticate()
        grounds.legacy.next()
        second = grounds.legacy.next()
        one.send(message(REMOTE, LEGACY, "one") * 3)
        other.send(message(STRICT, LEGACY, "other") * 3)
        grounds.remote.play(script(strict, accepting()))
        believe(grounds, second, "legacy-4")
        assert (
            second.read_until(rb"(</message>.*){3}")
            == message(STRICT, LEGACY, "other").encode() * 3
        )
        # What one has proved is nothing to the other.
        other.send(message(REMOTE, LEGACY, "forged"))
        assert "<invalid-from " in other.read_to_end()
        assert second.read_to_end() == b""
        grounds.remote.play(script(grounds.certificates[REMOTE]))
        believe(grounds, first, "legacy-2")
        assert (
            first.read_until(rb"(</message>.*){3}") == message(REMOTE, LEGACY, "one").encode() * 3
        )


def test_both_directions_at_once(grounds: Grounds) -> None:
    """Each has a connection of its own, and what is proved on one counts on that one alone."""
    with grounds.incoming() as inward, grounds.outgoing() as outward:
        inward.open()
        inward.read_features()
        ours = grounds.legacy.next()
        outward.open()
        outward.read_features()
        theirs = grounds.remote.next()
        inward.let_pass(ours)
        outward.let_pass(theirs)
        for number in range(20):
            there, here = message(LEGACY, REMOTE, f"{number}"), message(REMOTE, LEGACY, f"{number}")
            inward.send(here)
            outward.send(there)
            assert ours.read_until(b"</message>") == here.encode()
            assert theirs.read_until(b"</message>") == there.encode()
        assert inward.is_silent(0.05)
        assert outward.is_silent(0.05)
