"""Legacy servers federate through several processes: what one of them asks, another answers."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.servers import federation as places
from tests.servers.bascule import ServerBascule
from tests.servers.federation import Federation

pytestmark = pytest.mark.server("prosody", "lua-unbound", "jabberd2", "unbound")

WORKERS = 3

ROUNDS = 40
"""How often a chance of two in three may fail."""


class Several(ServerBascule):
    """One in several processes."""

    def configuration(self) -> str:
        directory = self.configuration_path.parent
        return (
            f"{super().configuration()}\n[bascule]\nworkers = {WORKERS}\n"
            f'state_directory = "{directory}"\ncontrol_socket = "{directory}/control"\n'
        )


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Federation]:
    """All servers but ejabberd, running."""
    with pytest.MonkeyPatch.context() as patched, contextlib.ExitStack() as stack:
        patched.setattr(places, "ServerBascule", Several)
        made = Federation.make(tmp_path_factory.mktemp("federation"), authority)
        for program in made.programs():
            if program is not made.servers.ejabberd:
                stack.enter_context(program)
        yield made


@pytest.mark.parametrize("legacy", places.LEGACY)
def test_a_key_of_one_process_is_confirmed_by_another(federation: Federation, legacy: str) -> None:
    remote = places.DIALBACK_PROSODY
    bascule, server = federation.bascules[legacy], federation.servers.of(legacy)
    for _ in range(ROUNDS):
        before = len(bascule.whole_log())
        federation.exchange_again(legacy, remote)
        log = bascule.whole_log()[before:]
        assert f" sender={legacy} to={remote} by=dialback " in log
        # Where the remote server was told of a key, and where it can have asked whether it holds.
        issued, asked = (_processes(log, f"established {way} {remote}") for way in ("to", "from"))
        if issued and asked and not issued & asked:
            return
        server.stop()  # with it all streams end, so that there will be others
        server.start()
    pytest.fail("whoever issued a key was always asked for it")


@pytest.mark.parametrize("legacy", places.LEGACY)
def test_certificates_prove_both_sides_to_whichever_process(
    federation: Federation, legacy: str
) -> None:
    remote = places.SECURE_PROSODY
    federation.exchange(legacy, remote)
    log = federation.bascules[legacy].whole_log()
    assert f" sender={legacy} to={remote} by=external " in log
    assert f" sender={remote} to={legacy} by=external " in log


def test_both_domains_behind_several_processes(federation: Federation) -> None:
    one, other = places.LEGACY
    federation.exchange(one, other)
    for domain, peer in ((one, other), (other, one)):
        log = federation.bascules[domain].whole_log()
        assert f" sender={domain} to={peer} by=external " in log
        assert f" sender={peer} to={domain} by=external " in log


def _processes(log: str, text: str) -> set[str]:
    """Return the numbers of the workers that have written a line with a text."""
    return set(re.findall(rf" {re.escape(text)}\[.* worker=(\d+)\n", log))
