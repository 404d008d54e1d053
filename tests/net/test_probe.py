"""Looking at every server of a domain: real sockets and handshakes, and a scripted name server."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxy.net import probe as probe_module
from proxy.net import resolver as resolver_module
from proxy.net.leg import Leg
from proxy.net.probe import Prober, Terms
from proxy.net.probed import Attempt, Probed
from proxy.net.resolver import LookupFailedError, Resolver
from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.net.tls import client_context
from proxy.trust.policy import Pattern, Policy, pin_of
from proxy.xmpp.headers import opening
from tests.authority import Authority
from tests.net.front import DOMAIN as FRONT_DOMAIN
from tests.net.front import Front
from tests.net.name_server import NameServer
from tests.net.remote_server import (
    FAILURE,
    NO_OFFER,
    OFFER,
    PROCEED,
    STARTTLS,
    RemoteServer,
)
from tests.net.steady import SteadyTurning, turning
from tests.net.test_connector import SILENT, silent
from tests.servers.program import HOST, free_port

__all__ = ["turning"]

DOMAIN = "example.net"
SRV = f"_xmpp-client._tcp.{DOMAIN}"
DIRECT_SRV = f"_xmpps-client._tcp.{DOMAIN}"
PRIVATE = Request(DOMAIN, private_addresses=True)


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


@pytest.fixture
def files(authority: Authority) -> Any:
    return authority.issue(DOMAIN)


class Probing:
    """Probes, on a reactor that is turned until there is an outcome."""

    def __init__(self, turning: SteadyTurning, names: NameServer, authority: Authority) -> None:
        self.turning = turning
        self.names = names
        self.resolver = Resolver(turning.reactor, [names.address])
        policy = Policy(Pattern("*"), anchors=authority.ca_path)
        self.terms = Terms(
            context=client_context(policy),
            optional=False,
            seconds=10.0,
            own=lambda _address, _port: False,
        )

    def run(
        self,
        request: Request = PRIVATE,
        reached: Callable[[], object] | None = None,
        **terms: Any,
    ) -> tuple[Probed, ...]:
        """Probe; once ``reached`` is true, all the time that there is passes."""
        asked = attrs.evolve(self.terms, **terms)
        prober = Prober(self.turning.reactor, self.resolver, request, asked)
        outcome: list[tuple[Probed, ...] | Failure] = []
        Deferred.fromCoroutine(prober.probe()).addBoth(outcome.append)
        if reached is not None:
            self.turning.until(reached)
            self.turning.turn()
            assert not outcome
            self.turning.reactor.advance(asked.seconds)
        self.turning.until(lambda: outcome)
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
            pytest.fail("unreachable")
        return outcome[0]

    def attempt(self, port: int, *, direct: bool = False, **terms: Any) -> Attempt:
        """Probe one address that is set, and return what came of it."""
        server = Target(HOST, port, direct=direct)
        (probed,) = self.run(Request(DOMAIN, server=server), **terms)
        assert not probed.problem
        (attempt,) = probed.attempts
        return attempt


def legs(reactor: Any) -> Callable[[], object]:
    """Return what tells whether there are connections that are up."""
    return lambda: any(isinstance(each, Leg) for each in reactor.getReaders())


@pytest.fixture
def probing(turning: SteadyTurning, names: NameServer, authority: Authority) -> Iterator[Probing]:
    probing = Probing(turning, names, authority)
    yield probing
    probing.resolver.close()


@pytest.mark.parametrize("direct", [False, True])
def test_up_to_tls_and_no_further(probing: Probing, files: Any, direct: bool) -> None:
    """Nothing leaves but the header and the request for TLS, which ends with close_notify."""
    with RemoteServer(files, direct=direct) as server:
        attempt = probing.attempt(server.port, direct=direct)
        server.settle()
    assert server.plain == [b"" if direct else opening(DOMAIN) + STARTTLS]
    assert server.inside == [b""]
    assert attempt.handshake is not None
    facts, evidence = attempt.handshake.facts, attempt.handshake.evidence
    assert (facts.version, facts.direct) == ("TLSv1.3", direct)
    assert facts.protocol == ("xmpp-client" if direct else "")
    assert facts.cipher
    assert evidence.error == 0
    assert pin_of(evidence.chain[0]).startswith("sha256:")
    assert attempt.connected is not None
    assert 0 <= attempt.connected <= attempt.handshake.seconds
    assert attempt.offered is (None if direct else True)
    assert attempt.proceeded is not direct
    assert (attempt.problem, attempt.forbidden, attempt.redirection) == ("", "", "")
    assert not probing.turning.reactor.getDelayedCalls()


@pytest.mark.parametrize(("name", "direct"), [("c2s", False), ("c2s", True), ("direct", True)])
def test_a_reverse_listener(probing: Probing, front: Front, name: str, direct: bool) -> None:
    server = Target(HOST, front.named[name], direct=direct)
    (probed,) = probing.run(Request(FRONT_DOMAIN, server=server))
    (attempt,) = probed.attempts
    assert attempt.handshake is not None
    assert attempt.handshake.facts.group == "X25519MLKEM768"
    assert attempt.handshake.facts.protocol == ("xmpp-client" if direct else "")
    assert attempt.handshake.evidence.error == 0


def test_tls_that_is_not_offered_is_asked_for(probing: Probing, files: Any) -> None:
    with RemoteServer(files, features=NO_OFFER) as server:
        attempt = probing.attempt(server.port)
    assert attempt.offered is False
    assert attempt.proceeded
    assert attempt.handshake is not None


def test_tls_that_is_not_offered_is_not_asked_for_where_it_is_optional(probing: Probing) -> None:
    with RemoteServer(features=NO_OFFER) as server:
        attempt = probing.attempt(server.port, optional=True)
        server.settle()
    assert server.plain == [opening(DOMAIN)]
    assert (attempt.problem, attempt.without_tls) == ("offers no TLS", True)
    assert (attempt.offered, attempt.proceeded) == (False, False)


@pytest.mark.parametrize(
    ("features", "answer", "problem"),
    [
        (OFFER, FAILURE, "refused to begin TLS"),
        (OFFER, PROCEED + b"<iq/>", "sent plaintext after its consent to TLS"),
        (b"</stream:stream>", b"", "ended the stream before TLS"),
        (b"<a></b>", b"", "does not speak XMPP for clients"),
    ],
)
def test_what_keeps_tls_from_coming_up(
    probing: Probing, features: bytes, answer: bytes, problem: str
) -> None:
    with RemoteServer(features=features, answer=answer) as server:
        attempt = probing.attempt(server.port)
        server.settle()
    assert attempt.problem == problem
    assert attempt.handshake is None
    assert attempt.connected is not None
    assert server.plain[0].replace(STARTTLS, b"") == opening(DOMAIN)


def test_a_handshake_that_fails(probing: Probing) -> None:
    with RemoteServer(direct=True) as server:  # which has no certificate
        attempt = probing.attempt(server.port, direct=True)
    assert attempt.problem == "failed to establish TLS"
    assert "alert" in attempt.detail
    assert attempt.without_tls


def test_a_server_of_before_1_0_offers_no_tls(probing: Probing) -> None:
    header = opening(DOMAIN).replace(b" version='1.0' xml", b" xml")

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(header)
            heard = b""
            while STARTTLS not in heard:
                heard += connection.recv(4096)
            connection.sendall(b"</stream:stream>")

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        attempt = probing.attempt(listening.getsockname()[1])
        thread.join(20)
    assert (attempt.offered, attempt.without_tls) == (False, True)


def test_a_circle_is_no_fault(
    probing: Probing, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.session.ids.StreamIds.issued", lambda _self, _id: True)
    with RemoteServer(files) as server:
        attempt = probing.attempt(server.port)
    assert attempt.problem == "is this proxy itself"
    assert attempt.handshake is None


def test_an_own_listener_is_known_as_such(probing: Probing) -> None:
    attempt = probing.attempt(free_port(), own=lambda _address, _port: True)
    assert attempt.own
    assert attempt.forbidden


def test_a_redirection_is_told_and_not_followed(probing: Probing) -> None:
    with socket.create_server((HOST, 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        port = elsewhere.getsockname()[1]
        error = (
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>"
            f"{HOST}:{port}</see-other-host></stream:error></stream:stream>"
        )
        with RemoteServer(features=error.encode()) as server:
            attempt = probing.attempt(server.port)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert attempt.redirection == f"{HOST}:{port}"
    assert (attempt.problem, attempt.handshake) == ("", None)


def test_every_target_and_every_address(
    probing: Probing, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the first that answers: the second target, and the addresses that refuse, too."""
    patience = dict.fromkeys(resolver_module._PATIENCE, 5.0)  # both kinds are waited for
    monkeypatch.setattr(resolver_module, "_PATIENCE", patience)
    with RemoteServer(files) as first, RemoteServer(files, direct=True) as second:
        dead = free_port()
        probing.names.add(SRV, "SRV", f"5 10 {first.port} one.{DOMAIN}.", f"20 0 {dead} two.net.")
        probing.names.add(DIRECT_SRV, "SRV", f"10 7 {second.port} one.{DOMAIN}.")
        probing.names.add(f"one.{DOMAIN}", "A", "127.0.0.1", "127.0.0.2")
        probing.names.add(f"one.{DOMAIN}", "AAAA", "::1")
        probing.names.add("two.net", "A", "127.0.0.1")
        found = probing.run()
    assert [
        (each.target.port, each.target.direct, each.target.priority, each.target.weight)
        for each in found
    ] == [(first.port, False, 5, 10), (second.port, True, 10, 7), (dead, False, 20, 0)]
    for each in found[:2]:
        came = {at.address: at for at in each.attempts}
        assert set(came) == {"127.0.0.1", "127.0.0.2", "::1"}
        assert came["127.0.0.1"].handshake is not None
        for address in ("127.0.0.2", "::1"):
            assert (came[address].problem, came[address].connected) == ("connection refused", None)
    (only,) = found[2].attempts
    assert only.problem == "connection refused"


