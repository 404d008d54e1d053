"""proxy.daemon.conf: whatever files say, there are mistakes and no exceptions."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.daemon.conf_fakes import content, domain_table, forward_table, loaded, mistakes

scalars = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.datetimes()
    | st.dates()
    | st.times()
)
keys = st.text(max_size=5) | st.sampled_from(
    [
        "plugins",
        "chain",
        "limits",
        "stanza_bytes",
        "pace",
        "deadlines",
        "connect",
        "domain",
        "name",
        "certificate",
        "private_key",
        "c2s_server",
        "s2s_server",
        "component_server",
        "c2s_proxy_protocol",
        "s2s_proxy_protocol",
        "listener",
        "direction",
        "stream",
        "address",
        "tls",
        "require_tls",
        "domains",
        "destination",
        "tproxy",
        "unlisted_destinations",
        "policy",
        "level",
        "server",
        "direct_tls",
        "s2s_direct_tls",
        "dialback",
        "ca_file",
        "pins",
        "min_version",
        "private_addresses",
        "dns",
        "servers",
    ]
)
words = st.sampled_from(
    [
        "reverse",
        "forward",
        "c2s",
        "s2s",
        "component",
        "v2",
        "never",
        "[::]:5222",
        "h:1",
        "a.b",
        "*.a.b",
        "*",
        "required",
        "limits",
        "original",
        "pin",
        "none",
        "TLSv1.3",
        "::1",
        "dns",
        "system",
        f"sha256:{'A' * 43}=",
    ]
)
junk = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


@given(st.lists(st.dictionaries(keys, junk, max_size=6), min_size=1, max_size=3))
def test_junk_yields_mistakes_and_never_raises(contents: list[dict[str, Any]]) -> None:
    for line in mistakes(*contents):
        assert line.isprintable()


@given(st.dictionaries(keys, junk, min_size=1, max_size=6))
def test_junk_beside_a_sound_conf_never_raises(extra: dict[str, Any]) -> None:
    found = loaded(content(), extra)
    assert (found.conf is None) is bool(found.mistakes)


tables = st.lists(st.dictionaries(keys, words | scalars | st.lists(words, max_size=3)), max_size=3)


@given(tables, tables, tables)
def test_junk_in_what_is_forward_never_raises(
    domains: list[dict[str, Any]], listeners: list[dict[str, Any]], policies: list[dict[str, Any]]
) -> None:
    made = {
        "domain": [domain_table(**changes) for changes in domains],
        "listener": [forward_table(**changes) for changes in listeners],
        "policy": [{"domain": "*", **changes} for changes in policies],
    }
    for line in mistakes(made):
        assert line.isprintable()
