"""The way to a domain's server: real sockets on loopback, and a scripted name server."""

import errno
import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from dns.rcode import Rcode
from twisted.internet.address import IPv4Address

from proxy.net import resolver as resolver_module
from proxy.net import route as route_module
from proxy.net.resolver import Resolver
from proxy.net.route import LONGEST_TEXT, Request, Route, Way
from proxy.net.targets import Target
from proxy.session.ways import Trouble
from tests.net.name_server import NameServer
from tests.net.steady import SteadyTurning, turning
from tests.net.test_connector import SILENT, silent
from tests.servers.program import HOST, free_port

__all__ = ["turning"]

STARTTLS = "_xmpp-client._tcp.example.net"
DIRECT = "_xmpps-client._tcp.example.net"
ABSENT, UNREACHABLE, FORBIDDEN = Trouble.ABSENT, Trouble.UNREACHABLE, Trouble.FORBIDDEN

PRIVATE = Request("example.net", private_addresses=True)
PUBLIC = Request("example.net")


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


class Routing:
    """Makes routes and takes what they call back."""

    def __init__(self, turning: SteadyTurning, names: NameServer) -> None:
        self.turning = turning
        self.resolver = Resolver(turning.reactor, [names.address], chance=random.Random(1))
        self.own: set[tuple[str, int]] = set()
        self.ways: list[tuple[Way, bool]] = []
        self.peers: list[tuple[str, int]] = []
        self.sockets: list[socket.socket] = []
        self.failures: list[tuple[Trouble, str]] = []
        self.route: Route

    def make(self, request: Request) -> None:
        self.route = Route(
            self.turning.reactor,
            self.resolver,
            request,
            own=lambda address, port: (address, port) in self.own,
            connected=self.connected,
            failed=lambda trouble, text: self.failures.append((trouble, text)),
        )

    def connected(self, connection: socket.socket, way: Way, more: bool) -> None:
        self.sockets.append(connection)
        self.peers.append(connection.getpeername()[:2])
        self.ways.append((way, more))

    def answers(self) -> int:
        return len(self.ways) + len(self.failures)

    def wait(self, step: Callable[[], None]) -> None:
        """Take a step of the route, which calls back once, and not before it has returned."""
        before = self.answers()
        step()
        assert self.answers() == before
        self.turning.until(lambda: self.answers() > before)
        self.turning.turn()
        assert self.answers() == before + 1

    def reach(self, request: Request | None = None) -> tuple[Way, bool]:
        """Go on, and return the way there was."""
        if request is not None:
            self.make(request)
        self.wait(self.route.next)
        assert not self.failures
        return self.ways[-1]

    def fail(self, request: Request | None = None) -> tuple[Trouble, str]:
        """Go on, and return the trouble there was."""
        if request is not None:
            self.make(request)
        self.wait(self.route.next)
        return self.failures.pop()


@pytest.fixture
def routing(turning: SteadyTurning, names: NameServer) -> Iterator[Routing]:
    routing = Routing(turning, names)
    yield routing
    routing.resolver.close()
    for connection in routing.sockets:
        connection.close()


