"""Server dialback (XEP-0220): its elements, and the keys that the proxy itself issues.

A key proves that a server speaks for a domain: whoever gets it asks the domain's own server
whether it has issued it, for this pair of domains and this stream.
"""

import hmac
import secrets
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import attrs

from proxy.session.counts import Counts, LocalCounts, delimited
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

_PREFIXED: Final = {RESULT: "db:result", VERIFY: "db:verify"}
_CONDITIONS: Final = frozenset(
    (
        "bad-request",
        "conflict",
        "feature-not-implemented",
        "forbidden",
        "gone",
        "internal-server-error",
        "item-not-found",
        "jid-malformed",
        "not-acceptable",
        "not-allowed",
        "not-authorized",
        "policy-violation",
        "recipient-unavailable",
        "redirect",
        "registration-required",
        "remote-connection-failed",
        "remote-server-not-found",
        "remote-server-timeout",
        "resource-constraint",
        "service-unavailable",
        "subscription-required",
        "undefined-condition",
        "unexpected-request",
    )
)
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
        condition: of an answer that is an `ERROR` (XEP-0220, section 2.4.2).
    """

    name: str
    pair: Pair
    sender: str
    to: str
    kind: str | None
    id: str = ""
    key: str = attrs.field(default="", repr=False)
    condition: str = ""


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
    condition = _condition(element) if kind == ERROR else ""
    return Dialback(element.name, pair, sender, to, kind, stream_id, key, condition)


def _condition(element: Element) -> str:
    """Return the condition of an error, if it is one that is known."""
    for node in element.tree.iter():
        namespace, local = ns.split(str(node.tag))
        if namespace == ns.STANZA_ERRORS and local in _CONDITIONS:
            return local
    return "undefined-condition"


def request(sender: str, to: str, key: str) -> bytes:
    """Return a ``<db:result/>`` that asks for a pair of domains to be let pass."""
    return question(Dialback(RESULT, Pair(sender, to), sender, to, None, key=key))


def question(asked: Dialback) -> bytes:
    """Return a request in our own words: nothing is in it but what was read."""
    start = _start(asked)
    return f"{start}>{escape(asked.key)}</{_PREFIXED[asked.name]}>".encode()


def answer(asked: Dialback, kind: str, condition: str = "") -> bytes:
    """Return the answer to a request, in our own words and with its own spelling of the domains.

    Another server's words do not reach one of ours: what that makes of attributes and names is not
    what everybody makes of them.

    Args:
        asked: the request.
        kind: `VALID`, `INVALID` or `ERROR`.
        condition: the condition of an error (XEP-0220, section 2.4.2), such as ``forbidden``.
    """
    turned = attrs.evolve(asked, sender=asked.to, to=asked.sender)
    start = f"{_start(turned)} type='{kind}'"
    if kind != ERROR:
        return f"{start}/>".encode()
    condition = condition or "undefined-condition"
    return (
        f"{start}><error type='cancel'><{condition} xmlns='{ns.STANZA_ERRORS}'/></error>"
        f"</{_PREFIXED[asked.name]}>"
    ).encode()


def _start(element: Dialback) -> str:
    stream_id = f" id={quoteattr(element.id)}" if element.name == VERIFY else ""
    return (
        f"<{_PREFIXED[element.name]} xmlns:db='{ns.DIALBACK}' from={quoteattr(element.sender)} "
        f"to={quoteattr(element.to)}{stream_id}"
    )


class Ledger:
    """The keys that the proxy itself has issued and somebody may still ask about.

    A key is an HMAC over the stream's id and both domains, whose lengths go before, so that no two
    triples give the same (cf. CVE-2016-0756). It counts only while the triple is in the ledger.

    Several processes that have the same secret and counts keep one ledger: each answers for what
    any of them has issued, and strikes out what it has issued itself.

    Args:
        secret: what keys are made with; None for one of its own.
        counts: what tells that a triple is in the ledger; None for a ledger of its own.
    """

    def __init__(self, secret: bytes | None = None, counts: Counts | None = None) -> None:
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._counts: Counts = LocalCounts() if counts is None else counts
        self._live: set[tuple[Pair, str]] = set()

    def issue(self, pair: Pair, stream_id: str) -> str:
        """Return the key for a pair on the stream with this id, and enter both."""
        if (pair, stream_id) not in self._live:
            self._live.add((pair, stream_id))
            self._counts.add(stream_id, pair.sender, pair.to)
        return self._key(pair, stream_id)

    def withdraw(self, pair: Pair, stream_id: str) -> None:
        """Strike out what was issued; it may be gone already."""
        if (pair, stream_id) in self._live:
            self._live.remove((pair, stream_id))
            self._counts.add(stream_id, pair.sender, pair.to, amount=-1)

    def check(self, pair: Pair, stream_id: str, key: str) -> bool | None:
        """Return whether a key is the one that was issued; None if none was, for this triple."""
        if self._counts.total(stream_id, pair.sender, pair.to) <= 0:
            return None
        return hmac.compare_digest(self._key(pair, stream_id).encode(), key.encode())

    def __len__(self) -> int:
        """How many triples this process has in it."""
        return len(self._live)

    def _key(self, pair: Pair, stream_id: str) -> str:
        text = delimited((stream_id, pair.sender, pair.to))
        return hmac.new(self._secret, text, "sha256").hexdigest()
