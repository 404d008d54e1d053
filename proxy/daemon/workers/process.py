"""One worker as its supervisor sees it: a process, and a channel to it."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from proxy.daemon.control.facts import Reloaded
from proxy.daemon.workers.channel import CHANNEL, MOST_DESCRIPTORS, VERSION, Channel, close_all
from proxy.daemon.workers.messages import reloaded_from

_NOT_ITS_OWN: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables by which systemd speaks with the supervisor alone."""

_BEGIN: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from proxy.daemon.workers.worker import main; sys.exit(main())"
)

MOST_SESSIONS: Final = 1_000_000
"""More than any worker can have, whatever it says."""

GONE: Final = "the worker has ended meanwhile"


class Worker(ProcessProtocol):
    """One process; another one that takes its place is another object.

    Args:
        reactor: the reactor.
        number: which worker it is, from 1.
        ready: called when it accepts connections.
        alerted: gets the alerts that it passes on, as they came.
        ending: called when it accepts no more, and ends the sessions that it has.
        ended: called once when the process is no more, with why.

    Attributes:
        number: which worker it is, from 1.
        started: when it was started, as ISO 8601 has it, in UTC.
        sessions: how many sessions it said that it has.
        is_ready: whether it has begun to accept connections.
        is_ending: whether it has been told to end, or says that it does.
        is_gone: whether the process is no more.
        failure: the exit code and the text of why it could not begin; None if it could.
        silent: how often it was looked at since it last said anything.
        reloading: how often it was looked at since it is to take up a conf; None if it is not.
    """

    def __init__(
        self,
        reactor: Any,
        number: int,
        *,
        ready: "Callable[[Worker], None]",
        alerted: Callable[[Mapping[str, Any]], None],
        ending: "Callable[[Worker], None]",
        ended: "Callable[[Worker, str], None]",
    ) -> None:
        self.number = number
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.sessions = 0
        self.is_ready = False
        self.is_ending = False
        self.is_gone = False
        self.failure: tuple[int, str] | None = None
        self.silent = 0
        self.reloading: int | None = None
        self._ready = ready
        self._alerted = alerted
        self._ending = ending
        self._ended = ended
        self._reloaded: Deferred[Reloaded] | None = None
        self._closed: Deferred[None] | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(reactor, ours, self._told, lambda: None)
        self._channel.start()
        environment = {name: text for name, text in os.environ.items() if name not in _NOT_ITS_OWN}
        with theirs:
            self._process = reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, _isolation(), "-c", _BEGIN, *sys.path],
                env=environment,
                childFDs={0: 0, 1: 1, 2: 2, CHANNEL: theirs.fileno()},
            )
        self.pid: int = self._process.pid

    # What it is told

    def hand(self, named: Sequence[tuple[str, int]]) -> None:
        """Hand on sockets, which count when it is next told to begin or to reload.

        Args:
            named: descriptors, each with the name of its listener.
        """
        for first in range(0, len(named) or 1, MOST_DESCRIPTORS):
            some = named[first : first + MOST_DESCRIPTORS]
            names = [name for name, _ in some]
            descriptors = [descriptor for _, descriptor in some]
            self._channel.say("sockets", descriptors, names=names, anew=first == 0)

    def begin(self, conf: int, board: int, *, secret: bytes, path: str) -> None:
        """Have it begin.

        Args:
            conf: a descriptor of what `proxy.daemon.workers.channel.written` has written.
            board: a descriptor of the `proxy.net.board.Board`.
            secret: what all workers know.
            path: the conf's main file, for messages.
        """
        self._channel.say(
            "begin",
            (conf, board),
            number=self.number,
            secret=secret.hex(),
            path=path,
            version=VERSION,
        )

    def reload(self, conf: int) -> "Deferred[Reloaded]":
        """Have it take up another conf; fires with what came of it, and does not fail.

        Raises:
            OSError: there are no descriptors left; it has not been told.
        """
        self._finish_reloading(Reloaded((GONE,)))
        self._channel.say("reload", [conf])
        reloaded = self._reloaded = Deferred()
        self.reloading = 0
        return reloaded

    def close(self) -> "Deferred[None]":
        """Have it accept no more; fires when it does not, or is gone."""
        closed = self._closed = Deferred()
        self._channel.say("close")
        return closed

    def stop(self) -> None:
        """Have it end its sessions, and itself."""
        self.is_ending = True
        self._channel.say("stop")

    def say(self, name: str, **more: object) -> None:
        """Tell it something else: ``speak`` or ``hurry``."""
        self._channel.say(name, **more)

    def tell(self, alert: Mapping[str, Any]) -> bool:
        """Have it tell of an alert, unless too much waits for it already; whether it is to."""
        return self._channel.offer("alert", content=alert)

    def open(self) -> socket.socket:
        """Return a socket on whose other end it speaks the control language; not blocking.

        Raises:
            OSError: there are no descriptors left.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            ours.setblocking(False)
            self._channel.say("converse", [theirs.fileno()])
        return ours

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with suppress(Exception):
            self._process.signalProcess(int(number))

    # What it says

    def _told(self, name: str, content: Mapping[str, Any], descriptors: list[int]) -> None:
        close_all(descriptors)  # a worker has none to give
        self.silent = 0
        match name:
            case "ready":
                self.is_ready = True
                self._ready(self)
            case "alive":
                self.sessions = min(max(int(content["sessions"]), 0), MOST_SESSIONS)
            case "alert":
                self._alerted(content["content"])
            case "ending":
                self.is_ending = True
                self._ending(self)
            case "closed":
                self._finish_closing()
            case "reloaded":
                self._finish_reloading(reloaded_from(content))
            case "failed":
                self.failure = (int(content["code"]), str(content["text"]))

    def _finish_reloading(self, reloaded: Reloaded) -> None:
        self.reloading = None
        waiting, self._reloaded = self._reloaded, None
        if waiting is not None:
            waiting.callback(reloaded)

    def _finish_closing(self) -> None:
        closed, self._closed = self._closed, None
        if closed is not None:
            closed.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """The process is no more."""
        self.is_ready = False
        self.is_gone = True
        self.sessions = 0
        self._channel.hear_out()
        self._channel.close()
        self._finish_closing()
        self._finish_reloading(Reloaded((GONE,)))
        self._ended(self, _why(reason))


def _isolation() -> str:
    """Return what keeps the interpreter from code that this process would not run itself.

    What is found in the current directory is never run, and with ``-I`` nothing that the
    environment names either. Both have the same `sys.path`, and so the same program.
    """
    return "-I" if sys.flags.isolated else "-P"


def _why(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated):
        if error.signal is not None:
            return f"killed by signal {error.signal}"
        return f"exit code {error.exitCode}"
    return "exit code 0"
