"""One client's connection to the demo server: its streams, its login, its stanzas."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from proxy.daemon.demo import sasl, services, stanzas
from proxy.daemon.demo.accounts import RefusedError
from proxy.xmpp import headers
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, Condition, StreamError, sasl_failure
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.framing import Framer, Limits
from proxy.xmpp.jids import Jid

if TYPE_CHECKING:
    from proxy.daemon.demo.server import LegacyServer

LIMITS: Final = Limits(element=2_097_152)
MOST_BEFORE_LOGIN: Final = 65_536
"""Bytes of one element from a client that has not logged in."""
LOGIN_SECONDS: Final = 60
FAREWELL_SECONDS: Final = 5
"""How long a peer may take to read the last bytes."""
MOST_ATTEMPTS: Final = 3
MOST_BACKLOG: Final = 8_388_608
"""Bytes that may wait for a client that does not read."""
LONGEST_RESOURCE: Final = 1023
"""Bytes of a resource (RFC 7622, section 3.4)."""

MECHANISMS: Final = (
    f"<stream:features><mechanisms xmlns='{ns.SASL}'>"
    f"{''.join(f'<mechanism>{name}</mechanism>' for name in sasl.MECHANISMS)}</mechanisms>"
    "<auth xmlns='http://jabber.org/features/iq-auth'/></stream:features>"
).encode()
BINDING: Final = (
    f"<stream:features><bind xmlns='{ns.BIND}'/>"
    f"<session xmlns='{ns.SESSION}'><optional/></session></stream:features>"
).encode()
LEGACY_FIELDS: Final = (
    f"<query xmlns='{ns.AUTH}'><username/><password/><digest/><resource/></query>"
)


class IStreamTransport(ITCPTransport, IConsumer, IPushProducer):
    """The transport of a TCP connection: it is written to, read from, and both can pause."""


@implementer(IPushProducer)
class Connection(Protocol):
    """A client's connection, from its first header to its end.

    Args:
        server: where it was accepted.
        received: told the bytes of each part of the stream that comes in, if anybody asks.
        sent: told what goes out.

    Attributes:
        jid: the full JID of its session; None before a resource is bound.
        presence: the presence its user last announced; None if the user is not available.
    """

    transport: IStreamTransport

    def __init__(
        self,
        server: "LegacyServer",
        *,
        received: Callable[[bytes], None] | None = None,
        sent: Callable[[bytes], None] | None = None,
    ) -> None:
        self.jid: Jid | None = None
        self.presence: bytes | None = None
        self._server = server
        self._received = received
        self._sent = sent
        self._framer = Framer(LIMITS)
        self._stream_id = ""  # of the stream whose header has been answered
        self._user: str | None = None
        self._exchange: sasl.Exchange | None = None
        self._attempts = 0
        self._closing = False
        self._congested = False
        self._backlog = 0
        self._deadline: IDelayedCall | None = None

    # The connection

    def connectionMade(self) -> None:
        """Begin to wait for the client to log in."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._wait(LOGIN_SECONDS, self._too_slow)

    def dataReceived(self, data: bytes) -> None:
        """Act on everything that is complete; a stream that breaks the rules ends here."""
        framer = self._framer
        framer.feed(data)
        try:
            # A new stream has a framer of its own; nothing may be sent ahead of its start.
            while not self._closing and framer is self._framer:
                event = framer.next_event()
                if event is None:
                    self._bound(framer.held)
                    return
                self._take(event)
        except StreamError as error:
            self.fail(error.condition, error.text)
        except ValueError:  # lxml and expat disagree
            self.fail(Condition.NOT_WELL_FORMED, "an element cannot be read")

    def _bound(self, held: int) -> None:
        if self._user is None and held > MOST_BEFORE_LOGIN:
            raise StreamError(Condition.POLICY_VIOLATION, "too much before login")

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Let the server forget this connection."""
        self._closing = True
        self._stop_waiting()
        self._server.lost(self)

    def fail(self, condition: Condition, text: str) -> None:
        """End the stream with an error, with a header of its own if none has been sent."""
        if self._closing:
            return
        if not self._stream_id:
            self._send_header(version=True)
        self._send(StreamError(condition, text).serialise())
        self._close()

    def deliver(self, stanza: bytes) -> None:
        """Send ``stanza``; a client that lets too much pile up is cut off."""
        if self._closing:
            return
        if self._congested:
            self._backlog += len(stanza)
            if self._backlog > MOST_BACKLOG:
                self.transport.abortConnection()
                return
        self._send(stanza)

    def refuse(self, stanza: Element, condition: str) -> None:
        """Send ``stanza`` back as an error, if it is one that may be answered."""
        kind = stanza.attributes.get("type")
        if stanza.name != ns.PRESENCE and kind not in ("error", "result"):
            self.deliver(stanzas.error(stanza, condition, recipient=str(self.jid)))

    def pauseProducing(self) -> None:
        """Stop reading while the client does not: called when its buffer is full."""
        self._congested = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again: called when the buffer is empty."""
        self._congested = False
        self._backlog = 0
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nothing to stop: stanzas come from other connections. Called when this one is lost."""

    def _send(self, data: bytes) -> None:
        if self._sent is not None:
            self._sent(data)
        self.transport.write(data)

    def _close(self) -> None:
        self._send(FOOTER)
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._wait(FAREWELL_SECONDS, self.transport.abortConnection)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_waiting()
        self._deadline = self._server.clock.callLater(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _too_slow(self) -> None:
        self.fail(Condition.CONNECTION_TIMEOUT, "log in sooner")

    # The stream

    def _take(self, event: Event) -> None:
        if self._received is not None and not isinstance(event, WhiteSpace):
            self._received(event.raw)
        match event:
            case Header():
                self._open(event)
            case Footer():
                self._close()
            case Element():
                self._element(event)
            case WhiteSpace():
                pass  # a keepalive

    def _element(self, element: Element) -> None:
        if self._user is None:
            self._log_in(element)
        elif self.jid is None:
            self._bind(element)
        else:
            self._stanza(element, self.jid)

    def _open(self, header: Header) -> None:
        """Answer a stream header; a client that knows no features gets none (RFC 6120, 4.7.5)."""
        stream = headers.read(header, ns.CLIENT)
        if stream.to not in (None, self._server.accounts.domain):
            raise StreamError(Condition.HOST_UNKNOWN, "this domain is not served here")
        self._send_header(version=stream.has_features)
        if stream.has_features:
            self._send(MECHANISMS if self._user is None else BINDING)

    def _send_header(self, *, version: bool) -> None:
        self._stream_id = secrets.token_hex(8)
        domain = self._server.accounts.domain
        self._send(headers.response(stream_id=self._stream_id, sender=domain, version=version))

    # The login

    def _log_in(self, element: Element) -> None:
        """Authenticate by SASL (RFC 6120, section 6) or ``jabber:iq:auth`` (XEP-0078)."""
        match ns.split(element.name):
            case (ns.SASL, "auth"):
                self._authenticate(element)
            case (ns.SASL, "response") if self._exchange is not None:
                self._step(self._exchange, element)
            case (ns.SASL, "abort"):
                self._refused("aborted")
            case _ if element.name == ns.IQ:
                self._legacy_log_in(element)
            case _:
                raise StreamError(Condition.NOT_AUTHORIZED, "log in first")

    def _authenticate(self, element: Element) -> None:
        try:
            mechanism = element.attributes.get("mechanism")
            self._exchange = sasl.begin(mechanism, self._server.accounts)
        except RefusedError as refusal:
            self._refused(str(refusal))
        else:
            self._step(self._exchange, element)

    def _step(self, exchange: sasl.Exchange, element: Element) -> None:
        try:
            outcome = exchange.step(element.tree.text or "")
        except RefusedError as refusal:
            self._refused(str(refusal))
            return
        if isinstance(outcome, sasl.Challenge):
            self._send(sasl_element("challenge", outcome.data))
            return
        self._send(sasl_element("success", outcome.data))
        self._user = outcome.user
        self._framer = Framer(LIMITS)
        self._stream_id = ""

    def _refused(self, condition: str) -> None:
        self._exchange = None
        self._send(sasl_failure(condition, "the demo server knows the users it printed"))
        self._count_attempt()

    def _count_attempt(self) -> None:
        self._attempts += 1
        if self._attempts >= MOST_ATTEMPTS:
            raise StreamError(Condition.POLICY_VIOLATION, "too many attempts to log in")

    def _legacy_log_in(self, request: Element) -> None:
        query = request.tree.find(ns.qualified(ns.AUTH, "query"))
        kind = request.attributes.get("type")
        if query is None or kind not in ("get", "set"):
            raise StreamError(Condition.NOT_AUTHORIZED, "log in first")
        if kind == "get":
            self._send(stanzas.result(request, LEGACY_FIELDS))
            return
        fields = {ns.split(str(child.tag))[1]: child.text or "" for child in query}
        resource = fields.get("resource", "")
        if not 0 < len(resource.encode()) <= LONGEST_RESOURCE:
            self._send(stanzas.error(request, "bad-request"))
            return
        accounts = self._server.accounts
        try:
            user = accounts.legacy(fields.pop("username", ""), fields, self._stream_id)
        except RefusedError as refusal:
            self._send(stanzas.error(request, str(refusal)))
            self._count_attempt()
            return
        self._user = user
        self._start_session(Jid(user, accounts.domain, resource))
        self._send(stanzas.result(request))

    def _bind(self, request: Element) -> None:
        """Bind a resource (RFC 6120, section 7): the one asked for, or one of ours."""
        bind = request.tree.find(ns.qualified(ns.BIND, "bind"))
        if request.name != ns.IQ or request.attributes.get("type") != "set" or bind is None:
            raise StreamError(Condition.NOT_AUTHORIZED, "bind a resource first")
        resource = bind.findtext(ns.qualified(ns.BIND, "resource")) or secrets.token_hex(4)
        if len(resource.encode()) > LONGEST_RESOURCE or self._user is None:
            self._send(stanzas.error(request, "bad-request"))
            return
        jid = Jid(self._user, self._server.accounts.domain, resource)
        self._start_session(jid)
        self._send(stanzas.result(request, stanzas.bound(str(jid))))

    def _start_session(self, jid: Jid) -> None:
        self._stop_waiting()
        self._server.bind(self, jid)
        self.jid = jid

    # The session

    def _stanza(self, stanza: Element, jid: Jid) -> None:
        """Answer a stanza or send it on its way."""
        if stanza.name not in ns.STANZAS:
            raise StreamError(Condition.UNSUPPORTED_STANZA_TYPE, "not a stanza")
        to = stanza.attributes.get("to")
        try:
            recipient = None if to is None else Jid.parse(to)
        except ValueError:
            self.refuse(stanza, "jid-malformed")
            return
        if recipient is not None and recipient.domain != jid.domain:
            self.refuse(stanza, "remote-server-not-found")
        elif stanza.name == ns.IQ:
            self._iq(stanza, jid, recipient)
        elif stanza.name == ns.PRESENCE:
            self._presence(stanza, jid, recipient)
        elif recipient is not None and not recipient.local:
            self.refuse(stanza, "service-unavailable")
        else:
            self._server.route(self, jid, stanza, recipient or jid.bare)

    def _iq(self, stanza: Element, jid: Jid, recipient: Jid | None) -> None:
        kind = stanza.attributes.get("type")
        if kind not in ("get", "set", "result", "error"):
            self.refuse(stanza, "bad-request")
        elif recipient is None or recipient == jid.bare or not recipient.local:
            if kind in ("get", "set"):
                self.deliver(services.answer(stanza, self._server.accounts, jid))
        else:
            self._server.route(self, jid, stanza, recipient)

    def _presence(self, stanza: Element, jid: Jid, recipient: Jid | None) -> None:
        kind = stanza.attributes.get("type")
        if recipient is None:
            if kind in (None, "unavailable"):
                self._server.announce(self, jid, stanza)
        elif kind == "subscribe":  # already so, for everyone
            self.deliver(stanzas.presence(str(recipient.bare), "subscribed"))
        elif kind in (None, "unavailable"):
            self._server.route(self, jid, stanza, recipient)


def sasl_element(name: str, data: str) -> bytes:
    """Return a ``<challenge/>`` or ``<success/>`` with ``data``, which is in base64."""
    start = f"<{name} xmlns='{ns.SASL}'"
    return (f"{start}>{data}</{name}>" if data else f"{start}/>").encode()
