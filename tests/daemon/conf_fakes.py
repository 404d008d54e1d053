"""What the tests of the configuration share: made-up plugins, and files on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from proxy.daemon.conf import Loaded, build
from proxy.daemon.files import Document
from proxy.daemon.model import Conf
from proxy.session.options import option

MAIN = Path("/etc/bascule/bascule.toml")
PIN = f"sha256:{'A' * 43}="


@attrs.frozen
class NoOptions:
    pass


class RequireTLS:
    """Demands TLS."""

    name = "require_tls"
    Config = NoOptions


class Features:
    """Edits features."""

    name = "features"
    Config = NoOptions


@attrs.frozen
class LimitsConfig:
    stanza_bytes: int = option(default=262144, minimum=10000, unit="bytes", help="The stanza.")
    pace: float = option(default=1.5, above=0, help="The pace.")


class Limits:
    """Sets limits."""

    name = "limits"
    Config = LimitsConfig


PLUGINS: Mapping[str, type[Any]] = {
    "require_tls": RequireTLS,
    "features": Features,
    "limits": Limits,
}


def domain_table(**changes: Any) -> dict[str, Any]:
    return {
        "name": "example.com",
        "certificate": "tls/example.crt",
        "private_key": "tls/example.key",
        "c2s_server": "127.0.0.1:15222",
        **changes,
    }


def bare_table(**changes: Any) -> dict[str, Any]:
    """A domain without any server but those that are given."""
    table = domain_table(**changes)
    if "c2s_server" not in changes:
        del table["c2s_server"]
    return table


def listener_table(**changes: Any) -> dict[str, Any]:
    return {
        "name": "c2s",
        "direction": "reverse",
        "stream": "c2s",
        "address": "[::]:5222",
        **changes,
    }


def forward_table(**changes: Any) -> dict[str, Any]:
    return {
        "name": "legacy",
        "direction": "forward",
        "stream": "c2s",
        "address": "127.0.0.1:5333",
        "domains": ["example.net"],
        **changes,
    }


def in_table(**changes: Any) -> dict[str, Any]:
    """A listener for other servers, which connect to ours."""
    return listener_table(**{"name": "in", "stream": "s2s", "address": "[::]:5269", **changes})


def out_table(**changes: Any) -> dict[str, Any]:
    """A listener for our servers, which connect to others."""
    return forward_table(
        **{"name": "out", "stream": "s2s", "address": "127.0.0.1:5270", "domains": ["*"], **changes}
    )


def gateway_table(**changes: Any) -> dict[str, Any]:
    """A listener for components."""
    table = {"name": "gate", "stream": "component", "address": "[::]:5348", "tls": "direct"}
    return listener_table(**{**table, **changes})


def policy_table(**changes: Any) -> dict[str, Any]:
    return {"domain": "a.b", **changes}


def forwarding(*policies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole configuration of one forward listener, with some of its keys changed."""
    return {"listener": [forward_table(**changes)], "policy": [*policies]}


def content(**changes: Any) -> dict[str, Any]:
    """A whole configuration as tomllib would return it, with some top-level keys changed."""
    whole = {"domain": [domain_table()], "listener": [listener_table()], **changes}
    return {key: value for key, value in whole.items() if value is not None}


def loaded(*contents: dict[str, Any], plugins: Mapping[str, type[Any]] = PLUGINS) -> Loaded:
    """Build from one or several files' contents: MAIN, then 1.toml, 2.toml… in conf.d."""
    files = [MAIN, *(MAIN.parent / "conf.d" / f"{n}.toml" for n in range(1, len(contents)))]
    documents = [Document(*pair) for pair in zip(files, contents, strict=True)]
    return build(documents, plugins, main=MAIN)


def mistakes(*contents: dict[str, Any], plugins: Mapping[str, type[Any]] = PLUGINS) -> list[str]:
    """The mistakes as printed, without the main file's name in front."""
    found = loaded(*contents, plugins=plugins)
    assert (found.conf is None) is bool(found.mistakes)
    return [str(mistake).removeprefix(f"{MAIN}: ") for mistake in found.mistakes]


def federation(**changes: Any) -> dict[str, Any]:
    """One server for clients and for servers in both directions, with some of its keys changed."""
    whole = {
        "domain": [domain_table(s2s_server="127.0.0.1:15269")],
        "listener": [listener_table(), in_table(), out_table()],
    }
    return {**whole, **changes}


def conf_of(given: dict[str, Any], plugins: Mapping[str, type[Any]] = PLUGINS) -> Conf:
    found = loaded(given, plugins=plugins)
    assert found.mistakes == ()
    assert found.conf is not None
    return found.conf


EVERYTHING = federation(
    domain=[
        domain_table(s2s_server="[::1]:15269", c2s_proxy_protocol="v2", s2s_proxy_protocol="v2"),
        bare_table(name="irc.example.com", component_server="Legacy.Example:15347"),
        bare_table(name="out.example", c2s_server="none"),
    ],
    listener=[listener_table(), in_table(), out_table(), gateway_table(), forward_table()],
    policy=[
        policy_table(
            dialback="never",
            server="192.0.2.1:5222",
            s2s_server="[2001:DB8::1]:5270",
            s2s_direct_tls=True,
        ),
        {"domain": "example.net", "level": "pin", "pins": [PIN], "dialback": "allow"},
    ],
)
