"""Finding the servers of a domain, against a name server that says what the test wants."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from twisted.internet.defer import CancelledError

from proxy.net import lookup as lookup_module
from proxy.net import name_servers, resolver
from proxy.net.resolver import (
    LIFETIME,
    MOST_ADDRESSES,
    MOST_RECORDS,
)
from proxy.net.targets import Target
from tests.net.asking import Asking
from tests.net.name_server import NameServer
from tests.net.steady import SteadyTurning, turning
from tests.servers.program import free_port

__all__ = ["turning"]

STARTTLS = "_xmpp-client._tcp.example.net"
DIRECT = "_xmpps-client._tcp.example.net"


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


@pytest.fixture
def asking(turning: SteadyTurning, names: NameServer) -> Iterator[Asking]:
    asking = Asking(turning, names.address)
    yield asking
    asking.resolver.close()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the other kind of address takes, it is waited for."""
    monkeypatch.setattr(resolver, "_PATIENCE", dict.fromkeys(resolver._PATIENCE, LIFETIME))


@pytest.fixture
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server may take its time to write a long answer."""
    monkeypatch.setattr(resolver, "LIFETIME", 100.0)
    monkeypatch.setattr(lookup_module, "_EACH_SERVER", 100.0)


def starttls(host: str, port: int = 5222, priority: int = 0, weight: int = 0) -> Target:
    return Target(host, port, direct=False, priority=priority, weight=weight)


def direct(host: str, port: int = 5223, priority: int = 0, weight: int = 0) -> Target:
    return Target(host, port, direct=True, priority=priority, weight=weight)


# Targets


def test_both_services_are_merged(asking: Asking, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "10 5 5222 A.example.net.", "30 0 5222 c.example.net.")
    names.add(DIRECT, "SRV", "20 1 443 b.example.net.", "5 1 5223 d.example.net.")
    assert asking.targets() == [
        direct("d.example.net", 5223, 5, 1),
        starttls("a.example.net", 5222, 10, 5),
        direct("b.example.net", 443, 20, 1),
        starttls("c.example.net", 5222, 30),
    ]


def test_servers_have_a_service_of_their_own(asking: Asking, names: NameServer) -> None:
    names.add("_xmpp-server._tcp.example.net", "SRV", "0 0 5269 a.example.net.")
    names.add("_xmpps-server._tcp.example.net", "SRV", "1 0 5270 a.example.net.")
    names.add(STARTTLS, "SRV", "0 0 5222 wrong.example.net.")
    assert asking.targets(service="xmpp-server") == [
        starttls("a.example.net", 5269),
        direct("a.example.net", 5270, 1),
    ]


@pytest.mark.parametrize(("service", "port"), [("xmpp-client", 5222), ("xmpp-server", 5269)])
@pytest.mark.parametrize("known", [True, False], ids=["NODATA", "NXDOMAIN"])
def test_without_srv_records_it_is_the_domain_itself(
    asking: Asking, names: NameServer, service: str, port: int, known: bool
) -> None:
    if known:
        for name in (STARTTLS, DIRECT):
            names.add(name, "TXT", "x")
    fallback = Target("example.net", port, direct=False, fallback=True)
    assert asking.targets("Example.NET", service) == [fallback]


def test_direct_tls_may_be_offered_alone(asking: Asking, names: NameServer) -> None:
    names.add(DIRECT, "SRV", "0 0 5223 a.example.net.")
    assert asking.targets() == [direct("a.example.net")]


def test_no_direct_tls_leaves_starttls(asking: Asking, names: NameServer) -> None:
    names.add(DIRECT, "SRV", "0 0 0 .")
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    assert asking.targets() == [starttls("a.example.net")]


def test_no_starttls_leaves_direct_tls(asking: Asking, names: NameServer) -> None:
    names.add(DIRECT, "SRV", "0 0 5223 a.example.net.")
    names.add(STARTTLS, "SRV", "0 0 0 .")
    assert asking.targets() == [direct("a.example.net")]


@pytest.mark.parametrize("denied", [(STARTTLS,), (DIRECT,), (STARTTLS, DIRECT)])
def test_a_service_that_is_denied_has_no_fallback(
    asking: Asking, names: NameServer, denied: tuple[str, ...]
) -> None:
    for name in denied:
        names.add(name, "SRV", "0 0 0 .")
    names.add("example.net", "A", "192.0.2.1")
    failure = asking.failure(asking.targets)
    assert failure == ("example.net offers no XMPP service to clients", True)


@pytest.mark.parametrize("name", [STARTTLS, DIRECT])
@pytest.mark.parametrize("code", [Rcode.SERVFAIL, Rcode.REFUSED, Rcode.FORMERR, Rcode.NOTIMP])
def test_a_failure_of_either_lookup_fails_the_whole(
    asking: Asking, names: NameServer, name: str, code: Rcode
) -> None:
    """Who can suppress an answer must not choose where we go."""
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    names.add(DIRECT, "SRV", "0 0 5223 a.example.net.")
    names.fail(name, "SRV", code)
    failure = asking.failure(asking.targets)
    assert failure == (f"the name server answered {code.name} for {name}", False)


def test_a_bogus_answer_is_told(asking: Asking, names: NameServer) -> None:
    names.fail(STARTTLS, "SRV")
    names.bogus = True
    text, absent = asking.failure(asking.targets)
    assert text == f"the name server answered SERVFAIL (DNSSEC BOGUS) for {STARTTLS}"
    assert not absent


@pytest.mark.parametrize("name", [STARTTLS, DIRECT])
def test_silence_is_no_answer(
    turning: SteadyTurning, asking: Asking, names: NameServer, name: str
) -> None:
    names.ignore(name, "SRV")
    lookup = asking.resolver.targets("example.net")
    turning.until(lambda: list(asking.resolver._under_way) == [(name, RdataType.SRV)])
    turning.reactor.advance(LIFETIME)
    text, absent = asking.failure(lambda: asking.wait(lookup))
    assert text.startswith(f"no name server gave a usable answer for {name}")
    assert not absent


def test_a_malformed_answer_is_none(
    turning: SteadyTurning, asking: Asking, names: NameServer
) -> None:
    names.spoil(STARTTLS, "SRV")
    lookup = asking.resolver.targets("example.net")
    turning.until(lambda: list(asking.resolver._under_way) == [(STARTTLS, RdataType.SRV)])
    turning.reactor.advance(LIFETIME)
    _, absent = asking.failure(lambda: asking.wait(lookup))
    assert not absent


def test_a_name_server_that_is_not_there_is_told(turning: SteadyTurning) -> None:
    asking = Asking(turning, ("127.0.0.1", free_port()))
    lookup = asking.resolver.targets("example.net")
    turning.turn()
    turning.reactor.advance(LIFETIME)
    text, absent = asking.failure(lambda: asking.wait(lookup))
    assert text.startswith("no name server ")
    assert not absent
    asking.resolver.close()


def test_the_next_name_server_is_asked(turning: SteadyTurning, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    with NameServer() as refusing:
        for name in (STARTTLS, DIRECT):
            refusing.fail(name, "SRV", Rcode.REFUSED)
        asking = Asking(turning, refusing.address, names.address)
        assert asking.targets() == [starttls("a.example.net")]
        assert len(refusing.asked) == 2
        asking.resolver.close()


@pytest.mark.usefixtures("_unhurried")
def test_a_long_answer_comes_over_tcp_and_is_capped(asking: Asking, names: NameServer) -> None:
    """Of 100 records those of the lowest priorities are taken."""
    values = [f"{100 - n} 0 5222 host-{n}.example.net." for n in range(100)]
    names.add(STARTTLS, "SRV", *values)
    names.add(DIRECT, "SRV", "0 0 5223 a.example.net.")
    targets = asking.targets()
    assert len(targets) == MOST_RECORDS
    assert [target.priority for target in targets] == list(range(MOST_RECORDS))
    assert [asked.tcp for asked in names.asked if asked.name == STARTTLS] == [False, True]


@pytest.mark.usefixtures("_unhurried")
def test_attack_an_answer_that_takes_long_to_read_is_none(
    asking: Asking, names: NameServer
) -> None:
    """Reading a thousand records would keep everybody else waiting."""
    names.add(STARTTLS, "SRV", *(f"{n} 0 5222 host-{n}.example.net." for n in range(1000)))
    text, absent = asking.failure(asking.targets)
    assert text == f"the name server's answer for {STARTTLS} is malformed"
    assert not absent


def test_aliases_are_followed(asking: Asking, names: NameServer) -> None:
    names.add(STARTTLS, "CNAME", "srv.example.org.")
    names.add("srv.example.org", "SRV", "0 0 5222 a.example.org.")
    assert asking.targets() == [starttls("a.example.org")]


def test_a_ring_of_aliases_is_an_error(asking: Asking, names: NameServer) -> None:
    for n in range(30):
        names.add(
            "example.org" if n == 0 else f"n{n}.example.org", "CNAME", f"n{n + 1}.example.org."
        )
    text, absent = asking.failure(lambda: asking.addresses("example.org"))
    assert text == "the name server's answer for example.org is malformed"
    assert not absent


BAD_HOSTS = ("192.0.2.1.", "127.1.", "a_b.example.net.", r"a\000b.example.net.", r"a\.b.example.")


def test_targets_that_are_no_hosts_are_skipped(asking: Asking, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "1 0 5222 a.example.net.", "0 0 5222 .")
    names.add(DIRECT, "SRV", *(f"0 0 5223 {host}" for host in BAD_HOSTS))
    assert asking.targets() == [starttls("a.example.net", priority=1)]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_targets_that_are_no_hosts_leave_no_fallback(
    asking: Asking, names: NameServer, host: str
) -> None:
    names.add(STARTTLS, "SRV", f"0 0 5222 {host}")
    failure = asking.failure(asking.targets)
    assert failure == ("the SRV records of example.net name no host", False)


@pytest.mark.parametrize("domain", ["192.0.2.1", "::1", "[::1]", "127.1", "", "a b", "x" * 64])
def test_what_is_no_domain_is_not_looked_up(asking: Asking, names: NameServer, domain: str) -> None:
    text, absent = asking.failure(lambda: asking.targets(domain))
    assert text.startswith(f"{domain} is not a domain: ")
    assert absent
    assert not names.asked


def test_a_domain_without_room_for_a_service_is_an_error(asking: Asking, names: NameServer) -> None:
    domain = ".".join(["x" * 60] * 4)
    text, absent = asking.failure(lambda: asking.targets(domain))
    assert text.endswith("cannot be looked up: NameTooLong")
    assert not absent
    assert not names.asked


# Addresses


@pytest.mark.usefixtures("_patient")
def test_addresses_come_by_turns_ipv6_first(asking: Asking, names: NameServer) -> None:
    names.add("a.example.net", "A", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    names.add("a.example.net", "AAAA", "2001:db8::1")
    found = asking.addresses("a.example.net")
    assert found[0] == "2001:db8::1"
    assert sorted(found[1:]) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


@pytest.mark.usefixtures("_patient")
def test_addresses_are_capped(asking: Asking, names: NameServer) -> None:
    names.add("a.example.net", "A", *(f"192.0.2.{n}" for n in range(200)))
    names.add("a.example.net", "AAAA", *(f"2001:db8::{n:x}" for n in range(200)))
    found = asking.addresses("a.example.net")
    assert len(found) == MOST_ADDRESSES
    assert [":" in address for address in found] == [True, False] * (MOST_ADDRESSES // 2)


def test_an_address_stands_for_itself(asking: Asking, names: NameServer) -> None:
    assert asking.addresses("2001:db8::1") == ("2001:db8::1",)
    assert not names.asked


def test_a_host_that_does_not_exist_is_absent(asking: Asking) -> None:
    failure = asking.failure(lambda: asking.addresses("a.example.net"))
    assert failure == ("the name a.example.net does not exist", True)


def test_a_host_without_addresses_is_absent(asking: Asking, names: NameServer) -> None:
    names.add("a.example.net", "TXT", "x")
    failure = asking.failure(lambda: asking.addresses("a.example.net"))
    assert failure == ("the name a.example.net has no address", True)


@pytest.mark.parametrize(("broken", "whole"), [("A", "AAAA"), ("AAAA", "A")])
def test_half_an_answer_without_addresses_is_an_error(
    asking: Asking, names: NameServer, broken: str, whole: str
) -> None:
    names.fail("a.example.net", broken)
    failure = asking.failure(lambda: asking.addresses("a.example.net"))
    assert failure == ("the name server answered SERVFAIL for a.example.net", False)


@pytest.mark.parametrize(("broken", "whole"), [("A", "AAAA"), ("AAAA", "A")])
def test_half_an_answer_with_addresses_will_do(
    asking: Asking, names: NameServer, broken: str, whole: str
) -> None:
    address = "192.0.2.1" if whole == "A" else "2001:db8::1"
    names.add("a.example.net", whole, address)
    names.fail("a.example.net", broken)
    assert asking.addresses("a.example.net") == (address,)


@pytest.mark.parametrize(("silent", "whole"), [("A", "AAAA"), ("AAAA", "A")])
def test_half_an_answer_is_not_waited_for_long(
    turning: SteadyTurning, asking: Asking, names: NameServer, silent: str, whole: str
) -> None:
    """Not until the other half has failed."""
    address = "192.0.2.1" if whole == "A" else "2001:db8::1"
    names.add("a.example.net", whole, address)
    names.ignore("a.example.net", silent)
    lookup = asking.resolver.addresses("a.example.net")
    other = [("a.example.net", RdataType.from_text(silent))]
    turning.until(lambda: list(asking.resolver._under_way) == other or lookup.called)
    turning.reactor.advance(1)
    assert lookup.called
    assert asking.wait(lookup) == (address,)


# Cache, sharing, life


def test_answers_are_cached_for_their_ttl(asking: Asking, names: NameServer) -> None:
    names.add("a.example.net", "A", "192.0.2.1", ttl=30)
    for later, asked in ((0, 1), (29, 1), (2, 2)):
        asking.now += later
        asking.records("A.example.net", RdataType.A)
        assert len(names.asked) == asked


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0, 1), (1, 1), (60, 60), (86_400, 86_400), (1_000_000, 86_400)]
)
def test_the_ttl_has_bounds(asking: Asking, names: NameServer, ttl: int, seconds: int) -> None:
    names.add("a.example.net", "A", "192.0.2.1", ttl=ttl)
    assert asking.records("a.example.net", RdataType.A).seconds == seconds


@pytest.mark.parametrize("exists", [True, False], ids=["NODATA", "NXDOMAIN"])
@pytest.mark.parametrize(("minimum", "seconds"), [(0, 1), (60, 60), (9000, 300), (None, 1)])
def test_that_there_is_nothing_is_cached_briefly(
    asking: Asking, names: NameServer, exists: bool, minimum: int | None, seconds: int
) -> None:
    names.minimum = minimum
    if exists:
        names.add("a.example.net", "TXT", "x")
    found = asking.records("a.example.net", RdataType.A)
    assert (found.values, found.exists, found.seconds) == ((), exists, seconds)


def test_a_failure_is_cached_for_seconds(asking: Asking, names: NameServer) -> None:
    names.fail("a.example.net", "A")
    for later, asked in ((0, 1), (4.9, 1), (0.2, 2)):
        asking.now += later
        asking.failure(lambda: asking.records("a.example.net", RdataType.A))
        assert len(names.asked) == asked


def test_the_cache_is_bounded(
    asking: Asking, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_CACHED", 3)
    for name in "abcd":
        asking.records(f"{name}.example", RdataType.A)
    assert len(asking.resolver._cache) == 3
    asking.records("d.example", RdataType.A)
    assert len(names.asked) == 4
    asking.records("a.example", RdataType.A)
    assert len(names.asked) == 5


def test_equal_questions_under_way_are_asked_once(asking: Asking, names: NameServer) -> None:
    names.add("a.example.net", "A", "192.0.2.1")
    with names.hold():
        lookups = [
            asking.resolver.records(name, RdataType.A)
            for name in ("a.example.net", "A.EXAMPLE.net")
        ]
    assert asking.wait(lookups[0]) == asking.wait(lookups[1])
    assert len(names.asked) == 1


def test_a_lookup_that_is_cancelled_leaves_others_alone(asking: Asking, names: NameServer) -> None:
    names.add(STARTTLS, "SRV", "0 0 5222 a.example.net.")
    with names.hold():
        cancelled = asking.resolver.targets("example.net")
        lookup = asking.resolver.targets("example.net")
        cancelled.cancel()
    assert asking.wait(lookup) == (starttls("a.example.net"),)
    with pytest.raises(CancelledError):
        asking.wait(cancelled)


def test_cancelled_addresses_are_forgotten(asking: Asking, names: NameServer) -> None:
    names.add("a.example.net", "A", "192.0.2.1")
    with names.hold():
        cancelled = asking.resolver.addresses("a.example.net")
        cancelled.cancel()
    with pytest.raises(CancelledError):
        asking.wait(cancelled)
    assert asking.addresses("a.example.net") == ("192.0.2.1",)


def test_lookups_end_with_the_resolver(asking: Asking, names: NameServer) -> None:
    with names.hold():
        lookup = asking.resolver.targets("example.net")
        asking.resolver.close()
        assert lookup.called
        assert asking.failure(lambda: asking.wait(lookup)) == ("the resolver is closed", False)
    assert asking.failure(asking.targets) == ("the resolver is closed", False)
    asking.turning.turn()


def test_attack_too_many_lookups_are_refused_and_that_is_not_cached(
    asking: Asking, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_MOST_LOOKUPS", 2)
    names.add("c.example.net", "A", "192.0.2.1")
    with names.hold():
        waiting = [asking.resolver.records(f"{name}.example.net", RdataType.A) for name in "ab"]
        text, absent = asking.failure(lambda: asking.records("c.example.net", RdataType.A))
        assert text == "too many lookups are under way to look up c.example.net"
        assert not absent
    for lookup in waiting:
        asking.wait(lookup)
    assert asking.records("c.example.net", RdataType.A).values


def test_attack_want_of_sockets_is_not_cached(
    asking: Asking, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    names.add("a.example.net", "A", "192.0.2.1")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", exhausted)
        text, absent = asking.failure(lambda: asking.records("a.example.net", RdataType.A))
    assert text == "no name server can be reached for a.example.net: Too many open files"
    assert not absent
    assert asking.records("a.example.net", RdataType.A).values


def test_attack_slow_domains_keep_nobody_elses_answer_back(
    asking: Asking, names: NameServer
) -> None:
    names.add("a.example.net", "A", "192.0.2.1")
    for n in range(200):
        names.ignore(f"n{n}.example.org", "A")
        asking.resolver.records(f"n{n}.example.org", RdataType.A)
    assert asking.records("a.example.net", RdataType.A).values
    assert len(asking.resolver._under_way) == 200


def test_attack_lookups_that_nobody_waits_for_are_given_up(
    asking: Asking, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few go on, so that the answer is there for the next who asks."""
    monkeypatch.setattr(resolver, "_MOST_UNATTENDED", 2)
    with names.hold():
        for name in "abcd":
            asking.resolver.records(f"{name}.example", RdataType.A).cancel()
        under_way = [name for name, _ in asking.resolver._under_way]
        assert under_way == ["c.example", "d.example"]
        again = asking.resolver.records("c.example", RdataType.A)
        assert list(asking.resolver._unattended) == [("d.example", RdataType.A)]
    asking.wait(again)
    asking.turning.until(lambda: not asking.resolver._under_way)
    assert not asking.resolver._unattended
    asked = len(names.asked)
    asking.records("d.example", RdataType.A)
    assert len(names.asked) == asked


