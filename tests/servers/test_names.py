"""The laboratory's name server is what it claims to be, so that a fault of it shows as one."""

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.servers.dns.unbound import NameServer
from tests.servers.network import BOGUS, PROSODY_STARTTLS, UNSIGNED
from tests.servers.program import HOST
from tests.servers.prosody import Prosody

pytestmark = pytest.mark.server("unbound")


def _ask(names: NameServer, domain: str, *, tcp: bool) -> dns.message.Message:
    query = dns.message.make_query(f"_xmpp-client._tcp.{domain}", "SRV", flags=dns.flags.RD)
    query.flags |= dns.flags.AD
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(query, HOST, port=names.port, timeout=10)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
class TestTheNameServer:
    def test_says_of_a_signed_zone_that_it_is_authentic(
        self, names: NameServer, stopped_tls_prosody: Prosody, tcp: bool
    ) -> None:
        answer = _ask(names, PROSODY_STARTTLS, tcp=tcp)
        assert answer.flags & dns.flags.AD
        assert [str(each) for each in answer.answer[0]] == [
            f"5 0 {stopped_tls_prosody.port} xmpp.{PROSODY_STARTTLS}."
        ]

    def test_answers_from_an_unsigned_zone_without_saying_so(
        self, names: NameServer, tcp: bool
    ) -> None:
        answer = _ask(names, UNSIGNED, tcp=tcp)
        assert answer.answer
        assert not answer.flags & dns.flags.AD

    def test_fails_on_a_bogus_zone(self, names: NameServer, tcp: bool) -> None:
        answer = _ask(names, BOGUS, tcp=tcp)
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert not answer.answer

    def test_proves_that_a_name_does_not_exist(self, names: NameServer, tcp: bool) -> None:
        answer = _ask(names, "nowhere.test", tcp=tcp)
        assert answer.rcode() == dns.rcode.NXDOMAIN
        assert answer.flags & dns.flags.AD
