"""Why sessions end and what is refused: a small closed set, fit to be counted by.

The log says it in words, which `docs/refusals.md` lists; here each of them has its place among a
few, by its stream error's condition and, where one condition stands for many things, by its text.
"""

import re
from enum import Enum
from typing import Final

from proxy.xmpp.errors import Condition


class Cause(Enum):
    """Why a session has ended, or something was refused."""

    CLIENT_CLOSED = "client-closed"
    """The client has ended it in good order."""
    CLIENT_LOST = "client-lost"
    """The client is gone without a goodbye."""
    SERVER_CLOSED = "server-closed"
    """The server has ended it, perhaps with a stream error of its own."""
    SERVER_LOST = "server-lost"
    """The server is gone without a goodbye."""
    TLS_FAILED = "tls-failed"
    """The handshake on the client leg has failed."""
    SHUTDOWN = "shutdown"
    """The proxy was stopped, or the session was."""
    TLS_REFUSED = "tls-refused"
    """The handshake on the client leg was refused: ALPN or SNI asks for something else."""
    NO_TLS = "no-tls"
    """TLS is required, and was not there."""
    LATE = "late"
    """A deadline has passed."""
    DOMAIN = "domain"
    """The domain is not served, may not be reached, or is none."""
    ADDRESS_LIMIT = "address-limit"
    """Too many connections or handshakes from one address."""
    SIZE_LIMIT = "size-limit"
    """Too many bytes, or too many elements."""
    MALFORMED = "malformed"
    """What came is not XMPP."""
    UNSUPPORTED = "unsupported"
    """It is XMPP, but was not on offer."""
    NOT_AUTHORISED = "not-authorised"
    """Something came before a login, or a domain is not proved."""
    FORGED = "forged"
    """Somebody claims to be another."""
    UNREACHABLE = "unreachable"
    """The server could not be reached, or does not speak XMPP."""
    SERVER_POLICY = "server-policy"
    """The server does not do what the policy of its domain demands."""
    DIALBACK = "dialback"
    """A pair of domains was refused; the stream goes on."""
    POLICY = "policy"
    """A policy of another plugin."""
    FAULT = "fault"
    """The proxy has failed, or a plugin."""
    OTHER = "other"
    """None of these."""

    @property
    def is_refusal(self) -> bool:
        """Whether it was the proxy that would not go on."""
        return self not in _NO_REFUSALS


_NO_REFUSALS: Final = frozenset(
    {
        Cause.CLIENT_CLOSED,
        Cause.CLIENT_LOST,
        Cause.SERVER_CLOSED,
        Cause.SERVER_LOST,
        Cause.TLS_FAILED,
        Cause.SHUTDOWN,
    }
)

_CONDITIONS: Final = {
    Condition.BAD_FORMAT: Cause.MALFORMED,
    Condition.BAD_NAMESPACE_PREFIX: Cause.MALFORMED,
    Condition.CONFLICT: Cause.POLICY,
    Condition.CONNECTION_TIMEOUT: Cause.LATE,
    Condition.HOST_GONE: Cause.DOMAIN,
    Condition.HOST_UNKNOWN: Cause.DOMAIN,
    Condition.IMPROPER_ADDRESSING: Cause.MALFORMED,
    Condition.INTERNAL_SERVER_ERROR: Cause.FAULT,
    Condition.INVALID_FROM: Cause.FORGED,
    Condition.INVALID_NAMESPACE: Cause.MALFORMED,
    Condition.INVALID_XML: Cause.MALFORMED,
    Condition.NOT_AUTHORIZED: Cause.NOT_AUTHORISED,
    Condition.NOT_WELL_FORMED: Cause.MALFORMED,
    Condition.POLICY_VIOLATION: Cause.POLICY,
    Condition.REMOTE_CONNECTION_FAILED: Cause.UNREACHABLE,
    Condition.RESET: Cause.SHUTDOWN,
    Condition.RESOURCE_CONSTRAINT: Cause.SIZE_LIMIT,
    Condition.RESTRICTED_XML: Cause.MALFORMED,
    Condition.SYSTEM_SHUTDOWN: Cause.SHUTDOWN,
    Condition.UNDEFINED_CONDITION: Cause.POLICY,
    Condition.UNSUPPORTED_ENCODING: Cause.MALFORMED,
    Condition.UNSUPPORTED_FEATURE: Cause.UNSUPPORTED,
    Condition.UNSUPPORTED_STANZA_TYPE: Cause.UNSUPPORTED,
    Condition.UNSUPPORTED_VERSION: Cause.MALFORMED,
}
_BY_VALUE: Final = {condition.value: cause for condition, cause in _CONDITIONS.items()}

_ENDS: Final = (
    ("the client closed ", Cause.CLIENT_CLOSED),
    ("the client went away", Cause.CLIENT_LOST),
    ("the server closed ", Cause.SERVER_CLOSED),
    ("the server did not end its stream", Cause.SERVER_CLOSED),
    ("the server went away", Cause.SERVER_LOST),
    ("TLS failed: ", Cause.TLS_FAILED),
    ("<starttls/> malformed", Cause.UNSUPPORTED),
    ("fault in the proxy", Cause.FAULT),
)
"""How reasons begin that are no stream errors of ours."""

_TLS_REFUSED: Final = "TLS refused: "

_POLICIES: Final = (
    (re.compile(r"TLS is required|TLS must begin|version 1\.0 is required after"), Cause.NO_TLS),
    (re.compile(r"the stream must be to "), Cause.DOMAIN),
    (re.compile(r"ended by an operator"), Cause.SHUTDOWN),
    (re.compile(r"more than \d+ \w+( a minute)? from one address"), Cause.ADDRESS_LIMIT),
    (
        re.compile(
            r"more than \d+ |a stanza is larger|a tag is too long|too many attributes|"
            r"too much white space|elements nest too deep|SASL EXTERNAL has failed too often"
        ),
        Cause.SIZE_LIMIT,
    ),
)
"""What is meant by ``policy-violation`` and ``resource-constraint``, by how the text begins."""

_SPLIT: Final = frozenset({Condition.POLICY_VIOLATION.value, Condition.RESOURCE_CONSTRAINT.value})

WOULD_BE: Final = "would be refused: "
DIALBACK: Final = "dialback refused: "
"""How lines of the log begin that tell of refusals which end no session."""


def cause_of(reason: str, *, outward: bool) -> Cause:
    """Return why a session has ended.

    Args:
        reason: as in the log: ``condition: text`` of a stream error, or other words.
        outward: whether the session's listener is a forward one.
    """
    for beginning, cause in _ENDS:
        if reason.startswith(beginning):
            return cause
    refused = reason.startswith(_TLS_REFUSED)
    condition, _, text = reason.removeprefix(_TLS_REFUSED).partition(": ")
    cause = _BY_VALUE.get(condition, Cause.TLS_REFUSED if refused else Cause.OTHER)
    if condition in _SPLIT:
        for pattern, narrower in _POLICIES:
            if pattern.match(text):
                return narrower
        if outward and cause is Cause.POLICY:
            return Cause.SERVER_POLICY
    return cause


def cause_of_report(message: str) -> Cause | None:
    """Return what a line of the log says was refused, or would have been; None if nothing."""
    if message.startswith(DIALBACK):
        return Cause.DIALBACK
    if message.startswith(WOULD_BE):
        plaintext = message.startswith("authenticated without TLS", len(WOULD_BE))
        return Cause.NO_TLS if plaintext else Cause.SERVER_POLICY
    return None