def test_attack_what_nobody_waits_for_gives_way(
    asking: Asking, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_MOST_LOOKUPS", 2)
    with names.hold():
        waiting = asking.resolver.records("a.example", RdataType.A)
        asking.resolver.records("b.example", RdataType.A).cancel()
        another = asking.resolver.records("c.example", RdataType.A)
    for lookup in (waiting, another):
        assert not asking.wait(lookup).exists
    assert ("b.example", RdataType.A) not in asking.resolver._cache


def test_sessions_that_end_leave_their_lookups(asking: Asking, names: NameServer) -> None:
    """Both of a domain, and both of a host."""
    with names.hold():
        targets = asking.resolver.targets("a.example")
        addresses = asking.resolver.addresses("b.example")
        targets.cancel()
        addresses.cancel()
        assert len(asking.resolver._under_way) == 4
        assert list(asking.resolver._unattended) == list(asking.resolver._under_way)
    with pytest.raises(CancelledError):
        asking.wait(targets)
    with pytest.raises(CancelledError):
        asking.wait(addresses)


def test_a_lookup_may_be_cancelled_by_who_is_told_of_the_same(
    asking: Asking, names: NameServer
) -> None:
    with names.hold():
        first, second, third = (asking.resolver.records("a.example", RdataType.A) for _ in range(3))
        first.addCallback(lambda _records: second.cancel())
    assert asking.wait(first) is None
    with pytest.raises(CancelledError):
        asking.wait(second)
    assert not asking.wait(third).exists


def test_a_fault_is_a_failure(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(name_servers, "_records", broken)
    text, absent = asking.failure(lambda: asking.addresses("a.example.net"))
    assert text == "the lookup of a.example.net failed: ZeroDivisionError('of all things')"
    assert not absent


def test_the_systems_name_servers_are_read_anew(
    turning: SteadyTurning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "resolv.conf"
    monkeypatch.setattr(name_servers, "_SYSTEM", system)
    asking = Asking(turning)
    failure = asking.failure(lambda: asking.records("a.example.net", RdataType.A))
    assert failure == ("no name server is configured", False)
    asking.resolver.close()
    servers = name_servers.NameServers(())
    system.write_text("nameserver 127.0.0.9\nsearch example.org\n")
    assert servers.servers() == (("127.0.0.9", 53),)
    system.write_text("nameserver 192.0.2.8\nnameserver fe80::1%lo\n")
    assert servers.servers() == (("192.0.2.8", 53), ("fe80::1%lo", 53))
    assert servers._read_system() is servers._read_system()


def test_the_systems_name_servers_may_be_asked_by_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "resolv.conf"
    monkeypatch.setattr(name_servers, "_SYSTEM", system)
    places = [(f"127.0.0.{n}", 53) for n in (7, 8, 9)]
    system.write_text("".join(f"nameserver {host}\n" for host, _ in places) + "options rotate\n")
    servers = name_servers.NameServers(())
    orders = {servers.servers() for _ in range(100)}
    assert len(orders) > 1
    assert all(sorted(order) == places for order in orders)
