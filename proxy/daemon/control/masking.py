"""Elements of a negotiation made fit to be shown: without anything that lets somebody in.

What is shown is listed, and nothing else is: the names of elements, and the texts and attributes
that are known to say nothing secret. So credentials, tokens and keys of dialback never come out,
nor does what an extension that nobody has heard of may carry.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element, Header
from proxy.xmpp.text import printable

LONGEST: Final = 2_000
"""Characters of one element that are shown."""

LONGEST_VALUE: Final = 256
"""Characters of one text or attribute."""

MASK: Final = "(masked)"
"""Stands for a text or an attribute that is not shown."""

_LANG: Final = ns.qualified(ns.XML, "lang")
_HARMLESS: Final = frozenset(("to", "from", "type", "version", _LANG))
"""Attributes that are shown of elements in the namespaces of `_SHOWN`."""

_NAMED: Final = _HARMLESS | {"id"}
_STANZAS: Final = dict.fromkeys(("iq", "message", "presence"), _NAMED)

# An attribute `id` is no mere name everywhere: that of <enabled/> lets a stream be taken up again.
_ATTRIBUTES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    ns.CLIENT: _STANZAS,
    ns.SERVER: _STANZAS,
    ns.COMPONENT: _STANZAS,
    ns.DIALBACK: dict.fromkeys(("result", "verify"), _NAMED),
    ns.STREAMS: {"stream": _NAMED},
    ns.SASL: {"auth": _HARMLESS | {"mechanism"}},
    ns.SASL2: {"authenticate": _HARMLESS | {"mechanism"}},
    ns.FAST: {"request-token": _HARMLESS | {"mechanism"}},
    ns.CHANNEL_BINDING: {"channel-binding": _HARMLESS},
    ns.STREAM_MANAGEMENT: {
        "enable": frozenset(("resume", "max")),
        "enabled": frozenset(("resume", "max")),
        "resume": frozenset(("h",)),
        "resumed": frozenset(("h",)),
    },
}
"""The attributes that are shown, by namespace and local part of their element."""

_TEXTS: Final[Mapping[str, frozenset[str]]] = {
    ns.STREAM_ERRORS: frozenset(("text", "see-other-host")),
    ns.STANZA_ERRORS: frozenset(("text",)),
    ns.SASL: frozenset(("mechanism", "text")),
    ns.SASL2: frozenset(("mechanism", "text", "authorization-identifier")),
    ns.FAST: frozenset(("mechanism",)),
    ns.BIND: frozenset(("jid", "resource")),
    ns.AUTH: frozenset(("username", "resource")),
    ns.COMPRESSION: frozenset(("method",)),
    ns.COMPRESSION_FEATURE: frozenset(("method",)),
    ns.STREAM_LIMITS: frozenset(("max-bytes", "idle-seconds")),
}
"""The elements of which the text is shown, likewise."""

_OPEN: Final[Mapping[str, frozenset[str]]] = {
    ns.STREAMS: frozenset(("features", "error")),
    ns.CLIENT: frozenset(("iq", "error")),
    ns.SERVER: frozenset(("iq", "error")),
    ns.COMPONENT: frozenset(("iq", "error")),
    ns.SASL: frozenset(("mechanisms", "failure")),
    ns.SASL2: frozenset(("authentication", "inline", "success", "failure")),
    ns.FAST: frozenset(("fast",)),
    ns.CHANNEL_BINDING: frozenset(("sasl-channel-binding",)),
    ns.BIND: frozenset(("bind",)),
    ns.AUTH: frozenset(("query",)),
    ns.COMPRESSION_FEATURE: frozenset(("compression",)),
    ns.STREAM_LIMITS: frozenset(("limits",)),
}
"""The elements inside which anything but names is shown at all, likewise."""

_SHOWN: Final = frozenset(
    (
        *_ATTRIBUTES,
        *_TEXTS,
        ns.TLS,
        ns.BIND2,
        ns.SESSION,
        ns.AUTH_FEATURE,
        ns.REGISTER,
        ns.DIALBACK_FEATURE,
        ns.BIDIRECTIONAL,
        ns.BIDIRECTIONAL_FEATURE,
        ns.CONFIG_VERSION,
    )
)
_PREFIXES: Final = {ns.STREAMS: "stream", ns.DIALBACK: "db"}


def masked(element: Element) -> str:
    """Return an element on one line, in a form of our own: all structure, masked content.

    Prefixes and white space are not as they were sent. It is printable, and cut when it is long.

    Raises:
        StreamError: see `proxy.xmpp.events.parse`.
    """
    return _cut("".join(_written(element.tree, "", is_open=True)))


def masked_header(header: Header) -> str:
    """Return the header of a stream on one line, as `masked`."""
    namespace, local = ns.split(header.name)
    shown = _ATTRIBUTES.get(namespace, {}).get(local, frozenset())
    attributes = _attributes(header.attributes, shown)
    content = header.namespaces.get("", "")
    declared = f" xmlns={_quoted(content)}" if content else ""
    return _cut(f"<{_tag(namespace, local)}{declared}{attributes}>")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _written(node: etree._Element, outside: str, *, is_open: bool) -> Iterator[str]:
    """Write an element.

    Args:
        node: the element.
        outside: the namespace of the element in which it stands.
        is_open: whether all elements in which it stands are among `_OPEN`.
    """
    namespace, local = ns.split(str(node.tag))
    tag = _tag(namespace, local)
    yield f"<{tag}"
    if namespace != outside and namespace not in _PREFIXES:
        yield f" xmlns={_quoted(namespace)}"
    shown = frozenset[str]()
    if is_open and namespace in _SHOWN:
        shown = _ATTRIBUTES.get(namespace, {}).get(local, _HARMLESS)
    yield _attributes({str(name): str(value) for name, value in node.items()}, shown)
    if not len(node) and not node.text:
        yield "/>"
        return
    yield ">"
    yield _text(node.text, shown=is_open and local in _TEXTS.get(namespace, ()))
    is_open = is_open and local in _OPEN.get(namespace, ())
    for child in node:
        yield from _written(child, namespace, is_open=is_open)
        yield _text(child.tail, shown=False)
    yield f"</{tag}>"


def _tag(namespace: str, local: str) -> str:
    prefix = _PREFIXES.get(namespace)
    local = printable(local, LONGEST_VALUE)
    return f"{prefix}:{local}" if prefix else local


def _attributes(attributes: Mapping[str, str], shown: frozenset[str]) -> str:
    written = ""
    for name, value in attributes.items():
        called = "xml:lang" if name == _LANG else printable(ns.split(name)[1], LONGEST_VALUE)
        written += f" {called}={_quoted(value) if name in shown else MASK}"
    return written


def _text(text: str | None, *, shown: bool) -> str:
    if not text or not text.strip():
        return ""
    return _escaped(text) if shown else MASK


def _quoted(value: str) -> str:
    return '"' + _escaped(value).replace('"', "&quot;") + '"'


def _escaped(text: str) -> str:
    text = printable(text, LONGEST_VALUE)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
