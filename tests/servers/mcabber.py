"""mcabber, a client with a text interface, at a terminal of its own."""

import asyncio
import contextlib
import os
import pty
import re
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Self, TypeVar

from tests.servers.client import SECONDS, stream_error_in
from tests.servers.program import HOST, Program

_ACCOUNT = Template("""\
set jid = $jid
set server = $host
set port = $port
set tls = 0
set ssl = 0
""")

_CONFIGURATION = Template("""\
$account
set password = $password
set otr = 0
set pgp = 0
set disable_chatstates = 1
set logging = 1
set logging_dir = $directory/history/
set logging_ignore_status = 1
set tracelog_level = 3
set tracelog_file = $directory/trace
""")

Found = TypeVar("Found")

_ROWS, _COLUMNS = 30, 110

_ENTER = b"\r"


class Mcabber(Program):
    """One mcabber that knows no TLS, to be used in ``async with``, which ends it.

    What comes from others is read from the history that it keeps, commands are typed.

    Args:
        name: the account's local part; its password is ``pw-NAME``.
        domain: the account's domain.
        port: where to connect, on 127.0.0.1.
        directory: its state, of its own.
        account: the lines of its configuration that say who connects where, and how; they are made
            of the other arguments when left out.
    """

    def __init__(
        self, name: str, domain: str, port: int, directory: Path, *, account: str | None = None
    ) -> None:
        super().__init__("mcabber", directory, [])
        self.jid = f"{name}@{domain}"
        self.error_text = ""
        self._password = f"pw-{name}"
        self._account = account or _ACCOUNT.substitute(jid=self.jid, host=HOST, port=port)
        self._keyboard = -1
        self._screen: threading.Thread | None = None
        self._messages_read = 0
        self.log_path = directory / "trace"

    def start(self) -> None:
        """Start it at its terminal; it connects at once."""
        configuration = self.directory / "mcabberrc"
        configuration.touch(mode=0o600)
        configuration.write_text(
            _CONFIGURATION.substitute(
                account=self._account,
                password=self._password,
                directory=self.directory,
            )
        )
        self._keyboard, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (_ROWS, _COLUMNS))
        self.launch(
            *("mcabber", "-f", configuration),
            environment={"HOME": str(self.directory), "TERM": "xterm", "LC_ALL": "C.UTF-8"},
            terminal=terminal,
        )
        os.close(terminal)
        self._screen = threading.Thread(target=self._look, name="mcabber's screen", daemon=True)
        self._screen.start()

    async def login(self) -> str:
        """Start it and wait until it is logged in.

        Returns:
            ``session started``, a stream error's condition behind ``stream error: ``, or
            ``disconnected``.
        """
        self.start()
        outcomes = re.compile(
            "Your status has been set|</stream:error>|Could not|LM_DISCONNECT|onnection failed"
        )
        outcome = await self._first(lambda: outcomes.search(self._trace()))
        if outcome[0] == "Your status has been set":
            return "session started"
        if outcome[0] == "</stream:error>":
            said, self.error_text = stream_error_in(self._trace())
            return said
        return "disconnected"

    def write(self, to: str, body: str) -> None:
        """Type a command that sends a chat message to a bare JID."""
        os.write(self._keyboard, f"/say_to {to} {body}".encode() + _ENTER)

    async def read(self) -> tuple[str, str]:
        """Return the bare JID of the sender and the body of the next message."""
        message = await self._first(self._next_message)
        self._messages_read += 1
        return message

    async def __aenter__(self) -> Self:
        """Do nothing; `login` starts it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """End it; nothing happens if it is not running."""
        super().stop()
        if self._screen is not None:
            self._screen.join()
            self._screen = None

    def _look(self) -> None:
        """Take what it draws, so that it never waits, until its terminal is gone."""
        with contextlib.suppress(OSError):  # how Linux says that nobody has the terminal any more
            while os.read(self._keyboard, 4096):
                pass
        os.close(self._keyboard)

    def _trace(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _next_message(self) -> tuple[str, str] | None:
        """Return the sender and the body of the first message that was not read yet.

        Its history has one file for each contact; a line is a kind (MR: a message received), a
        time, the number of lines that follow, the first line.
        """
        seen = 0
        for file in (self.directory / "history").glob("*"):
            for received in re.finditer(r"^MR \S+ 000 (.*)\n", file.read_text(), re.MULTILINE):
                if seen == self._messages_read:
                    return file.name, received[1]
                seen += 1
        return None

    async def _first(self, look: Callable[[], Found | None]) -> Found:
        """Look until something is there.

        Raises:
            TimeoutError: after `SECONDS`.
        """
        end = time.monotonic() + SECONDS
        while (found := look()) is None:
            if time.monotonic() > end:
                raise TimeoutError(self.log_text())
            await asyncio.sleep(0.02)
        return found
