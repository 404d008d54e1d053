"""Stream headers (RFC 6120, section 4.7): read, judged, written."""

import re
from typing import Final
from xml.sax.saxutils import quoteattr

import attrs

from proxy.xmpp import namespaces as ns
from proxy.xmpp.domains import domain
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Header

_VERSION: Final = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})", re.ASCII)
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*", re.ASCII)


@attrs.frozen
class StreamHeader:
    """A stream header that keeps to the rules.

    Attributes:
        to: the domain the stream is meant for, as A-labels; None if the header names none.
        sender: what ``from`` says, unchecked; None if it is absent.
        id: the stream's id; None if it is absent.
        version: major and minor; (0, 9) if the header has no version (RFC 6120, 4.7.5).
        language: what ``xml:lang`` says; None if it is absent or no language tag.
    """

    to: str | None
    sender: str | None
    id: str | None
    version: tuple[int, int]
    language: str | None

    @property
    def has_features(self) -> bool:
        """Whether the version promises stream features, and with them STARTTLS."""
        return self.version >= (1, 0)


def read(header: Header, content: str) -> StreamHeader:
    """Judge ``header`` as the start of a stream with the namespace ``content`` as its default.

    Raises:
        StreamError: with the condition that RFC 6120 names: ``invalid-namespace``,
            ``bad-namespace-prefix``, ``bad-format``, ``unsupported-version`` or ``host-unknown``.
    """
    namespace, local = ns.split(header.name)
    if namespace != ns.STREAMS:
        raise StreamError(Condition.INVALID_NAMESPACE, f"the stream must be in {ns.STREAMS}")
    if local != "stream":
        raise StreamError(Condition.BAD_FORMAT, "the first element must be a stream")
    if header.prefix != "stream":
        raise StreamError(
            Condition.BAD_NAMESPACE_PREFIX, "the stream must be written with the prefix 'stream'"
        )
    if header.namespaces.get("") != content:
        raise StreamError(Condition.INVALID_NAMESPACE, f"the default namespace must be {content}")
    version = _version(header.attributes.get("version"))
    if version >= (2, 0):
        raise StreamError(Condition.UNSUPPORTED_VERSION, "the version must be 1.0")
    to = header.attributes.get("to")
    language = header.attributes.get(f"{{{ns.XML}}}lang")
    return StreamHeader(
        to=None if to is None else _to(to),
        sender=header.attributes.get("from"),
        id=header.attributes.get("id"),
        version=version,
        language=language if language and _LANGUAGE.fullmatch(language) else None,
    )


def read_answer(header: Header, content: str) -> StreamHeader:
    """Judge the header with which a server answers, as `read` does.

    Its ``to`` is not looked at, for it only says who opened the stream. Some servers leave it empty
    where nobody has said that.

    Raises:
        StreamError: as `read` does, but never ``host-unknown``.
    """
    kept = {name: value for name, value in header.attributes.items() if name != "to"}
    return read(attrs.evolve(header, attributes=kept), content)


def opening(to: str, content: str = ns.CLIENT, sender: str = "") -> bytes:
    """Return the header with which the initiating entity opens a stream to the domain ``to``.

    Args:
        to: the domain.
        content: the default namespace.
        sender: what ``from`` says. Left out for clients: before TLS nobody need know who asks
            (RFC 6120, section 4.7.1). Servers say which one they are.
    """
    origin = f" from={quoteattr(sender)}" if sender else ""
    return (
        f"<?xml version='1.0'?><stream:stream{origin} to={quoteattr(to)} version='1.0' "
        f"xml:lang='en' xmlns='{content}'{_dialback(content)} xmlns:stream='{ns.STREAMS}'>"
    ).encode()


def completed(header: Header, **missing: str) -> bytes:
    """Return the bytes of ``header`` with those attributes added that it does not have.

    All else stays as it is.

    Args:
        header: a header.
        missing: values by name, such as ``version``; a prefix that is to be declared is written
            as ``xmlns_PREFIX``, and left alone if the header declares it as anything.
    """
    added = b""
    for name, value in missing.items():
        prefix = name.removeprefix("xmlns_")
        there = header.namespaces if prefix != name else header.attributes
        if prefix not in there:
            added += f" {name.replace('_', ':')}={quoteattr(value)}".encode()
    if not added:
        return header.raw
    end = len(header.raw) - (2 if header.raw.endswith(b"/>") else 1)
    return header.raw[:end] + added + header.raw[end:]


def response(
    *,
    stream_id: str,
    sender: str,
    to: str | None = None,
    language: str | None = None,
    version: bool = True,
    content: str = ns.CLIENT,
) -> bytes:
    """Return the header with which the receiving entity answers (RFC 6120, section 4.7).

    Args:
        stream_id: the id; never used before and not to be guessed.
        sender: the domain that answers; empty if it is none of ours (section 4.9.1.3).
        to: the bare JID that the peer's ``from`` named, if it did.
        language: the language of what we say to people.
        version: whether to say that we know XMPP 1.0; left out for those who do not.
        content: the default namespace.
    """
    attributes = {"from": sender, "id": stream_id}
    if to is not None:
        attributes["to"] = to
    if version:
        attributes["version"] = "1.0"
    attributes["xml:lang"] = language or "en"
    attributes["xmlns"] = content
    attributes["xmlns:stream"] = ns.STREAMS
    written = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<?xml version='1.0'?><stream:stream{written}{_dialback(content)}>".encode()


def _dialback(content: str) -> str:
    """Return what announces dialback, where servers speak (XEP-0220, section 2.4.1)."""
    return f" xmlns:db='{ns.DIALBACK}'" if content == ns.SERVER else ""


def _version(text: str | None) -> tuple[int, int]:
    if text is None:
        return (0, 9)
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        raise StreamError(Condition.UNSUPPORTED_VERSION, "the version is not two numbers")
    return int(found[1]), int(found[2])


def _to(text: str) -> str:
    try:
        return domain(text)
    except ValueError as error:
        raise StreamError(Condition.HOST_UNKNOWN, f"'to' names no domain: {error}") from error
