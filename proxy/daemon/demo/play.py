"""What the demo does: set everything up, let two users talk, show both legs, stay up."""

import errno
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread

from proxy.daemon import conf
from proxy.daemon.demo import authority
from proxy.daemon.demo.accounts import Accounts
from proxy.daemon.demo.client import Client, ClientError, Message
from proxy.daemon.demo.server import LOOPBACK, LegacyServer
from proxy.daemon.demo.transcript import Transcript
from proxy.daemon.model import Conf
from proxy.daemon.service import Service
from proxy.xmpp.text import printable

DOMAIN: Final = "localhost"
"""The users' domain: every client can look it up, whether or not it is told where to connect."""
JULIET: Final = "juliet"
ROMEO: Final = "romeo"
QUESTION: Final = "Art thou not Romeo, and a Montague?"
ANSWER: Final = "Neither, fair maid, if either thee dislike."
INTRODUCTION: Final = (
    f"{JULIET}@{DOMAIN} logs in and talks to {ROMEO}@{DOMAIN}: on the left what passes between her "
    "client and Bascule, on the right what passes between Bascule and the legacy server."
)
LISTENER: Final = "demo"
LONGEST_ERROR: Final = 1_000
WIDTH: Final = 120
"""Columns of output that goes to no terminal."""

CONF: Final = """\
[plugins]
chain = ["require_tls", "features", "limits"]

[[domain]]
name = "{domain}"
certificate = "{files.certificate}"
private_key = "{files.private_key}"
c2s_server = "{server}"

[[listener]]
name = "{listener}"
direction = "reverse"
stream = "c2s"
address = "{address}"
tls = "required"
"""


class DemoError(Exception):
    """The demo cannot go on; the message is one line for the person in front of it."""


def run(once: bool, port: int) -> int:
    """Run the demo.

    Args:
        once: leave when the two users have talked, instead of staying up until interrupted.
        port: where the proxy listens on the loopback interface; 0 takes a free port.

    Returns:
        The exit code: 0 if all went well, 1 otherwise.

    Raises:
        OSError: standard output cannot be written.
    """
    from twisted.internet import reactor  # noqa: PLC0415  # importing it installs it

    try:
        with tempfile.TemporaryDirectory(prefix="bascule-demo-") as directory:
            play = Play(reactor, Path(directory))
            play.perform(once=once, port=port)
    except OSError as error:
        complain(error)
        return 1
    if play.unwritable is not None:
        raise play.unwritable
    return play.exit_code


def complain(error: Exception) -> None:
    """Say on standard error, in one line, what went wrong."""
    expected = isinstance(error, DemoError | ClientError | CannotListenError | OSError)
    text = str(error) if expected else f"internal error: {error!r}"
    Console(stderr=True, highlight=False).print(
        f"bascule demo: {printable(text, LONGEST_ERROR)}", markup=False, soft_wrap=True
    )


