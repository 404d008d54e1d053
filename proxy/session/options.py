"""Declarations of options: each is written once, and everything else is made from that.

A class of options is an attrs class whose fields are made by `option`::

    @attrs.frozen
    class Config:
        stanza_bytes: int = option(default=262144, minimum=10000, unit="bytes", help="…")

The annotation gives the type, the call gives the rest. `options_of` walks the declarations of such
a class; each `Option` reads a value as it stands in a TOML file, turns it back into one, and says
in words what it allows. Constructing the class directly checks nothing: values from outside go
through `Option.read`.

Types: ``bool``, ``int``, ``float`` (finite; whole numbers are taken too), ``str``, ``Path``, a
subclass of ``Enum`` whose values are text, any type for which `option` was given ``parse``, and
``tuple[T, ...]`` of these for an array.
"""

import math
from collections.abc import Callable, Sequence
from datetime import date, time
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, overload

import attrs

T = TypeVar("T")

_METADATA_KEY = "proxy.session.options"
_SHOWN_LENGTH = 60
# TOML promises integers of 64 bits; Python would take any.
_GREATEST = 2**63 - 1
_PHRASES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
}


@attrs.frozen
class Declaration:
    """What `option` was told; see there for the meaning of each field."""

    help: str
    minimum: float | None
    maximum: float | None
    above: float | None
    choices: tuple[Any, ...] | None
    parse: Callable[[str], Any] | None
    allowed: str | None
    example: Any
    unit: str | None
    lone: bool


@overload
def option(
    *,
    help: str,
    default: T,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
    parse: Callable[[str], Any] | None = None,
    allowed: str | None = None,
    example: Any = None,
    unit: str | None = None,
    lone: bool = False,
) -> T: ...


@overload
def option(
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
    parse: Callable[[str], Any] | None = None,
    allowed: str | None = None,
    example: Any = None,
    unit: str | None = None,
    lone: bool = False,
) -> Any: ...


def option(
    *,
    help: str,  # noqa: A002 - the word that users of argparse and click know
    default: Any = attrs.NOTHING,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
    parse: Callable[[str], Any] | None = None,
    allowed: str | None = None,
    example: Any = None,
    unit: str | None = None,
    lone: bool = False,
) -> Any:
    """Declare one option of an attrs class.

    Args:
        help: What the option does and why one would change it, in whole sentences.
        default: Its value when the file does not set it; without one the option must be set.
        minimum: The least allowed value; for text and arrays, the least length.
        maximum: The greatest allowed value; for text and arrays, the greatest length.
        above: A bound that the value must exceed.
        choices: The only values that are allowed (for an array, as its items).
        parse: Makes the value from the text in the file, and raises ``ValueError`` with a phrase
            that says what is wrong. ``str()`` of its result must be text that it takes back.
        allowed: A phrase for what ``parse`` takes, such as ``an address and a port``.
        example: A value as it may stand in a file, for an option without a default, or for one that
            most files set all the same.
        unit: What a number counts, such as ``bytes`` or ``seconds``.
        lone: Whether an array of one item may be written as the item alone.

    Returns:
        An attrs field that carries the declaration, typed as the option's value.
    """
    declaration = Declaration(
        help=help,
        minimum=minimum,
        maximum=maximum,
        above=above,
        choices=choices,
        parse=parse,
        allowed=allowed,
        example=example,
        unit=unit,
        lone=lone,
    )
    return attrs.field(default=default, metadata={_METADATA_KEY: declaration})


class ItemsError(ValueError):
    """Items of an array are not allowed.

    Attributes:
        items: The position of each such item, from 1, and what is wrong with it.
    """

    def __init__(self, items: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(f"item {position}: {text}" for position, text in items))
        self.items = tuple(items)


