"""One option of ``[bascule]``, for commands that do their work while others are wrong."""

import os
from pathlib import Path
from typing import Final

from proxy.daemon.files import Table, merge, read_documents
from proxy.daemon.model import BASCULE
from proxy.daemon.state import StateTable
from proxy.daemon.tables import Places, read_values
from proxy.session.options import options_of

TO_CONF: Final = "see bascule check"
"""Where to read on about a conf that has mistakes."""

DEFAULTS = StateTable()
"""What holds where the conf says nothing."""


class ConfError(Exception):
    """The conf does not say what is needed of it, though it should."""


def stated(conf_path: Path, name: str, *, needed: bool) -> Path:
    """Return a path that the table ``[bascule]`` says, or its default.

    Args:
        conf_path: The configuration file.
        name: The option.
        needed: Whether it is a fault if there is no such file, or else the default holds.

    Raises:
        ConfError: The conf cannot be read, or says nothing sensible of it.
    """
    default: Path = getattr(DEFAULTS, name)
    if not needed and not os.path.lexists(conf_path):
        return default
    reading = read_documents(conf_path)
    merged, mistakes = merge(reading.documents, conf_path)
    found = [*reading.mistakes, *mistakes]
    table = merged.root.entries.get(BASCULE.name)
    path = default
    if isinstance(table, Table) and name in table.entries:
        alone = Table(table.file, {name: table.entries[name]})
        values, more = read_values(alone, options_of(StateTable), BASCULE.name, Places({}))
        found += more
        path = values.get(name, path)
    if found:
        raise ConfError(f"{found[0]} ({TO_CONF})")
    return path
