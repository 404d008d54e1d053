"""Text that came from a peer, made fit to be shown."""

import unicodedata
from typing import Final

LONGEST: Final = 256
"""How many characters of a peer's text are shown by default."""


def printable(text: str, limit: int = LONGEST) -> str:
    """Return ``text`` on one line, without anything that could forge or hide a line.

    Control, format (bidirectional overrides among them), surrogate, private and unassigned
    characters, separators other than the space, and the backslash come out as Python escapes;
    what is longer than ``limit`` characters is cut and ends in an ellipsis.
    """
    cut = text[:limit]
    if not (cut.isascii() and cut.isprintable() and "\\" not in cut):
        cut = "".join(map(_shown, cut))
    return cut if len(text) <= limit else cut + "…"


def _shown(character: str) -> str:
    if character == " ":
        return character
    if character == "\\" or unicodedata.category(character)[0] in "CZ":
        return character.encode("unicode_escape").decode("ascii")
    return character
