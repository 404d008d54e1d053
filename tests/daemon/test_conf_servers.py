"""proxy.daemon.conf: streams of servers and of components."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.certificates import CertificateFacts
from proxy.daemon.check import summary
from proxy.daemon.conf import build
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.files import Document
from proxy.daemon.served import Domain
from proxy.daemon.show import show
from proxy.net.proxy_protocol import Versions
from proxy.session.kinds import Kind
from proxy.trust.policy import Dialback, Level
from tests.daemon.conf_fakes import (
    EVERYTHING,
    MAIN,
    PLUGINS,
    bare_table,
    conf_of,
    content,
    domain_table,
    federation,
    forward_table,
    gateway_table,
    in_table,
    listener_table,
    loaded,
    mistakes,
    out_table,
    policy_table,
)

NO_SERVER = (
    'domain "example.com": has no server; allowed: at least one of c2s_server, s2s_server and '
    'component_server, or a listener with direction = "forward" and stream = "s2s" if its server '
    "only connects to others"
)


def test_everything_set() -> None:
    conf = conf_of(EVERYTHING)
    assert [(listener.name, listener.stream) for listener in conf.listeners] == [
        ("c2s", Kind.C2S),
        ("in", Kind.S2S),
        ("out", Kind.S2S),
        ("gate", Kind.COMPONENT),
        ("legacy", Kind.C2S),
    ]
    both, irc, out = conf.domains
    assert [both.server(kind) for kind in Kind] == [
        Endpoint("127.0.0.1", 15222),
        Endpoint("::1", 15269),
        None,
    ]
    assert [irc.server(kind) for kind in Kind] == [None, None, Endpoint("legacy.example", 15347)]
    assert [out.server(kind) for kind in Kind] == [None, None, None]
    first, second = conf.policies
    assert first.dialback is Dialback.NEVER
    assert first.server == ("192.0.2.1", 5222)
    assert first.direct_tls is False
    assert first.s2s_server == ("2001:db8::1", 5270)
    assert first.s2s_direct_tls is True
    assert (second.level, second.dialback) == (Level.PIN, Dialback.ALLOW)
    assert second.s2s_server is None


@pytest.mark.parametrize(
    ("told", "kinds"),
    [
        ({}, []),
        ({"c2s_proxy_protocol": Versions.V2}, [Kind.C2S]),
        ({"s2s_proxy_protocol": Versions.V2}, [Kind.S2S]),
        (
            {"c2s_proxy_protocol": Versions.V2, "s2s_proxy_protocol": Versions.V2},
            [Kind.C2S, Kind.S2S],
        ),
    ],
)
def test_each_server_is_told_as_is_set_for_it(told: dict[str, Versions], kinds: list[Kind]) -> None:
    server = Endpoint("h", 1)
    domain = Domain("a.b", (), server, server, server, **told)
    assert [kind for kind in Kind if domain.tells(kind)] == kinds


def test_what_is_shown_loads_to_the_same() -> None:
    conf = conf_of(EVERYTHING)
    document = Document(Path("/elsewhere/x.toml"), tomllib.loads(show(conf)))
    assert build([document], PLUGINS, main=document.file).conf == conf
    both, irc, _ = document.content["domain"]
    assert both["s2s_proxy_protocol"] == "v2"
    assert irc["c2s_server"] == "none"
    # There is nobody to tell.
    assert not {"c2s_proxy_protocol", "s2s_proxy_protocol"} & irc.keys()


def rows(text: str, *first: str) -> list[list[str]]:
    """The table of a summary whose header begins with some words, header included."""
    tables = [[line.split() for line in part.splitlines()] for part in text.split("\n\n")]
    [table] = [table for table in tables if table[0][: len(first)] == [*first]]
    return table


def test_the_summary_tells_servers_apart() -> None:
    conf = conf_of(EVERYTHING)
    end = datetime(2027, 1, 1, tzinfo=UTC)
    facts = [CertificateFacts(d.name, Path("/c"), "Ed25519", end, 5) for d in conf.domains]
    text = summary(conf, facts)
    assert ["in", "[::]:5269", "reverse", "s2s", "required"] in rows(text, "LISTENER", "ADDRESS")
    assert ["gate", "[::]:5348", "reverse", "component", "direct"] in rows(
        text, "LISTENER", "ADDRESS"
    )
    header, *domains = rows(text, "DOMAIN")
    assert header[:7] == ["DOMAIN", "C2S", "SERVER", "S2S", "SERVER", "COMPONENT", "SERVER"]
    assert [row[:-4] for row in domains] == [
        [
            "example.com",
            *("127.0.0.1:15222", "(PROXY", "v2)"),
            *("[::1]:15269", "(PROXY", "v2)"),
            "-",
        ],
        ["irc.example.com", "-", "-", "legacy.example:15347"],
        ["out.example", "-", "-", "-"],
    ]
    assert "POLICY       LEVEL   C2S SERVER      S2S SERVER          AT LEAST  AUTHOR" in text
    _, first, second = rows(text, "POLICY")
    assert first == [
        *("a.b", "secure", "192.0.2.1:5222", "[2001:db8::1]:5270", "TLSv1.2", "system", "-"),
        "never",
    ]
    assert second == ["example.net", "pin", "dns", "dns", "TLSv1.2", "-", "1", "allow"]


def test_the_summary_of_servers_alone() -> None:
    policy = policy_table(level="none", s2s_server="h:1")
    # Clients do not come by what a policy is about.
    domain, listeners = domain_table(), [listener_table(), out_table()]
    given = {"domain": [domain], "listener": listeners, "policy": [policy]}
    assert rows(summary(conf_of(given), []), "POLICY") == [
        ["POLICY", "LEVEL", "SERVER", "AT", "LEAST", "AUTHORITIES", "PINS", "DIALBACK"],
        ["a.b", "none", "h:1", "-", "-", "-", "-"],
    ]


# Mistakes


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        federation(listener=[out_table(stream="component"), in_table()]),
        (
            'listener "out".stream: "component" is not for forward listeners: where a component '
            'connects to is not for DNS to say; allowed: "c2s" or "s2s"'
        ),
    ),
    (
        federation(listener=[out_table(stream="x2x"), in_table()]),
        'listener "out".stream: "x2x" is not one of the known values; allowed: "c2s" or "s2s"',
    ),
    *(
        (
            {
                "domain": [bare_table(component_server="h:1")],
                "listener": [gateway_table(tls=rule)],
            },
            (
                f'listener "gate".tls: "{rule}" is not for components; allowed: "direct", for '
                "their streams have no STARTTLS (XEP-0114)"
            ),
        )
        for rule in ("required", "report", "none")
    ),
    *(
        (
            content(domain=[bare_table(**{server: "h:1"})], listener=[table]),
            (
                f'listener "{table["name"]}".stream: "{kind}" needs at least one [[domain]] with '
                f"{kind}_server"
            ),
        )
        for kind, table, server in (
            ("c2s", listener_table(), "s2s_server"),
            ("s2s", in_table(), "c2s_server"),
            ("component", gateway_table(), "s2s_server"),
        )
    ),
    (
        {"domain": [bare_table()], "listener": [in_table(), out_table()]},
        'listener "in".stream: "s2s" needs at least one [[domain]] with s2s_server',
    ),
    (content(domain=[bare_table()]), NO_SERVER),
    (content(domain=[bare_table(), domain_table(name="a.b")]), NO_SERVER),
    (content(domain=[bare_table(c2s_server="none", component_server="none")]), NO_SERVER),
    (content(domain=[bare_table()], listener=[forward_table()]), NO_SERVER),
    (
        content(domain=[domain_table(s2s_server="")]),
        (
            'domain "example.com".s2s_server: "": the host or the port is missing; allowed: a host '
            'and a port, as 127.0.0.1:15269 or [::1]:15269, or "none"'
        ),
    ),
    (
        content(domain=[domain_table(component_server="h:0")]),
        'domain "example.com".component_server: "h:0": port 0 cannot be connected to; allowed: a h',
    ),
    *(
        (
            {
                "domain": [bare_table(**{server: "h:1", f"{kind}_proxy_protocol": "v2"})],
                "listener": [table],
            },
            f'domain "example.com".{kind}_proxy_protocol: does nothing without {kind}_server',
        )
        for kind, table, server in (
            ("c2s", in_table(), "s2s_server"),
            ("s2s", listener_table(), "c2s_server"),
        )
    ),
    (
        federation(domain=[domain_table(s2s_server="127.0.0.1:15222")]),
        (
            'domain "example.com".s2s_server: "127.0.0.1:15222" is c2s_server already; allowed: '
            "the port for such streams"
        ),
    ),
    (
        federation(domain=[domain_table(s2s_server="H:1", component_server="h:1")]),
        'domain "example.com".component_server: "h:1" is s2s_server already; allowed: the port f',
    ),
    (
        content(domain=[domain_table(component_proxy_protocol="v2")]),
        'domain "example.com".component_proxy_protocol: is not known; did you mean',
    ),
    (
        {"listener": [out_table()]},
        "domain: is missing; at least one table [[domain]] is needed: the listeners have nobody to",
    ),
    *(
        (
            federation(domain=[domain_table(**{"s2s_server": "h:1", name: "localhost:5270"})]),
            f'domain "example.com".{name}: localhost:5270 is where listener "out" listens; Bascule',
        )
        for name in ("c2s_server", "s2s_server")
    ),
    (
        federation(domain=[domain_table(s2s_server="[::1]:5269")]),
        'domain "example.com".s2s_server: [::1]:5269 is where listener "in" listens; Bascule would',
    ),
    (
        federation(
            domain=[domain_table(s2s_server="h:1"), bare_table(name="i.b", component_server="h:2")],
            listener=[listener_table(), in_table(), out_table(), gateway_table(address="[::]:2")],
            policy=[policy_table(s2s_server="127.0.0.1:5270")],
        ),
        'policy "a.b".s2s_server: 127.0.0.1:5270 is where listener "out" listens; Bascule would co',
    ),
    (
        content(
            domain=[bare_table(component_server="[::1]:5348")],
            listener=[gateway_table()],
        ),
        'domain "example.com".component_server: [::1]:5348 is where listener "gate" listens; Bascu',
    ),
    (
        federation(plugins={"chain": ["features"]}, listener=[in_table(), out_table()]),
        'listener "in".tls: "required" needs the plugin "require_tls", which plugins.chain in',
    ),
]


@pytest.mark.parametrize(
    ("given", "expected"), MISTAKES, ids=[expected for _, expected in MISTAKES]
)
def test_mistakes(given: dict[str, Any], expected: str) -> None:
    [only] = mistakes(given)
    assert only.startswith(expected)


def test_domains_may_share_a_server() -> None:
    both = [domain_table(name=name, s2s_server="127.0.0.1:15269") for name in ("a.b", "c.d")]
    assert mistakes(federation(domain=both)) == []


def test_components_lack_a_rule() -> None:
    table = gateway_table()
    del table["tls"]
    given = {"domain": [bare_table(component_server="h:1")], "listener": [table]}
    [only] = mistakes(given)
    assert only.startswith('listener "gate".tls: is missing; allowed: "direct", for their streams')


def test_a_policy_may_lead_servers_to_a_reverse_listener() -> None:
    assert mistakes(federation(policy=[policy_table(s2s_server="localhost:5269")])) == []


@pytest.mark.parametrize("changes", [{"stream": "x2x"}, {"direction": "up"}])
def test_nothing_lacks_a_server_while_a_listener_is_not_known(changes: dict[str, Any]) -> None:
    given = {"domain": [bare_table()], "listener": [out_table(**changes)]}
    [only] = mistakes(given)
    assert only.startswith('listener "out".')


def test_nothing_lacks_a_server_while_there_is_no_listener() -> None:
    found = loaded({"domain": [bare_table(s2s_server="h:1"), bare_table(name="a.b")]})
    [only] = found.mistakes
    assert only.key == "listener"
    assert found.cautions == ()


def test_nothing_lacks_a_server_that_cannot_be_read() -> None:
    [only] = mistakes(content(domain=[bare_table(c2s_server="h")]))
    assert only.startswith('domain "example.com".c2s_server: "h": ')
    [only] = mistakes(federation(domain=[domain_table(s2s_server="h")]))
    assert only.startswith('domain "example.com".s2s_server: "h": ')


def test_nothing_lacks_a_server_while_a_file_is_missing() -> None:
    for given in (
        content(domain=[bare_table()]),
        federation(domain=[domain_table()]),
        {"listener": [out_table()]},
    ):
        documents = [Document(MAIN, given)]
        assert len(build(documents, PLUGINS, main=MAIN).mistakes) == 1
        assert build(documents, PLUGINS, main=MAIN, complete=False).mistakes == ()


@pytest.mark.parametrize("table", [in_table(), out_table(), gateway_table()])
def test_proxies_may_stand_in_front_of_each_kind(table: dict[str, Any]) -> None:
    table = {**table, "proxy_protocol": "any", "trusted_proxies": ["127.0.0.1"]}
    domain = domain_table(s2s_server="h:1", component_server="h:2")
    conf = conf_of({"domain": [domain], "listener": [table]})
    assert conf.listeners[0].proxy_protocol is Versions.ANY
    assert loaded(tomllib.loads(show(conf))).conf == conf
