"""What DNSSEC vouches for about the servers of a domain that are looked at."""

from typing import Any

import pytest

from proxy.net.probed import Vouched
from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References
from tests.net.remote_server import RemoteServer
from tests.net.steady import turning
from tests.net.test_probe import DOMAIN, SRV, Probing, files, names, probing
from tests.servers.program import HOST, free_port

__all__ = ["files", "names", "probing", "turning"]

DIGEST = "ab" * 32
RECORD = TLSA(3, 1, 1, bytes.fromhex(DIGEST))


@pytest.fixture
def signed(probing: Probing) -> int:
    """A domain with one server, whose TLSA record is signed and all else; its port."""
    port = free_port()
    probing.names.authenticated = True
    probing.names.add(SRV, "SRV", f"0 0 {port} one.{DOMAIN}.")
    probing.names.add(f"one.{DOMAIN}", "A", HOST)
    probing.names.add(f"_{port}._tcp.one.{DOMAIN}", "TLSA", f"3 1 1 {DIGEST}")
    return port


@pytest.mark.usefixtures("signed")
def test_records_are_told_with_their_target(probing: Probing) -> None:
    (probed,) = probing.run()
    references = References(DOMAIN, "_xmpp-client", f"one.{DOMAIN}")
    assert probed.vouched == Vouched(Claims(references, (RECORD,)), secure=True)
    assert probed.target.secure


@pytest.mark.usefixtures("signed")
def test_records_that_nobody_vouches_for_are_none(probing: Probing) -> None:
    probing.names.distrust(f"one.{DOMAIN}")
    (probed,) = probing.run()
    assert probed.vouched.claims is not None
    assert probed.vouched.claims.records == ()
    assert not probed.vouched.secure


def test_no_records_that_are_signed_as_such(probing: Probing, signed: int) -> None:
    probing.names.forget()
    probing.names.add(SRV, "SRV", f"0 0 {signed} one.{DOMAIN}.")
    probing.names.add(f"one.{DOMAIN}", "A", HOST)
    (probed,) = probing.run()
    assert probed.vouched.claims is not None
    assert not probed.vouched.claims.has_dane
    assert probed.vouched.secure


def test_records_that_cannot_be_known_leave_the_servers(probing: Probing, files: Any) -> None:
    """What is there is looked at all the same, and why they are unknown is told."""
    with RemoteServer(files) as server:
        probing.names.authenticated = True
        probing.names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        probing.names.add(f"one.{DOMAIN}", "A", HOST)
        probing.names.fail(f"_{server.port}._tcp.one.{DOMAIN}", "TLSA")
        (probed,) = probing.run()
    assert probed.vouched.claims is None
    assert "SERVFAIL" in probed.vouched.problem
    assert probed.attempts[0].handshake is not None


def test_of_a_fixed_server_no_records_are_asked_for(probing: Probing) -> None:
    server = Target("localhost", free_port(), direct=False)
    (probed,) = probing.run(Request(DOMAIN, server=server))
    assert probed.vouched == Vouched()
    assert not probing.names.asked
