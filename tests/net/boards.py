"""Boards for tests, and what can be known of their memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.net.board import LAYOUT, Board, Layout, SharedCounts

KEY = b"k" * 32
SMALL = Layout(slots=4, window=3)
"""So few rows that windows overlap and are soon full."""

CROWDED = Layout(slots=8, window=8)
"""So few that a row is given from key to key."""


@contextmanager
def board(layout: Layout = LAYOUT) -> Iterator[Board]:
    """An empty board."""
    made = Board.create(layout)
    try:
        yield made
    finally:
        made.close()


def attached(made: Board, number: int, layout: Layout = LAYOUT, key: bytes = KEY) -> SharedCounts:
    """The counts of a worker."""
    return Board.attach(made.descriptor, key, number, layout)


def rows(counts: SharedCounts) -> int:
    """How many rows of its region a worker uses, as the memory has it."""
    layout, start = counts._layout, counts._start
    digests = counts._memory[start : start + layout.rows * 16]
    return sum(any(digests[row * 16 : row * 16 + 16]) for row in range(layout.rows))
