"""SASLprep (RFC 4013): a password as both sides must write it before it is hashed or compared."""

import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final

_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_a1,  # a query of RFC 4013, section 2.5: no unassigned code points
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """Return ``text`` as it is to be used.

    Raises:
        ValueError: there is a character in it that may not be, or letters of both directions
            are mixed.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(prohibited(character) for character in prepared for prohibited in _PROHIBITED):
        raise ValueError("a character in it is not allowed (RFC 4013)")
    right_to_left = [stringprep.in_table_d1(character) for character in prepared]
    if any(right_to_left) and (
        not (right_to_left[0] and right_to_left[-1]) or any(map(stringprep.in_table_d2, prepared))
    ):
        raise ValueError("letters of both directions are mixed in it (RFC 4013)")
    return prepared
