"""What is said on a stream to an account's server: login (RFC 6120, sections 6 and 7), messages."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import attrs

from proxy.daemon.alerting import sasl
from proxy.daemon.alerting.stream import DeliveryError, Stream
from proxy.daemon.alerting.told import Told
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element
from proxy.xmpp.jids import Jid
from proxy.xmpp.text import printable

LONGEST_BODY: Final = 8_192
"""Characters of a message."""

# XML 1.0, section 2.2: what no document may hold.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PING: Final = "urn:xmpp:ping"
_TAKEN_IN: Final = "taken-in"

Aside = Callable[[Callable[[str], str], str], Awaitable[str]]
"""Calls a function that takes its time with what it is to be given, and waits for its result."""


@attrs.frozen
class Bounced:
    """A message that the server sent back.

    Attributes:
        id: that of the message.
        reason: the condition of the stanza error, and its text if it has one.
    """

    id: str
    reason: str


async def log_in(stream: Stream, account: Jid, password: str, aside: Aside, *, plain: bool) -> None:
    """Authenticate, and bind a resource.

    Args:
        stream: a stream that has not been opened.
        account: the account; of its resource the server is asked for, if it has one.
        password: its password, as SASLprep has it.
        aside: does what would keep everybody waiting.
        plain: whether the password itself may be said.

    Raises:
        DeliveryError: a step failed.
    """
    stream.open(account.domain)
    features = await _features(stream)
    offered = _mechanisms(features)
    if not offered and features.tree.find(ns.STARTTLS) is not None:
        raise DeliveryError("the server demands TLS; it must be reached by the way that has it")
    try:
        exchange = sasl.begin(offered, account.local, password, plain=plain)
        await _authenticate(stream, exchange, aside)
    except sasl.SaslError as error:
        raise DeliveryError(str(error)) from error
    stream.open(account.domain)
    features = await _features(stream)
    wish = f"<resource>{escape(account.resource)}</resource>" if account.resource else ""
    await _request(stream, "bind", f"<bind xmlns='{ns.BIND}'>{wish}</bind>")
    session = features.tree.find(ns.qualified(ns.SESSION, "session"))
    if session is not None and session.find(ns.qualified(ns.SESSION, "optional")) is None:
        await _request(stream, "session", f"<session xmlns='{ns.SESSION}'/>")  # RFC 3921, section 3


async def hand_over(stream: Stream, domain: str, messages: Sequence[bytes]) -> list[Bounced]:
    """Send messages, and wait until the server has taken in all of them.

    It takes in what comes on one stream in order (RFC 6120, section 10.1), so what it answers to a
    request behind them (XEP-0199, or that it does not know it) says so.

    Args:
        stream: a stream on which `log_in` is done.
        domain: the account's domain.
        messages: what `message` returns.

    Returns:
        Those that it sent back at once.

    Raises:
        DeliveryError: the server may not have got them all.
    """
    request = f"<iq type='get' id='{_TAKEN_IN}' to={quoteattr(domain)}><ping xmlns='{_PING}'/></iq>"
    stream.send(b"".join(messages) + request.encode())
    bounced = []
    while True:
        element = await _element(stream)
        name, kind = element.attributes.get("id", ""), element.attributes.get("type")
        if element.name == ns.MESSAGE and kind == "error":
            bounced.append(Bounced(name, _condition(element)))
        elif element.name == ns.IQ and name == _TAKEN_IN and kind in ("result", "error"):
            return bounced


async def leave(stream: Stream) -> None:
    """End the stream, and wait for the server to do the same, one way or another."""
    stream.end()
    with suppress(DeliveryError):
        while await stream.next() is not None:
            pass


def message(told: Told, recipient: Jid, message_id: str) -> bytes:
    """Write an alert as a message (RFC 6121, section 5), for a client's stream.

    Args:
        told: the alert.
        recipient: who gets it.
        message_id: the id of the stanza.
    """
    about = " ".join(part for part in (told.kind, told.domain, told.stream) if part)
    subject = f"Bascule, {told.severity.value}: {about}"
    lines = [told.text, "", f"Time: {told.time:%Y-%m-%d %H:%M:%S} UTC"]
    if told.count > 1:
        lines.append(f"Count: {told.count}")
    to = quoteattr(str(recipient))
    return (
        f"<message to={to} id='{message_id}' type='normal' xml:lang='en'>"
        f"<subject>{_text(subject)}</subject><body>{_text(chr(10).join(lines))}</body></message>"
    ).encode()


def _text(text: str) -> str:
    cut = text if len(text) <= LONGEST_BODY else text[:LONGEST_BODY] + "…"
    return escape(_NO_XML.sub("\ufffd", cut))


async def _features(stream: Stream) -> Element:
    return await _expected(stream, ns.FEATURES)


def _mechanisms(features: Element) -> list[str]:
    found = features.tree.iterfind(f"*/{ns.qualified(ns.SASL, 'mechanism')}")
    return [printable(mechanism.text or "", 40) for mechanism in found]


async def _authenticate(stream: Stream, exchange: sasl.Exchange, aside: Aside) -> None:
    first = exchange.first()
    stream.send(f"<auth xmlns='{ns.SASL}' mechanism='{exchange.mechanism}'>{first}</auth>".encode())
    for _ in range(3):  # no mechanism of ours has more
        element = await _element(stream)
        said = element.tree.text or ""
        match ns.split(element.name):
            case (ns.SASL, "success"):
                exchange.finish(said)
                return
            case (ns.SASL, "challenge"):
                answer = await aside(exchange.answer, said)
                stream.send(f"<response xmlns='{ns.SASL}'>{answer}</response>".encode())
            case (ns.SASL, "failure"):
                raise DeliveryError(f"the server refuses the login: {_condition(element)}")
            case _:
                break
    raise DeliveryError("the server breaks the rules of SASL")


async def _request(stream: Stream, name: str, payload: str) -> None:
    stream.send(f"<iq type='set' id='{name}'>{payload}</iq>".encode())
    answer = await _expected(stream, ns.IQ)
    if answer.attributes.get("id") != name or answer.attributes.get("type") != "result":
        raise DeliveryError(f"the server refuses the request to {name}: {_condition(answer)}")


async def _expected(stream: Stream, name: str) -> Element:
    element = await _element(stream)
    if element.name != name:
        wanted, found = (printable(ns.split(each)[1], 40) for each in (name, element.name))
        raise DeliveryError(f"the server sends <{found}/> where <{wanted}/> is due")
    return element


async def _element(stream: Stream) -> Element:
    element = await stream.next()
    if element is None:
        raise DeliveryError("the server ended the stream")
    return element


def _condition(element: Element) -> str:
    """Return what an error of a stanza or of SASL says: its condition, and its text if any."""
    error = element.tree.find(ns.qualified(ns.CLIENT, "error"))
    parts = element.tree if error is None else error
    conditions = [ns.split(str(part.tag))[1] for part in parts]
    texts = [part.text or "" for part in parts if ns.split(str(part.tag))[1] == "text"]
    named = [condition for condition in conditions if condition != "text"]
    return printable(": ".join(part for part in (*named[:1], *texts[:1]) if part)) or "no reason"
