"""A small XMPP client that waits for its answers: STARTTLS, SASL PLAIN, bind, roster, messages.

It blocks, so it runs in a thread of its own.
"""

import base64
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from xml.sax.saxutils import escape, quoteattr

import attrs
from OpenSSL import SSL
from service_identity.pyopenssl import verify_hostname

from proxy.daemon.demo.server import Direction, Observer
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, StreamError
from proxy.xmpp.events import Element, Header, WhiteSpace
from proxy.xmpp.framing import Framer, Limits

SECONDS: Final = 15
"""How long one answer may take."""
LIMITS: Final = Limits(element=2_097_152)
_PIECE: Final = 65_536  # bytes read at a time, at most
_ROSTER: Final = "jabber:iq:roster"
_Outcome = TypeVar("_Outcome")


class ClientError(Exception):
    """What the server sent, or the connection did, was not what the client can go on with."""


@attrs.frozen
class Secured:
    """What a handshake came to.

    Attributes:
        version: of TLS, as in ``TLSv1.3``.
        cipher: the cipher suite.
        group: of the key exchange.
        subject: of the certificate that was verified.
    """

    version: str
    cipher: str
    group: str
    subject: str


@attrs.frozen
class Message:
    """A message as it arrived: who sent it, and what it says."""

    sender: str
    body: str


