"""The log: one line for each event, on standard error.

A line is a message in words, then fields as ``name=value``, or an object of JSON; what comes from a
peer stands in the fields only and is escaped there. Under systemd a line begins with its priority
(sd-daemon(3)) and the journal adds the time; elsewhere the time, in UTC, is in the line itself.
"""

import json
import os
import re
import select
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from time import gmtime, strftime, time
from typing import Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from proxy.daemon.log_outlet import Descriptor, Outlet
from proxy.daemon.state import LogFormat
from proxy.session.commands import Severity
from proxy.xmpp.text import printable

LONGEST_VALUE: Final = 512
"""Characters of a field's value that are shown."""

_SHORTER: Final = (128, 32, 4)
"""The same, one after another, where a line would be too long for several processes."""

_MESSAGE: Final = 16
"""How many times as long a message may be then, at most."""

_PRIORITIES: Final = {
    Severity.DEBUG: 7,
    Severity.INFO: 6,
    Severity.WARNING: 4,
    Severity.ERROR: 3,
    Severity.CRITICAL: 2,
}
_LEVELS: Final = {
    LogLevel.debug: Severity.DEBUG,
    LogLevel.info: Severity.INFO,
    LogLevel.warn: Severity.WARNING,
    LogLevel.error: Severity.ERROR,
    LogLevel.critical: Severity.ERROR,
}
_BARE: Final = re.compile(r"[\w.:/@+*%\[\]-]+", re.ASCII)

Clock = Callable[[], float]
"""Seconds since 1970."""


@implementer(ILogObserver)
class Log:
    """Writes lines; called as an observer, those that Twisted logs.

    Args:
        stream: where to.
        journal: whether it is systemd's journal that reads them.
        clock: the time of day.
    """

    def __init__(self, stream: Outlet, *, journal: bool = False, clock: Clock = time) -> None:
        self._stream = stream
        self._journal = journal
        self._clock = clock
        self._second = -1.0  # the second that is written out
        self._written = ""
        self.format = LogFormat.TEXT
        """What lines look like."""
        self.threshold = Severity.DEBUG
        """The least severity that is written."""
        self.worker: int | None = None
        """Which of several processes this is, for every line; None of the only one."""
        self.shared = False
        """Whether other processes write there too. A line is then no longer than what is written at
        once, so that none gets into another, whose rest would seem to be a line of its own."""

    def write(
        self,
        severity: Severity,
        message: str,
        fields: Mapping[str, object] | None = None,
        *,
        longest: int = LONGEST_VALUE,
    ) -> None:
        """Write one line. A line that cannot be written is lost; the daemon goes on.

        Args:
            severity: how much an operator cares.
            message: what has happened.
            fields: what else is known of it; those without a value are left out.
            longest: characters of the message that are shown.
        """
        if _PRIORITIES[severity] > _PRIORITIES[self.threshold]:
            return
        line = self._line(severity, message, fields, longest)
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            return

    def lost(self, count: int) -> str:
        """Return the line, with its end, that says how many lines could not be written."""
        return self._line(Severity.WARNING, "lines of the log were lost", {"count": count})

    def _line(
        self,
        severity: Severity,
        message: str,
        fields: Mapping[str, object] | None,
        longest: int = LONGEST_VALUE,
    ) -> str:
        if self.worker is not None:
            fields = {**(fields or {}), "worker": self.worker}
        line = self._within(severity, message, fields or {}, longest, LONGEST_VALUE)
        if self.shared:
            for each in _SHORTER:
                if len(line.encode("utf-8", "backslashreplace")) <= select.PIPE_BUF:
                    break
                most = min(longest, _MESSAGE * each)
                line = self._within(severity, message, fields or {}, most, each)
        return line

    def _within(
        self,
        severity: Severity,
        message: str,
        fields: Mapping[str, object],
        longest: int,
        values: int,
    ) -> str:
        """Return a line with so many characters of the message and of each field's value."""
        if self.format is LogFormat.JSON:
            line = self._object(severity, message[:longest], fields, values)
        else:
            line = _words(printable(message, longest), fields, values)
        if self._journal:
            line = f"<{_PRIORITIES[severity]}>{line}"
        elif self.format is LogFormat.TEXT:
            line = f"{self._time()} {severity.value} {line}"
        return line + "\n"

    def _object(
        self, severity: Severity, message: str, fields: Mapping[str, object], longest: int
    ) -> str:
        """Return a line for programs; what a field is called never hides what every line has."""
        told = {
            name: value if value.__class__ is int else str(value)[:longest]
            for name, value in fields.items()
            if value is not None and value != ""
        }
        told |= {"time": self._time(), "severity": severity.value, "message": message}
        return json.dumps(told)

    def _time(self) -> str:
        """Return the time of day in UTC, to the millisecond."""
        seconds, fraction = divmod(self._clock(), 1)
        if seconds != self._second:
            self._second = seconds
            self._written = strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))
        return f"{self._written}.{int(fraction * 1000):03d}Z"

    def __call__(self, event: LogEvent) -> None:
        """Write what Twisted logs: warnings and worse, a failure with where it happened."""
        severity = _LEVELS[event.get("log_level", LogLevel.info)]
        if severity in (Severity.DEBUG, Severity.INFO):
            return
        fields: dict[str, object] = {}
        failure = event.get("log_failure")
        if failure is not None:
            fields["error"] = f"{failure.type.__name__}: {failure.getErrorMessage()}"
            frames = failure.frames
            if frames:
                fields["at"] = f"{frames[-1][1].rpartition('/')[2]}:{frames[-1][2]}"
        self.write(severity, formatEvent(event), fields)


def _words(message: str, fields: Mapping[str, object], longest: int) -> str:
    """Return a line for people."""
    if not fields:
        return message
    return message + "".join(
        [
            f" {name}={value if value.__class__ is int else _written(str(value), longest)}"
            for name, value in fields.items()
            if value is not None and value != ""
        ]
    )


@lru_cache(maxsize=512)
def _written(text: str, longest: int) -> str:
    if len(text) <= longest and _BARE.fullmatch(text):
        return text
    text = printable(text, longest)
    return '"' + text.replace('"', '\\"') + '"'


def start() -> Log:
    """Make the daemon's log and have Twisted's go there too; to be called before anything is open.

    Without a standard error there is one that goes nowhere, for else its number would become that
    of a socket, and who is connected to that would get what is written there.
    """
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    outlet = Descriptor(sys.stderr.fileno())
    log = Log(outlet, journal="JOURNAL_STREAM" in os.environ)
    outlet.lost = log.lost
    globalLogBeginner.beginLoggingTo([log], discardBuffer=True, redirectStandardIO=False)
    return log
