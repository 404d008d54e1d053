"""Reading one table of a configuration against the options that are declared for it."""

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from proxy.daemon.files import Given, Table
from proxy.daemon.model import Mistake
from proxy.session.options import Option, one_line, shown

T = TypeVar("T")


@attrs.frozen
class Placed(Generic[T]):
    """A value, and where it stands: its file and the key of its table."""

    value: T
    file: Path
    key: str


def read_values(
    table: Table, options: Iterable[Option], key: str
) -> tuple[dict[str, Any], list[Mistake]]:
    """Read the options of a table.

    Args:
        table: The table; relative paths in it start at the directory of their file.
        options: What may stand in it.
        key: The table's own key, to which mistakes add the option's.

    Returns:
        A value for each option that could be read or has a default, and the mistakes: keys that
        are not known, values that are not allowed, required options that are missing.
    """
    known = {option.name: option for option in options}
    values: dict[str, Any] = {}
    mistakes = [
        Mistake(entry.file, f"{key}.{name}", unknown(name, known))
        for name, entry in table.entries.items()
        if name not in known
    ]
    for name, option in known.items():
        entry = table.entries.get(name)
        try:
            if entry is not None:
                values[name] = option.read(raw(entry), entry.file.parent)
            elif option.required:
                mistakes.append(
                    Mistake(table.file, f"{key}.{name}", f"is missing; allowed: {option.allowed()}")
                )
            else:
                values[name] = option.default
        except ValueError as error:
            mistakes.append(Mistake((entry or table).file, f"{key}.{name}", str(error)))
    return values, mistakes


def raw(entry: Given | Table) -> Any:
    """Give the value of an entry; a table where a value is expected counts as an empty one."""
    return entry.value if isinstance(entry, Given) else {}


def unknown(name: str, known: Collection[str]) -> str:
    """Say that a key or a name is not known, and what could have been meant."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {shown(close[0])}?" if close else ""
    listed = f"known here: {', '.join(known)}" if known else "none is known here"
    return f"is not known{hint} ({listed})"


def item_key(section: str, item: Table, position: int) -> str:
    """Name one table of an array: by the name it has, or by its place in its array, from 1."""
    name = raw(item.entries["name"]) if "name" in item.entries else None
    if isinstance(name, str) and name:
        return f'{section} "{one_line(name)}"'
    return f"{section}[{position}]"
