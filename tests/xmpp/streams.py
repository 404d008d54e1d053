"""Streams to read, and readers that take them in pieces of any size."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import attrs

from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Element, Event, WhiteSpace
from proxy.xmpp.framing import Framer, Limits

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams' to='example.com' version='1.0'>"
)
FOOTER = b"</stream:stream>"


@attrs.frozen
class Reading:
    """What a stream came to: its events (white space in a row as one) and how it failed."""

    events: tuple[Event, ...]
    condition: Condition | None
    text: str = attrs.field(default="", eq=False)
    rest: bytes = attrs.field(default=b"", eq=False)

    @property
    def raw(self) -> bytes:
        return b"".join(event.raw for event in self.events)

    @property
    def elements(self) -> list[Element]:
        return [event for event in self.events if isinstance(event, Element)]


def read(pieces: Iterable[bytes], limits: Limits | None = None) -> Reading:
    framer = Framer(limits or Limits())
    events: list[Event] = []
    try:
        for piece in pieces:
            framer.feed(piece)
            while (event := framer.next_event()) is not None:
                events.append(event)
    except StreamError as error:
        return Reading(joined(events), error.condition, error.text, framer.rest)
    return Reading(joined(events), None, "", framer.rest)


def joined(events: Iterable[Event]) -> tuple[Event, ...]:
    """Join white space in a row: how it is cut is how it came in, and means nothing."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, WhiteSpace) and result and isinstance(result[-1], WhiteSpace):
            result[-1] = WhiteSpace(result[-1].raw + event.raw)
        else:
            result.append(event)
    return tuple(result)


def cut(data: bytes, size: int = 1) -> Iterator[bytes]:
    """Cut ``data`` into pieces of ``size`` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut ``data`` at the places that lie inside it."""
    inside = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(inside)]


def ways(data: bytes) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Every way to read a short stream: whole, byte by byte, and torn in two at each byte."""
    yield "whole", [data]
    yield "byte by byte", cut(data)
    for place in range(1, len(data)):
        yield f"torn at {place}", [data[:place], data[place:]]


def element(raw: bytes) -> Element:
    """Return the one first-level element ``raw`` of a stream of clients."""
    (found,) = read([HEADER + raw]).elements
    return found
