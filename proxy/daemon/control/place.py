"""The place of the control socket in the file system: taken with care, and left empty."""

import errno
import os
import secrets
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

MODE: Final = 0o660
"""Who may connect: the daemon's user, and the group of the socket."""

BACKLOG: Final = 16
"""Connections that the kernel holds until they are accepted."""

_LONGEST_PATH: Final = 107
"""Bytes of the path of a Unix socket (unix(7))."""


@attrs.frozen
class Place:
    """A socket that listens at a path.

    Attributes:
        path: where it is.
        listening: the socket, not blocking.
        group: the group that the socket is of.
        inode: the device and the inode by which it is told from another one at its place.
    """

    path: Path
    listening: socket.socket
    group: int
    inode: tuple[int, int]

    def leave(self) -> None:
        """Close the socket, and remove it unless another one has taken its place."""
        self.listening.close()
        with suppress(OSError):
            if _inode(self.path.lstat()) == self.inode:
                self.path.unlink()


def take(path: Path) -> Place:
    """Listen at a path; a socket that is there is replaced, if nobody listens on it.

    The socket appears at its place only when it listens and its mode is right: until then it has
    another name. So there is no moment at which a client finds it half made.

    Raises:
        OSError: that cannot be; ``strerror`` says why, in one line.
    """
    _check_directory(path.parent)
    _check_free(path)
    beside = path.with_name(f".{secrets.token_hex(4)}")
    if max(len(os.fsencode(each)) for each in (path, beside)) > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, f"is longer than {_LONGEST_PATH} bytes")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listening.bind(os.fsencode(beside))
        try:
            beside.chmod(MODE)
            listening.listen(BACKLOG)
            made = beside.lstat()
            beside.rename(path)
        except OSError:
            beside.unlink()
            raise
    except OSError:
        listening.close()
        raise
    return Place(path, listening, made.st_gid, _inode(made))


def _check_directory(directory: Path) -> None:
    """Refuse a directory in which others could put something else in the socket's place."""
    found = directory.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{directory} is no directory")
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{directory} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"{directory} can be written to by others than its owner"
        raise PermissionError(errno.EPERM, text)


def _check_free(path: Path) -> None:
    """Refuse a place at which there is anything but a socket on which nobody listens."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "there is something else than a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as trying:
        try:
            trying.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # somebody listens who is busy
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
