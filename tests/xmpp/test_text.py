"""A peer's text, made fit to be shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.xmpp.text import LONGEST, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("user@example.com/a b", "user@example.com/a b"),
        ("münchen ß 例え 😀", "münchen ß 例え 😀"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x85\u2028\u2029", "\\x85\\u2028\\u2029"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\u200b\ufeff", "\\u200b\\ufeff"),
        ("\0\x7f", "\\x00\\x7f"),
        ("\ud800\ue000\U000e0001", "\\ud800\\ue000\\U000e0001"),
        ("a\u00a0b", "a\\xa0b"),
        ("\\n", "\\\\n"),
    ],
)
def test_what_forges_or_hides_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_what_is_long_is_cut() -> None:
    assert printable("a" * LONGEST) == "a" * LONGEST
    assert printable("a" * (LONGEST + 1)) == "a" * LONGEST + "…"
    assert printable("\n" * 9, 2) == "\\n\\n…"


@given(st.text(st.characters() | st.sampled_from("\\nu0x \n")))
def test_any_text_comes_out_on_one_line_and_can_be_told_apart(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if c != " " and unicodedata.category(c)[0] in "CZ"]
    assert len(shown.splitlines()) <= 1
    back = shown.replace("…", "\\u2026").encode("ascii", "backslashreplace").decode()
    if len(text) <= LONGEST:
        assert back.encode("ascii").decode("unicode_escape") == text
