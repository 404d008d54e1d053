"""Counting: the size of each stanza of a stream whose bytes are passed on as they come.

Where nobody looks at stanzas but their size is bounded, nothing is cut, held or copied: a `Meter`
sees the bytes as they pass and objects when a stanza has become too large.
"""

from collections.abc import Callable
from pyexpat import ExpatError, ParserCreate

from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.expat import check_declaration, not_well_formed

_END_TAG = 3
"""Bytes of an end tag beside the name: ``</`` and ``>``."""

_CHARACTER = 4
"""Bytes that a character of a name may have."""


class Meter:
    """Measures the stanzas of one stream.

    Sizes are exact, but for white space in a stanza's end tag, which may go uncounted.

    Args:
        header: the exact bytes of the stream's header.
        limit: bytes that a first-level element may have.
        depth: how deep elements may nest, the stream included.
    """

    __slots__ = ("_defer", "_depth", "_fed", "_parser", "_start", "depth", "limit")

    def __init__(self, header: bytes, limit: int, depth: int) -> None:
        self.limit = limit
        self.depth = depth
        self._depth = 0
        self._fed = 0
        self._start = -1  # where the element under way began; -1 between elements
        parser = self._parser = ParserCreate("utf-8")
        self._defer: Callable[[bool], None] | None = getattr(
            parser, "SetReparseDeferralEnabled", None
        )
        parser.XmlDeclHandler = check_declaration
        parser.StartElementHandler = self._started
        parser.EndElementHandler = self._ended
        parser.CommentHandler = self._restricted
        parser.ProcessingInstructionHandler = self._restricted
        self.feed(header)

    def feed(self, data: bytes | memoryview) -> None:
        """Take note of bytes that are about to pass.

        Raises:
            StreamError: they must not pass: a stanza is too large, or they are no XML.
        """
        self._parse(data)
        self._fed += len(data)
        if self._under_way() > self.limit:
            if self._defer is not None:
                # Newer versions of expat put off looking at a token that comes in pieces.
                self._defer(False)
                self._parse(b"")
                self._defer(True)
            if self._under_way() > self.limit:
                self._too_large()

    def close(self) -> None:
        """Let go of expat; nothing is measured any more."""
        parser = self._parser
        parser.StartElementHandler = parser.EndElementHandler = None
        parser.CommentHandler = parser.ProcessingInstructionHandler = None

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self._parser.Parse(data, False)
        except ExpatError as error:
            raise not_well_formed(error) from error

    def _under_way(self) -> int:
        """Return how many bytes the stanza under way has, or what may become the start of one."""
        start = self._start
        return self._fed - (start if start >= 0 else self._parser.CurrentByteIndex)

    def _started(self, _name: str, _attributes: dict[str, str]) -> None:
        depth = self._depth = self._depth + 1
        if depth == 2:  # noqa: PLR2004 - a first-level element
            self._start = self._parser.CurrentByteIndex
        elif depth > self.depth:
            raise StreamError(Condition.POLICY_VIOLATION, "elements nest too deep")

    def _ended(self, name: str) -> None:
        depth = self._depth = self._depth - 1
        if depth == 1:
            size = self._parser.CurrentByteIndex - self._start
            most = size + len(name) * _CHARACTER + _END_TAG
            if most > self.limit and size + self._end_tag(name.encode()) > self.limit:
                self._too_large()
            self._start = -1

    def _end_tag(self, name: bytes) -> int:
        """Return the bytes of the end tag that is being read; none after an empty-element tag."""
        ahead = self._parser.GetInputContext() or b""
        return ahead.find(b">") + 1 if ahead.startswith(b"</" + name) else 0

    def _restricted(self, *_: object) -> None:
        raise StreamError(
            Condition.RESTRICTED_XML, "comments and processing instructions are not allowed"
        )

    def _too_large(self) -> None:
        raise StreamError(Condition.POLICY_VIOLATION, f"a stanza is larger than {self.limit} bytes")
