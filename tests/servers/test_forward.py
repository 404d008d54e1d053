"""Clients that know no TLS reach servers that insist on it, through Bascule and signed names."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import network
from tests.servers.bascule import ForwardBascule
from tests.servers.client import Client, Participant, converse
from tests.servers.ejabberd import Ejabberd
from tests.servers.mcabber import Mcabber
from tests.servers.old_client import OldClient
from tests.servers.prosody import Prosody
from tests.servers.stream import plaintext

pytestmark = pytest.mark.server("unbound")

PROSODY = pytest.mark.server("prosody")
EJABBERD = pytest.mark.server("ejabberd")
MCABBER = pytest.mark.server("mcabber")

Make = Callable[[str, str, int, Path], Participant]
"""Makes a client of a name, a domain, a port and a directory for its state."""


def _slixmpp(name: str, domain: str, port: int, _: Path) -> Client:
    return Client(name, domain, port, "plaintext")


def _old(name: str, domain: str, port: int, _: Path) -> OldClient:
    return OldClient(name, domain, port)


each_client = pytest.mark.parametrize(
    "make",
    [
        pytest.param(_slixmpp, id="slixmpp"),
        pytest.param(Mcabber, id="mcabber", marks=MCABBER),
        pytest.param(_old, id="before-1.0"),
    ],
)

each_server = pytest.mark.parametrize(
    ("server", "domain"),
    [
        pytest.param("tls_prosody", network.PROSODY_STARTTLS, id="prosody-starttls", marks=PROSODY),
        pytest.param("tls_prosody", network.PROSODY_DIRECT, id="prosody-direct", marks=PROSODY),
        pytest.param("ejabberd", network.EJABBERD_STARTTLS, id="ejabberd-starttls", marks=EJABBERD),
        pytest.param("ejabberd", network.EJABBERD_DIRECT, id="ejabberd-direct", marks=EJABBERD),
    ],
    indirect=["server"],
)


@each_server
def test_the_servers_themselves_take_nobody_without_tls(
    server: Prosody | Ejabberd, domain: str
) -> None:
    with plaintext(server.port, domain) as stream:
        stream.send_header()
        features = stream.read_until("</stream:features>")
    assert "<required" in features
    assert "<mechanism" not in features
    assert "iq-auth" not in features


@each_client
@each_server
def test_a_client_without_tls_exchanges_messages(
    forward: ForwardBascule,
    server: Prosody | Ejabberd,
    domain: str,
    make: Make,
    tmp_path: Path,
) -> None:
    """With one that is connected to the server itself, by TLS."""

    async def run() -> None:
        async with (
            make("alice", domain, forward.port, tmp_path) as alice,
            Client("bob", domain, server.port, "starttls", forward.authority) as bob,
        ):
            await converse(alice, bob)

    asyncio.run(run())


@EJABBERD
def test_a_digest_of_the_stream_id_is_accepted(forward: ForwardBascule, ejabberd: Ejabberd) -> None:
    """The id that the client sees is the server's own."""

    async def run() -> None:
        async with OldClient("alice", network.EJABBERD_STARTTLS, forward.port) as alice:
            assert await alice.login() == "session started"
            assert alice.by_digest

    asyncio.run(run())


@PROSODY
@MCABBER
@pytest.mark.parametrize(
    "domain", [network.DEAD_FIRST, network.SILENT_FIRST, network.SILENT_DIRECT_FIRST]
)
def test_a_target_that_fails_is_followed_by_the_next(
    forward: ForwardBascule, tls_prosody: Prosody, domain: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with (
            Mcabber("alice", domain, forward.port, tmp_path) as alice,
            OldClient("bob", domain, forward.port) as bob,
        ):
            await converse(alice, bob)

    asyncio.run(run())


@PROSODY
def test_a_zone_without_signatures_is_followed(
    forward: ForwardBascule, tls_prosody: Prosody, tmp_path: Path
) -> None:
    """The certificate is what proves the domain, not its name server."""
    outcome, _ = _login(_slixmpp, network.UNSIGNED, forward, tmp_path)
    assert outcome == "session started"


@PROSODY
@each_client
def test_a_zone_with_broken_signatures_is_not_followed(
    forward: ForwardBascule, tls_prosody: Prosody, make: Make, tmp_path: Path
) -> None:
    outcome, text = _login(make, network.BOGUS, forward, tmp_path)
    assert outcome == "stream error: remote-connection-failed"
    assert network.BOGUS in text


@PROSODY
@each_client
def test_a_certificate_of_another_domain_is_refused_in_words_to_act_on(
    forward: ForwardBascule, tls_prosody: Prosody, make: Make, tmp_path: Path
) -> None:
    outcome, text = _login(make, network.STRANGER, forward, tmp_path)
    assert outcome == "stream error: policy-violation"
    assert "certificate" in text
    assert network.STRANGER in text
    assert network.ELSEWHERE in text


@pytest.mark.parametrize("version", ["1.0", None])
def test_a_refusal_is_a_whole_stream(forward: ForwardBascule, version: str | None) -> None:
    with plaintext(forward.port, network.BOGUS) as stream:
        stream.send_header(version)
        said = stream.read_to_end()
    assert re.match(r"<\?xml [^>]*\?>\s*<stream:stream [^>]*>\s*<stream:error>", said), said
    assert re.search(f"from=['\"]{network.BOGUS}['\"]", said)
    assert said.endswith("</stream:error></stream:stream>")


@PROSODY
def test_the_log_says_who_was_verified_and_how(
    forward: ForwardBascule, tls_prosody: Prosody, tmp_path: Path
) -> None:
    outcome, _ = _login(_slixmpp, network.PROSODY_STARTTLS, forward, tmp_path)
    assert outcome == "session started"
    place = re.escape(f"{network.PROSODY_STARTTLS}[127.0.0.1]:{tls_prosody.port}")
    said = f"Verified TLS connection established to {place}: TLSv1.3"
    assert re.search(said, forward.log_text())


def _login(make: Make, domain: str, forward: ForwardBascule, directory: Path) -> tuple[str, str]:
    """Return the outcome of a login of alice and the text of the stream error, if any."""

    async def run() -> tuple[str, str]:
        async with make("alice", domain, forward.port, directory) as alice:
            return await alice.login(), alice.error_text

    return asyncio.run(run())
