"""Server dialback (XEP-0220): its elements, and the keys that the proxy itself issues.

A key proves that a server speaks for a domain: whoever gets it asks the domain's own server
whether it has issued it, for this pair of domains and this stream.
"""

import hmac
import secrets
from typing import Final
from xml.sax.saxutils import quoteattr

import attrs

from proxy.xmpp import namespaces as ns
from proxy.xmpp.domains import unambiguous
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Element

RESULT: Final = ns.qualified(ns.DIALBACK, "result")
"""Asks for a pair of domains to be let pass, or answers that."""

VERIFY: Final = ns.qualified(ns.DIALBACK, "verify")
"""Asks whether a key is good, or answers that."""

VALID: Final = "valid"
INVALID: Final = "invalid"
ERROR: Final = "error"

LONGEST: Final = 1024
"""Characters that a key or a stream's id may have."""

_TYPES: Final = frozenset((VALID, INVALID, ERROR))


@attrs.frozen
class Pair:
    """Two domains, as A-labels: who sends stanzas, and to whom.

    ``str()`` gives both, with an arrow between.
    """

    sender: str
    to: str

    def __str__(self) -> str:
        return f"{self.sender} -> {self.to}"

    @property
    def turned(self) -> "Pair":
        """The same domains, the other way round."""
        return Pair(self.to, self.sender)


@attrs.frozen
class Dialback:
    """An element of dialback.

    Attributes:
        name: `RESULT` or `VERIFY`.
        pair: what ``from`` and ``to`` say, in this order.
        sender: what ``from`` says, as it was written.
        to: what ``to`` says, as it was written.
        kind: what ``type`` says: `VALID`, `INVALID` or `ERROR` in an answer; None in a request.
        id: the stream's id, of `VERIFY`.
        key: the key of a request. It must not be shown to anybody else.
    """

    name: str
    pair: Pair
    sender: str
    to: str
    kind: str | None
    id: str = ""
    key: str = attrs.field(default="", repr=False)


def read(element: Element) -> Dialback:
    """Read an element of dialback.

    Raises:
        StreamError: it is none, or not as XEP-0220 has it: ``bad-format``, or
            ``improper-addressing`` where it does not say from whom and to whom.
    """
    if element.name not in (RESULT, VERIFY):
        raise StreamError(Condition.BAD_FORMAT, "dialback knows no such element")
    attributes = element.attributes
    sender, to = attributes.get("from"), attributes.get("to")
    if sender is None or to is None:
        raise StreamError(Condition.IMPROPER_ADDRESSING, "dialback takes both 'from' and 'to'")
    try:
        pair = Pair(unambiguous(sender), unambiguous(to))
    except ValueError as error:
        raise StreamError(
            Condition.IMPROPER_ADDRESSING, f"'from' and 'to' of dialback must be domains: {error}"
        ) from error
    kind = attributes.get("type")
    if kind is not None and kind not in _TYPES:
        raise StreamError(Condition.BAD_FORMAT, "dialback knows no such type")
    stream_id = attributes.get("id", "") if element.name == VERIFY else ""
    key = (element.tree.text or "").strip() if kind is None else ""
    if len(key) > LONGEST or len(stream_id) > LONGEST:
        raise StreamError(Condition.POLICY_VIOLATION, "a dialback key or id is too long")
    if kind is None and not key:
        raise StreamError(Condition.BAD_FORMAT, "a dialback request has no key")
    if element.name == VERIFY and not stream_id:
        raise StreamError(Condition.BAD_FORMAT, "<db:verify/> does not say of which stream")
    return Dialback(element.name, pair, sender, to, kind, stream_id, key)


def request(pair: Pair, key: str) -> bytes:
    """Return a ``<db:result/>`` that asks for ``pair`` to be let pass."""
    return (
        f"<db:result xmlns:db='{ns.DIALBACK}' from={quoteattr(pair.sender)} "
        f"to={quoteattr(pair.to)}>{key}</db:result>"
    ).encode()


def answer(asked: Dialback, kind: str, condition: str = "") -> bytes:
    """Return the answer to a request.

    Args:
        asked: the request.
        kind: `VALID`, `INVALID` or `ERROR`.
        condition: the condition of an error (XEP-0220, section 2.4.2), such as ``forbidden``.
    """
    return _written(attrs.evolve(asked, sender=asked.to, to=asked.sender, kind=kind), condition)


def retold(told: Dialback) -> bytes:
    """Return an answer again, for a stream on which its prefixes need not be declared.

    What an error says besides is not kept.
    """
    return _written(told, "undefined-condition")


def _written(answer: Dialback, condition: str) -> bytes:
    name = "result" if answer.name == RESULT else "verify"
    kind = answer.kind
    stream_id = f" id={quoteattr(answer.id)}" if answer.name == VERIFY else ""
    start = (
        f"<db:{name} xmlns:db='{ns.DIALBACK}' from={quoteattr(answer.sender)} "
        f"to={quoteattr(answer.to)}{stream_id} type='{kind}'"
    )
    if kind != ERROR:
        return f"{start}/>".encode()
    return (
        f"{start}><error type='cancel'><{condition} xmlns='{ns.STANZA_ERRORS}'/></error>"
        f"</db:{name}>"
    ).encode()


class Ledger:
    """The keys that the proxy itself has issued and somebody may still ask about.

    A key is an HMAC over the stream's id and both domains, each behind its length, so that no two
    triples give the same (cf. CVE-2016-0756). It counts only while the triple is in the ledger.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._live: set[tuple[Pair, str]] = set()

    def issue(self, pair: Pair, stream_id: str) -> str:
        """Return the key for a pair on the stream with this id, and enter both."""
        self._live.add((pair, stream_id))
        return self._key(pair, stream_id)

    def withdraw(self, pair: Pair, stream_id: str) -> None:
        """Strike out what was issued; it may be gone already."""
        self._live.discard((pair, stream_id))

    def check(self, pair: Pair, stream_id: str, key: str) -> bool | None:
        """Return whether a key is the one that was issued; None if none was, for this triple."""
        if (pair, stream_id) not in self._live:
            return None
        return hmac.compare_digest(self._key(pair, stream_id).encode(), key.encode())

    def __len__(self) -> int:
        return len(self._live)

    def _key(self, pair: Pair, stream_id: str) -> str:
        fields = [field.encode() for field in (stream_id, pair.sender, pair.to)]
        text = b"".join(len(field).to_bytes(4) + field for field in fields)
        return hmac.new(self._secret, text, "sha256").hexdigest()
