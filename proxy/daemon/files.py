"""The files of a configuration: which they are, and what they say together.

The first file is the one the command line names; after it come ``conf.d/*.toml`` beside it, in the
order of their names. Tables of different files are joined, arrays of tables follow one another,
and a key that stands in two files is a mistake.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from proxy.daemon.model import SECTIONS, Caution, Mistake

DEFAULT_PATH = Path("/etc/bascule/bascule.toml")
FRAGMENTS = "conf.d"

_SUFFIX = ".toml"
_LEFT_BEHIND = ("~", "#", ".bak", ".old", ".orig", ".swp", ".dpkg-dist", ".dpkg-new", ".dpkg-old")
"""How names end that editors, people and packages give to what is not to be read."""

_HINT = "; -c names another file, and conf/bascule.toml in Bascule's repository is a template"

# [plugins.limits] is the deepest table there is; a table below that is a value out of place.
_DEEPEST_TABLE = 2


@attrs.frozen
class Document:
    """What one file says, as ``tomllib`` returns it."""

    file: Path
    content: Mapping[str, Any]


@attrs.frozen
class Given:
    """A value, and the file in which it stands."""

    file: Path
    value: Any


@attrs.frozen
class Table:
    """A table that several files may have set together; ``file`` is the first of them."""

    file: Path
    entries: dict[str, "Given | Table"] = attrs.field(factory=dict)


@attrs.frozen
class Merged:
    """What all files say: the tables, and the items of each array of tables."""

    root: Table
    arrays: Mapping[str, list[Table]]


@attrs.frozen
class Reading:
    """The files that could be read, in their order, and what is to be said about others."""

    documents: list[Document]
    mistakes: list[Mistake]
    cautions: list[Caution]


def read_documents(path: Path) -> Reading:
    """Read a configuration file and the fragments beside it.

    Returns:
        The files, a mistake for each that could not be read, and a caution for each beside the
        fragments whose name keeps it from being one, unless it is hidden or left behind.
    """
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    cautions: list[Caution] = []
    path = path.absolute()
    fragments: list[Path] = []
    try:
        entries = sorted((path.parent / FRAGMENTS).iterdir())
        fragments = [entry for entry in entries if entry.suffix == _SUFFIX]
        cautions = [
            Caution(entry, "", f"is not read: its name does not end in {_SUFFIX}")
            for entry in entries
            if entry.suffix != _SUFFIX and _is_meant(entry)
        ]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        mistakes.append(Mistake(path.parent / FRAGMENTS, "", f"cannot be read: {error.strerror}"))
    for file in (path, *fragments):
        try:
            documents.append(Document(file, _read(file)))
        except ValueError as error:
            mistakes.append(Mistake(file, "", str(error)))
    return Reading(documents=documents, mistakes=mistakes, cautions=cautions)


def _is_meant(entry: Path) -> bool:
    """Whether somebody may believe that a file is read, whatever its name."""
    name = entry.name
    return not name.startswith((".", "#")) and not name.endswith(_LEFT_BEHIND) and entry.is_file()


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        hint = _HINT if isinstance(error, FileNotFoundError) else ""
        raise ValueError(f"cannot be read: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8; TOML files are") from error
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("is not TOML that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"is not TOML: {error}") from error


def merge(documents: Iterable[Document], main: Path) -> tuple[Merged, list[Mistake]]:
    """Join what the files say.

    Args:
        documents: The files in their order.
        main: The file to name for what stands in none.

    Returns:
        All that could be joined, and a mistake for each key that stands in two files and each
        array of tables that is none.
    """
    mistakes: list[Mistake] = []
    merged = Merged(
        root=Table(main),
        arrays={section.name: [] for section in SECTIONS if section.array},
    )
    for document in documents:
        tables = {}
        for key, value in document.content.items():
            if key in merged.arrays:
                mistakes += _gather(document.file, key, value, merged.arrays[key])
            else:
                tables[key] = value
        mistakes += _join(merged.root, tables, document.file, "", 0)
    return merged, mistakes


def _gather(file: Path, key: str, value: Any, items: list[Table]) -> list[Mistake]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return [Mistake(file, key, f"is not an array of tables; it is written [[{key}]]")]
    items += [
        Table(file, {name: Given(file, entry) for name, entry in item.items()}) for item in value
    ]
    return []


def _join(
    into: Table, content: Mapping[str, Any], file: Path, prefix: str, depth: int
) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for key, value in content.items():
        known = into.entries.get(key)
        nests = isinstance(value, dict) and depth < _DEEPEST_TABLE
        if known is None:
            known = into.entries[key] = Table(file) if nests else Given(file, value)
        elif not (nests and isinstance(known, Table)):
            text = f"is set in {known.file} already; a key may be set once"
            mistakes.append(Mistake(file, prefix + key, text))
            continue
        if nests and isinstance(known, Table):
            mistakes += _join(known, value, file, f"{prefix}{key}.", depth + 1)
    return mistakes
