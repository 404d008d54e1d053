"""SASL EXTERNAL between servers (RFC 6120 section 6, XEP-0178), in both roles."""

import base64
import binascii
from typing import Final

from proxy.xmpp import namespaces as ns
from proxy.xmpp.domains import unambiguous
from proxy.xmpp.events import Element

AUTH: Final = ns.qualified(ns.SASL, "auth")

OFFER: Final = (
    f"<mechanisms xmlns='{ns.SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>".encode()
)
"""The feature that offers it, and nothing else."""

SUCCESS: Final = f"<success xmlns='{ns.SASL}'/>".encode()

_ABORT: Final = ns.qualified(ns.SASL, "abort")
_SUCCESS: Final = ns.qualified(ns.SASL, "success")
_MECHANISM: Final = ns.qualified(ns.SASL, "mechanism")
_NAME: Final = "EXTERNAL"


def attempt(element: Element, origin: str) -> str:
    """Judge what the initiating entity sends to authenticate as ``origin`` (A-labels).

    Its authorization identity must be the domain that its certificate proves, or left out.

    Returns:
        The condition of the failure (RFC 6120, section 6.5); empty if there is nothing against it.
    """
    if element.name == _ABORT:
        return "aborted"
    if element.name != AUTH or len(element.tree):
        return "malformed-request"
    if element.tree.get("mechanism") != _NAME:
        return "invalid-mechanism"
    text = element.tree.text or ""
    try:
        identity = origin if text in ("", "=") else base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return "incorrect-encoding"
    return "" if _names(identity, origin) else "invalid-authzid"


def _names(identity: str, origin: str) -> bool:
    try:
        return unambiguous(identity) == origin
    except ValueError:
        return False


def offered(features: Element) -> bool:
    """Whether features offer EXTERNAL."""
    return any((node.text or "").strip() == _NAME for node in features.tree.iter(_MECHANISM))


def request(domain: str) -> bytes:
    """Return what asks to be authenticated as ``domain`` (A-labels)."""
    identity = base64.b64encode(domain.encode()).decode("ascii")
    return f"<auth xmlns='{ns.SASL}' mechanism='{_NAME}'>{identity}</auth>".encode()


def accepted(answer: Element) -> bool:
    """Whether an element is the other side's consent."""
    return answer.name == _SUCCESS