class Output(Console):
    """Standard output; when nobody reads it any more, printing raises ``BrokenPipeError``."""

    def on_broken_pipe(self) -> None:
        """Raise what rich would make a ``SystemExit``, which a running reactor survives."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Play:
    """One performance of the demo.

    Args:
        reactor: Twisted's reactor, which is not running yet.
        directory: an empty directory that only we can read.

    Attributes:
        exit_code: 0 once everything went well.
        unwritable: why standard output cannot be written, if it cannot.
    """

    def __init__(self, reactor: Any, directory: Path) -> None:
        self.exit_code = 1
        self.unwritable: OSError | None = None
        self._reactor = reactor
        self._files = authority.write(directory, DOMAIN)
        self._conf_file = directory / "bascule.toml"
        self._accounts = Accounts.invented(DOMAIN, JULIET, ROMEO)
        self._server = LegacyServer(self._accounts, reactor)
        self._transcript = Transcript()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # arrows and bullets, in an old locale
        terminal = Output(highlight=False)
        self._console = terminal if terminal.is_terminal else Output(highlight=False, width=WIDTH)

    def perform(self, *, once: bool, port: int) -> None:
        """Run the reactor until the demo is over."""
        self._reactor.callWhenRunning(lambda: ensureDeferred(self._perform(once, port)))
        self._reactor.run()

    async def _perform(self, once: bool, port: int) -> None:
        try:
            addresses = self._start(port)
            with self._writing():
                self._console.print(INTRODUCTION, markup=False)
            await deferToThread(self._talk, *addresses)
            with self._writing():
                self._show(*addresses)
                if not once:
                    self._invite(addresses[0])
            self.exit_code = 0
        except Exception as error:  # noqa: BLE001  # whatever it is, it is said in one line
            if error is not self.unwritable:
                complain(error)
        if once or self.exit_code:
            self._reactor.stop()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Remember why output could not be written, for the command line to tell."""
        try:
            yield
        except OSError as error:
            self.unwritable = error
            raise

    def _start(self, port: int) -> tuple[int, int]:
        """Start the legacy server and the proxy in front of it; return their ports."""
        server_port = self._server.listen(self._reactor)
        service = Service(self._read_conf(server_port, port), self._reactor)
        service.start()
        self._reactor.addSystemEventTrigger("before", "shutdown", service.stop)
        return service.ports()[LISTENER], server_port

    def _read_conf(self, server_port: int, port: int) -> Conf:
        text = CONF.format(
            domain=DOMAIN,
            files=self._files,
            server=f"{LOOPBACK}:{server_port}",
            listener=LISTENER,
            address=f"{LOOPBACK}:{port}",
        )
        self._conf_file.write_text(text, encoding="utf-8")
        loaded = conf.load(self._conf_file)
        if loaded.conf is None:
            raise DemoError("; ".join(str(mistake) for mistake in loaded.mistakes))
        return loaded.conf

    def _talk(self, port: int, _server_port: int) -> None:
        """Let Juliet, whom the transcript follows, and Romeo exchange a message; in a thread.

        Raises:
            ClientError: something did not go as it should.
        """
        address, trusted = (LOOPBACK, port), self._files.authority
        with closing(Client(address, DOMAIN, authority=trusted)) as romeo:
            romeo.log_in(ROMEO, self._accounts.passwords[ROMEO], "demo")
            romeo.announce()
            self._server.observer = self._transcript.server_leg
            with closing(
                Client(
                    address,
                    DOMAIN,
                    authority=trusted,
                    observer=self._transcript.client_leg,
                    secured=self._transcript.secure,
                )
            ) as juliet:
                juliet.log_in(JULIET, self._accounts.passwords[JULIET], "demo")
                converse(juliet, romeo)
            self._server.observer = None
        if not self._transcript.kept_apart:
            raise ClientError("something reached the legacy server before TLS was up")

    def _show(self, port: int, server_port: int) -> None:
        """Print both legs."""
        self._transcript.show(self._console, f"{LOOPBACK}:{port}", f"{LOOPBACK}:{server_port}")
        self._console.print("Nothing reached the legacy server before TLS was up.")

    def _invite(self, port: int) -> None:
        """Print what somebody needs to come in with a client of their own."""
        users = [
            f"{name}@{DOMAIN}, password {password}"
            for name, password in self._accounts.passwords.items()
        ]
        lines = (
            "",
            "Connect with your own client, by STARTTLS or direct TLS:",
            *(f"  user     {user}" for user in users),
            f"  server   {LOOPBACK} (or {DOMAIN}), port {port}",
            f"  trust    {self._files.authority} (made up, gone when the demo ends)",
            "Ctrl-C ends the demo.",
        )
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)


def converse(asking: Client, answering: Client) -> None:
    """Let one user find the other on the roster, ask something, and get an answer.

    Raises:
        ClientError: what was said is not what was heard.
    """
    (contact,) = asking.roster()
    asking.send_message(contact, QUESTION)
    heard = answering.receive_message()
    answering.send_message(heard.sender, ANSWER)
    answer = asking.receive_message()
    said = Message(asking.jid, QUESTION), Message(answering.jid, ANSWER)
    if (heard, answer) != said:
        raise ClientError("what arrived is not what was sent")
