"""proxy.daemon.conf: what works on forward listeners, but hardly as its author wishes."""

from typing import Any

import pytest

from proxy.daemon.conf import build
from proxy.daemon.files import Document
from tests.daemon.conf_fakes import (
    MAIN,
    PLUGINS,
    content,
    forward_table,
    forwarding,
    listener_table,
    loaded,
    policy_table,
)


def cautions(given: dict[str, Any]) -> list[str]:
    found = loaded(given)
    assert found.conf is not None
    return [str(caution).removeprefix(f"{MAIN}: ") for caution in found.cautions]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1"])
def test_no_caution_on_loopback(address: str) -> None:
    assert cautions(forwarding(address=address)) == []


BEYOND = (
    'listener "legacy".address: warning: {} is not loopback: passwords cross the network in '
    "plaintext, and whoever can connect to it can use it"
)


@pytest.mark.parametrize("address", ["192.168.1.1:0", "[fe80::1]:1", "[fd00::1]:1"])
def test_caution_beyond_loopback(address: str) -> None:
    assert cautions(forwarding(address=address)) == [BEYOND.format(address)]


@pytest.mark.parametrize("address", ["[::]:5222", "0.0.0.0:5222", "9.9.9.9:1", "[2620:fe::fe]:1"])
def test_caution_of_what_everybody_may_connect_to(address: str) -> None:
    text = BEYOND.format(address)
    assert cautions(forwarding(address=address)) == [f"{text}: listen on 127.0.0.1"]
    # What others redirect arrives at an address of the network.
    assert cautions(forwarding(address=address, destination="original")) == [text]


def test_caution_of_report() -> None:
    assert cautions(forwarding(tls="report")) == [
        (
            'listener "legacy".tls: warning: with "report" nothing is enforced: passwords go to '
            "servers that do not meet their policy"
        )
    ]


def test_cautions_of_levels() -> None:
    assert cautions(forwarding(policy_table(level="encrypt"), domains=["*"])) == []
    assert cautions(forwarding(policy_table(level="none"), domains=["*"])) == [
        'policy "a.b".level: warning: with "none" passwords go to the server in plaintext'
    ]
    [may] = cautions(forwarding(policy_table(level="may"), domains=["*"]))
    assert may.startswith('policy "a.b".level: warning: with "may" passwords go to the server in p')


def test_caution_without_features() -> None:
    [only] = cautions({**forwarding(), "plugins": {"chain": []}})
    assert only.startswith('plugins.chain: warning: without the plugin "features" clients')


def test_caution_of_tables_that_no_listener_uses() -> None:
    assert (cautions(content(policy=[policy_table()]))) == [
        (
            'policy "a.b": warning: does nothing: no listener has direction = "forward" or stream '
            '= "s2s"'
        )
    ]
    assert cautions(content(listener=[forward_table()])) == [
        (
            'domain "example.com": warning: does nothing: no listener has direction = "reverse" or '
            'stream = "s2s"'
        )
    ]


IDLE = "warning: does nothing: no forward listener leads to such a domain"


@pytest.mark.parametrize(
    ("about", "domains", "reached"),
    [
        ("example.net", ["example.net"], True),
        ("example.net", ["*.example.net"], False),
        ("a.example.net", ["b.example", "*.example.net"], True),
        ("a.example.net", ["*"], True),
        ("*.example.net", ["example.net"], False),
        ("*.example.net", ["a.b.example.net"], True),
        ("*.example.net", ["*.b.example.net"], True),
        ("*.b.example.net", ["*.example.net"], True),
        ("*.example.net", ["*.example.org", "anexample.net"], False),
        ("*", ["example.net"], True),
    ],
)
def test_caution_of_a_policy_that_no_listener_leads_to(
    about: str, domains: list[str], reached: bool
) -> None:
    expected = [] if reached else [f'policy "{about}".domain: {IDLE}']
    assert cautions(forwarding({"domain": about}, domains=domains)) == expected
    others = forward_table(name="b", address="[::1]:1", domains=["*"])
    both = forwarding({"domain": about}, domains=domains)
    both["listener"].append(others)
    assert cautions(both) == []


def test_no_such_caution_while_domains_are_not_known() -> None:
    assert loaded(forwarding(policy_table(), domains=["a..b"])).cautions == ()


def test_no_such_caution_while_a_direction_is_not_known() -> None:
    found = loaded(content(listener=[listener_table(direction="up")], policy=[policy_table()]))
    assert found.cautions == ()


def test_no_such_caution_while_a_file_is_missing() -> None:
    document = Document(MAIN, content(policy=[policy_table()]))
    assert len(build([document], PLUGINS, main=MAIN).cautions) == 1
    assert build([document], PLUGINS, main=MAIN, complete=False).cautions == ()
