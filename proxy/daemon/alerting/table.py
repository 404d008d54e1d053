"""The table ``[alerts]``: what administrators are told of, how often, and how."""

from pathlib import Path
from typing import Final

import attrs

from proxy.daemon.endpoints import Endpoint, server_endpoint
from proxy.session.options import option
from proxy.xmpp.jids import Jid

NO_ACCOUNT: Final = "none"
"""What stands for no account."""

BY_DOMAIN: Final = "auto"
"""What stands for the server that the account's domain leads to."""

_MONTH: Final = 2_592_000


def jid(text: str) -> Jid:
    """Read the address of somebody who is to be told.

    Raises:
        ValueError: ``text`` is none; the message says why.
    """
    found = Jid.parse(text)
    if not found.local:
        raise ValueError("the part before the @ is missing")
    return found


def account(text: str) -> str:
    """Read which account messages are sent from, or the word for none.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    return text if text == NO_ACCOUNT else str(jid(text))


def account_jid(text: str) -> Jid | None:
    """Give the address of what `account` gave; ``None`` if there is no account."""
    return None if text == NO_ACCOUNT else Jid.parse(text)


def account_server(text: str) -> str:
    """Read where the account's server is: a host and a port, or the word for finding it.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    return text if text == BY_DOMAIN else str(server_endpoint(text))


def account_endpoint(server: str) -> Endpoint | None:
    """Give the endpoint of what `account_server` gave; ``None`` if it is to be found."""
    return None if server == BY_DOMAIN else server_endpoint(server)


def argument(text: str) -> str:
    """Read a word of a command.

    Raises:
        ValueError: no program can be given such a word.
    """
    if "\0" in text:
        raise ValueError("a NUL character cannot be given to a program")
    return text


FOR_ACCOUNTS: Final = ("to", "password_file", "server")
"""The options that are about messages."""


@attrs.frozen
class AlertsTable:
    """The table ``[alerts]``."""

    repeat: int = option(
        default=86_400,
        minimum=60,
        maximum=_MONTH,
        unit="seconds",
        help=(
            "After how long an event that goes on is told again, with how often it was met "
            "meanwhile. Until then its alerts are only counted, however often they come. A restart "
            "forgets what was told."
        ),
    )
    per_hour: int = option(
        default=20,
        minimum=1,
        maximum=1_000,
        help=(
            "How many alerts in an hour go to the command and to the people in to; those beyond "
            "are summed up in one more when the hour ends. At most 3 of them are about one domain, "
            "and at most half about domains that end in the same two labels, so that nobody can "
            "spend what others need. Alerts that may mean an attack "
            "(severity critical) have an allowance of their own, of the same size, so that a flood "
            "of others cannot hide them. The log has more."
        ),
    )
    command: tuple[str, ...] = option(
        default=(),
        maximum=64,
        parse=argument,
        allowed=(
            "a word of the command, of which the first is the absolute path of a program, as "
            "/usr/local/bin/notify"
        ),
        help=(
            "A program that is run for each alert, and its arguments; no shell comes in between. "
            "It gets one line of JSON on its standard input, an object with version (1), time "
            "(UTC, as 2030-01-31T12:00:00Z), kind (unknown, change, renewal, rejected, revoked, "
            "downgrade, expiry, fault, or more for alerts that are summed up), severity (notice, "
            "warning or critical), domain, stream, text (a line for people), fields (an object of "
            "texts, by kind) and count (how often it was met since it was told last). It runs in "
            "/, with PATH, TZ and the locale as its only environment, as Bascule's user and within "
            "what its service may do. It has 30 seconds, then it is ended with all it has started. "
            "If it fails, the log says so, with the last line that it printed."
        ),
    )
    to: tuple[Jid, ...] = option(
        default=(),
        maximum=16,
        parse=jid,
        allowed="an XMPP address, as admin@example.com",
        help=(
            "Who gets each alert as an XMPP message, from account. A server that keeps messages "
            "does so for those who are away."
        ),
    )
    account: str = option(
        default=NO_ACCOUNT,
        parse=account,
        allowed='an XMPP address, as bascule@example.com, or "none"',
        help=(
            "The account that those messages come from: one of the legacy server's, or of any "
            "other. Bascule logs in to send what there is, and leaves. none: no messages are sent."
        ),
    )
    password_file: Path = option(
        default=Path("/etc/bascule/alerts.password"),
        help=(
            "A file whose first line is the account's password, in UTF-8. It is read each time, "
            "and not used if every user of the machine can read or write it. A service that runs "
            "as a user of its own gets it as it gets private keys (LoadCredential)."
        ),
    )
    server: str = option(
        default=BY_DOMAIN,
        parse=account_server,
        allowed='a host and a port, as 127.0.0.1:15222 or [::1]:15222, or "auto"',
        help=(
            "Where the account's server accepts clients in plaintext. On loopback, or as auto "
            "where the domain is ours, the password may be said as it is if the server knows "
            "nothing better; anywhere else it is only proved (SCRAM). auto: if the account's "
            "domain is a [[domain]], its c2s_server; else the server that DNS names, by TLS, as "
            "the domain's [[policy]] demands."
        ),
    )

    def idle(self) -> tuple[str, ...]:
        """Name the options that do nothing without an account."""
        return FOR_ACCOUNTS if self.account == NO_ACCOUNT else ()
