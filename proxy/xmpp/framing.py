"""Framing: bytes in; stream header, elements, white space and footer out, each with its bytes.

A `Framer` reads one stream. It cuts the bytes into tokens (runs of character data, and markup
from ``<`` to ``>``), which is where every limit is held before memory is spent, and hands whole
tokens to expat, which judges them: well-formedness, namespaces, nesting. Because expat sees
nothing beyond the token at hand, each event ends exactly where its last byte is, and what comes
after it stays unread in `Framer.rest` until it is asked for.

Restricted XML (RFC 6120, section 11.1) is refused as soon as it begins: comments, processing
instructions, document types and entities other than the five predefined ones. Bytes are UTF-8,
strictly, whatever a declaration says.
"""

import codecs
import re
from enum import Enum
from pyexpat import ExpatError
from typing import Final

import attrs

from proxy.xmpp.content import Content, Part
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.expat import not_well_formed
from proxy.xmpp.skim import DEEPEST, MOST_ATTRIBUTES, Approve, skim

SPACE: Final = b" \t\r\n"
_SPACES: Final = re.compile(rb"[ \t\r\n]*")
_QUOTE_OR_END: Final = re.compile(rb"[<>\"']")
# A reference that is too long (group 1; 16 bytes are enough for all), broken off, or not all here.
_TORN_REFERENCE: Final = re.compile(rb"&(?:([^\s;<&]{15})|[^\s;<&]{0,14}(?:(&)|\Z))")
# The start, maybe, of ``]]>``; two groups as above.
_TORN_END: Final = re.compile(rb"\]{1,2}()()\Z")
_CDATA: Final = b"<![CDATA["
_DECLARATION: Final = b"<?xml"


@attrs.frozen
class Limits:
    """What a stream may cost; more is a ``policy-violation``.

    Attributes:
        element: bytes of a first-level element.
        start_tag: bytes of one tag or declaration.
        attributes: attributes of one tag, namespace declarations included.
        depth: elements inside one another, the stream included.
        white_space: bytes of white space in a row between first-level elements.
    """

    element: int = 262_144
    start_tag: int = 65_536
    attributes: int = 256
    depth: int = 128
    white_space: int = 4_096


class _Kind(Enum):
    TEXT = "text"
    MARKUP = "markup"


