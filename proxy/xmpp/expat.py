"""Expat: parsers as the framer needs them, and what they say put into XMPP's words."""

from collections.abc import Callable
from pyexpat import ExpatError, ParserCreate, XMLParserType, errors
from typing import Final

from proxy.xmpp.errors import Condition, StreamError

SEPARATOR: Final = "\x1f"
"""Between namespace, local part and prefix in expat's names; no XML text can hold it."""


def create_parser(*, prefixes: bool = True) -> XMLParserType:
    """Make a parser for UTF-8 with namespaces, which acts on each token at once.

    Args:
        prefixes: whether its names end in their prefixes.
    """
    parser = ParserCreate("utf-8", SEPARATOR)
    parser.namespace_prefixes = prefixes
    # Newer versions put off tokens that came in pieces (CVE-2023-52425); ours come whole.
    defer: Callable[[bool], None] | None = getattr(parser, "SetReparseDeferralEnabled", None)
    if defer is not None:
        defer(False)
    return parser


def check_declaration(version: str, encoding: str | None, _standalone: int) -> None:
    """Refuse an XML declaration of another version or encoding (RFC 6120, section 11.6).

    Raises:
        StreamError: ``unsupported-encoding``, or ``not-well-formed`` for the version.
    """
    if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
        raise StreamError(Condition.UNSUPPORTED_ENCODING, "the encoding must be UTF-8")
    if version != "1.0":
        raise StreamError(Condition.NOT_WELL_FORMED, "the XML version must be 1.0")


_ENTITY_FAULTS: Final = frozenset(
    errors.codes[message]
    for message in (
        errors.XML_ERROR_UNDEFINED_ENTITY,
        errors.XML_ERROR_RECURSIVE_ENTITY_REF,
        errors.XML_ERROR_ASYNC_ENTITY,
        errors.XML_ERROR_BINARY_ENTITY_REF,
        errors.XML_ERROR_PARAM_ENTITY_REF,
    )
)


def not_well_formed(error: ExpatError) -> StreamError:
    """Return the stream error that tells what expat objects to."""
    text = errors.messages[error.code]
    if error.code in _ENTITY_FAULTS:
        return StreamError(Condition.RESTRICTED_XML, "entities are not allowed")
    return StreamError(Condition.NOT_WELL_FORMED, text)


def clark(name: str) -> tuple[str, str]:
    """Return the qualified name and the prefix (empty if there is none) that expat's name says."""
    namespace, separator, rest = name.partition(SEPARATOR)
    if not separator:
        return namespace, ""
    local, _, prefix = rest.partition(SEPARATOR)
    return f"{{{namespace}}}{local}", prefix


def clark_attributes(attributes: dict[str, str]) -> dict[str, str]:
    """Return expat's ``attributes`` with qualified names instead of expat's."""
    if not any(SEPARATOR in name for name in attributes):
        return attributes
    return {clark(name)[0]: value for name, value in attributes.items()}
