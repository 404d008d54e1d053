"""Options about the whole of Bascule: where its state is kept, and where it is spoken to."""

from enum import Enum
from pathlib import Path
from typing import Final

import attrs

from proxy.session.options import option

DEFAULT_STATE_DIRECTORY: Final = Path("/var/lib/bascule")
"""Where state is kept unless the conf says otherwise."""

DEFAULT_CONTROL_SOCKET: Final = Path("/run/bascule/control")
"""Where the control socket is unless the conf says otherwise."""


MOST_WORKERS: Final = 64
"""How many processes may share the listening ports."""


class LogFormat(Enum):
    """What a line of the log looks like."""

    TEXT = "text"
    """Words, then fields as ``name=value``."""
    JSON = "json"
    """An object of JSON."""


@attrs.frozen
class StateTable:
    """The table ``[bascule]``."""

    state_directory: Path = option(
        default=DEFAULT_STATE_DIRECTORY,
        help=(
            "The directory of what Bascule must remember beyond a restart: keyring.sqlite, with "
            "the certificates of other domains that were believed, held or refused, and with what "
            "those domains were once reached with. Policies with level keyring, dane or may need "
            "it; it must then be there, belong to the user that Bascule runs as, and be writable "
            "by nobody else. The commands bascule keyring work on the same file."
        ),
    )
    control_socket: Path = option(
        default=DEFAULT_CONTROL_SOCKET,
        help=(
            "The Unix socket on which bascule status and the like speak with the running daemon. "
            "Its directory must be there. Root, the daemon's own user and the members of the "
            "socket's group may use it. If it cannot be made, the daemon warns of it and runs "
            "without."
        ),
    )
    log_format: LogFormat = option(
        default=LogFormat.TEXT,
        help=(
            "What the lines of the log look like. text: the time, the severity, words, then fields "
            "as name=value. json: one object a line, with time, severity and message, and the "
            "fields beside them, for programs. Under systemd a line begins with its priority all "
            "the same, which the journal takes off."
        ),
    )
    workers: int = option(
        default=1,
        minimum=1,
        maximum=MOST_WORKERS,
        unit="processes",
        help=(
            "How many processes share the listening ports. One process does its work on one "
            "processor, and several thousand sessions that chat are little for it; more processes "
            "are for floods of logins, for very many sessions, and so that a fault ends the "
            "sessions of one process alone. With more than one, another process leads them: it "
            "starts one anew that has ended, and answers for all of them. Each takes some 60 MB. "
            "A reload changes their number; from one to several, and back, takes a restart."
        ),
    )
