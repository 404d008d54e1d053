"""Where the control socket is, as a conf says."""

import os
from pathlib import Path
from typing import Final

from proxy.daemon.files import Given, Table, merge, read_documents
from proxy.daemon.state import DEFAULT_CONTROL_SOCKET

_TABLE: Final = "bascule"
_OPTION: Final = "control_socket"
_TO_CONF: Final = "see bascule check"


class PathError(Exception):
    """The conf does not say where the control socket is, though it should."""


def control_socket(conf_path: Path, *, needed: bool) -> Path:
    """Return where the control socket is.

    Only this one option is read: a daemon runs on while its conf has other mistakes.

    Args:
        conf_path: the configuration file.
        needed: whether it is a fault if there is no such file, or else the default holds.

    Raises:
        PathError: the conf cannot be read, or says nothing sensible.
    """
    if not needed and not os.path.lexists(conf_path):
        return DEFAULT_CONTROL_SOCKET
    reading = read_documents(conf_path)
    merged, mistakes = merge(reading.documents, conf_path)
    found = [*reading.mistakes, *mistakes]
    if found:
        raise PathError(f"{found[0]} ({_TO_CONF})")
    table = merged.root.entries.get(_TABLE)
    given = table.entries.get(_OPTION) if isinstance(table, Table) else None
    if given is None:
        return DEFAULT_CONTROL_SOCKET
    value = given.value if isinstance(given, Given) else None
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise PathError(f"{given.file}: {_TABLE}.{_OPTION}: is not an absolute path ({_TO_CONF})")
    return Path(value)
