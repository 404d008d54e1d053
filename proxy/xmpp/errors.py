"""Stream errors (RFC 6120, section 4.9) and the failures of TLS and SASL negotiation."""

from enum import Enum
from typing import Final
from xml.sax.saxutils import escape

from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.text import printable


class Condition(Enum):
    """The defined conditions of a stream error (RFC 6120, section 4.9.3)."""

    BAD_FORMAT = "bad-format"
    BAD_NAMESPACE_PREFIX = "bad-namespace-prefix"
    CONFLICT = "conflict"
    CONNECTION_TIMEOUT = "connection-timeout"
    HOST_GONE = "host-gone"
    HOST_UNKNOWN = "host-unknown"
    IMPROPER_ADDRESSING = "improper-addressing"
    INTERNAL_SERVER_ERROR = "internal-server-error"
    INVALID_FROM = "invalid-from"
    INVALID_NAMESPACE = "invalid-namespace"
    INVALID_XML = "invalid-xml"
    NOT_AUTHORIZED = "not-authorized"
    NOT_WELL_FORMED = "not-well-formed"
    POLICY_VIOLATION = "policy-violation"
    REMOTE_CONNECTION_FAILED = "remote-connection-failed"
    RESET = "reset"
    RESOURCE_CONSTRAINT = "resource-constraint"
    RESTRICTED_XML = "restricted-xml"
    SYSTEM_SHUTDOWN = "system-shutdown"
    UNDEFINED_CONDITION = "undefined-condition"
    UNSUPPORTED_ENCODING = "unsupported-encoding"
    UNSUPPORTED_FEATURE = "unsupported-feature"
    UNSUPPORTED_STANZA_TYPE = "unsupported-stanza-type"
    UNSUPPORTED_VERSION = "unsupported-version"


class StreamError(Exception):
    """A stream that cannot go on.

    Attributes:
        condition: the defined condition.
        text: what is wrong, in English, for the person who reads it at the other end.
    """

    def __init__(self, condition: Condition, text: str) -> None:
        super().__init__(f"{condition.value}: {text}")
        self.condition = condition
        self.text = text

    def serialise(self) -> bytes:
        """Return the ``<stream:error/>`` element, for a stream whose prefix is ``stream``."""
        return (
            f"<stream:error><{self.condition.value} xmlns='{ns.STREAM_ERRORS}'/>"
            f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'>{escape(printable(self.text))}</text>"
            "</stream:error>"
        ).encode()


def describe(error: etree._Element) -> str:
    """Return what a peer's stream error says: its condition, and its text if it has one."""
    text = error.findtext(f"{{{ns.STREAM_ERRORS}}}text") or ""
    conditions = [
        etree.QName(child).localname
        for child in error.iterchildren(etree.Element)
        if child.tag != f"{{{ns.STREAM_ERRORS}}}text"
    ]
    return printable(": ".join(part for part in (*conditions[:1], text) if part))


FOOTER: Final = b"</stream:stream>"
"""The end of a stream whose prefix is ``stream``."""

STARTTLS_FAILURE: Final = f"<failure xmlns='{ns.TLS}'/>".encode()
"""The answer to a ``<starttls/>`` that is malformed or not on offer (RFC 6120, 5.4.2.2)."""

PROCEED: Final = f"<proceed xmlns='{ns.TLS}'/>".encode()
"""The answer to ``<starttls/>`` (RFC 6120, 5.4.2.3): TLS begins right after its last byte."""


def sasl_failure(condition: str, text: str) -> bytes:
    """Return a SASL ``<failure/>`` (RFC 6120, section 6.5) with ``condition`` and ``text``."""
    return (
        f"<failure xmlns='{ns.SASL}'><{condition}/>"
        f"<text xml:lang='en'>{escape(printable(text))}</text></failure>"
    ).encode()
