"""Alerts that come to an administrator's client, through real servers and a real daemon."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from tests.authority import Authority
from tests.net.hostile import Hostile, showing, upgraded
from tests.net.trusting import Operated, alone, fresh, with_level
from tests.servers import network
from tests.servers.client import Client
from tests.servers.dns.unbound import NameServer
from tests.servers.program import HOST
from tests.servers.prosody import Prosody

PROSODY = pytest.mark.server("prosody")
UNBOUND = pytest.mark.server("unbound")


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@attrs.frozen
class Abroad:
    """What leads to the servers of other domains, and the port of one for direct TLS."""

    names: NameServer
    authority: Authority
    port: int


@pytest.fixture
def abroad(tls_prosody: Prosody, names: NameServer, authority: Authority) -> Abroad:
    assert tls_prosody.direct_port is not None
    return Abroad(names, authority, tls_prosody.direct_port)


def alerts(directory: Path, domain: str, **more: str) -> Mapping[str, object]:
    """Return the table for messages from bob to alice."""
    password = directory / "password"
    password.write_text("pw-bob\n")
    password.chmod(0o600)
    account = {"to": [f"alice@{domain}"], "account": f"bob@{domain}"}
    return {**account, "password_file": str(password), **more}


async def told(client: Client, bascule: Operated, hostile: Hostile, directory: Path) -> None:
    """Let a session be refused, of which the administrator is told by one message."""
    assert await client.login() == "session started"
    domain = fresh("kept")
    hostile.play(upgraded(showing(alone(directory, domain))))
    said = [bascule.refused(hostile, domain) for _ in range(3)]
    sender, body = await client.read()
    assert sender == client.jid.replace("alice", "bob")
    assert domain in body
    assert f"bascule keyring approve {said[0].held_id}" in body
    bascule.decide(said[0].held_id)
    bascule.login(hostile, domain)
    other = fresh("kept")
    hostile.play(upgraded(showing(alone(directory, other))))
    bascule.refused(hostile, other)
    assert other in (await client.read())[1]  # and nothing came between
    assert "alerts could not be sent" not in bascule.log()


@PROSODY
def test_an_alert_comes_through_the_legacy_server(
    prosody: Prosody, hostile: Hostile, tmp_path: Path
) -> None:
    table = alerts(tmp_path, prosody.domain, server=f"{HOST}:{prosody.port}")
    policies = [with_level("kept", hostile.port, level="keyring")]

    async def run() -> None:
        with Operated(tmp_path, policies, tables={"alerts": table}) as bascule:
            async with Client("alice", prosody.domain, prosody.port, "plaintext") as alice:
                await told(alice, bascule, hostile, tmp_path)

    asyncio.run(run())


@PROSODY
@UNBOUND
@pytest.mark.parametrize(
    ("domain", "level"),
    [(network.PROSODY_STARTTLS, "secure"), (network.PROSODY_DIRECT, "encrypt")],
)
def test_an_alert_comes_through_the_server_of_another_domain(
    abroad: Abroad, hostile: Hostile, tmp_path: Path, domain: str, level: str
) -> None:
    """By TLS, as a session of our own; a server that has not proved itself is sent no password."""
    policy: dict[str, object] = {"domain": domain, "level": level, "private_addresses": True}
    if level == "secure":
        policy["ca_file"] = str(abroad.authority.ca_path)
    policies = [with_level("kept", hostile.port, level="keyring"), policy]
    tables = {"alerts": alerts(tmp_path, domain), "dns": {"servers": [abroad.names.address]}}

    async def run() -> None:
        with Operated(tmp_path, policies, tables=tables) as bascule:
            async with Client(
                "alice", domain, abroad.port, "direct", abroad.authority.ca_path
            ) as alice:
                await told(alice, bascule, hostile, tmp_path)
            assert f"TLS connection established to {domain}[" in bascule.log()

    asyncio.run(run())
