"""The file that holds the password of an account."""

import os
import stat
from pathlib import Path
from typing import Final

from proxy.xmpp.saslprep import saslprep

LONGEST: Final = 1_024
"""Bytes of the file's first line."""


def read_password(path: Path) -> str:
    """Return the password that a file holds, as SASLprep writes it.

    Raises:
        ValueError: it cannot be read, is open to every user of the machine, or holds no password;
            the message says why, and nothing of what stands in it.
    """
    try:
        # Opening must not wait, whatever the path leads to.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a regular file")
        if status.st_mode & stat.S_IRWXO:
            mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
            text = f"is open to every user of the machine ({mode}); take the others' rights away"
            raise ValueError(f"{path} {text}")
        line = os.read(descriptor, LONGEST + 1).partition(b"\n")[0].removesuffix(b"\r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if not line:
        raise ValueError(f"{path} has no password in its first line")
    if len(line) > LONGEST:
        raise ValueError(f"the first line of {path} is too long for a password")
    try:
        return saslprep(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"the password in {path} cannot be used: {error}") from error
