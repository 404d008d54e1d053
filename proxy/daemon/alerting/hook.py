"""The command of the conf: a program that is run for each alert."""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from proxy.daemon.alerting import launch
from proxy.daemon.alerting.told import Told
from proxy.session.commands import Severity
from proxy.xmpp.text import printable

AT_ONCE: Final = 2
"""How many run at the same time."""

MOST_WAITING: Final = 64
"""Alerts that wait for one of those to end."""

SECONDS: Final = 30.0
"""How long one may take, before it is asked to end."""

FAREWELL: Final = 5.0
"""How long it may take then, before it is killed."""

LINGER: Final = 1.0
"""How long what an ended one has started may keep on printing."""

MOST_OUTPUT: Final = 65_536
"""Bytes that it may print, before nobody listens any more."""

LONGEST_LINE: Final = 512
"""Bytes of its last line that the log gets."""

_KEPT_OUTPUT: Final = 4_096  # bytes of the end of what it printed, where that line is looked for

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT: Final = ("PATH", "TZ", "LANG", "LANGUAGE")

Report = Callable[[Severity, str, Mapping[str, object]], None]
"""Writes a line to the log."""


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what the command gets of our environment: the path, the time zone, the locale."""
    kept = {name: ours[name] for name in ours if name in _KEPT or name.startswith("LC_")}
    return {"PATH": _PATH, **kept}


class Hook:
    """Runs the command, for a few alerts at a time.

    Args:
        command: the program and its arguments.
        reactor: the reactor.
        report: told when it fails.
    """

    def __init__(self, command: Sequence[str], reactor: Any, report: Report) -> None:
        self._command = tuple(command)
        self._reactor = reactor
        self._report = report
        self._waiting: deque[bytes] = deque()
        self._running: set[_Run] = set()
        self._stopped = False

    def tell(self, told: Told) -> None:
        """Run it for an alert, now or when another one has ended."""
        if self._stopped or len(self._waiting) >= MOST_WAITING:
            self._failed("Bascule stops" if self._stopped else "too many wait for it already")
            return
        self._waiting.append(told.json())
        self._go_on()

    def stop(self) -> None:
        """Ask those that run to end, and start no more."""
        self._stopped = True
        for run in self._running:
            run.terminate()
        if self._waiting:
            self._failed("Bascule stops", len(self._waiting))
            self._waiting.clear()

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            run = _Run(self._waiting.popleft(), self._reactor, self._ended)
            self._running.add(run)
            # The interpreter reads neither the user's settings nor the site's.
            arguments = [sys.executable, "-I", "-S", str(Path(launch.__file__)), *self._command]
            try:
                self._reactor.spawnProcess(
                    run, sys.executable, arguments, env=environment(os.environ)
                )
            except OSError as error:
                self._running.discard(run)
                run.give_up()
                self._failed(f"no process: {error.strerror}")

    def _ended(self, run: "_Run", trouble: str, said: str) -> None:
        self._running.discard(run)
        if trouble:
            self._failed(trouble, said=said)
        if not self._stopped:
            self._go_on()

    def _failed(self, reason: str, alerts: int = 1, said: str = "") -> None:
        fields = {"command": self._command[0], "reason": reason, "alerts": alerts, "said": said}
        self._report(Severity.ERROR, "the command for alerts failed", fields)


class _Run(ProcessProtocol):
    """One run of the command.

    Args:
        data: what it gets on standard input.
        reactor: measures its time.
        ended: called once, with what went wrong (empty if nothing did) and the last line printed.
    """

    transport: IProcessTransport

    def __init__(
        self, data: bytes, reactor: Any, ended: Callable[["_Run", str, str], None]
    ) -> None:
        self._data = data
        self._reactor = reactor
        self._ended = ended
        self._printed = {1: bytearray(), 2: bytearray()}
        self._amount = 0
        self._trouble = ""
        self._timer: IDelayedCall | None = None
        self._alive = False

    def connectionMade(self) -> None:
        """Give it the alert."""
        self._alive = True
        self._wait(SECONDS, self._late)
        self.transport.writeToChild(0, self._data)
        self.transport.closeChildFD(0)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the end; stop listening to one that prints without end."""
        printed = self._printed[childFD]
        printed += data
        del printed[:-_KEPT_OUTPUT]
        self._amount += len(data)
        if self._amount > MOST_OUTPUT:
            self._trouble = self._trouble or f"it printed more than {MOST_OUTPUT} bytes"
            self.transport.closeChildFD(childFD)

    def processExited(self, reason: Failure) -> None:
        """Wait a moment for the rest of what it printed."""
        self._alive = False
        self._trouble = self._trouble or _described(reason.value)
        self._wait(LINGER, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002
        """Tell how it went."""
        self.give_up()
        self._ended(self, self._trouble, self._last_line())

    def give_up(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def terminate(self) -> None:
        """Ask it to end, and all that it has started; kill them if they do not."""
        if self._alive:
            self._signal(signal.SIGTERM)
            self._wait(FAREWELL, self._kill)

    def _late(self) -> None:
        self._trouble = f"it did not end within {SECONDS:g} seconds"
        self.terminate()

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Before it is reaped its number, and that of its group, cannot be another's.
        pid = self.transport.pid
        if self._alive and pid is not None:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:  # it has no group of its own yet
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self.give_up()
        self._timer = self._reactor.callLater(seconds, then)

    def _last_line(self) -> str:
        """Return the last line of what it printed that is not empty, errors before all else.

        Programs that fail say there what was the matter; before it, where in them it was.
        """
        for printed in (self._printed[2], self._printed[1]):
            line = bytes(printed).strip().rpartition(b"\n")[2].strip()
            if line:
                return printable(line[:LONGEST_LINE].decode(errors="replace"))
        return ""


def _described(ended: object) -> str:
    """Say how a process ended; nothing if that was in good order."""
    number = getattr(ended, "signal", None)
    if number:
        return f"ended by signal {number}"
    status = getattr(ended, "exitCode", None)
    return f"exit status {status}" if status else ""
