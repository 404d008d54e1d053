"""proxy.daemon.conf: every kind of mistake in a policy."""

from typing import Any

import pytest

from tests.daemon.conf_fakes import MAIN, forwarding, mistakes, policy_table

PIN = f"sha256:{'A' * 43}="
LEVELS = '"none", "may", "encrypt", "pin", "dane", "dane-only", "keyring" or "secure"'


USELESS: list[tuple[dict[str, Any], str]] = [
    *(
        (
            policy_table(level=level, ca_file="ca.pem"),
            f'ca_file: does nothing with level = "{level}"',
        )
        for level in ("none", "may", "encrypt")
    ),
    (
        policy_table(level="pin", pins=[PIN], ca_file="ca.pem"),
        'ca_file: does nothing with level = "pin"; it is for "dane", "dane-only", "keyring" or "s',
    ),
    *(
        (
            policy_table(level=level, pins=[PIN]),
            f'pins: does nothing with level = "{level}"; it is for "pin", "dane", "dane-on',
        )
        for level in ("none", "may", "encrypt")
    ),
    (
        policy_table(level="none", server="h:1", direct_tls=True),
        'direct_tls: does nothing with level = "none"; it is for "may", "encrypt", "pin", "keyring',
    ),
    (policy_table(level="none", direct_tls=True), 'direct_tls: does nothing with level = "none"'),
    (
        policy_table(level="none", min_version="TLSv1.3"),
        'min_version: does nothing with level = "none"; it is for "may", "encrypt", "pin", "dane',
    ),
    (
        policy_table(direct_tls=True),
        "direct_tls: does nothing without server: DNS tells which servers expect direct TLS",
    ),
    *(
        (
            policy_table(level="none", **{name: value}),
            f'{name}: does nothing with level = "none"; it is for "may", "encrypt", "pin", "',
        )
        for name, value in (("dialback", "never"), ("s2s_direct_tls", True))
    ),
    (
        policy_table(s2s_direct_tls=True, server="h:1"),
        "s2s_direct_tls: does nothing without s2s_server: DNS tells which servers expect direct TL",
    ),
    (
        policy_table(direct_tls=True, s2s_server="h:1"),
        "direct_tls: does nothing without server: DNS tells which servers expect direct TLS",
    ),
    (policy_table(level="pin"), 'pins: is missing; level = "pin" needs at least one pin'),
    (policy_table(level="pin", pins=[]), 'pins: is empty; level = "pin" needs at least one pin'),
]
POLICY_MISTAKES: list[tuple[dict[str, Any], str]] = [
    *USELESS,
    *(
        (
            policy_table(level=level),
            f'level: "{level}" is not one of the known values; allowed: {LEVELS}',
        )
        for level in ("dnssec", "Secure", "")
    ),
    (policy_table(server="h"), 'server: "h": the host or the port is missing; allowed: a host and'),
    (policy_table(server=""), 'server: "": the host or the port is missing; allowed: a host and a'),
    (policy_table(server="h:0"), 'server: "h:0": port 0 cannot be connected to; allowed: a host a'),
    (policy_table(server=1), "server: 1 is not text"),
    (
        policy_table(s2s_server=""),
        's2s_server: "": the host or the port is missing; allowed: a host and a port, as 127.0.0.1',
    ),
    (policy_table(s2s_server="none"), 's2s_server: "none": the host or the port is missing; allow'),
    *(
        (
            policy_table(dialback=given),
            f'dialback: {word} is not one of the known values; allowed: "allow" or "never"',
        )
        for given, word in (("maybe", '"maybe"'), ("", '""'), (False, "false"))
    ),
    (policy_table(ca_file=""), 'ca_file: "": not a path; allowed: a path, or "system"'),
    (policy_table(ca_file="a\0"), 'ca_file: "a\\x00": not a path; allowed: a path, or "system"'),
    (policy_table(ca_file=["ca.pem"]), "ca_file: an array is not text"),
    (policy_table(pins=PIN), f'pins: "{PIN}" is not an array; allowed: an array, each item the SH'),
    (
        policy_table(pins=["sha256:AAAA"]),
        (
            'pins[1]: "sha256:AAAA": not a pin; allowed: the SHA-256 of a public key, written as '
            '"sha256:" and 44 characters of Base64, as "sha256:" and 64 hexadecimal digits, or as '
            "those digits alone"
        ),
    ),
    (policy_table(pins=[PIN, ""]), 'pins[2]: "": not a pin; allowed: the SHA-256 of a public key'),
    (
        policy_table(min_version="TLSv1.1"),
        'min_version: "TLSv1.1" is not one of the known values; allowed: "TLSv1.2" or "TLSv1.3"',
    ),
    (policy_table(private_addresses="no"), 'private_addresses: "no" is not true or false'),
    (policy_table(direct_tls="no"), 'direct_tls: "no" is not true or false; allowed: true or fals'),
    (policy_table(colour=1), "colour: is not known (known here: domain, level, dialback, "),
    (
        policy_table(server="localhost:5333"),
        'server: localhost:5333 is where listener "legacy" listens; Bascule would connect to its',
    ),
    (
        policy_table(s2s_server="127.0.0.1:5333"),
        's2s_server: 127.0.0.1:5333 is where listener "legacy" listens; Bascule would connect to i',
    ),
]


@pytest.mark.parametrize(
    ("policy", "expected"), POLICY_MISTAKES, ids=[expected for _, expected in POLICY_MISTAKES]
)
def test_mistakes_of_policies(policy: dict[str, Any], expected: str) -> None:
    [only] = mistakes(forwarding(policy))
    assert only.startswith(f'policy "a.b".{expected}')


def test_every_wrong_item_is_told() -> None:
    found = mistakes(forwarding(policy_table(pins=["x", PIN, 5, "sha256:"]), domains=["a.b", 1]))
    assert [line.partition(": ")[0] for line in found] == [
        'listener "legacy".domains[2]',
        'policy "a.b".pins[1]',
        'policy "a.b".pins[3]',
        'policy "a.b".pins[4]',
    ]


def test_a_policy_without_a_domain() -> None:
    [only] = mistakes(forwarding({"domain": "c.d"}, {"level": "may"}))
    assert only.startswith('policy[2].domain: is missing; allowed: a domain name, "*." before one')


def test_a_pattern_that_is_none() -> None:
    [only] = mistakes(forwarding({"domain": "*.*.b"}))
    assert only.startswith('policy "*.*.b".domain: "*.*.b": a * stands for whole labels, and')


def test_two_policies_for_one_domain_wherever_they_stand() -> None:
    second = {"policy": [{"domain": "*.EXAMPLE.net.", "level": "may"}]}
    [only] = mistakes(forwarding({"domain": "*.example.net"}), second)
    assert only == (
        '/etc/bascule/conf.d/1.toml: policy "*.EXAMPLE.net.".domain: "*.example.net" is taken by '
        f'policy "*.example.net" in {MAIN} already'
    )


def test_policies_of_different_reach_stand_side_by_side() -> None:
    reaches = ("*", "*.example.net", "example.net", "*.b.example.net")
    assert mistakes(forwarding(*({"domain": each} for each in reaches))) == []


def test_policy_that_is_no_array() -> None:
    [only] = mistakes({**forwarding(), "policy": {"domain": "*"}})
    assert only == "policy: is not an array of tables; it is written [[policy]]"
