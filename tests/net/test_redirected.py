"""Connections that the packet filter leads to Bascule, by the rules of docs/redirect.md.

A plaintext client connects to the server's own address; on the router, or on the client's machine,
it is taken from there and carried on over TLS.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.daemon.exits import Exit
from proxy.net.redirected import NotRedirectedError, original_destination
from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net import namespaces
from tests.net.namespaces import CLIENT, LAN, ROOT_USER, SERVER, SERVER_TOO, Namespace
from tests.net.redirections import (
    DOMAIN,
    LISTENING,
    NOBODY,
    OTHER_PORT,
    OUTPUT,
    PAGE,
    PORT,
    REDIRECT,
    TPROXY,
    UNTRUSTED,
    Kind,
    Placed,
    World,
    admitting,
    assert_carried,
    assert_refused,
    load_output,
    restricted,
    section,
    world_in,
)
from tests.servers.program import HOST
from tests.servers.stream import Stream

FAMILIES = ("IPv4", "IPv6")


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    """Skip where no namespaces can be made, or fail where all must be there."""
    lack = namespaces.lack()
    if lack is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lack)
    with world_in(tmp_path_factory.mktemp("world"), authority) as world:
        yield world


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """The network without any rules."""
    _world.refresh()
    yield _world
    _world.clear()


# Without rules


def test_without_rules_the_server_itself_answers(world: World) -> None:
    for family in FAMILIES:
        with world.open(SERVER.of(family)) as stream:
            assert "<required" in stream.read_until("</stream:features>")


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, HOST), (socket.AF_INET6, "::1")], ids=FAMILIES
)
def test_a_kernel_without_rules_knows_no_original_destination(
    world: World, family: socket.AddressFamily, host: str
) -> None:
    with contextlib.ExitStack() as stack:
        alone = Namespace()
        stack.callback(alone.close)
        listening = stack.enter_context(
            alone.inside(lambda: socket.create_server((host, PORT), family=family))
        )
        stack.enter_context(alone.connect(host, PORT))
        accepted = stack.enter_context(listening.accept()[0])
        with pytest.raises(NotRedirectedError):
            original_destination(accepted, tproxy=False)


# On a router


KINDS = {
    "redirect": Kind(REDIRECT),
    "redirect to 0.0.0.0": Kind(REDIRECT, "0.0.0.0", ("IPv4",)),
    "tproxy": Kind(TPROXY),
    "tproxy to [::]": Kind(TPROXY, "[::]"),
    "tproxy to 0.0.0.0": Kind(TPROXY, "0.0.0.0", ("IPv4",)),
}

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_title = pytest.mark.parametrize(
    "kind", [KINDS["redirect"], KINDS["tproxy"]], ids=["redirect", "tproxy"]
)
in_reach = pytest.mark.parametrize(
    "kind", [KINDS["redirect"], KINDS["tproxy to [::]"]], ids=["redirect", "tproxy"]
)
"""Those whose listener others can connect to."""


@each_kind
def test_what_passes_a_router_is_carried_on(world: World, kind: Kind, tmp_path: Path) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, kind.conf, before=kind.before) as bascule:
        for family in kind.families:
            with world.open(SERVER.of(family)) as stream:
                assert_carried(stream, world, bascule, Address(SERVER.of(family), PORT))
                port: int = stream.connection.getsockname()[1]
            bascule.wait_for_log(f" client={Address(CLIENT.of(family), port)} ")


@each_title
def test_no_more_is_taken_than_the_rules_say(world: World, kind: Kind) -> None:
    """Other ports, and what the router itself begins; without a Bascule these work as well."""
    kind.load(world.network.router)
    for family in kind.families:
        with world.open(SERVER.of(family), OTHER_PORT) as stream:
            assert "<required" in stream.read_until("</stream:features>")
        with world.open(SERVER.of(family), from_router=True) as stream:
            assert "<required" in stream.read_until("</stream:features>")


@each_title
def test_without_bascule_nobody_passes_in_plaintext(world: World, kind: Kind) -> None:
    kind.load(world.network.router)
    for family in kind.families:
        with (
            pytest.raises((ConnectionRefusedError, TimeoutError)),
            world.network.client.connect(SERVER.of(family), PORT, seconds=0.5),
        ):
            pass


FILTER = """\
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        meta l4proto ipv6-icmp accept
        ct state established,related accept
        RULE
    }
}
"""


@each_title
def test_a_machine_that_filters_what_comes_in_admits_what_is_led(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    kind.load(world.network.router)
    rules = FILTER.replace("RULE", admitting(kind.title))
    world.network.router.run("nft", "-f", "-", given=rules)
    with world.forward(tmp_path, kind.conf, before=kind.before) as bascule:
        for family in kind.families:
            with world.open(SERVER.of(family)) as stream:
                assert_carried(stream, world, bascule, Address(SERVER.of(family), PORT))
            with pytest.raises(TimeoutError):
                world.network.client.connect(LAN.of(family), LISTENING, seconds=0.3)


def test_tproxy_leaves_connections_to_the_router_alone(world: World, tmp_path: Path) -> None:
    kind = KINDS["tproxy to [::]"]
    kind.load(world.network.router)
    with world.forward(tmp_path, kind.conf, before=kind.before) as bascule:
        for family in FAMILIES:
            with pytest.raises(ConnectionRefusedError), world.open(LAN.of(family)):
                pass
        assert bascule.warnings() == []


NOT_REDIRECTED = "connection closed: the connection was not redirected"
LED_BACK = "connection closed: our own connection to a server was led back to us"


def assert_closed(stream: Stream, bascule: Placed, times: int = 1) -> None:
    """Find that the connection has been closed without a word, but for one in the log."""
    with contextlib.suppress(ConnectionResetError):  # as the header was not read
        assert stream.read_to_end() == ""
    client = Address(*stream.connection.getsockname()[:2])
    bascule.wait_for_log(f"{NOT_REDIRECTED} listener=redirected client={client}\n")
    assert len(bascule.warnings()) == times
    assert f"`{NOT_REDIRECTED}`" in PAGE.read_text()


@in_reach
def test_a_connection_to_the_listener_itself_is_closed(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    with world.forward(tmp_path, kind.conf, before=kind.before) as bascule:
        with world.open(LAN.ipv4, LISTENING) as stream:
            assert_closed(stream, bascule)
        kind.load(world.network.router)
        for times, family in enumerate(FAMILIES, start=2):
            with world.open(LAN.of(family), LISTENING) as stream:
                assert_closed(stream, bascule, times)


@in_reach
def test_a_connection_by_an_address_of_the_link_is_closed(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    """Nothing tells that such an address is ours without the link it belongs to."""
    kind.load(world.network.router)
    for machine, device, address in (
        (world.network.client, "eth0", "fe80::2"),
        (world.network.router, "lan0", "fe80::1"),
    ):
        machine.run("ip", "addr", "replace", f"{address}/64", "dev", device, "nodad")
    with (
        world.forward(tmp_path, kind.conf, before=kind.before) as bascule,
        world.open("fe80::1%eth0", LISTENING) as stream,
    ):
        with contextlib.suppress(ConnectionResetError):
            assert stream.read_to_end() == ""
        bascule.wait_for_log(NOT_REDIRECTED)


def test_what_tproxy_hands_over_for_this_machine_is_closed(world: World, tmp_path: Path) -> None:
    """Though the rules lack the line that leaves it alone."""
    kind = KINDS["tproxy"]
    kind.load(world.network.router)
    rules = section(TPROXY, "nft")
    spoilt = rules.replace("fib daddr type local return\n", "\n")
    assert spoilt != rules
    world.network.router.run("nft", "-f", "-", given=spoilt)
    with (
        world.forward(tmp_path, kind.conf, before=kind.before) as bascule,
        world.open(LAN.ipv4) as stream,
    ):
        assert_closed(stream, bascule)


@each_title
def test_a_destination_that_is_not_the_domains_is_refused(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, kind.conf, before=kind.before):
        for family in kind.families:
            place = Address(SERVER_TOO.of(family), PORT)
            with world.open(place.host) as stream:
                text = f"{place} is not a server of {DOMAIN}"
                assert_refused(stream, "policy-violation", text)
    assert world.legacy.heard == b""


def unlisted(kind: Kind) -> str:
    """The conf, and every destination allowed."""
    original = 'destination = "original"\n'
    assert original in kind.conf
    domains = kind.conf.replace(f'["{DOMAIN}"]', f'["{DOMAIN}", "{UNTRUSTED}"]')
    return domains.replace(original, f"{original}unlisted_destinations = true\n")


@each_title
def test_another_destination_may_be_allowed_but_must_prove_its_domain(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, unlisted(kind), before=kind.before) as bascule:
        for family in kind.families:
            place = Address(SERVER_TOO.of(family), PORT)
            with world.open(place.host, domain=UNTRUSTED) as stream:
                assert_refused(stream, "policy-violation", "certificate")
            assert world.legacy.heard == b""
            with world.open(place.host) as stream:
                assert_carried(stream, world, bascule, place)
            world.refresh()


# Capabilities


def test_without_its_capability_tproxy_does_not_start(world: World, tmp_path: Path) -> None:
    kind = KINDS["tproxy"]
    bascule = world.forward(tmp_path, kind.conf, before=restricted())
    with pytest.raises(RuntimeError, match=f"exit status {Exit.UNAVAILABLE.value}"):
        bascule.start()
    complaint = "listener redirected: 127.0.0.1:5229: Operation not permitted"
    assert complaint in bascule.log()
    assert f"`{complaint}`" in PAGE.read_text()


def test_the_greater_capability_does_as_well(world: World, tmp_path: Path) -> None:
    kind = KINDS["tproxy"]
    before = restricted("+net_admin", "+net_admin")
    with world.forward(tmp_path, kind.conf, before=before) as bascule:
        assert bascule.processes[0].poll() is None


# On the client's own machine


def test_what_leaves_a_machine_is_carried_on(world: World, tmp_path: Path) -> None:
    """But for Bascule's own connections."""
    load_output(world.network.client, excepted=ROOT_USER)
    conf = section(OUTPUT, "toml")
    with world.forward(tmp_path, conf, on_client=True, before=restricted()) as bascule:
        for family in FAMILIES:
            with world.open(SERVER.of(family)) as stream:
                assert_carried(stream, world, bascule, Address(SERVER.of(family), PORT))


@pytest.mark.parametrize("destination", ["original", "srv"])
def test_an_own_connection_that_is_led_back_ends_at_once(
    world: World, tmp_path: Path, destination: str
) -> None:
    load_output(world.network.client, excepted=NOBODY)
    conf = section(OUTPUT, "toml").replace('"original"', f'"{destination}"')
    with world.forward(tmp_path, conf, on_client=True, before=restricted()) as bascule:
        for times, family in enumerate(FAMILIES, start=1):
            with world.open(SERVER.of(family)) as stream:
                assert_refused(stream, "remote-connection-failed", f"{DOMAIN} cannot be reached")
                client = Address(*stream.connection.getsockname()[:2])
            bascule.wait_for_log(f" client={client} domain={DOMAIN} ")
            assert bascule.log().count(" session ended ") == times
            assert len(bascule.warnings()) == times
            assert bascule.warnings()[-1].startswith(f"{LED_BACK} listener=redirected")
    assert world.legacy.heard == b""
    assert f"`{LED_BACK}`" in PAGE.read_text()