@attrs.frozen
class Option:
    """One declared option of a class: its name, the type of one item, and the declaration."""

    name: str
    type: type
    array: bool
    default: Any
    declared: Declaration

    @property
    def required(self) -> bool:
        """Whether a file must set the option."""
        return self.default is attrs.NOTHING

    def read(self, given: object, directory: Path | None = None) -> Any:
        """Make the option's value from what stands in a TOML file.

        Args:
            given: The value as ``tomllib`` returns it.
            directory: What relative paths are relative to; they stay relative without it.

        Raises:
            ItemsError: Items of an array are not allowed; all of them are told.
            ValueError: The value is not allowed; the text says why, and what is allowed.
        """
        if not self.array:
            value = self._read_item(given, directory)
            if isinstance(value, str):
                self._check_bounds(len(value), given)
            return value
        if self.declared.lone and not isinstance(given, list):
            return (self._read_item(given, directory),)
        if not isinstance(given, list):
            raise self._refusal(f"{shown(given)} is not an array")
        self._check_bounds(len(given), given)
        return self._read_items(given, directory)

    def show(self, value: Any) -> Any:
        """Turn a value of the option into what stands for it in a TOML file.

        Returns:
            A ``bool``, ``int``, ``float`` or ``str``, or a list of them, that `read` takes back.
        """
        if not self.array:
            return self._show_item(value)
        items = [self._show_item(item) for item in value]
        return items[0] if self.declared.lone and len(items) == 1 else items

    def allowed(self) -> str:
        """Say in a phrase which values are allowed."""
        declared = self.declared
        choices = self._choices()
        if choices is not None:
            *most, last = [shown(choice) for choice in choices]
            one = f"{', '.join(most)} or {last}" if most else last
        elif declared.allowed is not None:
            one = declared.allowed
        else:
            one = _PHRASES.get(self.type, "text")
        unit = f" of {declared.unit}" if declared.unit else ""
        if not self.array:
            return f"{one}{unit}{self._bounds()}"
        if declared.lone:
            return f"{one}{unit}, or an array of such"
        return f"an array{self._bounds()}, each item {one}{unit}"

    def _choices(self) -> tuple[Any, ...] | None:
        if self.declared.choices is not None:
            return self.declared.choices
        if issubclass(self.type, Enum):
            return tuple(member.value for member in self.type)
        return None

    def _bounds(self) -> str:
        declared = self.declared
        bounds = [
            f"{word} {bound}"
            for word, bound in (
                ("above", declared.above),
                ("at least", declared.minimum),
                ("at most", declared.maximum),
            )
            if bound is not None
        ]
        if not bounds:
            return ""
        length = "" if self.type in (int, float) and not self.array else " of length"
        return f",{length} {' and '.join(bounds)}"

    def _refusal(self, problem: str) -> ValueError:
        return ValueError(f"{problem}; allowed: {self.allowed()}")

    def _check_bounds(self, measure: float, given: object) -> None:
        declared = self.declared
        if declared.minimum is not None and measure < declared.minimum:
            few = "the array is empty" if given == [] else f"{shown(given)} is too {self._little()}"
            raise self._refusal(few)
        if declared.above is not None and measure <= declared.above:
            raise self._refusal(f"{shown(given)} is too {self._little()}")
        if declared.maximum is not None and measure > declared.maximum:
            much = "much" if self._little() == "little" else "long"
            raise self._refusal(f"{shown(given)} is too {much}")

    def _little(self) -> str:
        return "little" if self.type in (int, float) and not self.array else "short"

    def _read_items(self, given: Sequence[object], directory: Path | None) -> tuple[Any, ...]:
        declared = attrs.evolve(self.declared, minimum=None, maximum=None, above=None, lone=False)
        one = attrs.evolve(self, array=False, declared=declared)
        values = []
        wrong = []
        for position, item in enumerate(given, start=1):
            try:
                values.append(one.read(item, directory))
            except ValueError as error:
                wrong.append((position, str(error)))
        if wrong:
            raise ItemsError(wrong)
        return tuple(values)

    def _read_item(self, given: object, directory: Path | None) -> Any:
        choices = self._choices()
        if choices is not None and not any(_same(given, choice) for choice in choices):
            raise self._refusal(f"{shown(given)} is not one of the known values")
        if self.declared.parse is not None:
            return self._parse(self.declared.parse, given)
        if self.type in (int, float):
            return self._read_number(given)
        if self.type is bool:
            if not isinstance(given, bool):
                raise self._refusal(f"{shown(given)} is not true or false")
            return given
        if not isinstance(given, str):
            raise self._refusal(f"{shown(given)} is not text")
        if issubclass(self.type, Path):
            if not given or "\0" in given:
                raise self._refusal(f"{shown(given)} is not a path")
            return Path(given) if directory is None else directory / given
        return self.type(given) if issubclass(self.type, Enum) else given

    def _parse(self, parse: Callable[[str], Any], given: object) -> Any:
        if not isinstance(given, str):
            raise self._refusal(f"{shown(given)} is not text")
        try:
            return parse(given)
        except ValueError as error:
            raise self._refusal(f"{shown(given)}: {one_line(str(error))}") from error

    def _read_number(self, given: object) -> Any:
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise self._refusal(f"{shown(given)} is not a number")
        if self.type is int and not isinstance(given, int):
            raise self._refusal(f"{shown(given)} is not a whole number")
        if not math.isfinite(given) if isinstance(given, float) else abs(given) > _GREATEST:
            raise self._refusal(f"{shown(given)} is no number to work with")
        number = self.type(given)
        if not self.array:
            self._check_bounds(number, given)
        return number

    def _show_item(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        if self.declared.parse is not None or isinstance(value, Path):
            return str(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < _GREATEST:
            return int(value)
        return value


def options_of(declaring: type) -> tuple[Option, ...]:
    """Walk the options that a class declares, in the order of its fields.

    Fields that were not made by `option` are passed over.

    Raises:
        TypeError: ``declaring`` is not an attrs class, or an option has a type that is not among
            those of this module's docstring.
    """
    if not attrs.has(declaring):
        raise TypeError(f"{declaring!r} is not an attrs class")
    hints = get_type_hints(declaring)
    return tuple(
        _option(field, hints[field.name], field.metadata[_METADATA_KEY])
        for field in attrs.fields(declaring)
        if _METADATA_KEY in field.metadata
    )


def _option(field: Any, annotation: Any, declared: Declaration) -> Option:
    arguments = get_args(annotation)
    array = get_origin(annotation) is tuple and arguments[1:] == (...,)
    item = arguments[0] if array else annotation
    simple = isinstance(item, type) and (
        item in (bool, int, float, str) or issubclass(item, (Path, Enum))
    )
    if not (simple or (isinstance(item, type) and declared.parse is not None)):
        raise TypeError(f"option {field.name!r} has a type that no file can hold: {annotation!r}")
    return Option(name=field.name, type=item, array=array, default=field.default, declared=declared)


def _same(given: object, choice: object) -> bool:
    # True == 1 == 1.0 in Python, but not in TOML.
    return type(given) is type(choice) and given == choice


def one_line(text: str) -> str:
    """Escape every character that could break a line or steer a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def shown(value: object) -> str:
    """Describe a value of a TOML file in a few printable characters, for a message."""
    if isinstance(value, str):
        text = '"' + one_line(value).replace('"', '\\"') + '"'
        return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 2] + '…"'
    if isinstance(value, bool):
        return "true" if value else "false"
    for kinds, phrase in _KINDS:
        if isinstance(value, kinds):
            return phrase
    try:
        text = str(value)
    except ValueError:
        # Python refuses to write out integers of thousands of digits.
        return "a huge number"
    return text if len(text) <= _SHOWN_LENGTH else "a huge number"


_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((list, tuple), "an array"),
    ((dict,), "a table"),
    ((date, time), "a date or time"),
)
