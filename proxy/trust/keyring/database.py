"""The keyring's file: an SQLite database that several processes read and change at once.

It is made as a whole or not at all, so a file that lacks anything is a damaged one and never an
empty keyring. One that was moved away while it is open is gone: what would be written to it then,
nobody would read.
"""

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from proxy.trust.keyring.schema import APPLICATION, MIGRATIONS
from proxy.xmpp.text import printable

FILE_NAME: Final = "keyring.sqlite"
"""What the file is called in the state directory."""

PATIENCE: Final = 2.0
"""Seconds that another process's change is waited for by default."""

WRITABLE_BY_OTHERS: Final = 0o022
"""What the mode of the keyring's directory must not have of this."""

_OLDEST_SQLITE: Final = (3, 37)  # the first with STRICT
_OF_OTHERS: Final = 0o077
_BESIDE: Final = ("-wal", "-journal")


class KeyringError(Exception):
    """The keyring cannot do what was asked of it; ``str()`` is one clause fit to be shown."""


class Database:
    """A keyring's file, open.

    Not to be used by another thread, or by a child process that inherits it.

    Args:
        path: The file.
        create: Whether to make it if there is none.
        patience: Seconds that another process's change is waited for.

    Raises:
        KeyringError: The file is damaged, of a newer version, not to be read, or open to others;
            or there is none and it may not or cannot be made.
    """

    def __init__(self, path: Path, *, create: bool, patience: float) -> None:
        self.path = path
        self._patience = patience
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise KeyringError(f"the keyring needs SQLite 3.37; this is {sqlite3.sqlite_version}")
        with self._told():
            if not _is_there(path):
                if not create:
                    raise KeyringError(f"there is no keyring {printable(str(path))}")
                _create(path)
            self._place = _checked(path)
            self._process = os.getpid()
            self._connection = _connected(path, patience)
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise

    def _open(self) -> None:
        application = self._value("PRAGMA application_id")
        version = self._value("PRAGMA user_version")
        if application != APPLICATION or version < 1:
            raise self._error("is not a keyring, or is damaged")
        if version > len(MIGRATIONS):
            raise self._error(
                f"is of version {version}, made by a newer Bascule than this one, which knows "
                f"{len(MIGRATIONS)}"
            )
        if version < len(MIGRATIONS):
            with self.changing():
                _migrate(self._connection)
        if self._value("PRAGMA journal_mode") != "wal":
            self._connection.execute("PRAGMA journal_mode = WAL")
        # Of its indexes too: a revocation that is not found would be none.
        if self._value("PRAGMA integrity_check(1)") != "ok":
            raise self._error("is damaged")

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Return all rows of a query, or what a change returns.

        Raises:
            KeyringError: It failed; a change was not made.
        """
        with self._told():
            self._check_place()
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def changing(self, *, durable: bool = True) -> Iterator[None]:
        """Make one change of all that is read and written meanwhile, which nobody else comes into.

        Within another such change it is part of that one.

        Args:
            durable: Whether it must outlast a failure of the machine as well, not only of the
                process, once this is left.

        Raises:
            KeyringError: It could not be begun or completed; nothing was changed.
        """
        if self._is_changing():
            yield
            return
        with self._told():
            self._check_place()
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._told():
                self._check_place()
                self._connection.execute("COMMIT")
        except BaseException:
            if self._is_changing():
                with suppress(sqlite3.Error):  # closing it undoes the change as well
                    self._connection.execute("ROLLBACK")
            raise

    def version(self) -> int:
        """Return a number that is another one after somebody else has changed the file."""
        with self._told():
            self._check_place()
            return int(self._value("PRAGMA data_version"))

    def close(self) -> None:
        """Close the file; it may be closed already."""
        with self._told():
            self._connection.close()

    def damage(self) -> KeyringError:
        """Return the error to raise for contents that no keyring has."""
        return self._error("is damaged")

    def _is_changing(self) -> bool:
        with self._told():
            return self._connection.in_transaction

    def _value(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()[0]

    def _check_place(self) -> None:
        if os.getpid() != self._process:
            raise self._error("was opened by another process")
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            raise self._error("is gone") from None
        if (found.st_dev, found.st_ino) != self._place:
            raise self._error("was replaced by another file")

    def _error(self, text: str) -> KeyringError:
        return KeyringError(f"the keyring {printable(str(self.path))} {text}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what SQLite and the system complain of in words for operators."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(self._words(error)) from error
        except OSError as error:
            raise self._error(f"cannot be used: {error.strerror or error}") from error

    def _words(self, error: sqlite3.Error) -> str:
        # The codes of extended errors have those of plain ones in their lowest octet.
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}:
            return f"is locked by another process, for more than {self._patience:g} seconds"
        return _WORDS.get(code, f"cannot be used: {printable(str(error))}")


_WORDS: Final = {
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
    sqlite3.SQLITE_READONLY: "cannot be written: it is read-only",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk or the file system fails",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_PERM: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is damaged, or not a keyring",
    # A table or column that must be there is not.
    sqlite3.SQLITE_ERROR: "is damaged",
    sqlite3.SQLITE_CONSTRAINT: "is damaged",
}


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _checked(path: Path) -> tuple[int, int]:
    """Return device and inode of the file, if nobody but its owner has access.

    The file is not opened for that: closing it would give up the locks that another connection of
    this process has on it.
    """
    shown = printable(str(path))
    _check_directory(path.parent)
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise KeyringError(f"{shown} is not a file")
    if found.st_mode & _OF_OTHERS:
        raise KeyringError(f"the keyring {shown} is open to others; its mode must be 0600")
    if found.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
        raise KeyringError(f"the keyring {shown} belongs to another user")
    return found.st_dev, found.st_ino


def _check_directory(directory: Path) -> None:
    """Check that nobody else can put files in a keyring's place, or beside it."""
    shown = printable(str(directory))
    try:
        found = directory.stat()
    except FileNotFoundError:
        raise KeyringError(f"there is no directory {shown} for the keyring") from None
    if not stat.S_ISDIR(found.st_mode):
        raise KeyringError(f"{shown}, where the keyring should be, is not a directory")
    if found.st_mode & WRITABLE_BY_OTHERS:
        raise KeyringError(f"the directory {shown} of the keyring can be written by others")
    if os.geteuid() not in {0, found.st_uid} and found.st_uid != 0:
        raise KeyringError(f"the directory {shown} of the keyring belongs to another user")


def _create(path: Path) -> None:
    """Make an empty keyring under another name, and give it its own once it is complete."""
    _check_directory(path.parent)
    left = [suffix for suffix in _BESIDE if _is_there(Path(f"{path}{suffix}"))]
    if left and not _is_there(path):
        raise KeyringError(
            f"the keyring {printable(str(path))} is gone, but {path.name}{left[0]} is there: "
            "restore it from a backup, or move that away to begin with an empty one"
        )
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".new")
    try:
        try:
            if os.geteuid() == 0:
                # It must be the daemon's, though root may be the first to need it.
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)
        connection = sqlite3.connect(name, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            _migrate(connection)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was faster
            os.link(name, path)
    finally:
        Path(name).unlink()
    _synchronise(path.parent)


def _synchronise(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connected(path: Path, patience: float) -> sqlite3.Connection:
    # By URI, so that a file that has gone meanwhile is not made anew, and empty.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, timeout=patience, isolation_level=None, uri=True)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to the newest version, within a change that has begun."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
