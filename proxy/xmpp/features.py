"""Stream features (RFC 6120, section 4.3.2): our own, and edits to a server's.

An edit leaves what it does not touch byte for byte.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

import attrs
from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element, enclosure
from proxy.xmpp.expat import create_parser
from proxy.xmpp.names import ELEMENTS

STARTTLS_REQUIRED: Final = (
    f"<stream:features><starttls xmlns='{ns.TLS}'><required/></starttls></stream:features>".encode()
)
"""What is offered before TLS where TLS is required (RFC 6120, section 5.4.1): nothing else."""

Rewrite = Callable[[bytes], bytes]
"""Makes from the bytes of an element those that take its place."""

Edit = Callable[[etree._Element], Rewrite | None]
"""Looks at one element and says how to rewrite it; None keeps it."""


def cut(_raw: bytes) -> bytes:
    """Rewrite an element to nothing."""
    return b""


def edit(element: Element, change: Edit) -> bytes:
    """Return the bytes of ``element`` with what ``change`` rewrites rewritten, all else as it was.

    ``change`` sees each element inside, in document order; what it says of those inside a rewritten
    one does not count.

    Raises:
        StreamError: the element has no tree; see `proxy.xmpp.events.parse`.
        ValueError: the tree does not have the elements that the bytes have, each in its place;
            nothing may be passed on then.
    """
    nodes = list(element.tree.iter())
    rewrites = [None if node is element.tree else change(node) for node in nodes]
    if not any(rewrites):
        return element.raw
    spans = _spans(element.raw, element.namespaces)
    if _shape(nodes) != [(span.name, span.parent) for span in spans]:
        raise ValueError("an element cannot be edited: its parts cannot be told apart")
    pieces: list[bytes] = []
    kept = 0
    for rewrite, span in zip(rewrites, spans, strict=True):
        if rewrite is not None and span.start >= kept:
            pieces += (element.raw[kept : span.start], rewrite(element.raw[span.start : span.end]))
            kept = span.end
    pieces.append(element.raw[kept:])
    return b"".join(pieces)


def insert(raw: bytes, child: bytes) -> bytes:
    """Return the element ``raw`` with ``child`` as its last child, all else as it was."""
    if raw.endswith(b"/>"):
        name = raw[1:].split(None, 1)[0].rstrip(b"/>")
        return raw[:-2] + b">" + child + b"</" + name + b">"
    end = raw.rindex(b"</")
    return raw[:end] + child + raw[end:]


_START_TAG: Final = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")


@attrs.define
class _Span:
    """An element in bytes: its name as trees show it, its parent's number, its start and end."""

    name: str
    parent: int
    start: int
    end: int


def _shape(nodes: list[etree._Element]) -> list[tuple[object, int]]:
    """Return what each node is called and the number of its parent, -1 for the first."""
    numbers: dict[etree._Element | None, int] = {node: number for number, node in enumerate(nodes)}
    return [(node.tag, numbers.get(node.getparent(), -1)) for node in nodes]


def _spans(raw: bytes, namespaces: Mapping[str, str]) -> list[_Span]:
    """Return each element in ``raw``, in document order."""
    opening = enclosure(namespaces)
    before = len(opening)
    document = opening + raw + b"</enclosure>"
    spans: list[_Span] = []
    under_way: list[int] = []
    parser = create_parser(prefixes=False)

    def started(name: str, _attributes: dict[str, str]) -> None:
        start = parser.CurrentByteIndex
        tag = _START_TAG.match(document, start)
        if tag is None:
            raise ValueError("an element cannot be edited: a tag has no end")
        # An empty-element tag is a whole element; of others, the end tag comes later.
        end = tag.end() - before if tag[0].endswith(b"/>") else 0
        # The enclosure is the first of all; it is no part of the element.
        parent = under_way[-1] - 1 if under_way else -1
        under_way.append(len(spans))
        spans.append(_Span(ELEMENTS[name], parent, start - before, end))

    def ended(_name: str) -> None:
        span = spans[under_way.pop()]
        span.end = span.end or document.index(b">", parser.CurrentByteIndex) + 1 - before

    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.Parse(document, True)
    parser.StartElementHandler = parser.EndElementHandler = None  # they hold the parser
    return spans[1:]
