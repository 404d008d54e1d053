"""Clients that insist on TLS log in through Bascule to servers that have none."""

import asyncio
import json
import os
import subprocess

import pytest

from tests.conftest import NODE_CLIENTS
from tests.servers.client import Client, Transport, converse
from tests.servers.conftest import DOWN, Front
from tests.servers.jabberd2 import Jabberd2
from tests.servers.old_client import log_in_with_iq_auth
from tests.servers.prosody import Prosody
from tests.servers.stream import Stream, direct, starttls

SERVERS = [
    pytest.param("prosody", marks=pytest.mark.server("prosody"), id="prosody"),
    pytest.param("jabberd2", marks=pytest.mark.server("jabberd2"), id="jabberd2"),
]
TRANSPORTS: list[Transport] = ["starttls", "direct"]

each_server = pytest.mark.parametrize("server", SERVERS, indirect=True)
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)

Server = Prosody | Jabberd2


@each_server
def test_the_servers_themselves_work(server: Server) -> None:
    """Without Bascule, so that a fault of the laboratory shows as one."""

    async def run() -> None:
        async with (
            Client("alice", server.domain, server.port, "plaintext") as alice,
            Client("bob", server.domain, server.port, "plaintext") as bob,
        ):
            await converse(alice, bob)

    asyncio.run(run())


@each_transport
@each_server
def test_slixmpp_logs_in_and_exchanges_messages(
    front: Front, server: Server, transport: Transport
) -> None:
    async def run() -> None:
        trusted = front.authority.ca_path
        async with (
            Client("alice", server.domain, front.port, transport, trusted) as alice,
            Client("bob", server.domain, front.port, transport, trusted) as bob,
        ):
            await converse(alice, bob)
            assert alice.tls_version() == "TLSv1.3"

    asyncio.run(run())


@each_server
def test_clients_of_both_transports_reach_each_other(front: Front, server: Server) -> None:
    async def run() -> None:
        trusted = front.authority.ca_path
        async with (
            Client("alice", server.domain, front.port, "starttls", trusted) as alice,
            Client("bob", server.domain, server.port, "plaintext") as bob,
        ):
            await converse(alice, bob)
        async with (
            Client("alice", server.domain, front.port, "direct", trusted) as alice,
            Client("bob", server.domain, front.port, "starttls", trusted) as bob,
        ):
            await converse(alice, bob)

    asyncio.run(run())


@pytest.mark.server("node")
@each_server
def test_xmpp_js_logs_in_by_starttls(front: Front, server: Server) -> None:
    assert _xmpp_js(front, server, "starttls") == _both_received(server)


@pytest.mark.server("node")
@each_server
def test_xmpp_js_logs_in_by_direct_tls(lone_front: Front, server: Server) -> None:
    """This library sends no server name with direct TLS: only a lone domain can be meant."""
    assert _xmpp_js(lone_front, server, "direct") == _both_received(server)


def _both_received(server: Server) -> dict[str, object]:
    return {
        "received": {
            "alice": [f"bob@{server.domain}", "Good day, Alice."],
            "bob": [f"alice@{server.domain}", "Good day, Bob."],
        },
        "tls": "TLSv1.3",
    }


@pytest.mark.server("node")
@each_server
def test_xmpp_js_sees_a_wrong_password_as_such(front: Front, server: Server) -> None:
    report = _xmpp_js(front, server, "starttls", "wrong")
    assert "not-authorized" in str(report.get("error")), report


@each_transport
@each_server
def test_slixmpp_sees_a_wrong_password_as_such(
    front: Front, server: Server, transport: Transport
) -> None:
    async def run() -> str:
        trusted = front.authority.ca_path
        async with Client(
            "alice", server.domain, front.port, transport, trusted, password="wrong"
        ) as alice:
            return await alice.login()

    assert asyncio.run(run()) == "not-authorized"


@each_transport
def test_a_server_that_is_down_is_told_to_the_client(front: Front, transport: Transport) -> None:
    async def run() -> str:
        async with Client("alice", DOWN, front.port, transport, front.authority.ca_path) as alice:
            return await alice.login()

    assert asyncio.run(run()) == "stream error: remote-connection-failed"


def test_a_server_that_is_down_gets_the_client_a_whole_stream(front: Front) -> None:
    with starttls(front.port, DOWN, front.authority.ca_path) as stream:
        stream.send_header()
        said = stream.read_to_end()
    assert "<stream:stream " in said
    assert f"from='{DOWN}'" in said or f'from="{DOWN}"' in said
    assert "<remote-connection-failed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" in said
    assert said.endswith("</stream:error></stream:stream>")


@each_server
def test_a_login_before_xmpp_1_0_works_after_starttls(front: Front, server: Server) -> None:
    with starttls(front.port, server.domain, front.authority.ca_path) as stream:
        stream.send_header()
        stream.read_until("</stream:features>")
        log_in_with_iq_auth(stream, "alice", "after-starttls")
        _show_that_the_session_works(stream)


@each_server
def test_a_client_before_xmpp_1_0_logs_in_over_direct_tls(front: Front, server: Server) -> None:
    with direct(front.port, server.domain, front.authority.ca_path) as stream:
        stream.send_header(version=None)
        stream.read_until("<stream:stream [^>]*>")
        log_in_with_iq_auth(stream, "alice", "direct")
        _show_that_the_session_works(stream)


def _show_that_the_session_works(stream: Stream) -> None:
    stream.send("<presence/><iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
    assert "type='result'" in stream.read_until("<iq [^>]*id='roster'[^>]*>")


def _xmpp_js(
    front: Front, server: Server, transport: Transport, *password: str
) -> dict[str, object]:
    """Run the clients of @xmpp/client and return their report."""
    ended = subprocess.run(
        ["node", "client.mjs", transport, str(front.port), server.domain, *password],
        cwd=NODE_CLIENTS,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(front.authority.ca_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout, ended.stderr
    report: dict[str, object] = json.loads(ended.stdout)
    return report
