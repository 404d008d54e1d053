"""Legacy servers that know only server dialback federate with a network that requires TLS."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.servers import federation as places
from tests.servers.federation import JABBERD2, PROSODY, Federation
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import Program, Way

pytestmark = pytest.mark.server("prosody", "lua-unbound", "jabberd2", "ejabberd", "unbound")

EXTERNAL, DIALBACK = "EXTERNAL", "dialback"

NETWORK = {
    places.SECURE_PROSODY: (EXTERNAL, EXTERNAL),
    places.DIRECT_PROSODY: (EXTERNAL, EXTERNAL),
    places.DIALBACK_PROSODY: (DIALBACK, DIALBACK),
    places.SECURE_EJABBERD: (EXTERNAL, EXTERNAL),
    places.DIRECT_EJABBERD: (EXTERNAL, EXTERNAL),
    places.DIALBACK_EJABBERD: (DIALBACK, EXTERNAL),
}
"""For each domain how the legacy server's Bascule proves itself to it, and it to that Bascule."""

each_legacy = pytest.mark.parametrize("legacy", places.LEGACY)
each_remote = pytest.mark.parametrize("remote", NETWORK)


@pytest.fixture(scope="session")
def federation(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Federation]:
    """All servers, running."""
    made = Federation.make(tmp_path_factory.mktemp("federation"), authority)
    with contextlib.ExitStack() as stack:
        for program in made.programs():
            stack.enter_context(program)
        yield made


def test_the_servers_themselves_work(federation: Federation) -> None:
    """Without Bascule, so that a fault of the laboratory shows as one."""
    federation.exchange(places.SECURE_PROSODY, places.SECURE_EJABBERD)
    federation.exchange(places.DIALBACK_PROSODY, places.DIALBACK_EJABBERD)


@each_remote
@each_legacy
def test_messages_go_both_ways(federation: Federation, legacy: str, remote: str) -> None:
    federation.exchange(legacy, remote)
    there, back = NETWORK[remote]
    assert _ways_between(federation, remote, legacy) == {
        Way(legacy, remote, there),
        Way(remote, legacy, back),
    }


def test_both_domains_behind_bascules(federation: Federation) -> None:
    """What each server sees is the dialback of the other."""
    federation.exchange(PROSODY, JABBERD2)
    assert _ways_between(federation, PROSODY, JABBERD2) == {
        Way(PROSODY, JABBERD2, DIALBACK),
        Way(JABBERD2, PROSODY, DIALBACK),
    }


@pytest.mark.parametrize("remote", [places.STRANGER, places.NO_DIALBACK, places.NOWHERE])
@each_legacy
def test_what_is_not_trusted_bounces(federation: Federation, legacy: str, remote: str) -> None:
    assert f"by bob@{remote}: " in federation.bounces(legacy, remote)


def test_servers_that_must_not_use_dialback_are_refused(federation: Federation) -> None:
    assert f"by bob@{PROSODY}: " in federation.bounces(places.NO_DIALBACK, PROSODY)


@pytest.mark.parametrize("remote", [places.SECURE_PROSODY, places.SECURE_EJABBERD])
@each_legacy
def test_messages_flow_again_after_the_legacy_server_restarted(
    federation: Federation, legacy: str, remote: str
) -> None:
    federation.exchange_again(legacy, remote)
    _restart(federation.servers.of(legacy))
    federation.exchange_again(remote, legacy)


@pytest.mark.parametrize(
    "remote", [places.SECURE_PROSODY, places.DIALBACK_PROSODY, places.DIALBACK_EJABBERD]
)
@each_legacy
def test_messages_flow_again_after_the_remote_server_restarted(
    federation: Federation, legacy: str, remote: str
) -> None:
    federation.exchange_again(legacy, remote)
    _restart(federation.servers.of(remote))
    federation.exchange_again(legacy, remote)


@each_legacy
def test_messages_flow_again_after_bascule_restarted(federation: Federation, legacy: str) -> None:
    federation.exchange_again(legacy, places.SECURE_PROSODY)
    _restart(federation.bascules[legacy])
    federation.exchange_again(places.SECURE_PROSODY, legacy)


def test_jabberd2_that_names_the_domains_at_once(federation: Federation) -> None:
    """With a certificate of its own jabberd2 says in its header between whom the stream is."""
    server = federation.servers.jabberd2
    server.certificate = places.certificate(federation.authority, JABBERD2)
    try:
        _restart(server)
        federation.exchange_again(JABBERD2, places.SECURE_PROSODY)
        federation.exchange_again(JABBERD2, places.DIALBACK_PROSODY)
    finally:
        server.certificate = None
        _restart(server)


def test_jabberd2_that_has_one_stream_for_all_domains(federation: Federation) -> None:
    """As the package configures it: where all targets are one, it sends everything there."""
    server = federation.servers.jabberd2
    server.one_stream = True
    try:
        _restart(server)
        for remote in (places.SECURE_PROSODY, places.SECURE_EJABBERD, places.DIALBACK_PROSODY):
            federation.exchange_again(JABBERD2, remote)
    finally:
        server.one_stream = False
        _restart(server)


def _restart(program: Program) -> None:
    program.stop()
    program.start()


def _ways_between(federation: Federation, observer: str, other: str) -> set[Way]:
    """Return how two domains have authenticated to each other, as the first one's server says."""
    server = federation.servers.of(observer)
    assert not isinstance(server, Jabberd2)
    return {each for each in server.ways() if {each.sender, each.receiver} == {observer, other}}
