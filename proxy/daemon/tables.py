"""Reading one table of a configuration against the options that are declared for it."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from proxy.daemon.files import Given, Table
from proxy.daemon.model import PLUGINS, SECTIONS, Mistake, Section
from proxy.session.options import ItemsError, Option, one_line, options_of, shown

T = TypeVar("T")


@attrs.frozen
class Placed(Generic[T]):
    """A value, and where it stands: its file and the key of its table.

    ``stated`` are the keys that stand in its table, which has defaults for others.
    """

    value: T
    file: Path
    key: str
    stated: frozenset[str] = frozenset()


@attrs.frozen
class Places:
    """Where each key belongs, for the hint about one that stands elsewhere.

    ``plugins`` are the plugin classes by name, of which a look-up may raise anything.
    """

    plugins: Mapping[str, type[Any]]

    def of(self, name: str) -> tuple[str, ...]:
        """Name the tables in which a key is known, as their headers are written."""
        found = [
            f"[[{section.name}]]" if section.array else f"[{section.name}]"
            for section in SECTIONS
            if _declares(section.declaring, name)
        ]
        for plugin in self.plugins:
            try:
                if _declares(self.plugins[plugin].Config, name):
                    found.append(f"[{PLUGINS.name}.{plugin}]")
            # The code of others may raise anything; its own table says so, where it has one.
            except Exception:  # noqa: BLE001, S112
                continue
        return tuple(found)


def _declares(declaring: type[Any], name: str) -> bool:
    return any(option.name == name for option in options_of(declaring))


def read_values(
    table: Table, options: Iterable[Option], key: str, places: Places
) -> tuple[dict[str, Any], list[Mistake]]:
    """Read the options of a table.

    Args:
        table: The table; relative paths in it start at the directory of their file.
        options: What may stand in it.
        key: The table's own key, to which mistakes add the option's.
        places: Where a key that is not known here may belong.

    Returns:
        A value for each option that could be read or has a default, and the mistakes: keys that
        are not known, values that are not allowed, required options that are missing.
    """
    known = {option.name: option for option in options}
    values: dict[str, Any] = {}
    mistakes = [
        Mistake(entry.file, f"{key}.{name}", unknown(name, known, places.of(name)))
        for name, entry in table.entries.items()
        if name not in known
    ]
    for name, option in known.items():
        entry = table.entries.get(name)
        file = (entry or table).file
        try:
            if entry is not None:
                values[name] = option.read(raw(entry), entry.file.parent)
            elif option.required:
                mistakes.append(
                    Mistake(table.file, f"{key}.{name}", f"is missing; allowed: {option.allowed()}")
                )
            else:
                values[name] = option.default
        except ItemsError as error:
            mistakes += [Mistake(file, f"{key}.{name}[{at}]", text) for at, text in error.items]
        except ValueError as error:
            mistakes.append(Mistake(file, f"{key}.{name}", str(error)))
    return values, mistakes


def raw(entry: Given | Table) -> Any:
    """Give the value of an entry; a table where a value is expected counts as an empty one."""
    return entry.value if isinstance(entry, Given) else {}


def unknown(name: str, known: Collection[str], places: Collection[str] = ()) -> str:
    """Say that a key or a name is not known, and what could have been meant.

    Args:
        name: The key or the name.
        known: What is known where it stands.
        places: The tables in which it is known instead.
    """
    close = difflib.get_close_matches(name, known, n=1)
    if places:
        hint = f"; it belongs in {' or '.join(places)}"
    else:
        hint = f"; did you mean {shown(close[0])}?" if close else ""
    listed = f"known here: {', '.join(known)}" if known else "none is known here"
    return f"is not known{hint} ({listed})"


def item_key(section: Section, item: Table, position: int) -> str:
    """Name one table of an array: by what it is called, or by its place in its array, from 1."""
    entry = item.entries.get(section.naming)
    name = None if entry is None else raw(entry)
    if isinstance(name, str) and name:
        return f'{section.name} "{one_line(name)}"'
    return f"{section.name}[{position}]"
