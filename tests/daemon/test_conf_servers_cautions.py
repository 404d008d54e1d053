"""proxy.daemon.conf: what works for servers and components, but hardly as its author wishes."""

from typing import Any

import pytest

from tests.daemon.conf_fakes import (
    EVERYTHING,
    MAIN,
    PIN,
    bare_table,
    content,
    domain_table,
    federation,
    forward_table,
    gateway_table,
    in_table,
    listener_table,
    loaded,
    out_table,
    policy_table,
)


def cautions(given: dict[str, Any]) -> list[str]:
    found = loaded(given)
    assert found.conf is not None
    return [str(caution).removeprefix(f"{MAIN}: ") for caution in found.cautions]


def test_no_caution() -> None:
    assert cautions(federation()) == []
    assert cautions(EVERYTHING) == []
    component = {
        "domain": [bare_table(component_server="127.0.0.1:1")],
        "listener": [gateway_table()],
    }
    assert cautions(component) == []
    only_out = {"domain": [bare_table()], "listener": [out_table()]}
    assert cautions(only_out) == []


def test_caution_of_one_way() -> None:
    listeners = [listener_table(), in_table()]
    text = (
        'listener "in": warning: no listener has direction = "forward" and stream = "s2s": servers '
        "are not offered SASL EXTERNAL, and dialback ends only if your server reaches others "
        "without Bascule"
    )
    assert cautions(federation(listener=listeners)) == [text]
    policies = [policy_table(dialback="allow")]
    assert cautions(federation(listener=listeners, policy=policies)) == [text]
    policies.append(policy_table(domain="c.d", dialback="never"))
    assert cautions(federation(listener=listeners, policy=policies)) == [
        f'{text}; and nobody can prove a domain that a policy with dialback = "never" is about'
    ]
    found = loaded(federation(listener=[listener_table(), in_table(), out_table(stream="x2x")]))
    assert found.cautions == ()


def unused(*tables: dict[str, Any], **changes: Any) -> list[str]:
    """The cautions of a domain with some of its keys changed, in front of some listeners."""
    return cautions({"domain": [domain_table(**changes)], "listener": [*tables]})


def test_caution_of_servers_to_which_nothing_leads() -> None:
    for name, value in (("s2s_server", "h:1"), ("component_server", "h:1")):
        kind = name.partition("_")[0]
        assert unused(listener_table(), **{name: value}) == [
            (
                f'domain "example.com".{name}: warning: does nothing: no listener has direction = '
                f'"reverse" and stream = "{kind}"'
            )
        ]
    # One that only goes out leads to none.
    assert [line.partition(":")[0] for line in unused(out_table(), s2s_server="h:1")] == [
        'domain "example.com".c2s_server',
        'domain "example.com".s2s_server',
    ]
    assert unused(listener_table(), s2s_server="none") == []


def test_a_domain_that_does_nothing_is_told_of_once() -> None:
    assert unused(forward_table(), s2s_server="h:1") == [
        (
            'domain "example.com": warning: does nothing: no listener has direction = "reverse" or '
            'stream = "s2s"'
        )
    ]


@pytest.mark.parametrize(
    ("name", "bared"),
    [
        ("c2s_server", "passwords"),
        ("s2s_server", "dialback keys and stanzas"),
        ("component_server", "handshakes and stanzas"),
    ],
)
def test_caution_of_public_addresses(name: str, bared: str) -> None:
    servers = {"c2s_server": "h:1", "s2s_server": "h:2", "component_server": "h:3"}
    given = {
        "domain": [domain_table(**{**servers, name: "9.9.9.9:1"})],
        "listener": [listener_table(), in_table(), out_table(), gateway_table()],
    }
    assert cautions(given) == [
        (
            f'domain "example.com".{name}: warning: 9.9.9.9:1 is a public address: {bared} cross '
            "the network in plaintext"
        )
    ]


def test_cautions_of_listeners() -> None:
    def of(*tables: dict[str, Any]) -> list[str]:
        return cautions(federation(listener=[listener_table(), *tables]))

    assert of(in_table(tls="report"), out_table()) == [
        (
            'listener "in".tls: warning: with "report" nothing is enforced: servers may connect '
            "without TLS"
        )
    ]
    assert of(in_table(tls="none"), out_table()) == [
        'listener "in".tls: warning: with "none" no TLS is offered: servers connect without it'
    ]
    assert of(in_table(), out_table(tls="report")) == [
        (
            'listener "out".tls: warning: with "report" nothing is enforced: dialback keys and '
            "stanzas go to servers that do not meet their policy"
        )
    ]
    assert of(in_table(), out_table(address="[::]:5270")) == [
        (
            'listener "out".address: warning: [::]:5270 is not loopback: dialback keys and stanzas '
            "cross the network in plaintext, and whoever can connect to it can speak for every "
            "[[domain]]: listen on 127.0.0.1"
        )
    ]


def test_servers_do_without_the_plugin_for_features() -> None:
    given = federation(listener=[in_table(), out_table()], plugins={"chain": ["require_tls"]})
    given["domain"] = [bare_table(s2s_server="h:1")]
    assert cautions(given) == []


@pytest.mark.parametrize(
    ("tables", "bared"),
    [
        ([out_table()], "dialback keys and stanzas"),
        ([out_table(), forward_table(domains=["*"])], "passwords, dialback keys and stanzas"),
        ([forward_table(domains=["*"])], "passwords"),
    ],
)
def test_cautions_of_levels(tables: list[dict[str, Any]], bared: str) -> None:
    given = {"listener": tables, "domain": [bare_table()]}
    for level in ("none", "may"):
        policy = [policy_table(level=level)]
        [only] = [
            line
            for line in map(str, loaded({**given, "policy": policy}).cautions)
            if "policy" in line
        ]
        assert f'level: warning: with "{level}" {bared} go to the server in plaintext' in only


