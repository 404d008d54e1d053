"""Streams that are watched from outside: bytes in, what may be shown of them out."""

import re
from typing import Final

from proxy.daemon.control.masking import masked, masked_header
from proxy.session.kinds import Kind
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import Element, Event, Footer, Header
from proxy.xmpp.framing import Framer, Limits

_LIMITS: Final = Limits(element=65_536)
_HEADER: Final = re.compile(rb"[ \t\r\n]*<(?:\?xml|(?:[^\s<>/:]+:)?stream[ \t\r\n>])")


class Flow:
    """The streams that go over one leg in one direction, one after another.

    Args:
        opening: the header of a stream under way, of which nothing has been read; empty for none.
            If what comes first is a header after all, that one holds.
    """

    def __init__(self, opening: bytes = b"") -> None:
        self._framer: Framer | None = Framer(_LIMITS)
        self._opening = opening
        self._unread = b""  # while it is not known whether a header comes first

    def restart(self) -> None:
        """Have what comes next begin a new stream, be it read already or not."""
        rest = b"" if self._framer is None else self._framer.rest
        self.renew()
        self.feed(rest)

    def renew(self) -> None:
        """Have what comes next begin a new stream on a new ground, and forget what was before."""
        self._framer = Framer(_LIMITS)
        self._opening = self._unread = b""

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        if self._framer is None:
            return
        if self._opening:
            data = self._unread = self._unread + data
            if b">" not in data and len(data) <= _LIMITS.start_tag:
                return
            if _HEADER.match(data) is None:
                self._framer.feed(self._opening)
                self._framer.next_event()
            self._opening = self._unread = b""
        self._framer.feed(data)

    def next(self) -> Event | str | None:
        """Return what comes next, or why nothing more is shown; None if there is nothing yet."""
        if self._framer is None:
            return None
        try:
            return self._framer.next_event()
        except StreamError as error:
            self._framer = None
            return f"(nothing more of this stream can be shown: {error.text})"


def opening(kind: Kind) -> bytes:
    """Return a header for a stream of which the true one has not been seen."""
    return (
        f"<stream:stream xmlns='{kind.content}' xmlns:stream='{ns.STREAMS}' "
        f"xmlns:db='{ns.DIALBACK}'>"
    ).encode()


def shown(event: Event | str) -> str:
    """Return what is shown of a part of a stream; empty for nothing."""
    match event:
        case str():
            return event
        case Header():
            return masked_header(event)
        case Element():
            try:
                return masked(event)
            except StreamError as error:
                return f"(an element that cannot be shown: {error.text})"
        case Footer():
            return "</stream:stream>"
        case _:
            return ""
