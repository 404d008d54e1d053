"""proxy.daemon.conf: what is taken, and every kind of mistake."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon.conf import load
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.model import Deadlines, Listener
from proxy.daemon.served import CertificateFiles, Domain
from proxy.daemon.show import show
from proxy.session.kinds import Kind
from proxy.session.options import option
from proxy.session.rules import TLSRule
from tests.daemon.conf_fakes import (
    MAIN,
    PLUGINS,
    Limits,
    content,
    domain_table,
    listener_table,
    loaded,
    mistakes,
)


def test_least_conf_gets_all_defaults() -> None:
    conf = loaded(content()).conf
    assert conf is not None
    assert [setting.name for setting in conf.plugins] == ["require_tls", "features", "limits"]
    assert Limits is conf.plugins[2].plugin
    assert Limits.Config() == conf.plugins[2].config
    assert Deadlines(negotiation=15, authentication=60, connect=15) == conf.deadlines
    files = CertificateFiles(
        Path("/etc/bascule/tls/example.crt"), Path("/etc/bascule/tls/example.key")
    )
    assert (Domain("example.com", (files,), Endpoint("127.0.0.1", 15222)),) == conf.domains
    assert (
        Listener("c2s", "reverse", Kind.C2S, Endpoint("::", 5222), TLSRule.REQUIRED),
    ) == conf.listeners


def test_everything_set() -> None:
    conf = loaded(
        content(
            plugins={"chain": ["limits", "require_tls"], "limits": {"stanza_bytes": 10000}},
            deadlines={"negotiation": 0.5, "connect": 3},
            domain=[
                domain_table(
                    name="Faß.Example",
                    certificate=["/a.crt", "b.crt"],
                    private_key=["/a.key", "b.key"],
                    c2s_server="[::1]:15222",
                ),
                domain_table(c2s_server="legacy.Example:1"),
            ],
            listener=[
                listener_table(tls="direct"),
                listener_table(name="x", address="127.0.0.1:0", tls="report"),
                listener_table(name="y", address="127.0.0.1:0", tls="none"),
            ],
        )
    ).conf
    assert conf is not None
    assert [setting.name for setting in conf.plugins] == ["limits", "require_tls"]
    assert conf.plugins[0].config.stanza_bytes == 10000
    assert Deadlines(negotiation=0.5, authentication=60, connect=3) == conf.deadlines
    assert conf.domains[0].name == "xn--fa-hia.example"
    assert (
        CertificateFiles(Path("/a.crt"), Path("/a.key")),
        CertificateFiles(Path("/etc/bascule/b.crt"), Path("/etc/bascule/b.key")),
    ) == conf.domains[0].certificates
    assert Endpoint("::1", 15222) == conf.domains[0].c2s_server
    assert Endpoint("legacy.example", 1) == conf.domains[1].c2s_server
    assert [li.tls for li in conf.listeners] == [TLSRule.DIRECT, TLSRule.REPORT, TLSRule.NONE]


ONE_MISTAKE: list[tuple[dict[str, Any], str]] = [
    ({"deadlins": {}}, 'deadlins: is not known; did you mean "deadlines"? (known here: plugins, '),
    ({"wrkers": 2}, "wrkers: is not known (known here: plugins, deadlines, domain, listener, p"),
    ({"workers": 2}, "workers: is not known; it belongs in [bascule] (known here: plugins, "),
    ({"deadlines": 5}, "deadlines: is not a table; it is written [deadlines]"),
    ({"deadlines": [{}]}, "deadlines: is not a table"),
    ({"deadlines": {"conect": 5}}, 'deadlines.conect: is not known; did you mean "connect"?'),
    ({"deadlines": {"connect": 0}}, "deadlines.connect: 0 is too little; allowed: a number of sec"),
    ({"deadlines": {"connect": "5"}}, 'deadlines.connect: "5" is not a number; allowed: a number'),
    ({"deadlines": {"connect": 86401}}, "deadlines.connect: 86401 is too much; allowed: a number"),
    ({"deadlines": {"connect": True}}, "deadlines.connect: true is not a number"),
    ({"deadlines": {"connect": float("inf")}}, "deadlines.connect: inf is no number to work with"),
    ({"deadlines": {"connect": float("nan")}}, "deadlines.connect: nan is no number to work with"),
    ({"deadlines": {"connect": 1 << 70000}}, "deadlines.connect: a huge number is no number to"),
    ({"deadlines": {"connect": {}}}, "deadlines.connect: a table is not a number"),
    ({"deadlines": {"connect": datetime.now(UTC)}}, "deadlines.connect: a date or time is not"),
    ({"plugins": 5}, "plugins: is not a table"),
    ({"plugins": {"chain": "limits"}}, 'plugins.chain: "limits" is not an array'),
    ({"plugins": {"chain": {}}}, "plugins.chain: a table is not an array"),
    ({"plugins": {"chain": ["require_tls", 1]}}, "plugins.chain[2]: 1 is not text; allowed: text"),
    ({"plugins": {"chain": ["require_tls", "require_tls"]}}, 'plugins.chain: "require_tls" stand'),
    (
        {"plugins": {"chain": ["require_tls", "limit"]}},
        'plugins.chain: plugin "limit" is not known; did you mean "limits"?',
    ),
    ({"plugins": {"chian": []}}, 'plugins.chian: is not known; did you mean "chain"?'),
    ({"plugins": {"limits": 5}}, "plugins.limits: is not a table; it is written [plugins.limits]"),
    (
        {"plugins": {"limit": {}}},
        'plugins.limit: is the table of a plugin that is not known; did you mean "limits"?',
    ),
    (
        {"plugins": {"chain": ["require_tls"], "limits": {}}},
        "plugins.limits: is not in plugins.chain, so that these settings would do nothing",
    ),
    (
        {"plugins": {"limits": {"stanza_bytes": 9999}}},
        (
            "plugins.limits.stanza_bytes: 9999 is too little; allowed: a whole number of bytes, at "
            "least 10000"
        ),
    ),
    (
        {"plugins": {"limits": {"stanza_bytes": 1e6}}},
        "plugins.limits.stanza_bytes: 1000000.0 is no",
    ),
    ({"plugins": {"limits": {"x": 1}}}, "plugins.limits.x: is not known"),
    ({"plugins": {"features": {"x": 1}}}, "plugins.features.x: is not known (none is known here)"),
    (
        {"plugins": {"chain": ["features"]}},
        'listener "c2s".tls: "required" needs the plugin "require_tls", which plugins.chain in',
    ),
    ({"deadlines": {"pace": 1}}, "deadlines.pace: is not known; it belongs in [plugins.limits] ("),
    ({"name": 1}, "name: is not known; it belongs in [[domain]] or [[listener]] (known here: p"),
    ({"domain": None}, "domain: is missing; at least one table [[domain]] is needed"),
    ({"domain": []}, "domain: is missing; at least one table [[domain]] is needed"),
    ({"domain": domain_table()}, "domain: is not an array of tables; it is written [[domain]]"),
    ({"domain": [1]}, "domain: is not an array of tables"),
    ({"listener": None}, "listener: is missing"),
    ({"domain": [domain_table(name="a..b")]}, 'domain "a..b".name: "a..b": '),
    ({"domain": [domain_table(name=5)]}, "domain[1].name: 5 is not text; allowed: a domain name"),
    ({"domain": [domain_table(certificate=[])]}, 'domain "example.com".certificate: the array is'),
    ({"domain": [domain_table(certificate="")]}, 'domain "example.com".certificate: "" is not a p'),
    ({"domain": [domain_table(certificate="a\0")]}, 'domain "example.com".certificate: "a\\x00" i'),
    (
        {"domain": [domain_table(certificate=["a", "b"])]},
        'domain "example.com".private_key: 1 for 2 in certificate; allowed: as many',
    ),
    ({"domain": [domain_table(c2s_server="127.0.0.1:0")]}, 'domain "example.com".c2s_server: "127'),
    (
        {"domain": [domain_table(), domain_table(name="EXAMPLE.com.")]},
        'domain "EXAMPLE.com.".name: "example.com" is taken by domain "example.com" in',
    ),
    (
        {"listener": [listener_table(direction="up")]},
        'listener "c2s".direction: "up" is not one of the known values; allowed: "reverse" or "fo',
    ),
    ({"listener": listener_table()}, "listener: is not an array of tables; it is written [[liste"),
    (
        {"listener": [listener_table(stream="x2x")]},
        'listener "c2s".stream: "x2x" is not one of the known values; allowed: "c2s", "s2s" or "co',
    ),
    (
        {"listener": [listener_table(tls="requierd")]},
        (
            'listener "c2s".tls: "requierd" is not one of the known values; allowed: "required", '
            '"direct", "report" or "none"'
        ),
    ),
    ({"listener": [listener_table(tls=["required"])]}, 'listener "c2s".tls: an array is not one'),
    ({"listener": [listener_table(name="")]}, 'listener[1].name: "" is too short'),
    ({"listener": [listener_table(name="x" * 65)]}, f'listener "{"x" * 65}".name: "xxx'),
    ({"listener": [listener_table(address="*:5222")]}, 'listener "c2s".address: "*:5222": the hos'),
    (
        {"listener": [listener_table(), listener_table(address="127.0.0.1:1")]},
        f'listener "c2s".name: "c2s" is taken by listener[1] in {MAIN} already',
    ),
    (
        {"listener": [listener_table(), listener_table(name="b", address="[0::0]:5222")]},
        'listener "b".address: "[::]:5222" is taken by listener "c2s" in',
    ),
    (
        {"domain": [domain_table(c2s_server="localhost:5222")]},
        'domain "example.com".c2s_server: localhost:5222 is where listener "c2s" listens',
    ),
]


@pytest.mark.parametrize(
    ("changes", "expected"), ONE_MISTAKE, ids=[expected for _, expected in ONE_MISTAKE]
)
def test_one_mistake_is_told_once(changes: dict[str, Any], expected: str) -> None:
    [only] = mistakes(content(**changes))
    assert only.startswith(expected)


@pytest.mark.parametrize("key", ["name", "certificate", "private_key"])
def test_missing_key_of_a_domain(key: str) -> None:
    table = domain_table()
    del table[key]
    name = "domain[1]" if key == "name" else 'domain "example.com"'
    [only] = mistakes(content(domain=[table]))
    assert only.startswith(f"{name}.{key}: is missing; allowed: ")


@pytest.mark.parametrize("key", ["name", "direction", "stream", "address"])
def test_missing_key_of_a_listener(key: str) -> None:
    table = listener_table()
    del table[key]
    name = "listener[1]" if key == "name" else 'listener "c2s"'
    [only] = mistakes(content(listener=[table]))
    assert only.startswith(f"{name}.{key}: is missing; allowed: ")


def test_every_mistake_at_once() -> None:
    found = mistakes(
        content(
            colour={},
            bascule={"state_directory": 7},
            plugins={"chain": ["features", "nothing"], "limits": {"pace": -1}},
            deadlines={"connect": -1},
            domain=[domain_table(c2s_server="x"), domain_table(colour="red")],
            listener=[listener_table(direction="up"), {}],
        )
    )
    keys = [line.partition(": ")[0] for line in found]
    assert [
        "colour",
        "plugins.chain",
        "plugins.limits",
        "plugins.limits.pace",
        "deadlines.connect",
        'domain "example.com".c2s_server',
        'domain "example.com".colour',
        'listener "c2s".direction',
        *(f"listener[2].{key}" for key in ("name", "direction", "stream", "address")),
        "bascule.state_directory",
        'domain "example.com".name',
        'listener "c2s".tls',
        "listener[2].tls",
    ] == keys


@pytest.mark.parametrize(
    ("given", "directory"),
    [
        (None, "/var/lib/bascule"),
        ({}, "/var/lib/bascule"),
        ({"state_directory": "/srv/bascule"}, "/srv/bascule"),
        ({"state_directory": "state"}, "/etc/bascule/state"),
    ],
)
def test_where_state_is_kept(given: dict[str, str] | None, directory: str) -> None:
    conf = loaded(content(bascule=given)).conf
    assert conf is not None
    assert conf.state_directory == Path(directory)
    again = loaded(tomllib.loads(show(conf))).conf
    assert again is not None
    assert again.state_directory == Path(directory)


@pytest.mark.parametrize("given", ["", "a\0b", 1, ["/srv"]])
def test_where_state_cannot_be_kept(given: object) -> None:
    (found,) = mistakes(content(bascule={"state_directory": given}))
    assert found.startswith("bascule.state_directory: ")
    assert found.endswith("; allowed: a path")


def test_files_join_and_duplicates_name_both_files() -> None:
    second = {
        "plugins": {"limits": {"pace": 2}},
        "listener": [listener_table(name="b", address="127.0.0.1:0")],
    }
    conf = loaded(content(plugins={"limits": {"stanza_bytes": 20000}}), second).conf
    assert conf is not None
    assert Limits.Config(20000, 2.0) == conf.plugins[2].config
    assert [listener.name for listener in conf.listeners] == ["c2s", "b"]
    found = mistakes(
        content(plugins={"limits": {"pace": 1}}, deadlines={"connect": 1}),
        second,
        {"deadlines": {"connect": 1}},
    )
    assert [
        (
            f"/etc/bascule/conf.d/1.toml: plugins.limits.pace: is set in {MAIN} already; "
            "a key may be set once"
        ),
        (
            f"/etc/bascule/conf.d/2.toml: deadlines.connect: is set in {MAIN} already; "
            "a key may be set once"
        ),
    ] == found


def test_paths_start_at_the_directory_of_their_own_file() -> None:
    conf = loaded(content(domain=None), {"domain": [domain_table(certificate="a.crt")]}).conf
    assert conf is not None
    assert Path("/etc/bascule/conf.d/a.crt") == conf.domains[0].certificates[0].certificate


def test_claims_survive_mistakes_elsewhere() -> None:
    found = loaded(content(domain=[domain_table(c2s_server="nonsense")], deadlines=1))
    assert [claim.value.name for claim in found.claims] == ["example.com"]


def cautions(**changes: Any) -> list[str]:
    found = loaded(content(**changes))
    assert found.conf is not None
    return [str(caution).removeprefix(f"{MAIN}: ") for caution in found.cautions]


def test_cautions() -> None:
    assert cautions() == []
    [lax] = cautions(listener=[listener_table(tls="report")])
    assert lax.startswith('listener "c2s".tls: warning: with "report" nothing is enforced')
    [none] = cautions(listener=[listener_table(tls="none")], plugins={"chain": []})
    assert none.startswith('listener "c2s".tls: warning: with "none"')
    [bindings] = cautions(plugins={"chain": ["require_tls"]})
    assert bindings.startswith('plugins.chain: warning: without the plugin "features"')
    [public] = cautions(domain=[domain_table(c2s_server="9.9.9.9:5222")])
    assert "9.9.9.9:5222 is a public address" in public


class Unloadable(dict[str, type[Any]]):
    def __getitem__(self, name: str) -> type[Any]:
        if name == "limits":
            raise ImportError("No module\nnamed x")
        return super().__getitem__(name)


def test_a_plugin_that_cannot_be_imported() -> None:
    [only] = mistakes(content(), plugins=Unloadable(PLUGINS))
    assert only == ("plugins.limits: the plugin cannot be loaded: ImportError: No module\\nnamed x")
    [_, other] = mistakes(content(deadlines={"tls": 1}), plugins=Unloadable(PLUGINS))
    assert "tls: is not known; it belongs in [[listener]] (" in other


def test_a_plugin_that_declares_no_options() -> None:
    [only] = mistakes(content(), plugins={**PLUGINS, "limits": type("Limits", (), {})})
    assert only.startswith("plugins.limits: the plugin cannot be loaded: AttributeError")
    [only] = mistakes(content(), plugins={**PLUGINS, "limits": type("Limits", (), {"Config": int})})
    assert only.startswith("plugins.limits: the plugin cannot be loaded: TypeError")


@attrs.frozen
class Choosy:
    least: int = option(default=1, help="The least.")
    most: int = option(default=2, help="The most.")

    def __attrs_post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError("least is above most")


def test_a_plugin_that_refuses_a_combination() -> None:
    plugins = {**PLUGINS, "limits": type("Limits", (), {"Config": Choosy})}
    [only] = mistakes(content(plugins={"limits": {"least": 3}}), plugins=plugins)
    assert only == "plugins.limits: the plugin refuses this: least is above most"


def test_load_reads_the_file_and_its_fragments(tmp_path: Path) -> None:
    main = tmp_path / "bascule.toml"
    (tmp_path / "conf.d").mkdir()
    main.write_text('[[domain]]\nname="a.b"\ncertificate="c"\nprivate_key="k"\nc2s_server="h:1"\n')
    listener = '[[listener]]\nname="x"\ndirection="reverse"\nstream="c2s"\naddress="[::]:5222"\n'
    (tmp_path / "conf.d" / "10.toml").write_text(listener)
    (tmp_path / "conf.d" / "README").write_text("not TOML")
    conf = load(main, PLUGINS).conf
    assert conf is not None
    assert conf.listeners[0].name == "x"


def test_load_says_nothing_is_missing_when_a_file_cannot_be_read(tmp_path: Path) -> None:
    found = load(tmp_path / "none.toml", PLUGINS)
    assert found.conf is None
    [mistake] = found.mistakes
    assert str(mistake) == (
        f"{tmp_path}/none.toml: cannot be read: No such file or directory; "
        "-c names another file, and conf/bascule.toml in Bascule's repository is a template"
    )
