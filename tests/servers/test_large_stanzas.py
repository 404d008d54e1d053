"""Large stanzas pass whole under the limit and end the stream with a clear error above it."""

import asyncio

import pytest

from tests.servers.bascule import STANZA_BYTES
from tests.servers.client import Client, Transport, converse
from tests.servers.conftest import Front
from tests.servers.test_login import Server, each_server, each_transport

MEGABYTE = "0123456789abcdef" * 65_536


@each_transport
@each_server
def test_a_message_of_a_megabyte_arrives_whole(
    front: Front, server: Server, transport: Transport
) -> None:
    async def run() -> None:
        trusted = front.authority.ca_path
        async with (
            Client("alice", server.domain, front.port, transport, trusted) as alice,
            Client("bob", server.domain, front.port, transport, trusted) as bob,
        ):
            await converse(alice, bob, MEGABYTE)

    asyncio.run(run())


@pytest.mark.parametrize("excess", [1, STANZA_BYTES])
@each_transport
@each_server
def test_a_message_above_the_limit_ends_the_stream_cleanly(
    front: Front, server: Server, transport: Transport, excess: int
) -> None:
    """The limit is Bascule's: the servers would have taken the message."""

    async def run() -> str:
        trusted = front.authority.ca_path
        async with (
            Client("alice", server.domain, front.port, transport, trusted) as alice,
            Client("bob", server.domain, front.port, transport, trusted) as bob,
        ):
            await converse(alice, bob)
            alice.write(bob.jid, "x" * (STANZA_BYTES + excess))
            return await alice.stream_error()

    assert asyncio.run(run()) == "policy-violation"
