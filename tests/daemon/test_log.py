"""Lines of the log: one for each event, whatever stands in it."""

import io
import json
import os
import re
import select
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel

from proxy.daemon.log import LONGEST_VALUE, Log
from proxy.daemon.state import LogFormat
from proxy.session.commands import Severity

NOON = 1_700_000_000.25
FIELD = re.compile(r'name=(?:[\w.:/@+*%\[\]-]+|"(?:[^"\\]|\\.)*")\n', re.ASCII)


def written(
    message: str = "said",
    *,
    journal: bool = False,
    severity: Severity = Severity.INFO,
    **fields: object,
) -> str:
    stream = io.StringIO()
    Log(stream, journal=journal, clock=lambda: NOON).write(severity, message, fields)
    return stream.getvalue()


def test_a_line_has_the_time_the_severity_the_message_and_fields() -> None:
    expected = "2023-11-14T22:13:20.250Z info session ended client=192.0.2.1:5222 count=3\n"
    assert expected == written("session ended", client="192.0.2.1:5222", count=3)


@pytest.mark.parametrize(
    ("severity", "priority"),
    [
        (Severity.DEBUG, 7),
        (Severity.INFO, 6),
        (Severity.WARNING, 4),
        (Severity.ERROR, 3),
        (Severity.CRITICAL, 2),
    ],
)
def test_the_journal_gets_priorities_and_no_time(severity: Severity, priority: int) -> None:
    assert f"<{priority}>said\n" == written(journal=True, severity=severity)


def test_fields_without_a_value_are_left_out() -> None:
    assert written().endswith(" said\n")
    assert written(one=None, two="").endswith(" said\n")
    assert written(zero=0, no=False).endswith(" said zero=0 no=False\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("two words", '"two words"'),
        ('say "so"', '"say \\"so\\""'),
        ("a\nb", '"a\\nb"'),
        ("a\rb", '"a\\rb"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("\u202egnp.exe", '"\\u202egnp.exe"'),
        ("a=b", '"a=b"'),
        ("back\\slash", '"back\\\\slash"'),
        ("水", '"水"'),
    ],
)
def test_what_could_mislead_is_escaped(value: str, expected: str) -> None:
    assert written(name=value).endswith(f" said name={expected}\n")


def test_a_long_value_is_cut() -> None:
    assert written(name="x" * 10_000).endswith(f' name="{"x" * LONGEST_VALUE}…"\n')


def test_a_message_is_escaped_and_cut_too() -> None:
    line = written("forged\n2030 " + "x" * 10_000)
    assert line.count("\n") == 1
    assert "forged\\n2030" in line
    assert len(line) < LONGEST_VALUE + 50


def test_a_message_may_be_longer_where_somebody_asks_for_it() -> None:
    stream = io.StringIO()
    Log(stream, journal=True).write(Severity.CRITICAL, "x" * 10_000, longest=2_000)
    assert stream.getvalue() == f"<2>{'x' * 2_000}…\n"


@given(st.text(min_size=1))
def test_any_value_makes_one_field_of_one_line(value: str) -> None:
    line = written(name=value)
    assert FIELD.fullmatch(line.partition(" said ")[2])
    assert line.removesuffix("\n").isprintable()


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_line_that_cannot_be_written_is_lost_and_no_more() -> None:
    Log(Broken()).write(Severity.ERROR, "said")
    closed = io.StringIO()
    closed.close()
    Log(closed).write(Severity.ERROR, "said")


def test_times_follow_the_clock() -> None:
    stream = io.StringIO()
    times = iter([0.0, 0.9995, 1.0, 61.001])
    log = Log(stream, clock=lambda: next(times))
    for _ in range(4):
        log.write(Severity.INFO, "tick")
    assert stream.getvalue().splitlines() == [
        "1970-01-01T00:00:00.000Z info tick",
        "1970-01-01T00:00:00.999Z info tick",
        "1970-01-01T00:00:01.000Z info tick",
        "1970-01-01T00:01:01.000Z info tick",
    ]


def test_failures_that_twisted_logs_are_told_in_one_line() -> None:
    stream = io.StringIO()
    log = Log(stream, clock=lambda: NOON)
    logger = Logger("test", observer=log)
    try:
        int("two\nlines")
    except ValueError:
        logger.failure("fault in a session")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert re.search(
        r'error fault in a session error="ValueError: [^"]*\\\\n[^"]*" at=test_log\.py:\d+\n', line
    )


