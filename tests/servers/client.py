"""Clients as the tests drive them: log in, write, read. Here: one of slixmpp."""

import asyncio
import html
import re
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import slixmpp

from tests.servers.program import HOST

Transport = Literal["starttls", "direct", "plaintext"]

SECONDS = 30.0
"""How long any single step may take."""


class Bounced(Exception):  # noqa: N818 (that is what such messages are called)
    """A message came back: from whom, and the condition and text of its error."""


class Participant(Protocol):
    """What all clients have in common; each is one connection, which ``async with`` ends.

    Attributes:
        jid: the bare JID of the account.
        error_text: the text of the stream error that ended the login, or empty.
    """

    jid: str
    error_text: str

    async def login(self) -> str:
        """Connect and log in; return ``session started``, or what happened instead."""

    def write(self, to: str, body: str) -> None:
        """Send a chat message to a bare JID."""

    async def read(self) -> tuple[str, str]:
        """Return the bare JID of the sender and the body of the next message."""

    async def __aenter__(self) -> Self:
        """Begin to use it."""

    async def __aexit__(self, *_: object) -> None:
        """End the connection."""


class Client:
    """One connection of slixmpp, to be used in ``async with``, which ends it.

    Args:
        name: the account's local part.
        domain: the account's domain, which the certificate must prove.
        port: where to connect, on 127.0.0.1.
        transport: how: exactly this way and no other.
        authority: the file of the authority to trust; not needed for plaintext.
        password: by default the right one, ``pw-NAME``.
    """

    def __init__(
        self,
        name: str,
        domain: str,
        port: int,
        transport: Transport,
        authority: Path | None = None,
        *,
        password: str | None = None,
    ) -> None:
        self.jid = f"{name}@{domain}"
        self.error_text = ""
        self._port = port
        self._messages: asyncio.Queue[tuple[str, str] | Bounced] = asyncio.Queue()
        self._stream_error: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._xmpp = slixmpp.ClientXMPP(self.jid, password or f"pw-{name}")
        self._xmpp.ca_certs = authority
        self._xmpp.enable_starttls = transport == "starttls"
        self._xmpp.enable_direct_tls = transport == "direct"
        self._xmpp.enable_plaintext = transport == "plaintext"
        if transport == "plaintext":
            mechanisms = self._xmpp.plugin["feature_mechanisms"]
            mechanisms.unencrypted_plain = mechanisms.unencrypted_scram = True
        self._xmpp.add_event_handler("message", self._message)
        self._xmpp.add_event_handler("message_error", self._bounced)
        self._xmpp.add_event_handler("stream_error", self._on_stream_error)
        self._xmpp.add_event_handler("session_start", lambda _: self._end("session started"))
        self._xmpp.add_event_handler("failed_auth", self._failed)
        for event in ("connection_failed", "disconnected"):
            self._xmpp.add_event_handler(
                event, lambda why, event=event: self._end(f"{event}: {why}")
            )

    async def login(self) -> str:
        """Connect and log in.

        Returns:
            ``session started``, or what happened instead: ``not-authorized`` and other SASL
            conditions as they are, a stream error's condition behind ``stream error: `` (its text
            is then in `error_text`).
        """
        self._xmpp.connect(HOST, self._port)
        outcome = await asyncio.wait_for(self._outcome, SECONDS)
        if outcome == "session started":
            self._xmpp.send_presence()
        return outcome

    def write(self, to: str, body: str) -> None:
        """Send a chat message to a bare JID."""
        self._xmpp.send_message(mto=to, mbody=body, mtype="chat")

    async def read(self) -> tuple[str, str]:
        """Return the bare JID of the sender and the body of the next message.

        Raises:
            Bounced: if that is a message of this client that came back.
        """
        message = await asyncio.wait_for(self._messages.get(), SECONDS)
        if isinstance(message, Bounced):
            raise message
        return message

    async def stream_error(self) -> str:
        """Wait for a stream error and return its condition."""
        return await asyncio.wait_for(self._stream_error, SECONDS)

    def tls_version(self) -> str | None:
        """Return the TLS version of the connection, None if there is no TLS."""
        connection = self._xmpp.transport.get_extra_info("ssl_object")
        version: str | None = connection.version() if connection else None
        return version

    async def __aenter__(self) -> Self:
        """Do nothing; `login` connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the connection, and slixmpp's further attempts at one."""
        self._xmpp.cancel_connection_attempt()
        if self._xmpp.is_connected():
            await self._xmpp.disconnect(wait=1)

    def _end(self, outcome: str) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _failed(self, stanza: Any) -> None:
        self._end(str(stanza["condition"]))

    def _message(self, stanza: Any) -> None:
        self._messages.put_nowait((stanza["from"].bare, stanza["body"]))

    def _bounced(self, stanza: Any) -> None:
        error = stanza["error"]
        self._messages.put_nowait(
            Bounced(f"by {stanza['from'].bare}: {error['condition']} {error['text']}")
        )

    def _on_stream_error(self, stanza: Any) -> None:
        condition = str(stanza["condition"])
        self.error_text = str(stanza["text"])
        self._end(f"stream error: {condition}")
        if not self._stream_error.done():
            self._stream_error.set_result(condition)


async def converse(alice: Participant, bob: Participant, text: str = "Good day.") -> None:
    """Log two clients in and let each write `text` to the other; an AssertionError if it fails."""
    outcomes = list(await asyncio.gather(alice.login(), bob.login()))
    assert outcomes == ["session started", "session started"]
    alice.write(bob.jid, text)
    assert await bob.read() == (alice.jid, text)
    bob.write(alice.jid, text)
    assert await alice.read() == (bob.jid, text)


def stream_error_in(said: str) -> tuple[str, str]:
    """Return the condition, behind ``stream error: ``, and the text of the last stream error."""
    errors = re.findall("<stream:error>(.*?)</stream:error>", said, re.DOTALL)
    assert errors, f"no stream error: {said}"
    condition = re.search("<([a-z-]+) ", errors[-1])
    assert condition, errors[-1]
    text = re.search("<text [^>]*>(.*?)</text>", errors[-1], re.DOTALL)
    return f"stream error: {condition[1]}", html.unescape(text[1]) if text else ""
