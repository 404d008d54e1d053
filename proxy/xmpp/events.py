"""What a stream is made of, each part with its exact bytes (RFC 6120, section 4)."""

import re
from collections.abc import Mapping
from functools import cached_property
from pyexpat import ExpatError
from typing import Final
from xml.sax.saxutils import escape

import attrs
from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.expat import clark, clark_attributes, create_parser, not_well_formed
from proxy.xmpp.names import ATTRIBUTES, ELEMENTS


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
        """The element as an element of lxml; see `parse`.

        lxml keeps each name it ever met, for as long as the process lives. It meets a bounded
        number: whoever looks for a name here announces it first, with `know` of `proxy.xmpp.names`.

        Raises:
            StreamError: see `parse`.
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
    """Build the tree of one element, whose prefixes ``namespaces`` declares.

    Expat reads it, strictly, so that lxml sees no name beyond those of `proxy.xmpp.names`: an
    element with another is called `UNKNOWN`, an attribute with another is left out, and so is
    ``xml:id``. All else is exact.

    Raises:
        StreamError: it is not exactly one well-formed element, or not in restricted XML.
    """
    growing = _Growing()
    parser = create_parser(prefixes=False)
    parser.buffer_text = True
    parser.StartNamespaceDeclHandler = growing.declared
    parser.StartElementHandler = growing.started
    parser.EndElementHandler = growing.ended
    parser.CharacterDataHandler = growing.texts.append
    parser.CommentHandler = parser.ProcessingInstructionHandler = _restricted
    try:
        parser.Parse(enclosure(namespaces) + raw + b"</enclosure>", True)
    except ExpatError as error:
        raise not_well_formed(error) from error
    except ValueError as error:
        raise StreamError(Condition.NOT_WELL_FORMED, f"not one element: {error}") from error
    wrapper = growing.root[0]
    if len(wrapper) != 1 or wrapper.text or wrapper[0].tail:
        raise StreamError(Condition.NOT_WELL_FORMED, "not one element")
    return wrapper[0]


def replaced(element: Element, raw: bytes) -> Element:
    """Return the element that ``raw`` is, with its own names, where ``element`` stood.

    Raises:
        StreamError: see `parse`.
    """
    parse(raw, element.namespaces)  # exactly one, well-formed
    started: list[tuple[str, dict[str, str]]] = []
    parser = create_parser()
    parser.StartElementHandler = lambda name, attributes: started.append((name, attributes))
    parser.Parse(enclosure(element.namespaces) + raw + b"</enclosure>", True)
    _, (name, attributes), *inside = started
    return attrs.evolve(
        element,
        raw=raw,
        name=clark(name)[0],
        attributes=clark_attributes(attributes),
        child=clark(inside[0][0])[0] if inside else "",
    )


class _Growing:
    """A tree that grows as expat reports what it finds.

    Attributes:
        root: where it grows; what expat finds first becomes its child.
        texts: character data for which there is no node yet.
    """

    __slots__ = ("_ended", "_namespaces", "_open", "root", "texts")

    def __init__(self) -> None:
        self.root = etree.Element("enclosure")
        self.texts: list[str] = []
        self._open = [self.root]
        self._ended: etree._Element | None = None  # what has ended last, in the innermost open one
        self._namespaces: dict[str | None, str] = {}

    def declared(self, prefix: str | None, namespace: str | None) -> None:
        """Take note of a declaration in the start tag that comes next."""
        namespace = namespace or ""
        if prefix != "xml" and _DECLARABLE.fullmatch(namespace):
            self._namespaces[prefix] = namespace

    def started(self, name: str, attributes: dict[str, str]) -> None:
        """Add an element, inside the innermost open one."""
        if self.texts:
            self._place_text()
        if attributes:
            attributes = {
                shown: value for given, value in attributes.items() if (shown := ATTRIBUTES[given])
            }
        node = etree.SubElement(self._open[-1], ELEMENTS[name], attributes, self._namespaces)
        self._namespaces.clear()
        self._open.append(node)
        self._ended = None

    def ended(self, _name: str) -> None:
        """Close the innermost open element."""
        if self.texts:
            self._place_text()
        self._ended = self._open.pop()

    def _place_text(self) -> None:
        text = "".join(self.texts)
        self.texts.clear()
        if self._ended is None:
            self._open[-1].text = text
        else:
            self._ended.tail = text


def _restricted(*_found: str) -> None:
    raise StreamError(
        Condition.RESTRICTED_XML, "comments and processing instructions are not allowed"
    )


_CHARACTER: Final = r"[A-Za-z0-9._~!$&'()*+,;=@/:-]"
_DECLARABLE: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:(?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?(?=[/?#]|\Z)|(?!//))"
    rf"{_CHARACTER}*|[A-Za-z0-9._~-]*)(?:\?(?:{_CHARACTER}|\?)*)?(?:\#(?:{_CHARACTER}|\?)*)?"
)
"""Namespaces for which trees declare the prefixes that were written, or none (an empty one).

lxml refuses others that are no URIs of RFC 3986, and to ask it costs more than to look here.
"""


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
