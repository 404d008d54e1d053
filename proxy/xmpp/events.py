"""What a stream is made of, each part with its exact bytes (RFC 6120, section 4)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Final
from xml.sax.saxutils import escape

import attrs
from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError


@attrs.frozen
class Header:
    """The opening tag of a stream, its XML declaration included.

    Attributes:
        raw: the exact bytes, white space before it included.
        name: the qualified name of the element.
        prefix: the namespace prefix of the element; empty if there is none.
        attributes: value by qualified name, namespace declarations left out.
        namespaces: namespace by prefix, as declared here; the default namespace under ``""``.
    """

    raw: bytes
    name: str
    prefix: str
    attributes: Mapping[str, str]
    namespaces: Mapping[str, str]


@attrs.frozen(slots=False)
class Element:
    """A complete first-level element: a stanza or an element of the negotiation.

    Attributes:
        raw: the exact bytes, from ``<`` to the last ``>``.
        name: the qualified name.
        attributes: value by qualified name, namespace declarations left out.
        namespaces: those in scope from the stream header, by prefix.
        child: the qualified name of the first element inside; empty if there is none.
    """

    raw: bytes
    name: str
    attributes: Mapping[str, str]
    namespaces: Mapping[str, str]
    child: str = ""

    @cached_property
    def tree(self) -> etree._Element:
        """The element parsed by lxml.

        lxml keeps every name it ever met, for as long as the process lives: never look at what
        somebody sends who is not authenticated.
        """
        return parse(self.raw, self.namespaces)


@attrs.frozen
class Footer:
    """The closing tag of a stream, as ``raw`` bytes."""

    raw: bytes


@attrs.frozen
class WhiteSpace:
    """White space between first-level elements (keepalives, mostly), as ``raw`` bytes."""

    raw: bytes


Event = Header | Element | Footer | WhiteSpace


def parse(raw: bytes, namespaces: Mapping[str, str]) -> etree._Element:
    """Parse the bytes of one element, whose prefixes ``namespaces`` declares, with lxml.

    The bytes must have come through a framer, which bounds them and refuses document types,
    entities and bytes that are no UTF-8.

    Raises:
        StreamError: lxml does not find exactly one well-formed element.
    """
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True
    )
    try:
        wrapper = etree.fromstring(enclosure(namespaces) + raw + b"</enclosure>", parser)
    except etree.XMLSyntaxError as error:
        raise StreamError(Condition.NOT_WELL_FORMED, f"not one element: {error}") from error
    if len(wrapper) != 1 or wrapper.text or wrapper[0].tail:
        raise StreamError(Condition.NOT_WELL_FORMED, "not one element")
    return wrapper[0]


def enclosure(namespaces: Mapping[str, str]) -> bytes:
    """Return the start tag of an element that declares ``namespaces``."""
    declarations = "".join(
        f' xmlns{":" if prefix else ""}{prefix}="{_quoted(namespace)}"'
        for prefix, namespace in namespaces.items()
        if namespace != ns.XML
    )
    return f"<enclosure{declarations}>".encode()


_AS_REFERENCES: Final = {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def _quoted(namespace: str) -> str:
    return escape(namespace, _AS_REFERENCES)
