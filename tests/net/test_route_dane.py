"""What DNSSEC vouches for on the way to a server: real sockets, and a scripted name server."""

import attrs
import pytest

from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.session.ways import Trouble
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References
from tests.net.name_server import NameServer
from tests.net.steady import turning
from tests.net.test_route import STARTTLS, Routing, names, routing, server
from tests.servers.program import HOST

__all__ = ["names", "routing", "server", "turning"]

DOMAIN, SERVICE = "example.net", "_xmpp-client"
DIGEST = "ab" * 32
RECORD = TLSA(3, 1, 1, bytes.fromhex(DIGEST))
WITH_DANE = Request(DOMAIN, private_addresses=True, dane=True)
NOTHING = Claims(References(DOMAIN, SERVICE))


@pytest.fixture
def signed(names: NameServer, server: int) -> NameServer:
    """A domain with one server, which has a TLSA record; all of it secure."""
    names.authenticated = True
    names.add(STARTTLS, "SRV", f"1 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    names.add(f"_{server}._tcp.a.example.net", "TLSA", f"3 1 1 {DIGEST}")
    return names


def claims(routing: Routing, request: Request = WITH_DANE) -> Claims | None:
    return routing.reach(request)[0].claims


@pytest.mark.usefixtures("signed")
def test_secure_records_of_the_target_come_with_it(routing: Routing) -> None:
    assert claims(routing) == Claims(References(DOMAIN, SERVICE, "a.example.net"), (RECORD,))


def test_insecure_ones_do_not_and_the_target_is_no_name(
    routing: Routing, signed: NameServer
) -> None:
    signed.authenticated = False
    assert claims(routing) == NOTHING


def test_a_domain_without_records_claims_nothing_but_its_target(
    routing: Routing, names: NameServer, server: int
) -> None:
    names.authenticated = True
    names.add(STARTTLS, "SRV", f"1 0 {server} a.example.net.")
    names.add("a.example.net", "A", HOST)
    assert claims(routing) == Claims(References(DOMAIN, SERVICE, "a.example.net"))


@pytest.mark.usefixtures("signed")
def test_they_are_asked_for_only_where_they_count(routing: Routing, signed: NameServer) -> None:
    assert claims(routing, attrs.evolve(WITH_DANE, dane=False)) is None
    assert "TLSA" not in {asked.kind for asked in signed.asked}


def test_a_target_whose_records_cannot_be_known_is_not_connected_to(
    routing: Routing, signed: NameServer, server: int
) -> None:
    """As with forged ones, for which a name server that validates fails (RFC 7673, section 3.4)."""
    signed.fail(f"_{server}._tcp.a.example.net", "TLSA")
    trouble, text = routing.fail(WITH_DANE)
    assert trouble is Trouble.UNREACHABLE
    assert "its TLSA records cannot be known" in text
    assert routing.peers == []


@pytest.mark.usefixtures("signed")
def test_where_a_server_sends_us_nothing_is_vouched_for(routing: Routing, server: int) -> None:
    """What is secure about another name is not about this domain's."""
    routing.reach(WITH_DANE)
    routing.wait(lambda: routing.route.redirect("a.example.net", server, keep=False))
    assert routing.ways[-1][0].claims is None


def test_a_server_that_the_conf_sets_is_not_asked_about(routing: Routing, server: int) -> None:
    fixed = attrs.evolve(WITH_DANE, server=Target(HOST, server, direct=False))
    assert claims(routing, fixed) is None


@pytest.mark.usefixtures("signed")
def test_where_a_redirected_client_wanted_to_go_is_a_target_of_the_domain(
    routing: Routing, server: int
) -> None:
    found = claims(routing, attrs.evolve(WITH_DANE, original=(HOST, server)))
    assert found is not None
    assert found.records == (RECORD,)