def test_of_what_twisted_logs_only_warnings_and_worse_are_told() -> None:
    stream = io.StringIO()
    logger = Logger("test", observer=Log(stream, clock=lambda: NOON))
    logger.debug("debug")
    logger.info("info")
    assert not stream.getvalue()
    logger.emit(LogLevel.warn, "warned of {what}", what="x\ny")
    logger.critical("critical")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("warning warned of x\\ny")
    assert second.endswith("error critical")


LOGGING = """
from twisted.logger import Logger
from proxy.daemon.log import start
start()
Logger().warn("warned of {what}", what="x")
Logger().critical("critical {what}", what="\\x1b[31m\\nforged")
"""


@pytest.mark.parametrize("journal", [False, True])
def test_start_logs_to_standard_error_and_nobody_else_does(*, journal: bool) -> None:
    """Twisted begins with an observer of its own, which writes what is critical as it is."""
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    if journal:
        environment["JOURNAL_STREAM"] = "8:1"
    done = subprocess.run(
        [sys.executable, "-c", LOGGING],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    warned, critical = done.stderr.splitlines()
    assert (warned == "<4>warned of x") is journal
    assert warned.endswith("warned of x")
    assert critical.endswith("critical \\x1b[31m\\nforged")
    assert not done.stdout


# For programs


def objects(log: Log, stream: io.StringIO) -> list[dict[str, object]]:
    """What the lines say, each a whole object."""
    del log
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def for_programs() -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    log = Log(stream, clock=lambda: 0.5)
    log.format = LogFormat.JSON
    return log, stream


def test_a_line_may_be_an_object() -> None:
    log, stream = for_programs()
    log.write(Severity.INFO, "session ended", {"session": "a1", "from_client": 7, "tls": None})
    assert objects(log, stream) == [
        {
            "time": "1970-01-01T00:00:00.500Z",
            "severity": "info",
            "message": "session ended",
            "session": "a1",
            "from_client": 7,
        }
    ]


def test_what_every_line_has_no_field_can_hide() -> None:
    log, stream = for_programs()
    log.write(Severity.ERROR, "it failed", {"message": "all is well", "severity": "info"})
    [told] = objects(log, stream)
    assert (told["message"], told["severity"]) == ("it failed", "error")


def test_in_the_journal_an_object_has_its_priority_before_it() -> None:
    stream = io.StringIO()
    log = Log(stream, journal=True)
    log.format = LogFormat.JSON
    log.write(Severity.WARNING, "hm")
    priority, line = stream.getvalue()[:3], stream.getvalue()[3:]
    assert (priority, json.loads(line)["message"]) == ("<4>", "hm")


@given(st.text(), st.dictionaries(st.from_regex("[a-z_]{1,9}", fullmatch=True), st.text()))
def test_attack_no_text_of_a_peer_forges_a_line(message: str, fields: dict[str, str]) -> None:
    """One line for each event, which says nothing but what it is given; in either form."""
    log, stream = for_programs()
    log.write(Severity.INFO, message, fields)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    [told] = objects(log, stream)
    kept = {"time", "severity", "message"}
    assert told["message"] == message[:LONGEST_VALUE]
    assert {name: value for name, value in told.items() if name not in kept} == {
        name: value[:LONGEST_VALUE] for name, value in fields.items() if value and name not in kept
    }
    log.format = LogFormat.TEXT
    log.write(Severity.INFO, message, fields)
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.parametrize("written_as", list(LogFormat))
@pytest.mark.parametrize(
    "value", ["\u202e" * 600, "\U0001f600" * 600, "a b" * 600, "\U000e0001" * 600]
)
def test_where_others_write_too_a_line_is_written_at_once(
    written_as: LogFormat, value: str
) -> None:
    stream = io.StringIO()
    log = Log(stream)
    log.format, log.worker, log.shared = written_as, 2, True
    fields = {f"a_long_name_{number}": value for number in range(22)}
    for longest in (LONGEST_VALUE, 4_096):
        log.write(Severity.ERROR, value * 10, fields, longest=longest)
    for line in stream.getvalue().splitlines(keepends=True):
        assert len(line.encode()) <= select.PIPE_BUF
        assert all(name in line for name in fields)


def test_a_line_that_others_leave_room_for_is_as_long_as_ever() -> None:
    lines = []
    for shared in (False, True):
        stream = io.StringIO()
        log = Log(stream, clock=lambda: 0.0)
        log.shared = shared
        log.write(Severity.ERROR, "x" * 4_000, {"name": "y"}, longest=4_096)
        lines.append(stream.getvalue())
    assert lines[0] == lines[1]
