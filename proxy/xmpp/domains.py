"""XMPP domains in the one form that is compared: A-labels in lower case (RFC 7622, RFC 5891)."""

import re
from encodings.idna import ToASCII  # noqa: TID251 - it is what old servers do
from functools import lru_cache
from sys import intern
from typing import Final

import idna

LONGEST: Final = 253
"""Octets in a domain name (RFC 1035, section 2.3.4), the final dot left out."""


def domain(text: str) -> str:
    """Return the domain that ``text`` names, as A-labels in lower case.

    IDNA 2008 with the mapping of UTS #46, non-transitional, so that ``faß.de`` stays itself. One
    final dot is dropped (RFC 7622, section 3.2).

    Raises:
        ValueError: ``text`` names no domain; the message says why.
    """
    return _a_labels(text)


@lru_cache(maxsize=512)  # many sessions, few domains; what is none is not kept
def _a_labels(text: str) -> str:
    name = text.removesuffix(".")
    if not name:
        raise ValueError("a domain is empty")
    if len(name) > 4 * LONGEST:
        raise ValueError("a domain is too long")
    if "@" in name:
        raise ValueError("a domain has no @")
    if name.isascii() and _plain(name):
        return intern(name.lower())
    try:
        encoded = idna.encode(name, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"not a domain: {_stranger(name) or error}") from error
    if encoded.endswith("."):  # written as another kind of full stop
        if name != text:
            raise ValueError("not a domain: it ends in two dots")
        encoded = encoded[:-1]
    if len(encoded) > LONGEST:
        raise ValueError("a domain is too long")
    return intern(encoded)


def unambiguous(text: str) -> str:
    """Return the domain that ``text`` names, as `domain` does, if every server reads it so.

    A server that reads names by IDNA 2003, as old ones do, takes ``fa\u00df.de`` for ``fass.de``,
    and some characters are normalised otherwise since Unicode 3.2: who has proved the one domain
    must not be taken for the other.

    Raises:
        ValueError: ``text`` names no domain, or not to every server the same.
    """
    name = domain(text)
    if not text.isascii() and _as_in_2003(text) not in (None, name):
        raise ValueError("old servers and new ones read this domain as two different ones")
    return name


def _as_in_2003(text: str) -> str | None:
    """Return the domain that an old server reads (RFC 3490); None if it is none to such a one."""
    labels = _FULL_STOPS.split(text.removesuffix("."))
    try:
        return ".".join(ToASCII(label).decode("ascii").lower() for label in labels)
    except (UnicodeError, ValueError):
        return None


_FULL_STOPS: Final = re.compile("[.\u3002\uff0e\uff61]")


_STRANGERS: Final = (
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://"), "a scheme does not belong here"),
    (re.compile(r"[^:]+:[0-9]+"), "a port does not belong here"),
    (re.compile(r".*/", re.DOTALL), "a path or a resource does not belong here"),
    (re.compile(r".*\*", re.DOTALL), "a * does not belong here"),
)
"""What people write beside a domain, by how that begins, and what to tell them."""


def _stranger(name: str) -> str:
    """Say what stands beside the domain that was meant; nothing if that is not known."""
    return next((text for begins, text in _STRANGERS if begins.match(name)), "")


_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_LONGEST_LABEL: Final = 63


def _plain(name: str) -> bool:
    """Whether ``name`` is made of ordinary ASCII labels, none of which might be an A-label."""
    if len(name) > LONGEST:
        return False
    for label in name.split("."):
        if not (0 < len(label) <= _LONGEST_LABEL and _LETTERS.issuperset(label)):
            return False
        if label[0] == "-" or label[-1] == "-" or label[2:4] == "--":
            return False
    return True
