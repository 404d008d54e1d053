"""Opening the keyring of a conf, if any of its policies has a use for it."""

from typing import Final

from proxy.daemon.model import FORWARD, Conf
from proxy.session.kinds import Kind
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level, Policy

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

    Nothing is said of its file, which belongs to the user that the daemon runs as.
    """
    if not wanted(conf):
        return ""
    directory = conf.state_directory
    why = ""
    try:
        if not directory.is_dir():
            why = "is not a directory" if directory.exists() else "does not exist"
    except OSError as error:
        why = f"cannot be looked at ({error.strerror})"
    if not why:
        return ""
    levels = sorted({policy.level.value for policy in conf.policies if takes_keyring(policy)})
    return (
        f"{directory} {why}; allowed: a directory that belongs to the user that Bascule runs as, "
        f"for the keyring, which policies with level {' or '.join(levels)} take"
    )


def open_keyring(conf: Conf) -> Keyring | None:
    """Open the keyring, or make it; ``None`` where no session of the conf has a use for it.

    Raises:
        KeyringError: it cannot be opened or made.
    """
    if not wanted(conf):
        return None
    return Keyring(conf.state_directory / FILE_NAME, patience=_PATIENCE)
