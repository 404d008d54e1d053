"""Counting: the size of each stanza of a stream whose bytes are passed on as they come.

Where nobody looks at stanzas but their size is bounded, nothing is cut, held or copied: a `Meter`
sees the bytes as they pass and objects when a stanza has become too large.
"""

from pyexpat import ExpatError, ParserCreate

from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.expat import check_declaration, not_well_formed

_END_TAG = 3
"""Bytes of an end tag beside the name: ``</`` and ``>``."""


class Meter:
    """Measures the stanzas of one stream.

    Args:
        header: the exact bytes of the stream's header.
        limit: bytes that a first-level element may have.
        depth: how deep elements may nest, the stream included.
    """

    __slots__ = ("_depth", "_fed", "_first", "_parser", "_start", "depth", "limit")

    def __init__(self, header: bytes, limit: int, depth: int) -> None:
        self.limit = limit
        self.depth = depth
        self._depth = 0
        self._fed = 0
        self._start = -1  # where the element under way began; -1 between elements
        self._first = True
        parser = self._parser = ParserCreate("utf-8")
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
        try:
            self._parser.Parse(data, False)
        except ExpatError as error:
            raise not_well_formed(error) from error
        self._fed += len(data)
        if self._fed - (start if (start := self._start) >= 0 else self._parser.CurrentByteIndex) > (
            self.limit
        ):
            self._too_large()

    def _started(self, _name: str, _attributes: dict[str, str]) -> None:
        depth = self._depth = self._depth + 1
        if depth == 2:  # noqa: PLR2004 - a first-level element
            self._start = self._parser.CurrentByteIndex
        elif depth > self.depth:
            raise StreamError(Condition.POLICY_VIOLATION, "elements nest too deep")

    def _ended(self, name: str) -> None:
        depth = self._depth = self._depth - 1
        if depth == 1:
            end = self._parser.CurrentByteIndex + len(name) + _END_TAG
            if end - self._start > self.limit:
                self._too_large()
            self._start = -1

    def _restricted(self, *_: object) -> None:
        raise StreamError(
            Condition.RESTRICTED_XML, "comments and processing instructions are not allowed"
        )

    def _too_large(self) -> None:
        raise StreamError(Condition.POLICY_VIOLATION, f"a stanza is larger than {self.limit} bytes")
