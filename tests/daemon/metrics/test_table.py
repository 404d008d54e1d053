"""The option, and the names that metrics may have."""

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.daemon.endpoints import Endpoint
from proxy.daemon.metrics.behind import servers_of
from proxy.daemon.metrics.names import Names, Place
from proxy.daemon.metrics.table import MetricsTable
from proxy.daemon.model import Conf, Listener
from proxy.daemon.served import Domain
from proxy.net.proxy_protocol import Versions
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from proxy.session.options import options_of
from proxy.trust.policy import Pattern
from tests.daemon.metrics.fakes import NAMES

(ADDRESS,) = options_of(MetricsTable)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("127.0.0.1:9522", Endpoint("127.0.0.1", 9522)),
        ("[0::1]:9522", Endpoint("::1", 9522)),
        ("none", None),
    ],
)
def test_an_address_or_none(given: str, endpoint: Endpoint | None) -> None:
    read = ADDRESS.read(given)
    assert MetricsTable(read).endpoint() == endpoint
    assert ADDRESS.read(ADDRESS.show(read)) == read


@pytest.mark.parametrize("given", ["", "localhost:9522", "127.0.0.1", 9522])
def test_something_else_is_a_mistake(given: object) -> None:
    with pytest.raises(ValueError, match="allowed: an IP address and a port"):
        ADDRESS.read(given)


def test_there_is_none_by_default() -> None:
    assert MetricsTable().endpoint() is None


@pytest.mark.parametrize(
    ("direction", "domain", "name"),
    [
        ("reverse", "example.com", "example.com"),
        ("forward", "example.net", "example.net"),
        ("forward", "a.b.example.org", "*.example.org"),
        ("forward", "example.org", "*"),
        ("forward", "example.com", "*"),
    ],
)
def test_a_domain_has_the_name_that_the_conf_has_for_it(
    direction: str, domain: str, name: str
) -> None:
    assert NAMES.domain(Place(direction, "s2s"), domain) == name


def test_without_a_pattern_all_others_are_one() -> None:
    names = Names({}, frozenset(), frozenset({"example.net"}))
    assert names.domain(Place("forward", "c2s"), "below.example.net") == "other"
    assert names.remembered("example.net") == "example.net"
    assert names.remembered("below.example.net") is None


def test_a_conf_says_which_names_and_servers_there_are() -> None:
    listener = Listener(
        name="out",
        direction="forward",
        stream=Kind.S2S,
        address=Endpoint("127.0.0.1", 0),
        domains=(Pattern.parse("*.example.org"),),
    )
    domain = Domain(
        "example.com",
        (),
        c2s_server=Endpoint("127.0.0.1", 15222),
        s2s_server=Endpoint("::1", 15269),
        s2s_proxy_protocol=Versions.V2,
    )
    made = SimpleNamespace(domains=(domain,), listeners=(listener,), policies=())
    conf = cast(Conf, made)
    assert Names.of(conf) == Names(
        {"out": Place("forward", "s2s")}, frozenset({"example.com"}), frozenset({"*.example.org"})
    )
    first, second = servers_of(conf)
    assert (first.kind, first.address, first.tells) == (
        Kind.C2S,
        Address("127.0.0.1", 15222),
        False,
    )
    assert (second.kind, second.address, second.tells) == (Kind.S2S, Address("::1", 15269), True)