@pytest.fixture
def server() -> Iterator[int]:
    """A server on 127.0.0.1; its port."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


# Targets


def test_the_targets_are_tried_in_turn(routing: Routing, names: NameServer, server: int) -> None:
    names.add(STARTTLS, "SRV", f"1 0 {server} a.example.net.", f"3 0 {server} dead.example.net.")
    names.add(DIRECT, "SRV", f"0 0 {server} dead.example.net.", f"2 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    names.add("dead.example.net", "A", "127.0.0.2")
    first = Way(Target("a.example.net", server, direct=False, priority=1), HOST)
    second = Way(Target("a.example.net", server, direct=True, priority=2), HOST)
    assert routing.reach(PRIVATE) == (first, True)
    assert routing.reach() == (second, True)
    trouble, text = routing.fail()
    assert trouble is UNREACHABLE
    assert text.split("; ") == [
        f"dead.example.net:{server}: connection refused",
        f"a.example.net:{server}: connected to in vain",
        f"a.example.net:{server}: connected to in vain",
        f"dead.example.net:{server}: connection refused",
    ]
    assert routing.fail() == (UNREACHABLE, "")
    assert routing.peers == [(HOST, server)] * 2
    assert not any(connection.getblocking() for connection in routing.sockets)


def test_the_last_target_is_known_to_be_the_last(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    assert routing.reach(PRIVATE)[1] is False
    assert routing.fail() == (UNREACHABLE, "")


def test_a_silent_target_gives_way_in_time(
    routing: Routing, names: NameServer, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_module, "TARGET_SECONDS", 0.3)
    names.add(STARTTLS, "SRV", f"0 0 {server} dead.example.net.", f"1 0 {server} a.example.net.")
    names.add("dead.example.net", "A", SILENT)
    names.add("a.example.net", "A", HOST)
    with silent(server):
        assert routing.reach(PRIVATE)[0].target.host == "a.example.net"


def test_the_addresses_of_a_target_are_raced(
    routing: Routing, names: NameServer, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = dict.fromkeys(resolver_module._PATIENCE, 5.0)  # both kinds are waited for
    monkeypatch.setattr(resolver_module, "_PATIENCE", patience)
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "AAAA", "::1")
    names.add("a.example.net", "A", HOST)
    with socket.create_server(("::1", server), family=socket.AF_INET6):
        assert routing.reach(PRIVATE)[0].address == "::1"
    routing.make(PRIVATE)
    assert routing.reach()[0].address == HOST


def test_what_was_tried_is_named_and_the_rest_counted(routing: Routing, names: NameServer) -> None:
    port = free_port()
    hosts = [f"host-with-a-rather-long-name-{n}.example.net" for n in range(9)]
    names.add(STARTTLS, "SRV", *(f"{n} 0 {port} {host}." for n, host in enumerate(hosts)))
    for host in hosts:
        names.add(host, "A", HOST)
    trouble, text = routing.fail(PRIVATE)
    assert trouble is UNREACHABLE
    assert len(text) <= LONGEST_TEXT + len("; and 9 more")
    assert text.startswith(f"{hosts[0]}:{port}: connection refused; {hosts[1]}:{port}: ")
    assert text.endswith(f"; and {9 - text.count(':') // 2} more")


def test_there_is_no_fallback_from_srv(routing: Routing, names: NameServer, server: int) -> None:
    port = free_port()
    names.add(STARTTLS, "SRV", f"0 0 {port} dead.example.net.")
    names.add("dead.example.net", "A", HOST)
    names.add("example.net", "A", HOST)
    text = f"dead.example.net:{port}: connection refused"
    assert routing.fail(PRIVATE) == (UNREACHABLE, text)


def test_the_fallback_is_the_domain_itself(
    routing: Routing, names: NameServer, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.net.resolver._FALLBACK_PORTS", {"xmpp-client": server})
    names.add("example.net", "A", HOST)
    target = Target("example.net", server, direct=False, fallback=True)
    assert routing.reach(PRIVATE) == (Way(target, HOST), False)


def test_a_domain_that_does_not_exist_is_absent(routing: Routing) -> None:
    text = "example.net:5222: the name example.net does not exist"
    assert routing.fail(PUBLIC) == (ABSENT, text)


def test_a_domain_without_records_is_absent(routing: Routing, names: NameServer) -> None:
    names.add("example.net", "TXT", "x")
    text = "example.net:5222: the name example.net has no address"
    assert routing.fail(PUBLIC) == (ABSENT, text)


def test_a_service_that_is_denied_is_absent(routing: Routing, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "0 0 0 .")
    assert routing.fail(PUBLIC) == (ABSENT, "example.net offers no XMPP service to clients")


def test_an_address_is_no_domain(routing: Routing, names: NameServer) -> None:
    trouble, text = routing.fail(Request("192.0.2.1"))
    assert trouble is ABSENT
    assert text == "192.0.2.1 is not a domain: an IP address is not a host name"
    assert not names.asked


def test_a_target_that_does_not_exist_is_unreachable(routing: Routing, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    text = "a.example.net:5222: the name a.example.net does not exist"
    assert routing.fail(PUBLIC) == (UNREACHABLE, text)


@pytest.mark.parametrize("name", [STARTTLS, DIRECT, "example.net"])
def test_a_failed_lookup_is_unreachable(routing: Routing, names: NameServer, name: str) -> None:
    for kind in ("SRV", "A", "AAAA"):
        names.fail(name, kind, Rcode.SERVFAIL)
    trouble, text = routing.fail(PUBLIC)
    assert trouble is UNREACHABLE
    assert text.endswith(f"the name server answered SERVFAIL for {name}")


def test_a_target_whose_lookup_fails_gives_way(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.add(STARTTLS, "SRV", f"0 0 {server} b.example.net.", f"1 0 {server} a.example.net.")
    names.fail("b.example.net", "A")
    names.add("a.example.net", "A", HOST)
    assert routing.reach(PRIVATE)[0].target.host == "a.example.net"


# Where nobody connects to


@pytest.mark.parametrize(
    ("kind", "address", "reason"),
    [
        ("A", "127.0.0.1", "127.0.0.1 is a loopback address"),
        ("A", "169.254.169.254", "169.254.169.254 is a link-local address"),
        ("A", "0.0.0.0", "127.0.0.1 is a loopback address"),
        ("AAAA", "::1", "::1 is a loopback address"),
        ("AAAA", "::", "::1 is a loopback address"),
        ("AAAA", "::ffff:10.0.0.1", "10.0.0.1 is a private address"),
        ("AAAA", "64:ff9b::10.0.0.1", "64:ff9b::a00:1 is a private address"),
    ],
)
def test_addresses_of_ours_are_forbidden(
    routing: Routing, names: NameServer, kind: str, address: str, reason: str
) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    names.add("a.example.net", kind, address)
    assert routing.fail(PUBLIC) == (FORBIDDEN, f"a.example.net:5222: {reason}")


def test_what_cannot_be_known_to_be_elsewhere_is_not_tried(
    routing: Routing, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system is asked by a socket whether an address is this machine's: there may be none."""

    def exhausted(_address: str) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(route_module, "is_ours", exhausted)
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    names.add("a.example.net", "A", "8.8.8.8")
    assert routing.fail(PUBLIC) == (UNREACHABLE, "Too many open files")


