"""What a client may send before it is authenticated, and when it is.

A pure observer of first-level elements in both directions (RFC 6120 section 6, XEP-0388, XEP-0078,
XEP-0077, XEP-0198). SASL is in lock-step: between a client's turn and the server's answer nothing
more of the client's is read, so that what it sends ahead is read by the stream it is meant for.
"""

from enum import Enum
from typing import Final

from lxml import etree

from proxy.session.hooks import Condition, Element
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError


class Step(Enum):
    """What an element from the server has brought about."""

    NONE = "none"
    RESTART = "restart"
    """Authenticated; both streams begin anew (RFC 6120, section 6.4.6)."""
    AUTHENTICATED = "authenticated"
    """Authenticated; the stream goes on."""
    ADDRESSED = "addressed"
    """It is known now to which domain the stream is; the server leg can be opened."""
    ANEW = "anew"
    """Authenticated by the proxy itself; the client begins a new stream, on a new server leg."""
    ESTABLISHED = "established"
    """Authenticated, and the session has its resource: negotiation is over."""


_SASL_TURN: Final = frozenset(
    ns.qualified(namespace, local)
    for namespace, local in (
        (ns.SASL, "auth"),
        (ns.SASL, "response"),
        (ns.SASL, "abort"),
        (ns.SASL2, "authenticate"),
        (ns.SASL2, "response"),
        (ns.SASL2, "abort"),
        (ns.SASL2, "next"),
    )
)
_IQ_BEFORE_AUTHENTICATION: Final = frozenset((ns.AUTH, ns.REGISTER))
_NEVER_FROM_CLIENT: Final = frozenset((ns.TLS, ns.COMPRESSION))


class Authentication:
    """Follows one session from its first stream to an established session."""

    __slots__ = (
        "_auth_id",
        "_bind_id",
        "_bound",
        "_sasl",
        "authenticated",
        "awaiting_server",
        "failures",
    )

    def __init__(self) -> None:
        self.authenticated = False
        self.awaiting_server = False
        """Whether it is the server's turn and the client must not be read."""
        self.failures = 0
        """How often the server has refused to log the client in."""
        self._sasl = ""  # the namespace of the SASL exchange under way
        self._auth_id: str | None = None
        self._bind_id: str | None = None
        self._bound = False

    def from_client(self, element: Element) -> None:
        """Take note of an element that the client sends.

        Raises:
            StreamError: the element must not pass now.
        """
        namespace, _ = ns.split(element.name)
        if namespace in _NEVER_FROM_CLIENT:
            raise StreamError(
                Condition.UNSUPPORTED_STANZA_TYPE, "this was not on offer and is not supported"
            )
        if self.authenticated:
            if element.name == ns.IQ and element.child == ns.qualified(ns.BIND, "bind"):
                self._bind_id = element.attributes.get("id")
        elif element.name in _SASL_TURN:
            self._sasl = namespace
            self.awaiting_server = True
        elif element.name == ns.IQ:
            self._iq_from_client(element)
        elif element.name in ns.STANZAS:
            raise _not_authorized()
        elif element.name != ns.ERROR:
            raise StreamError(Condition.UNSUPPORTED_STANZA_TYPE, "log in first")

    def _iq_from_client(self, element: Element) -> None:
        namespace, _ = ns.split(element.child)
        if namespace not in _IQ_BEFORE_AUTHENTICATION:
            raise _not_authorized()
        if namespace == ns.AUTH and element.attributes.get("type") == "set":
            self._auth_id = element.attributes.get("id", "")
            self.awaiting_server = True

    def from_server(self, element: Element) -> Step:
        """Take note of an element that the server sends, and say what it brings about."""
        namespace, local = ns.split(element.name)
        if namespace == self._sasl and self._sasl:
            return self._sasl_from_server(element, local)
        if element.name == ns.IQ:
            return self._iq_from_server(element)
        if element.name == ns.qualified(ns.STREAM_MANAGEMENT, "resumed") and self.authenticated:
            return Step.ESTABLISHED
        if element.name == ns.FEATURES and self._bound:
            return Step.ESTABLISHED
        return Step.NONE

    def _sasl_from_server(self, element: Element, local: str) -> Step:
        self.awaiting_server = False
        if local == "failure":
            self._sasl = ""
            self.failures += 1
        if local != "success":
            return Step.NONE
        self.authenticated = True
        if self._sasl == ns.SASL:
            self._sasl = ""
            return Step.RESTART
        self._sasl = ""
        self._bound = any(
            child.tag in (_BOUND, _RESUMED) for child in element.tree.iterchildren(etree.Element)
        )
        return Step.AUTHENTICATED

    def _iq_from_server(self, element: Element) -> Step:
        kind = element.attributes.get("type")
        if kind not in ("result", "error"):
            return Step.NONE
        stanza_id = element.attributes.get("id", "")
        if not self.authenticated and stanza_id == self._auth_id:
            self._auth_id = None
            self.awaiting_server = False
            if kind == "result":
                self.authenticated = True
                return Step.ESTABLISHED
            self.failures += 1
        if self.authenticated and stanza_id == self._bind_id and kind == "result":
            return Step.ESTABLISHED
        return Step.NONE


_BOUND: Final = ns.qualified(ns.BIND2, "bound")
_RESUMED: Final = ns.qualified(ns.STREAM_MANAGEMENT, "resumed")


def _not_authorized() -> StreamError:
    return StreamError(Condition.NOT_AUTHORIZED, "log in before sending stanzas")
