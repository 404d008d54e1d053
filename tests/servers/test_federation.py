"""Legacy servers that know only server dialback federate with a network that requires TLS."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.authority import Authority
from tests.servers import federation as places
from tests.servers.bascule import ServerBascule
from tests.servers.federation import JABBERD2, PROSODY, Federation
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import Program, Way

pytestmark = pytest.mark.server("prosody", "lua-unbound", "jabberd2", "ejabberd", "unbound")

SECONDS = 30.0
"""How long a server may take to write its log."""

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
    _expect(_between(federation, remote, legacy), set(_ways(legacy, remote)))


@pytest.mark.parametrize("remote", [places.SECURE_PROSODY, places.DIALBACK_EJABBERD])
@each_legacy
def test_many_messages_keep_their_order(federation: Federation, legacy: str, remote: str) -> None:
    federation.exchange(legacy, remote)
    federation.converse(legacy, remote, messages=200)


def test_both_domains_behind_bascules(federation: Federation) -> None:
    """What each server sees is the dialback of the other; each Bascule sees a certificate."""
    federation.exchange(PROSODY, JABBERD2)
    _expect(
        _between(federation, PROSODY, JABBERD2),
        {Way(PROSODY, JABBERD2, DIALBACK), Way(JABBERD2, PROSODY, DIALBACK)},
    )
    _restart(federation.servers.prosody)
    for domain, other in ((PROSODY, JABBERD2), (JABBERD2, PROSODY)):
        _expect_proofs(
            federation.bascules[domain], Way(domain, other, EXTERNAL), Way(other, domain, EXTERNAL)
        )


@pytest.mark.parametrize("remote", [places.STRANGER, places.NO_DIALBACK, places.NOWHERE])
@each_legacy
def test_what_is_not_trusted_bounces(federation: Federation, legacy: str, remote: str) -> None:
    assert f"by bob@{remote}: " in federation.bounces(legacy, remote)


@pytest.mark.parametrize("remote", [places.SECURE_PROSODY, places.SECURE_EJABBERD])
@each_legacy
def test_messages_flow_again_after_the_legacy_server_restarted(
    federation: Federation, legacy: str, remote: str
) -> None:
    federation.exchange_again(legacy, remote)
    _restart(federation.servers.of(legacy))
    _expect_proofs(federation.bascules[legacy], *_ways(legacy, remote))
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
    _expect_proofs(federation.bascules[legacy], *_ways(legacy, remote))
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
    remotes = (places.SECURE_PROSODY, places.SECURE_EJABBERD, places.DIALBACK_PROSODY)
    bascule = federation.bascules[JABBERD2]
    with _one_stream(federation.servers.jabberd2) as server:
        for remote in remotes:
            federation.exchange_again(JABBERD2, remote)
        settled = _out_of(bascule)
        for _ in range(3):
            for remote in remotes:
                federation.exchange(JABBERD2, remote)
        # No stream has ended or begun meanwhile, neither jabberd2's nor those to the others.
        assert _out_of(bascule) == settled
        server.stop()
        _expect_more(bascule, settled, {None: 1, **dict.fromkeys(remotes, 1)})


@pytest.mark.parametrize("remote", [places.STRANGER, places.NO_DIALBACK, places.NOWHERE])
def test_a_domain_that_is_refused_does_not_stop_mail_to_others_on_one_stream(
    federation: Federation, remote: str
) -> None:
    """jabberd2 itself ends its stream when a domain is refused, and opens another at need."""
    others = (places.SECURE_PROSODY, places.DIALBACK_PROSODY)
    with _one_stream(federation.servers.jabberd2):
        for other in others:
            federation.exchange_again(JABBERD2, other)
        for _ in range(2):
            assert f"by bob@{remote}: " in federation.bounces(JABBERD2, remote)
            for other in others:
                federation.exchange_again(JABBERD2, other)


@contextlib.contextmanager
def _one_stream(server: Jabberd2) -> Iterator[Jabberd2]:
    """Have jabberd2 send everything that goes to one place on one stream."""
    server.one_stream = True
    try:
        _restart(server)
        yield server
    finally:
        server.one_stream = False
        _restart(server)


def _out_of(bascule: ServerBascule) -> Counter[str | None]:
    """Return how many streams of the legacy server's have ended, by the domain each was to.

    None stands for those that were for several domains. For each domain it also says, as
    ``TLS DOMAIN``, how often a server has been reached.
    """
    log = bascule.whole_log()
    ended = re.findall(r" session ended .* listener=s2s-out (.*)", log)
    domains = [re.search(r"(?:^| )domain=(\S+)", fields) for fields in ended]
    reached = re.findall(r" Verified TLS connection established to ([^\[\s]+)", log)
    found: Counter[str | None] = Counter(domain and domain[1] for domain in domains)
    found.update(f"TLS {domain}" for domain in reached)
    return found


def _expect_more(
    bascule: ServerBascule, before: Counter[str | None], more: Mapping[str | None, int]
) -> None:
    """Wait until so many more streams have ended, and no others."""
    expected = dict(before + Counter(more))
    _expect(lambda: set(_out_of(bascule).items()), set(expected.items()))


def _restart(program: Program) -> None:
    program.stop()
    program.start()


def _ways(legacy: str, remote: str) -> tuple[Way, Way]:
    """Return how a Bascule is to prove itself to a remote server, and that to the Bascule."""
    there, back = NETWORK[remote]
    return Way(legacy, remote, there), Way(remote, legacy, back)


def _between(federation: Federation, observer: str, other: str) -> Callable[[], set[Way]]:
    """Return what tells how two domains authenticated to each other, by the first one's server."""
    server = federation.servers.of(observer)
    assert not isinstance(server, Jabberd2)

    def ways() -> set[Way]:
        return {each for each in server.ways() if {each.sender, each.receiver} == {observer, other}}

    return ways


def _expect_proofs(bascule: ServerBascule, there: Way, back: Way) -> None:
    """Wait until Bascule has logged the ends of a stream out and of one in."""
    expected = {("s2s-out", there), ("s2s-in", back)}
    _expect(lambda: bascule.proofs() & expected, expected)


def _expect(seen: Callable[[], set[Any]], expected: set[Any]) -> None:
    """Wait until a log, which is written while a test goes on, says what is expected."""
    end = time.monotonic() + SECONDS
    while seen() != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert seen() == expected