def test_ports_of_others_are_forbidden(routing: Routing, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "0 0 25 a.example.net.")
    names.add("a.example.net", "A", "1.1.1.1")
    text = "a.example.net:25: port 25 is not one of XMPP"
    assert routing.fail(PUBLIC) == (FORBIDDEN, text)


def test_what_is_forbidden_and_what_is_dead_is_unreachable(
    routing: Routing, names: NameServer
) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.", "1 0 5222 b.example.net.")
    names.add("a.example.net", "A", "127.0.0.1")
    trouble, text = routing.fail(PUBLIC)
    assert trouble is UNREACHABLE
    assert text == (
        "a.example.net:5222: 127.0.0.1 is a loopback address; "
        "b.example.net:5222: the name b.example.net does not exist"
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_our_own_listeners_are_always_forbidden(
    routing: Routing, names: NameServer, server: int, address: str
) -> None:
    """By whatever name: the kernel takes 0.0.0.0 for 127.0.0.1."""
    routing.own.add((HOST, server))
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "AAAA" if ":" in address else "A", address)
    text = f"a.example.net:{server}: {HOST}:{server} is a listener of this proxy"
    assert routing.fail(PRIVATE) == (FORBIDDEN, text)


def test_of_several_addresses_those_allowed_are_tried(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST, "127.0.0.2")
    routing.own.add((HOST, server))
    text = f"a.example.net:{server}: connection refused"
    assert routing.fail(PRIVATE) == (UNREACHABLE, text)


