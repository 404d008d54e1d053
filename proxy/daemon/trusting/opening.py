"""Opening the keyring of a conf, if any of its policies has a use for it."""

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.daemon.model import FORWARD, Conf
from proxy.session.kinds import Kind
from proxy.trust.keyring.database import FILE_NAME, WRITABLE_BY_OTHERS, KeyringError
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level, Policy
from proxy.xmpp.text import printable

REMEMBERING: Final = frozenset({Level.MAY, Level.DANE, Level.KEYRING})
"""The levels that take a memory: of certificates, or of what a domain was reached with."""

_PATIENCE: Final = 0.5  # seconds; while another process writes, nothing else is done


def takes_keyring(policy: Policy) -> bool:
    """Whether a policy has a use for a keyring."""
    return policy.level in REMEMBERING


def wanted(conf: Conf) -> bool:
    """Whether any session of a conf has a use for a keyring."""
    concerned = any(
        listener.direction == FORWARD or listener.stream is Kind.S2S for listener in conf.listeners
    )
    return concerned and any(map(takes_keyring, conf.policies))


def problem(conf: Conf) -> str:
    """Say what keeps the keyring from being opened, as far as can be seen without opening it.

    Nothing is said of its file, nor of whose the directory is: both belong to the user that the
    daemon runs as, who may be another one than asks.
    """
    if not wanted(conf):
        return ""
    directory = conf.state_directory
    why = ""
    try:
        mode = directory.stat().st_mode
        if not stat.S_ISDIR(mode):
            why = "is not a directory"
        elif mode & WRITABLE_BY_OTHERS:
            why = f"can be written by others (its mode is {stat.S_IMODE(mode):04o})"
    except FileNotFoundError:
        why = "does not exist"
    except OSError as error:
        why = f"cannot be looked at ({error.strerror})"
    if not why:
        return ""
    levels = sorted({policy.level.value for policy in conf.policies if takes_keyring(policy)})
    return (
        f"{directory} {why}; allowed: a directory that belongs to the user that Bascule runs as "
        "and that nobody else can write to, for the keyring, which policies with level "
        f"{' or '.join(levels)} take"
    )


def open_keyring(conf: Conf) -> Keyring | None:
    """Open the keyring, or make it; ``None`` where no session of the conf has a use for it.

    Raises:
        KeyringError: it cannot be opened or made.
    """
    if not wanted(conf):
        return None
    path = conf.state_directory / FILE_NAME
    try:
        return Keyring(path, patience=_PATIENCE)
    except KeyringError as error:
        raise KeyringError(f"{error}{_of_others(path)}") from error


def _of_others(path: Path) -> str:
    """Say whose the directory or the file is, if not ours; nothing if they are, or we are root."""
    user = os.geteuid()
    for each in (path.parent, path):
        with suppress(OSError):
            owner = each.stat().st_uid
            if user not in {0, owner}:
                shown = printable(str(each))
                return f"; {shown} belongs to {_name(owner)}, and Bascule runs as {_name(user)}"
    return ""


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
