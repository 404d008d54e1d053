"""Real components (XEP-0114) reach a real server through Bascule, by direct TLS."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import attrs
import pytest
from slixmpp import ComponentXMPP

from tests.authority import Authority
from tests.servers.bascule import Daemon
from tests.servers.client import Client
from tests.servers.program import HOST, free_port
from tests.servers.prosody import DOMAIN as USERS
from tests.servers.prosody import Prosody
from tests.servers.stream import Stream, plaintext

pytestmark = pytest.mark.server("prosody")

GATEWAY, CHAT = "gateway.test", "chat.test"
SECRETS = {GATEWAY: "a gateway's secret", CHAT: "another secret"}
SECONDS = 20.0


class ComponentServer(Prosody):
    """A Prosody that lets components in, too, by plaintext on `component_port`.

    Args:
        directory: its state.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.component_port = free_port()
        self.ports = (*self.ports, self.component_port)

    def launch(self, *arguments: str | Path, **more: Any) -> None:
        """Add the components to its configuration, then start it."""
        configuration = Path(arguments[-1])
        hosts = "".join(
            f'Component "{name}"\n  component_secret = "{secret}"\n'
            for name, secret in SECRETS.items()
        )
        everywhere = (
            f"component_ports = {{ {self.component_port} }}\n"
            f'component_interfaces = {{ "{HOST}" }}\n'
        )
        configuration.write_text(everywhere + configuration.read_text() + hosts)
        super().launch(*arguments, **more)


class ComponentBascule(Daemon):
    """A listener for components, and one for clients who need no TLS here.

    Args:
        directory: its state.
        authority: certifies the components' domains.
        server: the server of all of them.
    """

    def __init__(self, directory: Path, authority: Authority, server: ComponentServer) -> None:
        super().__init__(directory)
        self._files = {name: authority.issue(name) for name in SECRETS}
        self._server = server

    def configuration(self) -> str:
        """Return its conf."""
        parts = [
            f'[[domain]]\nname = "{name}"\ncertificate = "{files[0]}"\n'
            f'private_key = "{files[1]}"\n'
            f'component_server = "{HOST}:{self._server.component_port}"\n'
            for name, files in self._files.items()
        ]
        parts.append(
            '[[listener]]\nname = "components"\ndirection = "reverse"\nstream = "component"\n'
            f'address = "{HOST}:{self.port}"\ntls = "direct"\n'
        )
        return "\n".join(parts)


@attrs.frozen
class Place:
    """Where components connect to, and users.

    Attributes:
        server: the server.
        bascule: what stands in front of it for components.
        authority: the file of the authority that certifies these.
    """

    server: ComponentServer
    bascule: ComponentBascule
    authority: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Place]:
    with (
        ComponentServer(tmp_path_factory.mktemp("prosody")) as server,
        ComponentBascule(tmp_path_factory.mktemp("bascule"), authority, server) as bascule,
    ):
        yield Place(server, bascule, authority.ca_path)