def test_policies_are_for_servers_that_connect() -> None:
    given = {"domain": [bare_table(s2s_server="h:1")], "listener": [in_table()]}
    policies = [
        policy_table(dialback="never", ca_file="x"),
        {"domain": "*", "level": "pin", "pins": [PIN]},
        {"domain": "b.c", "level": "none"},
    ]
    first, second = cautions({**given, "policy": policies})
    assert first.startswith('listener "in": ')
    assert second == SHUT_OUT.format("b.c")
    # Other listeners lead to some domains only; servers of any may connect.
    policies[-1]["level"] = "encrypt"
    given["listener"] = [in_table(), out_table(domains=["example.net"])]
    assert cautions({**given, "policy": policies}) == []


SHUT_OUT = (
    'policy "{}".level: warning: a server that knows no TLS cannot connect to yours, nor can '
    "dialback with it end: every reverse listener for servers demands TLS"
)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["required"], True),
        (["direct", "required"], True),
        (["required", "none"], False),
        (["report"], False),
        ([], False),
    ],
)
def test_caution_of_servers_without_tls_that_are_shut_out(rules: list[str], expected: bool) -> None:
    listeners = [
        in_table(name=f"in{number}", address=f"[::]:{number}", tls=rule)
        for number, rule in enumerate(rules, start=5300)
    ]
    # What clients must do is another matter.
    given = federation(listener=[listener_table(tls="required"), *listeners, out_table()])
    for level in ("none", "may"):
        found = cautions({**given, "policy": [policy_table(level=level)]})
        assert (SHUT_OUT.format("a.b") in found) is (expected and level == "none")


OWN_REACHED = (
    'listener "out".domains: warning: example.com is a [[domain]]; what is meant here are domains '
    'of others that your server may reach, "*" for all'
)
OWN_POLICY = (
    'policy "example.com".domain: warning: example.com is a [[domain]]; what is meant here are '
    "domains of others, which must prove themselves"
)


def test_caution_of_an_own_domain_to_be_reached() -> None:
    def of(*domains: str, **changes: Any) -> list[str]:
        table = out_table(domains=[*domains])
        return cautions(federation(listener=[listener_table(), in_table(), table], **changes))

    assert of("example.com") == [OWN_REACHED]
    assert of("example.net", "Example.COM") == [OWN_REACHED]
    assert of("*.example.com", "*") == []
    # It may be one of another server of ours, if that is where it is said to be.
    led = policy_table(domain="example.com", s2s_server="127.0.0.1:25269")
    assert of("example.com", policy=[led]) == []


def test_an_own_domain_may_be_for_clients() -> None:
    listeners = [listener_table(), in_table(), out_table(), forward_table(domains=["example.com"])]
    policy = policy_table(domain="example.com", server="127.0.0.1:25222")
    assert cautions(federation(listener=listeners, policy=[policy])) == []
    listeners[-1] = forward_table()
    assert cautions(federation(listener=listeners, policy=[policy])) == [OWN_POLICY]


def test_caution_of_a_policy_for_an_own_domain() -> None:
    own = policy_table(domain="example.com", dialback="never")
    assert cautions(federation(policy=[own])) == [OWN_POLICY]
    assert cautions(federation(policy=[policy_table(domain="*.example.com")])) == []
    # What no listener has a use for is told of once.
    [only] = cautions(content(policy=[own]))
    assert "does nothing" in only


IDLE: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    (
        {"server": "h:1"},
        [in_table(), out_table()],
        'server: warning: does nothing: no listener has direction = "forward" and stream = "c2s"',
    ),
    (
        {"s2s_server": "h:1"},
        [forward_table(domains=["*"])],
        'server: warning: does nothing: no listener has direction = "forward" and stream = "s2s"',
    ),
    (
        {"dialback": "never"},
        [forward_table(domains=["*"])],
        'dialback: warning: does nothing: no listener has stream = "s2s"',
    ),
    (
        {"min_version": "TLSv1.3"},
        [in_table()],
        'min_version: warning: does nothing: no listener has direction = "forward"',
    ),
    (
        {"private_addresses": True},
        [in_table()],
        'private_addresses: warning: does nothing: no listener has direction = "forward"',
    ),
]


@pytest.mark.parametrize(("changes", "tables", "expected"), IDLE, ids=[each[2] for each in IDLE])
def test_caution_of_options_of_policies(
    changes: dict[str, Any], tables: list[dict[str, Any]], expected: str
) -> None:
    given = {
        "domain": [domain_table(s2s_server="127.0.0.1:1")],
        "listener": [listener_table(), *tables],
        "policy": [policy_table(**changes)],
    }
    [only] = [line for line in cautions(given) if line.startswith("policy ")]
    assert only.endswith(expected)
    given["listener"] = [listener_table(), in_table(), out_table(), forward_table(domains=["*"])]
    assert cautions(given) == []


def test_a_policy_that_does_nothing_is_told_of_once() -> None:
    policy = policy_table(server="h:1", s2s_server="h:1", dialback="never")
    assert cautions(content(policy=[policy])) == [
        (
            'policy "a.b": warning: does nothing: no listener has direction = "forward" or stream '
            '= "s2s"'
        )
    ]
    listeners = [listener_table(), forward_table()]
    assert cautions(content(policy=[policy], listener=listeners)) == [
        'policy "a.b".domain: warning: does nothing: no forward listener leads to such a domain'
    ]