# The conf's server


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_a_configured_server_goes_before_dns(
    routing: Routing, names: NameServer, server: int, host: str, direct: bool
) -> None:
    target = Target(host, server, direct)
    request = attrs.evolve(PUBLIC, server=target, original=("192.0.2.1", 5222))
    assert routing.reach(request) == (Way(target, HOST), False)
    assert not names.asked


def test_a_configured_server_is_not_ourselves(routing: Routing, server: int) -> None:
    routing.own.add((HOST, server))
    request = attrs.evolve(PUBLIC, server=Target("localhost", server, direct=False))
    trouble, text = routing.fail(request)
    assert (trouble, text.endswith("is a listener of this proxy")) == (FORBIDDEN, True)


class _System:
    """The system's resolver, knowing some addresses, or none."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def resolveHostName(self, receiver: Any, _host: str, port: int) -> None:
        for address in self.addresses:
            receiver.addressResolved(IPv4Address("TCP", address, port))
        receiver.resolutionComplete()


def test_a_configured_name_without_addresses_is_told(routing: Routing) -> None:
    routing.turning.reactor.installNameResolver(_System())
    request = attrs.evolve(PUBLIC, server=Target("xmpp.internal", 5222, direct=False))
    text = "xmpp.internal:5222: the name xmpp.internal has no address"
    assert routing.fail(request) == (UNREACHABLE, text)


# Redirected connections


def test_a_redirected_connection_goes_where_it_wanted(
    routing: Routing, names: NameServer, server: int
) -> None:
    """By that target's kind of TLS, and nowhere else."""
    names.add(STARTTLS, "SRV", f"0 0 {server} b.example.net.", "0 0 9 a.example.net.")
    names.add(DIRECT, "SRV", f"1 0 {server} a.example.net.")
    names.add("a.example.net", "A", "127.0.0.3", HOST)
    names.add("b.example.net", "A", "127.0.0.2")
    request = attrs.evolve(PRIVATE, original=(f"::ffff:{HOST}", server))
    target = Target("a.example.net", server, direct=True, priority=1)
    assert routing.reach(request) == (Way(target, HOST), False)


def test_a_redirected_connection_that_fails_goes_nowhere_else(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST, "127.0.0.2")
    request = attrs.evolve(PRIVATE, original=("127.0.0.2", server))
    assert routing.fail(request) == (UNREACHABLE, f"a.example.net:{server}: connection refused")


@pytest.mark.parametrize("port", [5222, 5223])
def test_a_redirected_connection_to_another_server_is_forbidden(
    routing: Routing, names: NameServer, port: int
) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    names.add("a.example.net", "A", "127.0.0.2")
    request = attrs.evolve(PRIVATE, original=(HOST, port))
    assert routing.fail(request) == (FORBIDDEN, f"{HOST}:{port} is not a server of example.net")


def test_a_redirected_connection_is_refused_what_is_forbidden(
    routing: Routing, names: NameServer
) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    names.add("a.example.net", "A", HOST)
    request = attrs.evolve(PUBLIC, original=(HOST, 5222))
    text = f"a.example.net:5222: {HOST} is a loopback address"
    assert routing.fail(request) == (FORBIDDEN, text)
    routing.own.add((HOST, 5222))
    request = attrs.evolve(request, private_addresses=True)
    text = f"a.example.net:5222: {HOST}:5222 is a listener of this proxy"
    assert routing.fail(request) == (FORBIDDEN, text)


@pytest.mark.parametrize("name", [STARTTLS, "a.example.net"])
def test_a_redirected_connection_needs_answers(
    routing: Routing, names: NameServer, name: str
) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    for kind in ("SRV", "A"):
        names.fail(name, kind)
    trouble, text = routing.fail(attrs.evolve(PRIVATE, original=(HOST, 5222)))
    assert trouble is UNREACHABLE
    assert text.endswith(f"the name server answered SERVFAIL for {name}")


def test_a_redirected_connection_to_no_domain_is_absent(routing: Routing) -> None:
    request = attrs.evolve(PRIVATE, domain="192.0.2.1", original=(HOST, 5222))
    assert routing.fail(request)[0] is ABSENT


