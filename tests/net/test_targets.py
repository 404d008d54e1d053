"""The order of targets, and where nobody connects to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.net.targets import Target, forbidden, host_name, merged, unmapped

targets = st.lists(
    st.builds(
        Target,
        host=st.sampled_from(["a.example", "b.example", "c.example", "d.example"]),
        port=st.sampled_from([443, 5222, 5223]),
        direct=st.booleans(),
        priority=st.integers(0, 3),
        weight=st.integers(0, 65535),
    ),
    max_size=20,
)


def way(target: Target) -> tuple[str, int, bool]:
    return target.host, target.port, target.direct


@given(targets, st.randoms(use_true_random=False))
def test_lower_priorities_come_first_and_nothing_is_lost(
    given: list[Target], chance: random.Random
) -> None:
    ordered = merged(given, chance)
    assert list(ordered) == sorted(ordered, key=lambda target: target.priority)
    assert {way(target) for target in ordered} == {way(target) for target in given}
    assert len({way(target) for target in ordered}) == len(ordered)
    assert set(ordered) <= set(given)


@given(targets, st.randoms(use_true_random=False))
def test_of_equal_targets_the_one_of_the_lowest_priority_stays(
    given: list[Target], chance: random.Random
) -> None:
    for target in merged(given, chance):
        assert target.priority == min(
            other.priority for other in given if way(other) == way(target)
        )


def firsts(*weights: int, rounds: int = 6000) -> list[float]:
    chance = random.Random(2782)
    given = [
        Target(f"{number}.example", 5222, bool(number % 2), weight=weight)
        for number, weight in enumerate(weights)
    ]
    counted = Counter(merged(given, chance)[0] for _ in range(rounds))
    return [counted[target] / rounds for target in given]


def test_weights_are_shares() -> None:
    """Of the first place; STARTTLS and direct TLS are mixed."""
    assert firsts(60, 30, 10) == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    assert firsts(1, 1) == pytest.approx([2 / 3, 1 / 3], abs=0.03)  # RFC 2782 counts from 0


def test_weight_0_has_a_small_chance() -> None:
    zero, full = firsts(0, 99)
    assert 0 < zero < 0.03
    assert zero + full == 1


def test_the_second_place_is_drawn_among_the_rest() -> None:
    chance = random.Random(1)
    given = [Target(name, 5222, direct=False, weight=weight) for name, weight in WEIGHTS.items()]
    seconds = Counter(
        order[1].host for _ in range(6000) if (order := merged(given, chance))[0].host == "a"
    )
    assert seconds["b"] / seconds.total() == pytest.approx(0.75, abs=0.04)


WEIGHTS = {"a": 500, "b": 300, "c": 100}


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "the unspecified address"),
        ("0.1.2.3", "a reserved address"),
        ("10.255.255.255", "a private address"),
        ("100.64.0.1", "an address of carrier-grade NAT"),
        ("127.0.0.1", "a loopback address"),
        ("127.255.255.254", "a loopback address"),
        ("169.254.169.254", "a link-local address"),
        ("172.16.0.1", "a private address"),
        ("172.31.255.255", "a private address"),
        ("192.0.0.8", "a reserved address"),
        ("192.0.2.1", "an address for documentation"),
        ("192.88.99.1", "a reserved address"),
        ("192.168.1.1", "a private address"),
        ("198.19.0.1", "an address for benchmarks"),
        ("198.51.100.1", "an address for documentation"),
        ("203.0.113.1", "an address for documentation"),
        ("224.0.0.1", "a multicast address"),
        ("239.255.255.255", "a multicast address"),
        ("240.0.0.1", "a reserved address"),
        ("255.255.255.255", "a reserved address"),
        ("::", "the unspecified address"),
        ("::1", "a loopback address"),
        ("::127.0.0.1", "a reserved address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("::ffff:a00:1", "a private address"),
        ("64:ff9b::127.0.0.1", "a loopback address"),
        ("64:ff9b::169.254.169.254", "a link-local address"),
        ("64:ff9b:1::1", "a private address"),
        ("100::1", "a reserved address"),
        ("2001::1", "a reserved address"),
        ("2001:db8::1", "an address for documentation"),
        ("2002:7f00:1::1", "a loopback address"),
        ("2002:c0a8:101::1", "a private address"),
        ("3fff::1", "an address for documentation"),
        ("4000::1", "a reserved address"),
        ("fc00::1", "a private address"),
        ("fdff::1", "a private address"),
        ("fe80::1", "a link-local address"),
        ("fe80::1%lo", "a link-local address"),
        ("fec0::1", "a private address"),
        ("ff02::1", "a multicast address"),
    ],
)
def test_an_address_that_is_not_global_is_forbidden(address: str, kind: str) -> None:
    assert forbidden(address, 5222) == f"{address} is {kind}"


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "223.255.255.255",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2001:200::1",
        "2002:101:101::1",
        "2a00:1450::1",
    ],
)
def test_a_global_address_is_not(address: str) -> None:
    assert forbidden(address, 5222) is None


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "[::1]", "1.1.1.1 "])
def test_what_is_no_address_is_forbidden(text: str) -> None:
    assert forbidden(text, 5222) == "that is not an IP address"


@pytest.mark.parametrize("port", [-1, 0, 1, 22, 25, 53, 442, 1023, 65536])
def test_ports_of_others_are_forbidden(port: int) -> None:
    assert forbidden("1.1.1.1", port) == f"port {port} is not one of XMPP"


@pytest.mark.parametrize("port", [80, 443, 1024, 5222, 5223, 65535])
def test_ports_of_xmpp_are_not(port: int) -> None:
    assert forbidden("1.1.1.1", port) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "192.0.2.1",
        "192.0.2.1.",
        "::1",
        "example.1",
        "127.1",
        "a b",
        "a_b.example",
        "a\\.b",
        "a..example",
        "\\000.example",
        "a\r\nb",
        "x" * 64 + ".example",
    ],
)
def test_what_is_no_host_name_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[ -~]+$"):
        host_name(text)


def test_a_host_name_comes_in_one_form() -> None:
    assert host_name("XMPP.Example.NET.") == "xmpp.example.net"
    assert host_name("xn--fa-hia.de") == "xn--fa-hia.de"


def test_an_address_comes_in_one_form() -> None:
    assert unmapped("::ffff:192.0.2.1") == "192.0.2.1"
    assert unmapped("2001:DB8:0::1") == "2001:db8::1"


def test_a_target_shows_where_it_is() -> None:
    assert str(Target("xmpp.example.net", 5222, direct=False)) == "xmpp.example.net:5222"
    assert str(Target("::1", 5223, direct=True)) == "[::1]:5223"
