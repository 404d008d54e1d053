"""A client from before XMPP 1.0: no version in its header, and ``jabber:iq:auth`` (XEP-0078)."""

import asyncio
import contextlib
import hashlib
import re
from typing import Self

from tests.servers.client import SECONDS, stream_error_in
from tests.servers.stream import Stream, plaintext

RESOURCE = "old"


class OldClient:
    """One plaintext connection, to be used in ``async with``, which ends it.

    Args:
        name: the account's local part; its password is ``pw-NAME``.
        domain: the account's domain.
        port: where to connect, on 127.0.0.1.
    """

    def __init__(self, name: str, domain: str, port: int) -> None:
        self.jid = f"{name}@{domain}"
        self.error_text = ""
        self.by_digest = False
        self._name = name
        self._open = contextlib.ExitStack()
        self._stream: Stream = self._open.enter_context(plaintext(port, domain))

    async def login(self) -> str:
        """Log in, by digest if the server offers that.

        Returns:
            ``session started``, or a stream error's condition behind ``stream error: ``.
        """
        return await asyncio.wait_for(asyncio.to_thread(self._log_in), SECONDS)

    def write(self, to: str, body: str) -> None:
        """Send a chat message to a bare JID."""
        self._stream.send(f"<message to='{to}' type='chat'><body>{body}</body></message>")

    async def read(self) -> tuple[str, str]:
        """Return the bare JID of the sender and the body of the next message."""
        reading = asyncio.to_thread(self._stream.read_until, "<message .*?</message>")
        stanza = await asyncio.wait_for(reading, SECONDS)
        message = stanza[stanza.rindex("<message ") :]
        sender = re.search(r"""from=['"]([^'"/]*)""", message)
        body = re.search("<body>(.*)</body>", message, re.DOTALL)
        assert sender, message
        assert body, message
        return sender[1], body[1]

    async def __aenter__(self) -> Self:
        """Do nothing; the connection is there."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the connection."""
        self._open.close()

    def _log_in(self) -> str:
        self._stream.send_header(version=None)
        header = self._stream.read_until("<stream:stream [^>]*>")
        identity = re.search(r"""\bid=['"]([^'"]*)""", header)
        try:
            self.by_digest = log_in_with_iq_auth(
                self._stream, self._name, RESOURCE, stream_id=identity and identity[1]
            )
        except StreamEndedError as ended:
            outcome, self.error_text = stream_error_in(ended.args[0])
            return outcome
        self._stream.send("<presence/>")
        return "session started"


class StreamEndedError(Exception):
    """The stream ended in the middle of a login; with the text that came instead."""


def log_in_with_iq_auth(
    stream: Stream, name: str, resource: str, *, stream_id: str | None = None
) -> bool:
    """Log an account in whose password is ``pw-NAME``, on a stream that is open.

    Args:
        stream: the stream.
        name: the account's local part.
        resource: the resource to be.
        stream_id: the id of the server's header, which allows a digest if the server offers it.

    Returns:
        Whether it was by a digest.

    Raises:
        StreamEndedError: if the server ends the stream.
        AssertionError: if it offers no password or refuses it.
    """
    user = f"<username>{name}</username>"
    stream.send(f"<iq type='get' id='fields'><query xmlns='jabber:iq:auth'>{user}</query></iq>")
    fields = _answer(stream, "fields")
    by_digest = stream_id is not None and "<digest" in fields
    if by_digest:
        digest = hashlib.sha1(f"{stream_id}pw-{name}".encode()).hexdigest()
        proof = f"<digest>{digest}</digest>"
    else:
        assert "<password" in fields, fields
        proof = f"<password>pw-{name}</password>"
    stream.send(
        f"<iq type='set' id='login'><query xmlns='jabber:iq:auth'>{user}{proof}"
        f"<resource>{resource}</resource></query></iq>"
    )
    answer = _answer(stream, "login")
    assert re.search("type=['\"]result", answer), answer
    return by_digest


def _answer(stream: Stream, identity: str) -> str:
    """Return what came up to the end of the answer to the request of this id."""
    opened = f"<iq [^>]*id=['\"]{identity}['\"][^>]*"
    said = stream.read_until(f"{opened}/>|{opened}(?<!/)>.*?</iq>|</stream:stream>")
    if said.endswith("</stream:stream>"):
        raise StreamEndedError(said)
    return said
