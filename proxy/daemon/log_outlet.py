"""Where the log goes: standard error, which must never keep the daemon waiting.

A pipe that nobody reads is full some day, and so is a disk. A line that is not taken at once is
lost then, and once lines are taken again one of them says how many were.
"""

import os
import select
from collections.abc import Callable
from typing import Final, Protocol

PATIENCE: Final = 0.05
"""Seconds that the rest of a line that was begun is waited for; nothing else is."""


class Outlet(Protocol):
    """Takes lines, as a text file does."""

    def write(self, text: str, /) -> object:
        """Take a line, with its end."""

    def flush(self) -> object:
        """Have all that was taken go out."""


class Descriptor:
    """A descriptor that is written to without waiting for anybody.

    Args:
        number: the descriptor.

    Attributes:
        lost: returns the line, with its end, that says how many were lost.
    """

    def __init__(self, number: int) -> None:
        self.lost: Callable[[int], str] = "{} lines were lost\n".format
        self._number = number
        self._missing = 0  # lines that were lost since one was written
        self._torn = False  # whether the last one that was written lacks its end
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT)

    def write(self, text: str, /) -> None:
        """Write a line if it is taken now; it is lost otherwise."""
        # Whatever was left out, the next line stands by itself.
        before = "\n" if self._torn else ""
        if self._missing:
            before += self.lost(self._missing)
        line, first = _bytes(text), _bytes(before)
        if len(first) + len(line) <= select.PIPE_BUF:
            taken = self._put(first + line)
        else:
            # Others may write between two lines, but not into one.
            taken = self._put(first)
            if taken:
                self._missing = 0
                taken = self._put(line)
        self._missing = 0 if taken else self._missing + 1

    def flush(self) -> None:
        """Nothing to do: nothing is kept back."""

    def _put(self, text: bytes) -> bool:
        """Write all of a text, or as much as is taken; whether it was all."""
        rest = text
        while rest:
            begun = len(rest) < len(text)
            try:
                # What can be written to takes so much without having to wait.
                if not self._poll.poll(PATIENCE * 1000 if begun else 0):
                    break
                rest = rest[os.write(self._number, rest[: select.PIPE_BUF]) :]
            except OSError:
                break
        if len(rest) < len(text):
            self._torn = bool(rest)
        return not rest


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
