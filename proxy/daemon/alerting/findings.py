"""What is to be said about the table ``[alerts]`` before it is put to work."""

import os
from pathlib import Path
from typing import Any

from proxy.daemon.alerting.password import read_password
from proxy.daemon.alerting.table import (
    BY_DOMAIN,
    FOR_ACCOUNTS,
    NO_ACCOUNT,
    AlertsTable,
    account_endpoint,
)
from proxy.daemon.model import Caution, Mistake
from proxy.daemon.tables import Placed

Values = dict[str, Any]
"""The options of the table that could be read."""


def mistakes(table: Placed[Values]) -> list[Mistake]:
    """Find options that lack another one, or have no use without it.

    Args:
        table: the table, with the keys that stand in it.
    """
    given = table.value
    found: list[tuple[str, str]] = []
    command = given.get("command", ())
    if command and not command[0].startswith("/"):
        found.append(("command", "the program's path is not absolute; allowed: one that is"))
    account = given.get("account")
    if account == NO_ACCOUNT:
        found += [
            (name, "does nothing without account, which messages are sent from")
            for name in FOR_ACCOUNTS
            if name in table.stated and given.get(name) != getattr(AlertsTable(), name)
        ]
    elif account is not None and given.get("to") == ():
        found.append(("account", "does nothing without to, which says who gets messages"))
    return [Mistake(table.file, f"{table.key}.{name}", text) for name, text in found]


def cautions(table: Placed[Values]) -> list[Caution]:
    """Find what leaves the account open: a server that is reached in plaintext across a network."""
    server = account_endpoint(table.value.get("server", BY_DOMAIN))
    if server is None or server.is_loopback:
        return []
    text = f"{server} is not loopback: alerts cross the network in plaintext"
    return [Caution(table.file, f"{table.key}.server", text)]


def examine(table: Placed[Values]) -> list[Caution]:
    """Look at the files that the table names: whether they can do their work, for who runs this.

    Args:
        table: the table, whose options are free of `mistakes`.
    """
    given = table.value
    found: list[tuple[str, str]] = []
    command = given.get("command", ())
    if command:
        trouble = _trouble(Path(command[0]))
        if trouble:
            found.append(("command", f"{command[0]} {trouble}: nobody will be told by it"))
    if given.get("account", NO_ACCOUNT) != NO_ACCOUNT and "password_file" in given:
        try:
            read_password(given["password_file"])
        except ValueError as error:
            found.append(("password_file", f"{error}: no messages will be sent"))
    return [Caution(table.file, f"{table.key}.{name}", text) for name, text in found]


def _trouble(program: Path) -> str:
    """Say why a program cannot be run; nothing if it can."""
    if not program.exists():
        return "is not there"
    if not program.is_file():
        return "is not a file"
    return "" if os.access(program, os.X_OK) else "is not executable"
