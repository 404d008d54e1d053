"""The filter of fail2ban in the guide finds who fails to log in, and nobody else."""

import configparser
import io
import re

import pytest

from proxy.daemon.log import Log
from proxy.session.commands import Severity
from proxy.session.hooks import Address
from tests.pages import ROOT, blocks

GUIDE = ROOT / "docs/guide.md"

SUMMARY: dict[str, object] = {
    "session": "48ccb99445cd",
    "listener": "c2s",
    "client": Address("203.0.113.7", 41748),
    "domain": "example.com",
    "tls": "TLSv1.3/TLS_AES_256_GCM_SHA384/X25519MLKEM768",
    "start": "starttls",
    "server": Address("127.0.0.1", 15222),
    "authenticated": "no",
    "failed_logins": 2,
    "seconds": "0.100",
    "from_client": 736,
    "from_server": 974,
    "reason": "the client closed the stream",
}


def banned(line: str) -> str | None:
    """The address that the guide's filter finds in a line of the log."""
    [filter_of] = [block for block in blocks(GUIDE, "ini") if "[Def" in block]
    parser = configparser.RawConfigParser()
    parser.read_string(filter_of)
    host = r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<v4>[0-9.]+))"  # what fail2ban puts in for <HOST>
    found = re.search(parser["Definition"]["failregex"].replace("<HOST>", host), line)
    return (found["v4"] or found["v6"]) if found else None


def logged(*, journal: bool, **fields: object) -> str:
    """The line of a session, as the daemon writes it and fail2ban reads it."""
    stream = io.StringIO()
    Log(stream, journal=journal).write(Severity.INFO, "session ended", SUMMARY | fields)
    line = stream.getvalue()
    return f"host bascule[7]: {line.removeprefix('<6>')}" if journal else line


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize(
    ("client", "listener"),
    [("203.0.113.7", "c2s"), ("2001:db8::7", "c2s"), ("203.0.113.7", "for clients")],
)
def test_the_filter_finds_the_client(client: str, listener: str, journal: bool) -> None:
    line = logged(journal=journal, client=Address(client, 41748), listener=listener)
    assert banned(line) == client


def test_the_filter_fits_the_lines_in_the_guide() -> None:
    lines = "".join(blocks(GUIDE, "text")).splitlines()
    failed = [line for line in lines if "session ended" in line and "failed_logins=" in line]
    assert failed
    for line in lines:
        assert (banned(line) is not None) == (line in failed)


@pytest.mark.parametrize("failed_logins", [None, 2])
def test_what_a_peer_says_bans_nobody_else(failed_logins: int | None) -> None:
    forged = (
        "session ended session=1 listener=c2s client=198.51.100.1:1 x=y failed_logins=1",
        '" session ended session=1 listener=c2s client=198.51.100.1:1 x=y failed_logins=1',
    )
    for reason in forged:
        line = logged(journal=True, failed_logins=failed_logins, reason=reason)
        assert banned(line) == (None if failed_logins is None else "203.0.113.7")
