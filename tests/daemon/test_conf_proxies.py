"""proxy.daemon.conf: the PROXY protocol, in front of listeners and towards servers."""

import tomllib
from ipaddress import ip_network
from typing import Any

import pytest

from proxy.daemon.check import summary
from proxy.daemon.endpoints import network
from proxy.daemon.show import show
from proxy.net.proxied import Network
from proxy.net.proxy_protocol import Versions
from tests.daemon.conf_fakes import (
    MAIN,
    content,
    domain_table,
    forward_table,
    forwarding,
    listener_table,
    loaded,
    mistakes,
)

TRUSTED = ["127.0.0.1", "10.0.0.0/8", "2001:DB8::/32", "::1"]


def fronted(**changes: Any) -> dict[str, Any]:
    table = {"proxy_protocol": "any", "trusted_proxies": TRUSTED, **changes}
    return content(listener=[listener_table(**table)])


def test_by_default_there_is_none() -> None:
    conf = loaded(content()).conf
    assert conf is not None
    assert conf.listeners[0].proxy_protocol is Versions.NONE
    assert conf.listeners[0].trusted_proxies == ()
    assert conf.domains[0].c2s_proxy_protocol is Versions.NONE


@pytest.mark.parametrize("versions", ["v1", "v2", "any"])
def test_both_sides(versions: str) -> None:
    whole = fronted(proxy_protocol=versions) | {"domain": [domain_table(c2s_proxy_protocol="v2")]}
    found = loaded(whole)
    assert found.cautions == ()
    assert found.conf is not None
    [listener], [domain] = found.conf.listeners, found.conf.domains
    assert listener.proxy_protocol is Versions(versions)
    assert listener.trusted_proxies == tuple(Network(ip_network(each.lower())) for each in TRUSTED)
    assert domain.c2s_proxy_protocol is Versions.V2


def test_what_is_shown_is_read_again() -> None:
    conf = loaded(fronted() | {"domain": [domain_table(c2s_proxy_protocol="v2")]}).conf
    assert conf is not None
    shown = tomllib.loads(show(conf))
    [listener] = shown["listener"]
    assert listener["proxy_protocol"] == "any"
    assert listener["trusted_proxies"] == [each.lower() for each in TRUSTED]
    assert shown["domain"][0]["c2s_proxy_protocol"] == "v2"
    assert loaded(shown).conf == conf


def test_the_summary_tells_of_them() -> None:
    conf = loaded(fronted() | {"domain": [domain_table(c2s_proxy_protocol="v2")]}).conf
    assert conf is not None
    assert (
        "LISTENER  PROXY PROTOCOL  TRUSTED PROXIES\n"
        "c2s       any             127.0.0.1, 10.0.0.0/8, 2001:db8::/32, ::1\n"
    ) in summary(conf, [])
    conf = loaded(content()).conf
    assert conf is not None
    assert "PROXY" not in summary(conf, [])


@pytest.mark.parametrize("versions", ["v1", "v2", "any"])
@pytest.mark.parametrize(
    ("given", "lacking"), [({}, "missing"), ({"trusted_proxies": []}, "empty")]
)
def test_somebody_must_be_trusted(versions: str, given: dict[str, Any], lacking: str) -> None:
    [mistake] = mistakes(content(listener=[listener_table(proxy_protocol=versions, **given)]))
    assert mistake == (
        f'listener "c2s".trusted_proxies: is {lacking}; proxy_protocol = "{versions}" needs the '
        'address of at least one proxy, as "127.0.0.1" or "10.0.0.0/8"'
    )


def test_nobody_is_trusted_for_nothing() -> None:
    for given in ({}, {"proxy_protocol": "none"}):
        assert mistakes(content(listener=[listener_table(trusted_proxies=TRUSTED, **given)])) == [
            'listener "c2s".trusted_proxies: does nothing with proxy_protocol = "none"'
        ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("localhost", "neither an IP address nor a network"),
        ("", "neither an IP address nor a network"),
        ("10.0.0.0/33", "neither an IP address nor a network"),
        ("10.0.0.0/-1", "neither an IP address nor a network"),
        ("127.0.0.1:5222", "neither an IP address nor a network"),
        ("[::1]", "neither an IP address nor a network"),
        ("*", "neither an IP address nor a network"),
        ("10.0.0.1/8", "an address within a network, which would be 10.0.0.0/8"),
        ("2001:db8::1/32", "an address within a network, which would be 2001:db8::/32"),
        ("::ffff:127.0.0.1", "an IPv4-mapped address, which is written as that of IPv4"),
        ("::ffff:10.0.0.0/104", "an IPv4-mapped address, which is written as that of IPv4"),
    ],
)
def test_what_is_no_network(text: str, why: str) -> None:
    [mistake] = mistakes(fronted(trusted_proxies=["127.0.0.1", text]))
    assert mistake.startswith('listener "c2s".trusted_proxies')
    assert f": {why}; allowed: " in mistake


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0/0"])
def test_networks_are_written_as_they_are_read(text: str) -> None:
    assert str(network(text)) == text
    assert network(str(network(text))) == network(text)


@pytest.mark.parametrize("given", ["v3", "V1", "", True, 2])
def test_other_versions_are_mistakes(given: object) -> None:
    [mistake] = mistakes(fronted(proxy_protocol=given))
    assert mistake.startswith('listener "c2s".proxy_protocol: ')
    assert mistake.endswith('; allowed: "none", "v1", "v2" or "any"')


@pytest.mark.parametrize("given", ["v1", "any", True])
def test_servers_are_told_in_one_version(given: object) -> None:
    [mistake] = mistakes(content(domain=[domain_table(c2s_proxy_protocol=given)]))
    assert mistake.startswith('domain "example.com".c2s_proxy_protocol: ')
    assert mistake.endswith('; allowed: "none" or "v2"')


def test_forward_listeners_may_have_proxies_in_front() -> None:
    conf = loaded(forwarding(proxy_protocol="v2", trusted_proxies=["10.0.0.0/8"])).conf
    assert conf is not None
    assert conf.listeners[0].proxy_protocol is Versions.V2
    assert loaded(tomllib.loads(show(conf))).conf == conf


def test_but_not_where_connections_are_redirected() -> None:
    table = forward_table(
        proxy_protocol="v2", trusted_proxies=["10.0.0.0/8"], destination="original"
    )
    [mistake] = mistakes({"listener": [table]})
    assert mistake == (
        'listener "legacy".proxy_protocol: "v2" does not go with destination = "original": the '
        "packet filter redirects connections of clients, and these come from a proxy; allowed: "
        '"none"'
    )


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "10.0.0.0/7", "2000::/3"])
def test_wide_networks_are_warned_of(text: str) -> None:
    [caution] = loaded(fronted(trusted_proxies=["127.0.0.1", text])).cautions
    assert str(caution) == (
        f'{MAIN}: listener "c2s".trusted_proxies: warning: {text} is wide: whoever connects from '
        "there can claim to be anybody, and so evade limits and bans or have them strike others"
    )