def test_the_domain_itself_without_srv_records(probing: Probing) -> None:
    probing.names.add(DOMAIN, "A", "10.1.2.3")
    (probed,) = probing.run(Request(DOMAIN))
    assert probed.target == Target(DOMAIN, 5222, direct=False, fallback=True)
    assert probed.attempts == (Attempt("10.1.2.3", forbidden="10.1.2.3 is a private address"),)


def test_forbidden_addresses_are_not_connected_to(probing: Probing, files: Any) -> None:
    with RemoteServer(files) as server:
        probing.names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        probing.names.add(f"one.{DOMAIN}", "A", HOST)
        (probed,) = probing.run(Request(DOMAIN))
        own = probing.run(own=lambda address, port: (address, port) == (HOST, server.port))
    assert not server.plain
    assert [at.forbidden for at in probed.attempts] == [f"{HOST} is a loopback address"]
    (attempt,) = own[0].attempts
    assert attempt.forbidden == f"{HOST}:{server.port} is a listener of this proxy"


def test_a_domain_that_does_not_exist(probing: Probing) -> None:
    (probed,) = probing.run()
    assert (probed.problem, probed.attempts) == (f"the name {DOMAIN} does not exist", ())


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda names: names.fail(SRV, "SRV"), "SERVFAIL"),
        (lambda names: names.add(SRV, "SRV", "0 0 0 ."), "offers no XMPP service to clients"),
    ],
)
def test_a_domain_that_leads_nowhere(
    probing: Probing, prepare: Callable[[NameServer], None], reason: str
) -> None:
    prepare(probing.names)
    with pytest.raises(LookupFailedError, match=reason):
        probing.run()


