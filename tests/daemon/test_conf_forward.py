"""proxy.daemon.conf: forward listeners, policies and DNS servers."""

from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.endpoints import Endpoint
from proxy.daemon.model import Listener
from proxy.daemon.remote import Resolver
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.policy import Level, Pattern, Pin, Policy, Version
from tests.daemon.conf_fakes import (
    content,
    domain_table,
    forward_table,
    forwarding,
    listener_table,
    loaded,
    mistakes,
    policy_table,
)

PIN = f"sha256:{'A' * 43}="


def test_a_forward_listener_needs_nothing_else() -> None:
    conf = loaded(forwarding()).conf
    assert conf is not None
    assert conf.domains == ()
    assert conf.policies == ()
    assert Resolver(servers=()) == conf.dns
    assert (
        Listener(
            name="legacy",
            direction="forward",
            stream=Kind.C2S,
            address=Endpoint("127.0.0.1", 5333),
            tls=TLSRule.REQUIRED,
            domains=(Pattern("example.net"),),
            destination="srv",
            tproxy=False,
            unlisted_destinations=False,
        ),
    ) == conf.listeners


def test_everything_set() -> None:
    conf = loaded(
        {
            "listener": [
                forward_table(
                    domains=["*.Example.org", "faß.example", "*"],
                    tls="report",
                    destination="original",
                    tproxy=True,
                    unlisted_destinations=True,
                )
            ],
            "policy": [
                {
                    "domain": "*.Faß.example",
                    "level": "secure",
                    "server": "Legacy.Example:5223",
                    "direct_tls": True,
                    "ca_file": "ca.pem",
                    "pins": [PIN, PIN, "00" * 32],
                    "min_version": "TLSv1.3",
                    "private_addresses": True,
                },
                {"domain": "example.net", "level": "pin", "pins": [PIN]},
            ],
            "dns": {"servers": ["127.0.0.53", "[::1]:5353"]},
        }
    ).conf
    assert conf is not None
    [listener] = conf.listeners
    assert [str(each) for each in listener.domains] == ["*.example.org", "xn--fa-hia.example", "*"]
    assert listener.tls is TLSRule.REPORT
    assert listener.destination == "original"
    assert listener.tproxy
    assert listener.unlisted_destinations
    assert (
        Policy(
            domain=Pattern("*.xn--fa-hia.example"),
            level=Level.SECURE,
            server=("legacy.example", 5223),
            direct_tls=True,
            anchors=Path("/etc/bascule/ca.pem"),
            pins=frozenset({Pin.parse(PIN)}),
            min_version=Version.TLS_1_3,
            private_addresses=True,
        ),
        Policy(Pattern("example.net"), level=Level.PIN, pins=frozenset({Pin.parse(PIN)})),
    ) == conf.policies
    assert conf.dns.servers == (("127.0.0.53", 53), ("::1", 5353))


def test_the_defaults_of_a_policy_are_those_of_no_policy() -> None:
    conf = loaded(forwarding({"domain": "*"})).conf
    assert conf is not None
    assert (Policy(Pattern("*")),) == conf.policies


def test_a_file_of_anchors_may_be_called_system() -> None:
    conf = loaded(forwarding({"domain": "a.b", "ca_file": "./system"})).conf
    assert conf is not None
    assert Path("/etc/bascule/system") == conf.policies[0].anchors


def test_paths_start_at_the_directory_of_their_own_file() -> None:
    found = loaded(forwarding(), {"policy": [{"domain": "a.b", "ca_file": "ca.pem"}]})
    assert found.conf is not None
    assert Path("/etc/bascule/conf.d/ca.pem") == found.conf.policies[0].anchors
    [anchors] = found.anchors
    assert found.conf.policies[0].anchors == anchors.value
    assert Path("/etc/bascule/conf.d/1.toml") == anchors.file
    assert anchors.key == 'policy "a.b"'


def test_anchors_survive_mistakes_elsewhere() -> None:
    found = loaded(forwarding({"domain": "a..b", "ca_file": "/ca.pem"}, {"domain": "c.d"}))
    assert found.conf is None
    assert [Path("/ca.pem")] == [anchors.value for anchors in found.anchors]