@pytest.mark.parametrize("broken", [True, False])
def test_an_unlisted_server_is_connected_to_by_starttls(
    routing: Routing, names: NameServer, server: int, broken: bool
) -> None:
    if broken:
        names.fail(STARTTLS, "SRV")
    names.add(DIRECT, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "A", "127.0.0.2")
    request = attrs.evolve(PRIVATE, original=(HOST, server), unlisted=True)
    assert routing.reach(request) == (Way(Target(HOST, server, direct=False), HOST), False)


def test_an_unlisted_server_is_refused_what_is_forbidden(routing: Routing) -> None:
    request = attrs.evolve(PUBLIC, original=(HOST, 5222), unlisted=True)
    assert routing.fail(request) == (FORBIDDEN, f"{HOST}:5222: {HOST} is a loopback address")


# See other host


def test_a_server_may_send_us_elsewhere(routing: Routing, names: NameServer, server: int) -> None:
    names.add(DIRECT, "SRV", f"0 0 {server} a.example.net.", f"1 0 {server} b.example.net.")
    names.add("a.example.net", "A", HOST)
    names.add("other.example.net", "A", "127.0.0.2")
    assert routing.reach(PRIVATE)[1] is True
    with socket.create_server(("127.0.0.2", server)):
        routing.wait(lambda: routing.route.redirect("Other.Example.net", server, keep=False))
    way = Way(Target("other.example.net", server, direct=False), "127.0.0.2")
    assert routing.ways[-1] == (way, False)
    assert routing.fail() == (UNREACHABLE, "")  # the rest is forgotten


@pytest.mark.parametrize(
    ("port", "trouble", "text"),
    [
        (9, UNREACHABLE, f"{HOST}:9: connection refused"),
        (0, FORBIDDEN, "the server sends us to no valid port"),
    ],
)
def test_sent_in_vain_there_is_no_way_back(  # noqa: PLR0917 - fixtures and a table
    routing: Routing, names: NameServer, server: int, port: int, trouble: Trouble, text: str
) -> None:
    """Nor is there a word of what was tried before."""
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.", f"1 0 {server} b.example.net.")
    for host in ("a.example.net", "b.example.net"):
        names.add(host, "A", HOST)
    assert routing.reach(PRIVATE)[1] is True
    routing.wait(lambda: routing.route.redirect(HOST, port, keep=False))
    assert routing.failures.pop() == (trouble, text)
    assert routing.fail() == (UNREACHABLE, "")


def test_without_a_port_the_targets_of_the_host_are_asked_for(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.add("_xmpps-client._tcp.example.org", "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    routing.make(PRIVATE)
    routing.wait(lambda: routing.route.redirect("example.org", None, keep=False))
    assert routing.ways == [(Way(Target("a.example.net", server, direct=True), HOST), False)]


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", 5222, "127.0.0.1:5222: 127.0.0.1 is a loopback address"),
        ("127.0.0.1", None, "127.0.0.1:5222: 127.0.0.1 is a loopback address"),
        ("0.0.0.0", 5222, "0.0.0.0:5222: 127.0.0.1 is a loopback address"),
        ("::ffff:127.0.0.1", 5222, "[::ffff:127.0.0.1]:5222: 127.0.0.1 is a loopback address"),
        ("1.1.1.1", 25, "1.1.1.1:25: port 25 is not one of XMPP"),
        ("1.1.1.1", 0, "the server sends us to no valid port"),
        ("1.1.1.1", 65536, "the server sends us to no valid port"),
        ("inside.example.net", 5222, "inside.example.net:5222: 10.0.0.1 is a private address"),
    ],
)
def test_a_server_cannot_send_us_anywhere(
    routing: Routing, names: NameServer, host: str, port: int | None, text: str
) -> None:
    names.add("inside.example.net", "A", "10.0.0.1")
    request = attrs.evolve(PUBLIC, server=Target(HOST, 5222, direct=False))
    routing.make(request)
    routing.wait(lambda: routing.route.redirect(host, port, keep=False))
    assert routing.failures == [(FORBIDDEN, text)]


