"""Looking at a domain's servers on behalf of one of ours: up to their features under TLS."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from proxy.net.probed import Attempt
from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.net.tls import client_context
from proxy.session.kinds import Kind
from proxy.session.welcome import Proofs
from proxy.trust.policy import Pattern, Policy
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from proxy.xmpp.headers import opening
from tests.authority import Authority
from tests.net import hostile
from tests.net.hostile import Hostile, Peer, Script, stream_error
from tests.net.name_server import NameServer
from tests.net.remote_server import NO_OFFER, STARTTLS
from tests.net.server_streams import EXTERNAL, FEATURES, header, opened, script
from tests.net.steady import SteadyTurning, turning
from tests.net.test_probe import Probing
from tests.servers.program import HOST

__all__ = ["turning"]

DOMAIN = "example.net"
OURS = "example.com"
HEADER = opening(DOMAIN, ns.SERVER, OURS)
ANNOUNCING = f"<stream:features><dialback xmlns='{ns.DIALBACK_FEATURE}'/></stream:features>"
UNDECLARED = header("remote-1").replace(b" xmlns:db='jabber:server:dialback'", b"")
BOTH = Proofs(external=True, dialback=True)


@pytest.fixture
def server() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture
def files(authority: Authority) -> Any:
    return authority.issue(DOMAIN)


@pytest.fixture
def probing(turning: SteadyTurning, authority: Authority) -> Iterator[Probing]:
    with NameServer() as names:
        probing = Probing(turning, names, authority)
        policy = Policy(Pattern("*"), anchors=authority.ca_path)
        context = client_context(policy, [authority.issue(OURS, common_name=OURS)])
        probing.terms = attrs.evolve(probing.terms, context=context, kind=Kind.S2S, sender=OURS)
        yield probing
        probing.resolver.close()


def answering(said: bytes) -> Script:
    """What answers a header under TLS, and then says nothing more."""

    def answered(peer: Peer) -> None:
        peer.read_until(hostile.STREAM)
        peer.send(said)

    return answered


@pytest.mark.parametrize("direct", [False, True])
def test_up_to_the_features_and_no_further(
    probing: Probing, server: Hostile, files: Any, direct: bool
) -> None:
    """Our certificate is shown; of SASL and dialback nothing is said; the stream is closed."""
    server.play(script(files, opened(features=EXTERNAL), direct=direct))
    attempt = probing.attempt(server.port, direct=direct)
    peer = server.next()
    assert peer.plain == (b"" if direct else HEADER + STARTTLS)
    assert peer.read_to_end().endswith(FOOTER)
    assert peer.sealed == HEADER + FOOTER
    assert peer.server_name == DOMAIN.encode()
    assert peer.shown is not None
    assert peer.shown.subject.rfc4514_string() == f"CN={OURS}"
    assert attempt.handshake is not None
    assert attempt.handshake.facts.protocol == ("xmpp-server" if direct else "")
    assert attempt.offered is (None if direct else True)
    assert attempt.proofs == BOTH
    assert (attempt.problem, attempt.redirection) == ("", "")
    assert not probing.turning.reactor.getDelayedCalls()


@pytest.mark.parametrize(
    ("said", "proofs"),
    [
        (header("a") + FEATURES, Proofs(external=False, dialback=True)),
        (UNDECLARED + FEATURES, Proofs(external=False, dialback=False)),
        (UNDECLARED + ANNOUNCING.encode(), Proofs(external=False, dialback=True)),
        (UNDECLARED + EXTERNAL, Proofs(external=True, dialback=False)),
        (header("a", version=False), Proofs(external=False, dialback=True)),
        (header("a") + b" \n" + EXTERNAL, BOTH),
        (header("a") + b"<message/>", Proofs(external=False, dialback=True)),
        (UNDECLARED + EXTERNAL.replace(b"EXTERNAL", b"PLAIN"), Proofs(False, False)),
    ],
)
def test_what_is_on_offer(
    probing: Probing, server: Hostile, files: Any, said: bytes, proofs: Proofs
) -> None:
    server.play(script(files, answering(said)))
    attempt = probing.attempt(server.port)
    assert (attempt.proofs, attempt.problem) == (proofs, "")


def test_features_in_pieces(probing: Probing, server: Hostile, files: Any) -> None:
    def dripping(peer: Peer) -> None:
        peer.read_until(hostile.STREAM)
        said = header("a") + EXTERNAL
        for place in range(0, len(said), 7):
            peer.send(said[place : place + 7])

    server.play(script(files, dripping, direct=True))
    assert probing.attempt(server.port, direct=True).proofs == BOTH


ENDED = "ended the stream under TLS"
SPEECHLESS = "does not speak XMPP for servers"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (header("a") + stream_error("host-unknown", ""), (ENDED, "host-unknown")),
        (header("a") + FOOTER, (ENDED, "")),
        (b"<a></b>", (SPEECHLESS, "stream")),
        (hostile.header("a") + FEATURES, (SPEECHLESS, ns.SERVER)),
        (b"<!DOCTYPE a>", (SPEECHLESS, "restricted-xml")),
        (header("a") + b"<stream:features a='" + b"x" * 200_000, (SPEECHLESS, "policy-violation")),
    ],
)
def test_a_stream_that_does_not_come_about(
    probing: Probing, server: Hostile, files: Any, said: bytes, told: tuple[str, str]
) -> None:
    """What TLS has shown remains known."""
    server.play(script(files, answering(said)))
    attempt = probing.attempt(server.port)
    assert (attempt.problem, attempt.proofs) == (told[0], None)
    assert told[1] in attempt.detail
    assert attempt.handshake is not None


def test_a_server_that_hangs_up_under_tls(probing: Probing, server: Hostile, files: Any) -> None:
    def leaving(peer: Peer) -> None:
        peer.read_until(hostile.STREAM)
        peer.socket.shutdown()
        peer.close()

    server.play(script(files, leaving))
    attempt = probing.attempt(server.port)
    assert attempt.problem == "closed the connection under TLS"
    assert attempt.handshake is not None


def test_a_server_that_is_silent_under_tls_costs_its_deadline(
    probing: Probing, server: Hostile, files: Any
) -> None:
    server.play(script(files, answering(b"")))
    asked = lambda: server.peers and HEADER in server.peers[0].sealed  # noqa: E731
    attempt = probing.attempt(server.port, reached=asked)
    assert attempt.problem == "opened no stream under TLS within 10 s"
    assert attempt.handshake is not None
    assert not probing.turning.reactor.getDelayedCalls()


def test_a_redirection_under_tls(probing: Probing, server: Hostile, files: Any) -> None:
    said = header("a") + stream_error("see-other-host", "elsewhere.example:5270")
    server.play(script(files, answering(said)))
    attempt = probing.attempt(server.port)
    assert (attempt.redirection, attempt.problem) == ("elsewhere.example:5270", "")


def test_a_circle_under_tls(
    probing: Probing, server: Hostile, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "proxy.session.ids.StreamIds.issued", lambda _self, stream_id: stream_id == "remote-1"
    )
    server.play(script(files))
    assert probing.attempt(server.port).problem == "is this proxy itself"


def test_before_tls_it_is_a_stream_of_servers_too(probing: Probing, server: Hostile) -> None:
    server.play(answering(hostile.header("a") + NO_OFFER))
    assert probing.attempt(server.port).problem == "does not speak XMPP for servers"
    server.play(answering(header("a") + NO_OFFER))
    attempt = probing.attempt(server.port, optional=True)
    assert (attempt.problem, attempt.offered) == ("offers no TLS", False)


def test_records_for_servers_are_asked_for(probing: Probing, server: Hostile, files: Any) -> None:
    """Priorities of both services are mixed, and those for clients do not count."""
    server.play(script(files, direct=True), script(files))
    for service, priority in (("_xmpps-server", 5), ("_xmpp-server", 7)):
        name = f"{service}._tcp.{DOMAIN}"
        probing.names.add(name, "SRV", f"{priority} 0 {server.port} one.{DOMAIN}.")
    probing.names.add(f"_xmpp-client._tcp.{DOMAIN}", "SRV", f"0 0 {server.port} one.{DOMAIN}.")
    probing.names.add(f"one.{DOMAIN}", "A", HOST)
    found = probing.run(Request(DOMAIN, service="xmpp-server", private_addresses=True))
    assert [(each.target.direct, each.target.priority) for each in found] == [(True, 5), (False, 7)]


def test_the_domain_itself_without_srv_records(probing: Probing) -> None:
    probing.names.add(DOMAIN, "A", "10.1.2.3")
    (probed,) = probing.run(Request(DOMAIN, service="xmpp-server"))
    assert probed.target == Target(DOMAIN, 5269, direct=False, fallback=True)
    assert probed.attempts == (Attempt("10.1.2.3", forbidden="10.1.2.3 is a private address"),)
