"""Stanzas as the demo server writes them, for streams whose default namespace is the client's."""

import copy
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element

STANZA_ERRORS = ns.STANZA_ERRORS

ERROR_TYPES = {
    "bad-request": "modify",
    "internal-server-error": "wait",
    "item-not-found": "cancel",
    "jid-malformed": "modify",
    "not-allowed": "cancel",
    "not-authorized": "auth",
    "remote-server-not-found": "cancel",
    "service-unavailable": "cancel",
}
"""What the sender should do about each condition (RFC 6120, section 8.3.3)."""


def result(request: Element, payload: str = "", *, recipient: str | None = None) -> bytes:
    """Return the ``<iq type='result'/>`` that answers ``request``.

    Args:
        request: an iq of type get or set.
        payload: the child element, serialised, with its own ``xmlns``; empty for none.
        recipient: whom to address; None to leave that out.
    """
    return _stanza("iq", _answered(request, "result", recipient), payload)


def error(stanza: Element, condition: str, *, recipient: str | None = None) -> bytes:
    """Return ``stanza`` sent back as an error (RFC 6120, section 8.3).

    Args:
        stanza: an iq, message or presence that cannot be handled.
        condition: one of `ERROR_TYPES`.
        recipient: whom to address; None to leave that out.
    """
    payload = (
        f"<error type='{ERROR_TYPES[condition]}'><{condition} xmlns='{STANZA_ERRORS}'/></error>"
    )
    _, kind = ns.split(stanza.name)
    return _stanza(kind, _answered(stanza, "error", recipient), payload)


def stamped(stanza: Element, sender: str, recipient: str | None = None) -> bytes:
    """Return ``stanza`` with ``sender`` as its ``from``, ready for another stream.

    Args:
        stanza: what a client sent.
        sender: the full JID that the server knows the client by (RFC 6120, section 8.1.2.1).
        recipient: a new ``to``; None to leave it as it is.
    """
    tree = copy.deepcopy(stanza.tree)  # a copy keeps only the namespaces that it uses
    tree.set("from", sender)
    if recipient is not None:
        tree.set("to", recipient)
    written = etree.tostring(tree, encoding="utf-8", xml_declaration=False)
    _, kind = ns.split(stanza.name)
    start = f"<{kind}".encode()
    default = f'{start.decode()} xmlns="{ns.CLIENT}"'.encode()
    return start + written.removeprefix(default) if written.startswith(default) else written


def presence(sender: str, kind: str) -> bytes:
    """Return an empty presence stanza of type ``kind`` from ``sender``."""
    return _stanza("presence", {"from": sender, "type": kind}, "")


def bound(jid: str) -> str:
    """Return the payload that tells a client its full JID (RFC 6120, section 7.6.1)."""
    return f"<bind xmlns='{ns.BIND}'><jid>{escape(jid)}</jid></bind>"


def _answered(stanza: Element, kind: str, recipient: str | None) -> dict[str, str]:
    """Return the attributes of the answer to ``stanza``: addresses swapped, the id kept."""
    attributes = {"type": kind}
    if "id" in stanza.attributes:
        attributes["id"] = stanza.attributes["id"]
    if "to" in stanza.attributes:
        attributes["from"] = stanza.attributes["to"]
    if recipient is not None:
        attributes["to"] = recipient
    return attributes


def _stanza(kind: str, attributes: dict[str, str], payload: str) -> bytes:
    written = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return (f"<{kind}{written}>{payload}</{kind}>" if payload else f"<{kind}{written}/>").encode()