@pytest.mark.parametrize("host", ["", "a b", "127.1", "fe80::1%\r\n", "fe80::1%lo", "[::1]", "a_b"])
def test_a_server_cannot_send_us_to_what_is_no_host(routing: Routing, host: str) -> None:
    """And nothing of what it wrote gets into the text."""
    routing.make(PRIVATE)
    routing.wait(lambda: routing.route.redirect(host, 5222, keep=False))
    assert routing.failures == [(UNREACHABLE, "the server sends us to no valid host")]


def test_a_server_cannot_send_us_to_ourselves(routing: Routing, server: int) -> None:
    routing.own.add((HOST, server))
    routing.make(PRIVATE)
    routing.wait(lambda: routing.route.redirect(HOST, server, keep=False))
    assert routing.failures[0][0] is FORBIDDEN


# Life


def test_a_cancelled_route_calls_nobody(routing: Routing, names: NameServer, server: int) -> None:
    """Neither while it asks, nor while it connects, nor when it has failed already."""
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    with names.hold():
        routing.make(PRIVATE)
        routing.route.next()
        routing.turning.turn()
        routing.route.cancel()
    routing.turning.turn()
    for request in (
        attrs.evolve(PRIVATE, server=Target(HOST, server, direct=False)),
        attrs.evolve(PRIVATE, server=Target(HOST, free_port(), direct=False)),
        attrs.evolve(PRIVATE, server=Target("localhost", server, direct=False)),
        Request("192.0.2.1"),
    ):
        routing.make(request)
        routing.route.next()
        routing.route.cancel()
        routing.turning.turn()
    assert not routing.answers()


def test_a_cancelled_attempt_is_closed(routing: Routing, server: int) -> None:
    with silent(server):
        routing.make(attrs.evolve(PRIVATE, server=Target(SILENT, server, direct=False)))
        routing.route.next()
        (attempt,) = routing.turning.reactor.getWriters()
        routing.route.cancel()
        assert not routing.turning.reactor.getWriters()
        assert attempt.fileno() == -1
        assert not routing.turning.reactor.getDelayedCalls()


def test_another_call_takes_the_place_of_the_one_under_way(routing: Routing, server: int) -> None:
    with silent(server):
        routing.make(attrs.evolve(PRIVATE, server=Target(SILENT, server, direct=False)))
        routing.route.next()
        routing.wait(lambda: routing.route.redirect(HOST, server, keep=False))
    assert routing.peers == [(HOST, server)]


def test_going_on_from_within_the_callback(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.add(STARTTLS, "SRV", f"0 0 {server} a.example.net.", f"1 0 {server} a.example.net.")
    names.add(DIRECT, "SRV", f"2 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    routing.make(PRIVATE)
    take = routing.connected

    def take_and_go_on(connection: socket.socket, way: Way, more: bool) -> None:
        take(connection, way, more)
        routing.route.next()

    routing.route._connected = take_and_go_on
    routing.route.next()
    routing.turning.until(lambda: routing.failures)
    assert [more for _, more in routing.ways] == [True, False]
    assert routing.failures == [(UNREACHABLE, "")]


def test_a_fault_is_a_failure(routing: Routing) -> None:
    class Broken(Resolver):
        def targets(self, domain: str, service: str = "xmpp-client") -> Any:
            raise ZeroDivisionError

    routing.resolver.close()
    routing.resolver = Broken(routing.turning.reactor)
    assert routing.fail(PUBLIC) == (UNREACHABLE, "a fault of the proxy")


def test_a_fault_of_the_one_called_back_is_no_second_call(routing: Routing, server: int) -> None:
    calls: list[object] = []

    def broken(connection: socket.socket, *rest: object) -> None:
        connection.close()
        calls.append(rest)
        raise ZeroDivisionError

    routing.make(attrs.evolve(PRIVATE, server=Target(HOST, server, direct=False)))
    routing.route._connected = broken
    routing.route.next()
    routing.turning.until(lambda: calls)
    routing.turning.turn()
    assert len(calls) == 1
    assert not routing.answers()