class Component(ComponentXMPP):  # type: ignore[misc]
    """A component of slixmpp that speaks TLS from the first byte, and nothing else.

    Args:
        place: where it connects.
        name: its domain.
        secret: its secret, by default the right one.
    """

    def __init__(self, place: Place, name: str, secret: str | None = None) -> None:
        super().__init__(name, secret or SECRETS[name], HOST, place.bascule.port)
        self.enable_direct_tls = True
        self.enable_plaintext = False
        self.tls_services = {"direct"}  # a name of nothing: components have no SRV records
        self.default_domain = name  # what the certificate must prove
        self.ssl_context = ssl.create_default_context(cafile=str(place.authority))
        self.messages: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: self._over("session started"))
        self.add_event_handler("disconnected", lambda _: self._over("disconnected"))
        self.add_event_handler("connection_failed", lambda why: self._over(f"failed: {why}"))
        self.add_event_handler("stream_error", self._failed)
        self.add_event_handler("message", self._take)

    def get_ssl_context(self) -> ssl.SSLContext:
        """Return how it speaks TLS."""
        context: ssl.SSLContext = self.ssl_context
        return context

    async def begin(self) -> str:
        """Connect; return what came of it."""
        self.connect()
        return await asyncio.wait_for(self.outcome, SECONDS)

    async def read(self) -> tuple[str, str]:
        """Return who wrote the next message, and what."""
        return await asyncio.wait_for(self.messages.get(), SECONDS)

    def _over(self, what: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(what)

    def _failed(self, error: Any) -> None:
        self._over(str(error["condition"]))

    def _take(self, message: Any) -> None:
        self.messages.put_nowait((message["from"].bare, message["body"]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel_connection_attempt()
        await self.disconnect(1.0)


def user(place: Place) -> Client:
    """A user of the server behind, who needs no TLS."""
    return Client("alice", USERS, place.server.port, "plaintext")


def test_messages_go_both_ways(place: Place) -> None:
    async def scenario() -> None:
        async with Component(place, GATEWAY) as component, user(place) as alice:
            assert await component.begin() == "session started"
            assert await alice.login() == "session started"
            for number in range(20):
                component.send_message(alice.jid, f"to {number} <&> é", mfrom=f"bot@{GATEWAY}")
                assert await alice.read() == (f"bot@{GATEWAY}", f"to {number} <&> é")
                alice.write(f"bot@{GATEWAY}", f"from {number}")
                assert await component.read() == (alice.jid, f"from {number}")

    asyncio.run(scenario())


def test_components_reach_each_other(place: Place) -> None:
    async def scenario() -> None:
        async with Component(place, GATEWAY) as gateway, Component(place, CHAT) as chat:
            assert await gateway.begin() == "session started"
            assert await chat.begin() == "session started"
            body = "x" * 100_000
            gateway.send_message(f"room@{CHAT}", body, mfrom=f"bot@{GATEWAY}")
            assert await chat.read() == (f"bot@{GATEWAY}", body)

    asyncio.run(scenario())


def test_a_wrong_secret_is_refused_by_the_server(place: Place) -> None:
    async def scenario() -> None:
        async with Component(place, GATEWAY, SECRETS[CHAT]) as component:
            assert await component.begin() == "not-authorized"

    asyncio.run(scenario())


def test_the_right_secret_by_itself_is_not_enough_without_tls(place: Place) -> None:
    async def scenario() -> None:
        async with Component(place, GATEWAY) as component:
            component.enable_direct_tls = False
            component.enable_plaintext = True
            assert await component.begin() == "policy-violation"

    asyncio.run(scenario())


@contextlib.contextmanager
def under_tls(place: Place, name: str = GATEWAY) -> Iterator[Stream]:
    """A component's connection, on which nothing has been said."""
    with plaintext(place.bascule.port, name) as stream:
        stream.secure(ssl.create_default_context(cafile=str(place.authority)))
        yield stream


def header(to: str) -> str:
    return (
        f"<stream:stream to='{to}' xmlns='jabber:component:accept' "
        "xmlns:stream='http://etherx.jabber.org/streams'>"
    )


MESSAGE = f"<message from='{GATEWAY}' to='alice@{USERS}'><body>ahead</body></message>"


def test_what_is_sent_ahead_arrives_after_the_handshake(place: Place) -> None:
    """The hash is of the server's id, which is known before only by its own stream."""

    async def scenario() -> None:
        async with user(place) as alice:
            assert await alice.login() == "session started"
            await asyncio.to_thread(_send_ahead, place)
            for _ in range(10):
                assert await alice.read() == (GATEWAY, "ahead")

    asyncio.run(scenario())


def _send_ahead(place: Place) -> None:
    with under_tls(place) as stream:
        stream.send(header(GATEWAY))
        said = stream.read_until("<stream:stream [^>]*>")
        stream_id = said.partition("id='")[2].partition("'")[0]
        digest = hashlib.sha1((stream_id + SECRETS[GATEWAY]).encode()).hexdigest()
        stream.send(f"<handshake>{digest}</handshake>" + MESSAGE * 10)
        stream.read_until("<handshake */>")
        stream.send("</stream:stream>")
        stream.read_to_end()


def test_a_message_before_the_handshake(place: Place) -> None:
    with under_tls(place) as stream:
        stream.send(header(GATEWAY) + MESSAGE)
        assert "<not-authorized" in stream.read_to_end()


def test_another_component_than_that_of_tls(place: Place) -> None:
    with under_tls(place, GATEWAY) as stream:
        stream.send(header(CHAT))
        assert "<policy-violation" in stream.read_to_end()
