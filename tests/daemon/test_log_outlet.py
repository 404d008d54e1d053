"""Lines that are written without waiting for who reads them."""

import fcntl
import os
from collections.abc import Iterator

import attrs
import pytest

from proxy.daemon.log_outlet import Descriptor

ROOM = 4096
"""Octets that the pipe holds: one page."""


@attrs.define
class Pipe:
    """A pipe, an outlet at one end of it, and who reads at the other."""

    ours: int
    theirs: int
    outlet: Descriptor

    def read(self) -> list[str]:
        """Read what is there, as lines."""
        return os.read(self.ours, 1 << 20).decode().splitlines(keepends=True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, ROOM)
    outlet = Descriptor(theirs)
    outlet.lost = "lost: {}\n".format
    yield Pipe(ours, theirs, outlet)
    for each in (ours, theirs):
        os.close(each)


def test_lines_come_as_they_are(pipe: Pipe) -> None:
    for line in ("one\n", "zwölf\n", "not Unicode: \udcff\n"):
        pipe.outlet.write(line)
        pipe.outlet.flush()
        assert pipe.read() == [line.replace("\udcff", "\\udcff")]


def test_what_is_not_taken_at_once_is_lost_and_counted(pipe: Pipe) -> None:
    line = "x" * (ROOM - 1) + "\n"
    pipe.outlet.write(line)
    for _ in range(3):
        pipe.outlet.write("gone\n")
    assert pipe.read() == [line]
    pipe.outlet.write("next\n")
    assert pipe.read() == ["lost: 3\n", "next\n"]
    pipe.outlet.write("later\n")
    assert pipe.read() == ["later\n"]


def test_a_line_of_which_a_part_is_lost_tears_no_other(pipe: Pipe) -> None:
    pipe.outlet.write("x" * (ROOM + 10) + "\n")
    pipe.outlet.write("gone\n")
    assert pipe.read() == ["x" * ROOM]
    pipe.outlet.write("next\n")
    assert pipe.read() == ["\n", "lost: 2\n", "next\n"]
    pipe.outlet.write("later\n")
    assert pipe.read() == ["later\n"]


def test_others_may_write_between_any_two_lines_but_not_into_one(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "x" * (ROOM - 1) + "\n"
    pipe.outlet.write(line)
    pipe.outlet.write("gone\n")
    pipe.read()
    fcntl.fcntl(pipe.ours, fcntl.F_SETPIPE_SZ, 4 * ROOM)
    there = os.write

    def write(number: int, data: bytes) -> int:
        done = there(number, data)
        there(number, b"another\n")
        return done

    monkeypatch.setattr("proxy.daemon.log_outlet.os.write", write)
    pipe.outlet.write(line)
    assert pipe.read() == ["lost: 1\n", "another\n", line, "another\n"]


def test_nobody_who_reads(pipe: Pipe) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.close(pipe.ours)
    for _ in range(3):
        pipe.outlet.write("gone\n")
    # Somebody comes to read at last.
    pipe.ours, again = os.pipe()
    os.dup2(again, pipe.theirs)
    os.close(again)
    os.close(nothing)
    pipe.outlet.write("next\n")
    assert pipe.read() == ["lost: 3\n", "next\n"]


def test_a_full_disk() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Descriptor(full)
    for _ in range(3):
        outlet.write("gone\n")
    os.close(full)
    outlet.write("closed\n")