LISTENER_MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        forward_table(domains=[]),
        'legacy".domains: is empty; allowed: at least one domain that may be reached, as "exa',
    ),
    (forward_table(domains="a.b"), 'legacy".domains: "a.b" is not an array; allowed: an array, ea'),
    (
        forward_table(domains=["a.*"]),
        'legacy".domains[1]: "a.*": a * stands for whole labels, and only at the beginning; allowe',
    ),
    (
        forward_table(domains=["a.b", "*a.b"]),
        'legacy".domains[2]: "*a.b": write "*.a.b" for the domains below one; allowed: a domain na',
    ),
    (
        forward_table(domains=["a.b:5222"]),
        'legacy".domains[1]: "a.b:5222": not a domain: a port does not belong here; allowed: a dom',
    ),
    (
        forward_table(domains=["xmpp://a.b"]),
        'legacy".domains[1]: "xmpp://a.b": not a domain: a scheme does not belong here; allowed: a',
    ),
    (
        forward_table(domains=[1]),
        'legacy".domains[1]: 1 is not text; allowed: a domain name, "*." before one, or "*"',
    ),
    (
        forward_table(tls="requierd"),
        'legacy".tls: "requierd" is not one of the known values; allowed: "required" or "report"',
    ),
    (
        forward_table(tls="direct"),
        (
            'legacy".tls: "direct" is not for forward listeners, which take plaintext and reach '
            'servers as their policies demand; allowed: "required" or "report"'
        ),
    ),
    (
        forward_table(tls="none"),
        (
            'legacy".tls: "none" is not for forward listeners, which take plaintext and reach '
            'servers as their policies demand; allowed: "required" or "report", and for servers '
            'without TLS a [[policy]] with level = "none"'
        ),
    ),
    (
        forward_table(destination="dns"),
        'legacy".destination: "dns" is not one of the known values; allowed: "srv" or "original"',
    ),
    (
        forward_table(tproxy=True),
        'legacy".tproxy: does nothing here; it is for destination = "original"',
    ),
    (
        forward_table(unlisted_destinations=True),
        'legacy".unlisted_destinations: does nothing here; it is for destination = "original"',
    ),
    (forward_table(tproxy=1), 'legacy".tproxy: 1 is not true or false; allowed: true or false'),
    *(
        (
            listener_table(**{name: value}),
            (f'c2s".{name}: does nothing here; it is for listeners with direction = "forward"'),
        )
        for name, value in (
            ("domains", ["example.net"]),
            ("destination", "original"),
            ("tproxy", True),
            ("unlisted_destinations", True),
        )
    ),
]


@pytest.mark.parametrize(
    ("listener", "expected"), LISTENER_MISTAKES, ids=[expected for _, expected in LISTENER_MISTAKES]
)
def test_mistakes_of_listeners(listener: dict[str, Any], expected: str) -> None:
    [only] = mistakes(content(listener=[listener]))
    assert only.startswith(f'listener "{expected}')


def test_a_forward_listener_without_domains() -> None:
    table = forward_table()
    del table["domains"]
    [only] = mistakes({"listener": [table]})
    assert only.startswith('listener "legacy".domains: is missing; allowed: at least one domain')


def test_a_destination_that_is_not_known_is_all_that_is_told() -> None:
    [only] = mistakes(forwarding(destination="x", tproxy=True))
    assert only.startswith('listener "legacy".destination: "x" is not one of')


@pytest.mark.parametrize(
    ("dns", "expected"),
    [
        (5, "dns: is not a table; it is written [dns]"),
        ({"servers": "192.0.2.1"}, 'dns.servers: "192.0.2.1" is not an array; allowed: an array, '),
        (
            {"servers": ["localhost"]},
            'dns.servers[1]: "localhost": the host or the port is mis',
        ),
        ({"servers": ["ns.example:53"]}, 'dns.servers[1]: "ns.example:53": the host is not an IP'),
        ({"servers": ["192.0.2.1:0"]}, 'dns.servers[1]: "192.0.2.1:0": port 0 cannot be asked; al'),
        ({"servers": ["::"]}, 'dns.servers[1]: "::": :: cannot be asked; allowed: an IP address'),
        ({"servers": [53]}, "dns.servers[1]: 53 is not text"),
        (
            {"validating": True},
            'dns.validating: true is not one of the known values; allowed: "auto"',
        ),
        ({"trusted": "auto"}, "dns.trusted: is not known (known here: servers, validating)"),
    ],
)
def test_mistakes_of_dns(dns: Any, expected: str) -> None:
    [only] = mistakes({**forwarding(), "dns": dns})
    assert only.startswith(expected)


# What is needed together


MISSING_DOMAIN = "domain: is missing; at least one table [[domain]] is needed"


def test_one_reverse_listener_is_enough_to_need_a_domain() -> None:
    listeners = [forward_table(), listener_table()]
    assert mistakes({"listener": listeners}) == [MISSING_DOMAIN]
    assert mistakes({"listener": listeners, "domain": [domain_table()]}) == []


def test_without_a_listener_nobody_knows_whether_a_domain_is_missing() -> None:
    assert mistakes({}) == [MISSING_DOMAIN.replace("domain", "listener")]
    [only] = mistakes({"listener": listener_table()})
    assert only.startswith("listener: is not an array of tables; it is written [[listener]]")


@pytest.mark.parametrize("direction", [{"direction": "forwards"}, {"direction": 1}])
def test_a_direction_that_is_not_known_lacks_no_domain(direction: dict[str, Any]) -> None:
    [only] = mistakes({"listener": [forward_table(**direction)]})
    assert only.startswith('listener "legacy".direction: ')


def test_forward_listeners_do_without_require_tls() -> None:
    assert mistakes({**forwarding(), "plugins": {"chain": ["features"]}}) == []
    both = content(
        listener=[forward_table(), listener_table()],
        plugins={"chain": ["features"]},
    )
    [only] = mistakes(both)
    assert only.startswith('listener "c2s".tls: "required" needs the plugin "require_tls"')


def test_a_policy_may_lead_to_a_reverse_listener() -> None:
    both = content(
        listener=[forward_table(), listener_table(address="127.0.0.1:2")],
        policy=[policy_table(server="localhost:2")],
    )
    assert mistakes(both) == []


def test_a_domain_whose_server_is_a_forward_listener() -> None:
    listeners = [forward_table(address="127.0.0.1:15222"), listener_table()]
    [only] = mistakes(content(listener=listeners))
    assert only.startswith(
        'domain "example.com".c2s_server: 127.0.0.1:15222 is where listener "legacy" listens;'
    )