class Framer:
    """Reads one stream; a new stream (after TLS, after SASL) is read by a new framer.

    Feed it bytes with `feed`, then take events with `next_event` until there is none. Where only
    the addresses of stanzas matter, `skim` takes most of them off before each event.
    """

    __slots__ = (
        "_content",
        "_decoder",
        "_failure",
        "_finished",
        "_input",
        "_parser",
        "_quote",
        "_quoted",
        "_raw",
        "_scanned",
        "_skims",
        "_spaces",
        "limits",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        """May be changed between elements."""
        self._input = bytearray()  # not yet taken
        self._scanned = 0  # how far the token at the start of _input has been looked through
        self._quote = b""  # the quotation mark in which the scan stands
        self._quoted = 0  # attribute values seen in the token
        self._raw = bytearray()  # taken, of the event that is under way
        self._spaces = 0
        self._finished = False
        self._failure: tuple[Condition, str] | None = None
        self._content = Content(limits.depth)
        self._skims = limits.depth >= DEEPEST  # the depth of `Content` stays
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        # The parser knows the content and not the framer: nothing here holds itself alive.
        self._parser = self._content.parser()

    def feed(self, data: bytes) -> None:
        """Take in more bytes."""
        self._input += data

    @property
    def rest(self) -> bytes:
        """The bytes that belong to no event taken so far and to none that is under way."""
        return bytes(self._input)

    @property
    def held(self) -> int:
        """How many bytes wait inside, those of an element under way included."""
        return len(self._input) + len(self._raw)

    def release(self) -> bytes:
        """Return every byte of which no event has come, in order; the framer is done then."""
        held = bytes(self._raw + self._input)
        self._raw.clear()
        self._input.clear()
        return held

    def next_event(self) -> Event | None:
        """Take the next event; None if more bytes are needed first.

        Raises:
            StreamError: the stream breaks XML's rules, XMPP's or a limit. It cannot go on.
        """
        if self._failure is not None:
            raise StreamError(*self._failure)
        try:
            return self._take_event()
        except StreamError as failure:
            # Not the exception itself: its traceback would hold on to this.
            self._failure = (failure.condition, failure.text)
            raise

    def skim(self, approve: Approve) -> bytes:
        """Take simple stanzas from the front of the input, unparsed, while `approve` agrees.

        What is taken is what `next_event` would return as elements; see `proxy.xmpp.skim` for what
        is simple. White space is not, nor is a stanza of which a part has been looked at already:
        `next_event` goes on where this ends. If `approve` raises an exception, nothing is taken.

        To be used where the content namespace that the header declares is known to be right.

        Args:
            approve: is asked about the addresses of each stanza.

        Returns:
            The exact bytes of the stanzas; none if the stream stands inside an element, or if the
            limits are so narrow that one of a simple stanza's could be broken.
        """
        limits = self.limits
        if (
            self._content.depth != 1
            or self._scanned
            or self._failure is not None
            or not self._skims
            or limits.attributes < MOST_ATTRIBUTES
        ):
            return b""
        # No tag is longer than its stanza.
        taken = skim(self._input, approve, min(limits.element, limits.start_tag))
        if taken:
            del self._input[: len(taken)]
            self._spaces = 0
        return taken

    def _take_event(self) -> Event | None:
        while self._input:
            if self._finished:
                raise StreamError(Condition.NOT_WELL_FORMED, "data after the end of the stream")
            token = self._next_token()
            if token is None:
                return None
            kind, end = token
            taken = bytes(self._input[:end])
            del self._input[:end]
            self._scanned = self._quoted = 0
            event = self._take_text(taken) if kind is _Kind.TEXT else self._take_markup(taken)
            if event is not None:
                return event
        return None

    # Cutting tokens. Nothing is looked at beyond what the limits allow, so that which fault is
    # found first does not depend on how the bytes come in.

    def _next_token(self) -> tuple[_Kind, int] | None:
        """Find the token at the start of the input: its kind and its end; None if incomplete."""
        if self._input[0] != ord("<"):
            kind, end = (
                _Kind.TEXT,
                self._text_end() if self._content.depth > 1 else self._space_end(),
            )
        elif len(self._input) == 1:
            return None
        elif self._input[1] == ord("!"):
            kind, end = _Kind.TEXT, self._cdata_end()
        elif self._input[1] == ord("?"):
            kind, end = _Kind.MARKUP, self._declaration_end()
        else:
            kind, end = _Kind.MARKUP, self._tag_end()
        return None if end is None else (kind, end)

    def _space_end(self) -> int:
        spaces = _SPACES.match(self._input)
        if spaces is None or not spaces.end():
            raise self._stray()
        room = self.limits.white_space - self._spaces
        if room <= 0:
            raise StreamError(Condition.POLICY_VIOLATION, "too much white space")
        return min(spaces.end(), room)

    def _stray(self) -> StreamError:
        """Return what is wrong with character data, next in the input, outside all stanzas."""
        try:
            self._decoder.decode(self._input[:1])
        except UnicodeDecodeError:
            return StreamError(Condition.UNSUPPORTED_ENCODING, "not UTF-8")
        if not self._content.depth or self._input[0] < ord(" "):
            return StreamError(Condition.NOT_WELL_FORMED, "this is no XML stream")
        return StreamError(Condition.BAD_FORMAT, "character data between stanzas")

    def _text_end(self) -> int | None:
        room = self._room()
        tag = self._input.find(b"<", 0, room)
        end = min(len(self._input), room) if tag < 0 else tag
        # What belongs together must reach expat in one piece: it may put off what is torn.
        torn = _TORN_REFERENCE.search(self._input, 0, end)
        if torn is None and tag < 0:
            torn = _TORN_END.search(self._input, max(0, end - 2), end)
        if torn is None and end:
            return end
        if torn is not None and torn.start():
            return torn.start()
        long, broken = torn.group(1, 2) if torn is not None else (None, None)
        if long:
            raise StreamError(Condition.RESTRICTED_XML, "a reference is no predefined one")
        if broken or (torn is not None and tag >= 0):
            raise StreamError(Condition.NOT_WELL_FORMED, "a reference without an end")
        self._wait_within(room)
        return None

    def _cdata_end(self) -> int | None:
        room = self._room()
        opening = bytes(self._input[: min(len(_CDATA), room)])
        if not _CDATA.startswith(opening):
            raise StreamError(
                Condition.RESTRICTED_XML, "comments and document types are not allowed"
            )
        if opening == _CDATA and self._content.depth < 2:  # noqa: PLR2004 - in no first-level element
            raise self._stray()
        end = self._input.find(b"]]>", max(len(_CDATA), self._scanned - 2), room)
        if end < 0:
            self._wait_within(room)
            return None
        return end + 3

    def _declaration_end(self) -> int | None:
        limit = self.limits.start_tag
        opening = bytes(self._input[: min(len(_DECLARATION) + 1, limit)])
        name, after = opening[: len(_DECLARATION)], opening[len(_DECLARATION) :]
        if (
            self._content.depth
            or self._raw
            or not _DECLARATION.startswith(name)
            or after.strip(b"?" + SPACE)
        ):
            raise StreamError(Condition.RESTRICTED_XML, "processing instructions are not allowed")
        end = self._input.find(b"?>", max(2, self._scanned - 1), limit)
        if end < 0:
            self._wait_within(limit)
            return None
        return end + 2

    def _tag_end(self) -> int | None:
        limit = min(self.limits.start_tag, self._room())
        position = max(1, self._scanned)
        while True:
            if self._quote:
                closing = self._input.find(self._quote, position, limit)
                if closing < 0:
                    break
                self._quote = b""
                position = closing + 1
            found = _QUOTE_OR_END.search(self._input, position, limit)
            if found is None:
                break
            position = found.end()
            match found.group():
                case b">":
                    return position
                case b"<":
                    raise StreamError(Condition.NOT_WELL_FORMED, "a tag inside a tag")
                case mark:
                    self._quote = bytes(mark)
                    self._quoted += 1
                    if self._quoted > self.limits.attributes:
                        raise StreamError(Condition.POLICY_VIOLATION, "too many attributes")
        self._wait_within(limit)
        return None

    def _room(self) -> int:
        """How many bytes the token at the start of the input may have."""
        if not self._content.depth:
            return self.limits.start_tag
        return self.limits.element - len(self._raw)

    def _wait_within(self, limit: int) -> None:
        """Wait for the end of a token, unless it is too long already."""
        if len(self._input) <= limit:
            self._scanned = len(self._input)
        elif limit == self.limits.start_tag:
            raise StreamError(Condition.POLICY_VIOLATION, "a tag is too long")
        else:
            raise StreamError(
                Condition.POLICY_VIOLATION,
                f"a stanza is larger than {self.limits.element} bytes",
            )

    # Taking tokens

    def _take_text(self, text: bytes) -> Event | None:
        self._parse(text)
        if self._content.depth == 1:
            self._spaces += len(text)
            return WhiteSpace(text)
        if not self._content.depth:
            self._spaces += len(text)
        self._raw += text
        return None

    def _take_markup(self, tag: bytes) -> Event | None:
        self._spaces = 0
        self._raw += tag
        self._parse(tag)
        part, self._content.found = self._content.found, None
        return None if part is None else self._event(part)

    def _parse(self, data: bytes) -> None:
        data = self._decoder.getstate()[0] + data
        try:
            self._decoder.reset()
            self._decoder.decode(data)
        except UnicodeDecodeError as error:
            self._give(data[: error.start])  # what is wrong before comes first
            raise StreamError(Condition.UNSUPPORTED_ENCODING, "not UTF-8") from error
        self._give(data[: len(data) - len(self._decoder.getstate()[0])])

    def _give(self, data: bytes) -> None:
        try:
            self._parser.Parse(data, False)
        except ExpatError as error:
            raise not_well_formed(error) from error

    def _event(self, part: Part) -> Event:
        """Make an event of what has been taken."""
        raw = bytes(self._raw)
        self._raw.clear()
        content = self._content
        match part:
            case Part.HEADER:
                # Namespaces declared further inside are expat's business alone.
                self._parser.StartNamespaceDeclHandler = None
                return Header(
                    raw=raw,
                    name=content.name,
                    prefix=content.prefix,
                    attributes=content.attributes,
                    namespaces=content.namespaces,
                )
            case Part.ELEMENT:
                return Element(
                    raw=raw,
                    name=content.name,
                    attributes=content.attributes,
                    namespaces=content.namespaces,
                    child=content.child,
                )
            case Part.FOOTER:
                self._finished = True
                return Footer(raw)
