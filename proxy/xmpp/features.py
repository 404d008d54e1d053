"""Stream features (RFC 6120, section 4.3.2): our own, and edits to a server's.

An edit leaves what it does not touch byte for byte.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element, enclosure
from proxy.xmpp.expat import clark, create_parser

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
        ValueError: lxml and expat do not see the same elements; nothing may be passed on then.
    """
    nodes = list(element.tree.iter())
    rewrites = [None if node is element.tree else change(node) for node in nodes]
    if not any(rewrites):
        return element.raw
    spans = _spans(element.raw, element.namespaces)
    if [node.tag for node in nodes] != [name for name, _, _ in spans]:
        raise ValueError("an element cannot be edited: its parts cannot be told apart")
    pieces: list[bytes] = []
    kept = 0
    for rewrite, (_, start, end) in zip(rewrites, spans, strict=True):
        if rewrite is not None and start >= kept:
            pieces += (element.raw[kept:start], rewrite(element.raw[start:end]))
            kept = end
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


def _spans(raw: bytes, namespaces: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Return the qualified name, start and end of each element in ``raw``, in document order."""
    opening = enclosure(namespaces)
    document = opening + raw + b"</enclosure>"
    spans: list[tuple[str, int, int]] = []
    under_way: list[int] = []
    parser = create_parser()

    def started(name: str, _attributes: dict[str, str]) -> None:
        start = parser.CurrentByteIndex
        tag = _START_TAG.match(document, start)
        if tag is None:
            raise ValueError("an element cannot be edited: a tag has no end")
        # An empty-element tag is a whole element; of others, the end tag comes later.
        end = tag.end() if tag[0].endswith(b"/>") else 0
        under_way.append(len(spans))
        spans.append((clark(name)[0], start, end))

    def ended(_name: str) -> None:
        index = under_way.pop()
        name, start, end = spans[index]
        spans[index] = (name, start, end or document.index(b">", parser.CurrentByteIndex) + 1)

    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.Parse(document, True)
    parser.StartElementHandler = parser.EndElementHandler = None  # they hold the parser
    before = len(opening)
    return [(name, start - before, end - before) for name, start, end in spans[1:]]
