"""The way to an account's server."""

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from proxy.daemon.alerting.stream import DeliveryError
from proxy.daemon.alerting.table import AlertsTable
from proxy.daemon.alerting.ways import Direct, Way, connecting, direct, directly
from proxy.daemon.demo.server import LOOPBACK
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.served import Domain
from proxy.net.proxy_protocol import SIGNATURE, Versions
from tests.daemon.alerting.made import nowhere, run, until

OWN = Domain("example.com", (), c2s_server=Endpoint("192.0.2.1", 15222))


@pytest.mark.parametrize(
    ("server", "domain", "own", "expected"),
    [
        ("auto", "example.com", OWN, ("192.0.2.1:15222", True, False)),
        (
            "auto",
            "example.com",
            attrs.evolve(OWN, c2s_proxy_protocol=Versions.V2),
            ("192.0.2.1:15222", True, True),
        ),
        ("auto", "example.net", OWN, None),
        ("auto", "example.com", attrs.evolve(OWN, c2s_server=None), None),
        ("127.0.0.1:5222", "example.net", OWN, ("127.0.0.1:5222", True, False)),
        ("192.0.2.9:5222", "example.net", OWN, ("192.0.2.9:5222", False, False)),
        ("192.0.2.9:5222", "example.com", OWN, ("192.0.2.9:5222", False, False)),
        ("192.0.2.1:15222", "example.com", OWN, ("192.0.2.1:15222", True, False)),
        ("192.0.2.1:15222", "example.net", OWN, ("192.0.2.1:15222", False, False)),
    ],
)
def test_the_direct_way_is_the_one_to_our_own_server(
    server: str, domain: str, own: Domain, expected: tuple[str, bool, bool] | None
) -> None:
    found = direct(AlertsTable(server=server), domain, [own])
    told_of = None if found is None else (str(found.server), found.plain, found.preface)
    assert told_of == expected


def test_other_domains_are_reached_by_the_other_way() -> None:
    asked = []

    def abroad(domain: str) -> "Deferred[Way]":
        asked.append(domain)
        return nowhere(domain)

    found = connecting(AlertsTable(), [OWN], None, abroad)("example.net")
    assert asked == ["example.net"]
    failures: list[Failure] = []
    found.addErrback(failures.append)
    assert isinstance(failures[0].value, DeliveryError)


def test_a_server_that_expects_a_header_of_the_proxy_protocol_gets_one() -> None:
    async def scenario(reactor: Any) -> bytes:
        heard: list[bytes] = []

        class Hearing(Protocol):
            def dataReceived(self, data: bytes) -> None:
                heard.append(data)

        port = reactor.listenTCP(0, Factory.forProtocol(Hearing), interface=LOOPBACK)
        server = Endpoint(LOOPBACK, port.getHost().port)
        way = await directly(Direct(server, plain=True, preface=True), reactor)
        with way.connection:
            await until(reactor, lambda: heard)
        return heard[0]

    assert run(scenario).startswith(SIGNATURE)