def test_a_target_without_an_address_leaves_the_others(probing: Probing, files: Any) -> None:
    with RemoteServer(files) as server:
        probing.names.add(
            SRV, "SRV", f"0 0 {server.port} gone.{DOMAIN}.", f"1 0 {server.port} one.{DOMAIN}."
        )
        probing.names.add(f"one.{DOMAIN}", "A", HOST)
        gone, there = probing.run()
    assert gone.problem == f"the name gone.{DOMAIN} does not exist"
    assert there.attempts[0].handshake is not None


def test_a_server_that_is_silent_costs_its_deadline(probing: Probing) -> None:
    reactor = probing.turning.reactor
    with socket.create_server((HOST, 0)) as mute:
        attempt = probing.attempt(mute.getsockname()[1], reached=legs(reactor))
    assert attempt.problem == "did not get to TLS within 10 s"
    assert attempt.connected is not None
    port = free_port()
    with silent(port):
        server = Target(SILENT, port, direct=False)
        (probed,) = probing.run(Request(DOMAIN, server=server), reactor.getWriters)
    assert probed.attempts[0].problem.endswith(" within 5 s")
    assert probed.attempts[0].connected is None
    assert not probing.turning.reactor.getDelayedCalls()


def test_a_server_that_hangs_up(probing: Probing) -> None:
    with RemoteServer(answer=b"<proceed") as server:
        asked = lambda: server.plain and STARTTLS in server.plain[0]  # noqa: E731
        attempt = probing.attempt(server.port, reached=asked)
    assert attempt.problem == "did not get to TLS within 10 s"
    with socket.create_server((HOST, 0)) as listening:
        outcome: list[Any] = []
        server_target = Target(HOST, listening.getsockname()[1], direct=False)
        prober = Prober(
            probing.turning.reactor,
            probing.resolver,
            Request(DOMAIN, server=server_target),
            probing.terms,
        )
        Deferred.fromCoroutine(prober.probe()).addBoth(outcome.append)
        probing.turning.turn()
        listening.accept()[0].close()
        probing.turning.until(lambda: outcome)
    assert outcome[0][0].attempts[0].problem == "closed the connection before TLS was up"


def test_no_more_at_once_than_allowed(
    probing: Probing, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "AT_ONCE", 2)
    under_way: set[Any] = set()
    most = 0
    start = probe_module._Approach.start

    def counted(self: Any) -> Any:
        nonlocal most
        under_way.add(self)
        most = max(most, len(under_way))
        return start(self).addCallback(ended, self)

    def ended(attempt: Attempt, approach: Any) -> Attempt:
        under_way.remove(approach)
        return attempt

    monkeypatch.setattr(probe_module._Approach, "start", counted)
    with RemoteServer(files, host="0.0.0.0") as server:
        probing.names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        probing.names.add(f"one.{DOMAIN}", "A", *(f"127.0.0.{n}" for n in range(1, 8)))
        (probed,) = probing.run()
    assert most == 2
    assert [at.handshake is not None for at in probed.attempts] == [True] * 7


def test_evidence_that_cannot_be_read_is_a_problem(
    probing: Probing, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("proxy.net.leg.Leg.evidence", fail)
    with RemoteServer(files) as server:
        attempt = probing.attempt(server.port)
    assert attempt.handshake is None
    assert attempt.problem == "showed a certificate that cannot be read"
    assert attempt.detail == "no room"
