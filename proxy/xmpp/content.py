"""What expat finds in a stream: its parts, and whether they keep to XMPP's rules."""

from enum import Enum
from pyexpat import XMLParserType

from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.expat import check_declaration, clark, clark_attributes, create_parser


class Part(Enum):
    """The parts of a stream of which a tag is the last byte."""

    HEADER = "header"
    ELEMENT = "element"
    FOOTER = "footer"


class Content:
    """The state of one stream, as expat reports it.

    Args:
        most: how deep elements may nest, the stream included.

    Attributes:
        depth: elements that are open, the stream included.
        found: the part that the last tag has completed; None if it has completed none.
        name: the qualified name of that part.
        prefix: its namespace prefix; empty if there is none.
        attributes: its attributes by qualified name.
        child: the qualified name of the first element inside; empty if there is none.
        namespaces: what the header declares, by prefix.
    """

    __slots__ = ("_most", "attributes", "child", "depth", "found", "name", "namespaces", "prefix")

    def __init__(self, most: int) -> None:
        self._most = most
        self.depth = 0
        self.found: Part | None = None
        self.name = ""
        self.prefix = ""
        self.attributes: dict[str, str] = {}
        self.child = ""
        self.namespaces: dict[str, str] = {}

    def parser(self) -> XMLParserType:
        """Return a parser that reports to this."""
        parser = create_parser()
        parser.XmlDeclHandler = check_declaration
        parser.StartNamespaceDeclHandler = self._declared
        parser.StartElementHandler = self._started
        parser.EndElementHandler = self._ended
        return parser

    def _declared(self, prefix: str | None, namespace: str | None) -> None:
        if not self.depth:
            self.namespaces[prefix or ""] = namespace or ""

    def _started(self, name: str, attributes: dict[str, str]) -> None:
        depth = self.depth = self.depth + 1
        if depth > self._most:
            raise StreamError(Condition.POLICY_VIOLATION, "elements nest too deep")
        if depth > 2:  # noqa: PLR2004 - inside a first-level element
            if not self.child:
                self.child = clark(name)[0]
            return
        self.name, self.prefix = clark(name)
        self.attributes = clark_attributes(attributes)
        self.child = ""
        if depth == 1:
            self.found = Part.HEADER
        elif self.name == ns.STREAM:
            raise StreamError(Condition.BAD_FORMAT, "a stream inside a stream")
        elif self.prefix and ns.split(self.name)[0] == self.namespaces.get("", ""):
            raise StreamError(
                Condition.BAD_NAMESPACE_PREFIX, "stanzas are written without a prefix"
            )

    def _ended(self, _name: str) -> None:
        depth = self.depth = self.depth - 1
        if depth == 1:
            self.found = Part.ELEMENT
        elif not depth:
            if self.found is not None:
                raise StreamError(Condition.BAD_FORMAT, "a stream that ends in its header")
            self.found = Part.FOOTER