class Client:
    """One connection to a server, and the session on it.

    Args:
        address: host and port to connect to.
        domain: the domain of the user, which the certificate must prove.
        authority: the PEM file of the only authority to trust; None to stay in plaintext.
        observer: told of every element and header, as it is inside TLS.
        secured: told of the handshake, when it is over.

    Raises:
        OSError: nobody accepts the connection.
    """

    def __init__(
        self,
        address: tuple[str, int],
        domain: str,
        *,
        authority: Path | None,
        observer: Observer | None = None,
        secured: Callable[[Secured], None] | None = None,
    ) -> None:
        self.jid = ""
        self._domain = domain
        self._authority = authority
        self._observer = observer
        self._secured = secured
        self._framer = Framer(LIMITS)
        self._socket = socket.create_connection(address, SECONDS)
        self._socket.setblocking(False)
        self._tls: SSL.Connection | None = None
        self._requests = 0

    def log_in(self, name: str, password: str, resource: str) -> None:
        """Secure the stream unless it stays in plaintext, authenticate, bind ``resource``.

        Raises:
            ClientError: a step failed; nothing of the password went out before TLS was verified.
        """
        features = self._open_stream()
        if self._authority is not None:
            if features.tree.find(ns.STARTTLS) is None:
                raise ClientError("the server does not offer STARTTLS")
            self._send(f"<starttls xmlns='{ns.TLS}'/>")
            self._expect(ns.qualified(ns.TLS, "proceed"))
            self._start_tls(self._authority)
            features = self._open_stream()
        mechanisms = features.tree.iterfind(f"*/{ns.qualified(ns.SASL, 'mechanism')}")
        if "PLAIN" not in [mechanism.text for mechanism in mechanisms]:
            raise ClientError("the server does not offer SASL PLAIN")
        proof = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        self._send(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{proof}</auth>")
        self._expect(ns.qualified(ns.SASL, "success"))
        self._open_stream()
        wish = f"<bind xmlns='{ns.BIND}'><resource>{escape(resource)}</resource></bind>"
        answer = self._request("set", wish)
        self.jid = answer.tree.findtext(f"*/{ns.qualified(ns.BIND, 'jid')}") or ""

    def roster(self) -> list[str]:
        """Return the JIDs on the user's roster.

        Raises:
            ClientError: the server does not say.
        """
        answer = self._request("get", f"<query xmlns='{_ROSTER}'/>")
        return [item.get("jid", "") for item in answer.tree.iterfind(f"*/{{{_ROSTER}}}item")]

    def announce(self) -> None:
        """Become available, and wait for the server's own copy of that presence.

        Raises:
            ClientError: it does not come.
        """
        self._send("<presence/>")
        while self._expect(ns.PRESENCE).attributes.get("from") != self.jid:
            pass

    def send_message(self, recipient: str, body: str) -> None:
        """Send a chat message.

        Raises:
            ClientError: it cannot be sent.
        """
        to = quoteattr(recipient)
        self._send(f"<message to={to} type='chat'><body>{escape(body)}</body></message>")

    def receive_message(self) -> Message:
        """Wait for the next message; presence that comes before it is passed over.

        Raises:
            ClientError: none comes, or it is an error.
        """
        stanza = self._next_element()
        while stanza.name == ns.PRESENCE:
            stanza = self._next_element()
        if stanza.name != ns.MESSAGE or stanza.attributes.get("type") == "error":
            raise ClientError(f"expected a message, received {_described(stanza)}")
        body = stanza.tree.findtext(ns.qualified(ns.CLIENT, "body"))
        return Message(stanza.attributes.get("from", ""), body or "")

    def close(self) -> None:
        """End the stream, wait for the server to do the same, and close the connection."""
        try:
            self._send(FOOTER.decode())
            while True:
                self._next_element()
        except ClientError:
            pass  # the server has ended the stream, or is gone already
        finally:
            self._socket.close()

    # The stream

    def _open_stream(self) -> Element:
        """Start a stream, or start it anew; return the features that the server offers."""
        self._framer = Framer(LIMITS)
        self._send(
            f"<?xml version='1.0'?><stream:stream to={quoteattr(self._domain)} version='1.0'"
            f" xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'>"
        )
        return self._expect(ns.FEATURES)

    def _request(self, kind: str, payload: str) -> Element:
        self._requests += 1
        request = f"demo-{self._requests}"
        self._send(f"<iq type='{kind}' id='{request}'>{payload}</iq>")
        answer = self._expect(ns.IQ)
        if answer.attributes.get("id") != request or answer.attributes.get("type") != "result":
            raise ClientError(f"the server refused a request: {_described(answer)}")
        return answer

    def _expect(self, name: str) -> Element:
        element = self._next_element()
        if element.name != name:
            raise ClientError(f"expected <{ns.split(name)[1]}/>, received {_described(element)}")
        return element

    def _next_element(self) -> Element:
        while True:
            try:
                event = self._framer.next_event()
            except StreamError as error:
                raise ClientError(f"the server breaks the rules: {error}") from error
            if event is None:
                self._framer.feed(self._read())
                continue
            if self._observer is not None and not isinstance(event, WhiteSpace):
                self._observer(Direction.TO_CLIENT, event.raw)
            if isinstance(event, Element):
                return event
            if not isinstance(event, Header | WhiteSpace):
                raise ClientError("the server ended the stream")

    def _send(self, text: str) -> None:
        data = text.encode()
        if self._observer is not None:
            self._observer(Direction.TO_SERVER, data)
        while data:
            data = data[self._attempt(partial(self._write, data), writing=True) :]

    # The connection

    def _start_tls(self, authority: Path) -> None:
        """Secure the connection; the authority and the domain must both be proved.

        `_read` has taken nothing beyond the end of a tag until now, so whatever follows
        ``<proceed/>`` can only be read as TLS.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.load_verify_locations(str(authority))
        context.set_verify(SSL.VERIFY_PEER)
        tls = SSL.Connection(context, self._socket)
        tls.set_tlsext_host_name(self._domain.encode("ascii"))
        tls.set_connect_state()
        self._attempt(tls.do_handshake)
        try:
            verify_hostname(tls, self._domain)
        except Exception as error:  # whatever it is, the name has not been proved
            raise ClientError(f"the certificate does not prove {self._domain}") from error
        self._tls = tls
        if self._secured is not None:
            self._secured(_description(tls))

    def _read(self) -> bytes:
        tls = self._tls
        data = self._attempt(self._read_tag if tls is None else partial(tls.recv, _PIECE))
        if not data:
            raise ClientError("the server closed the connection")
        return data

    def _read_tag(self) -> bytes:
        """Read plaintext, up to the end of the next tag at most."""
        seen = self._socket.recv(_PIECE, socket.MSG_PEEK)
        return self._socket.recv(seen.find(b">") + 1 or len(seen) or 1)

    def _write(self, data: bytes) -> int:
        return self._socket.send(data) if self._tls is None else self._tls.send(data)

    def _attempt(self, act: Callable[[], _Outcome], *, writing: bool = False) -> _Outcome:
        """Do ``act`` as soon as the socket lets it.

        Raises:
            ClientError: it fails, or does not happen in time.
        """
        end = time.monotonic() + SECONDS
        while True:
            try:
                return act()
            except (BlockingIOError, SSL.WantReadError, SSL.WantWriteError) as wish:
                for_writing = writing and isinstance(wish, BlockingIOError)
                for_writing = for_writing or isinstance(wish, SSL.WantWriteError)
            except (OSError, SSL.Error) as error:
                raise ClientError(f"the connection failed: {error}") from error
            sockets = [self._socket]
            left = max(0.0, end - time.monotonic())
            ready = select.select(*([], sockets) if for_writing else (sockets, []), [], left)
            if not any(ready):
                raise ClientError(f"no answer in {SECONDS} seconds")


def _described(element: Element) -> str:
    """Return the local names of ``element`` and of what is in it, for an error's text."""
    name, *inside = [ns.split(str(part.tag))[1] for part in element.tree.iter()]
    return f"<{name}/>" + (f" with {', '.join(inside)}" if inside else "")


def _description(tls: SSL.Connection) -> Secured:
    certificate = tls.get_peer_certificate(as_cryptography=True)
    return Secured(
        version=tls.get_protocol_version_name(),
        cipher=tls.get_cipher_name() or "",
        group=tls.get_group_name() or "",
        subject="" if certificate is None else certificate.subject.rfc4514_string(),
    )
