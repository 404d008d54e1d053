"""proxy.session.options: declarations, and the values made with them."""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.options import ItemsError, one_line, option, options_of, shown


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def doubled(text: str) -> str:
    if not text:
        raise ValueError("nothing\nthere")
    return text


@attrs.frozen
class Everything:
    needed: str = option(help="A text.")
    flag: bool = option(default=True, help="A flag.")
    count: int = option(default=3, minimum=1, maximum=5, unit="things", help="A count.")
    ratio: float = option(default=0.5, above=0, help="A ratio.")
    size: int = option(default=1, choices=(1, 2), help="A size.")
    colour: Colour = option(default=Colour.RED, help="A colour.")
    file: Path = option(default=Path("/a"), help="A file.")
    word: str = option(default="w", parse=doubled, allowed="a word", help="A word.")
    short: str = option(default="s", minimum=1, maximum=3, help="A short text.")
    names: tuple[str, ...] = option(default=(), maximum=2, help="Names.")
    files: tuple[Path, ...] = option(default=(Path("b"),), lone=True, minimum=1, help="Files.")
    ignored: int = 5


OPTIONS = {declared.name: declared for declared in options_of(Everything)}


def test_walk_keeps_order_and_passes_over_other_fields() -> None:
    fields = [field.name for field in attrs.fields(Everything)]
    assert fields[:-1] == list(OPTIONS)
    assert [name for name, declared in OPTIONS.items() if declared.required] == ["needed"]
    assert Everything("x").count == OPTIONS["count"].default == 3


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("needed", "", ""),
        ("flag", False, False),
        ("count", 5, 5),
        ("ratio", 2, 2.0),
        ("ratio", 1e300, 1e300),
        ("ratio", 2.0**63, 2.0**63),
        ("size", 2, 2),
        ("colour", "blue", Colour.BLUE),
        ("file", "c", Path("/base/c")),
        ("file", "/c", Path("/c")),
        ("word", "hello", "hello"),
        ("short", "abc", "abc"),
        ("names", ["a", "b"], ("a", "b")),
        ("files", "x", (Path("/base/x"),)),
        ("files", ["x", "/y"], (Path("/base/x"), Path("/y"))),
    ],
)
def test_what_is_taken(name: str, given: object, expected: object) -> None:
    value = OPTIONS[name].read(given, Path("/base"))
    assert expected == value
    assert type(expected) is type(value)
    assert value == OPTIONS[name].read(OPTIONS[name].show(value))


REFUSED: list[tuple[str, Any, str]] = [
    ("needed", 1, "1 is not text; allowed: text"),
    ("flag", 1, "1 is not true or false; allowed: true or false"),
    (
        "count",
        0,
        "0 is too little; allowed: a whole number of things, at least 1 and at most 5",
    ),
    ("count", 6, "6 is too much; allowed: a whole number of things, at least 1 and at most 5"),
    ("count", 1.0, "1.0 is not a whole number; allowed: "),
    ("count", True, "true is not a number; allowed: "),
    ("count", 16**5000, "a huge number is no number to work with"),
    ("ratio", 0, "0 is too little; allowed: a number, above 0"),
    ("ratio", 16**5000, "a huge number is no number to work with"),
    ("size", 3, "3 is not one of the known values; allowed: 1 or 2"),
    ("size", True, "true is not one of the known values"),
    ("size", 1.0, "1.0 is not one of the known values"),
    ("colour", "green", '"green" is not one of the known values; allowed: "red" or "blue"'),
    ("colour", ["red"], "an array is not one of the known values"),
    ("file", "", '"" is not a path; allowed: a path'),
    ("file", "a\0b", '"a\\x00b" is not a path'),
    ("word", "", '"": nothing\\nthere; allowed: a word'),
    ("word", {}, "a table is not text; allowed: a word"),
    ("short", "", '"" is too short; allowed: text, of length at least 1 and at most 3'),
    ("short", "abcd", '"abcd" is too long'),
    ("names", "a", '"a" is not an array; allowed: an array, of length at most 2, each item text'),
    ("names", ["a", 2], "item 2: 2 is not text; allowed: text"),
    ("names", ["a", "b", "c"], "an array is too long"),
    ("files", [], "the array is empty; allowed: a path, or an array of such"),
    ("files", 5, "5 is not text"),
]


@pytest.mark.parametrize(("name", "given", "text"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_refused(name: str, given: object, text: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        OPTIONS[name].read(given)


def test_every_wrong_item_is_told() -> None:
    with pytest.raises(ItemsError) as caught:
        OPTIONS["files"].read(["a", 1, "b", "", "c"])
    assert caught.value.items == (
        (2, "1 is not text; allowed: a path"),
        (4, '"" is not a path; allowed: a path'),
    )


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(sorted(OPTIONS)), anything)
def test_any_value_is_read_or_refused_in_one_line(name: str, value: Any) -> None:
    refusal = ""
    try:
        read = OPTIONS[name].read(value)
    except ValueError as error:
        refusal = str(error)
    else:
        assert read == OPTIONS[name].read(OPTIONS[name].show(read))
    assert refusal.isprintable()


@pytest.mark.parametrize(
    "annotation", [list[str], dict[str, int], tuple[int, str], object, "int | str"]
)
def test_types_that_no_file_can_hold(annotation: Any) -> None:
    declaring = attrs.make_class("Declaring", {"x": option(default=None, help="X.")})
    declaring.__annotations__ = {"x": annotation}
    with pytest.raises(TypeError, match="option 'x' has a type that no file can hold"):
        options_of(declaring)


def test_only_attrs_classes_declare() -> None:
    with pytest.raises(TypeError, match="is not an attrs class"):
        options_of(int)


@given(st.text())
def test_one_line_is_printable_and_ascii_text_stays(text: str) -> None:
    assert one_line(text).isprintable()
    assert not text.isprintable() or one_line(text) == text


def test_shown_is_short() -> None:
    assert shown("x" * 100) == '"' + "x" * 57 + '…"'
    assert shown('a"b\u202e') == '"a\\"b\\u202e"'
    assert shown(10**100) == "a huge number"
