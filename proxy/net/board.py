"""Counts in shared memory: each worker writes to its own region of a board, and reads all.

A board is anonymous memory, divided into `MOST_WORKERS` regions of which only those in use take
room. A region is a table of rows. A row has a digest, which says whose count it is, and a word,
whose lower half is the count and whose upper half is a tag, another part of what the digest was
taken from. The row of a key is one of the `Layout.window` rows that begin where the key's hash
says, or there is none.

There are no locks. Whoever reads a row while it is given to another key finds a digest or a tag
that does not fit, and takes the count for 0; in which order the writes arrive does not matter, nor
whether the halves of a word arrive together. Digests are keyed, so that nobody outside can choose
keys that go to the same rows, or that are taken for each other.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import struct
from typing import Final

import attrs

from proxy.session.counts import delimited

MOST_WORKERS: Final = 64
"""How many workers a board has regions for."""

_MAGIC: Final = b"bascule board 1\0"
_MARKS: Final = len(_MAGIC)
_HEAD: Final = mmap.PAGESIZE
_NOT_EXECUTABLE: Final = 0x0008  # MFD_NOEXEC_SEAL; hardened systems demand it
_EMPTY: Final = bytes(16)
_DIGEST: Final = len(_EMPTY)
_WORD: Final = 8
_NAME: Final = struct.Struct(f"={_DIGEST}sII")
_HALF: Final = 1 << 32
_LARGEST: Final = _HALF // 2 - 1


@attrs.frozen
class Layout:
    """How a board is divided.

    Attributes:
        slots: the rows at which a window may begin; a power of 2.
        window: the rows among which a key has its own.
    """

    slots: int = 131_072
    window: int = 16

    @property
    def rows(self) -> int:
        """The rows of a region: those behind the last slot belong to the last windows."""
        return self.slots + self.window

    @property
    def region(self) -> int:
        """The bytes of a region, whole pages."""
        return -(-self.rows * (_DIGEST + _WORD) // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def size(self) -> int:
        """The bytes of a board."""
        return _HEAD + MOST_WORKERS * self.region

    def start(self, number: int) -> int:
        """Return where the region of a worker begins."""
        return _HEAD + number * self.region


LAYOUT: Final = Layout()
"""How boards are divided: 3 MiB for each region in use."""


class Board:
    """A board, as it is kept by the process that starts the workers.

    It is made by `create`; workers `attach` to it. What they have counted stays until `clear`.
    """

    def __init__(self, descriptor: int, layout: Layout) -> None:
        self._descriptor = descriptor
        self._layout = layout
        self._map = mmap.mmap(descriptor, layout.size)

    @classmethod
    def create(cls, layout: Layout = LAYOUT) -> "Board":
        """Make an empty board, whose size nobody can change.

        Raises:
            OSError: the kernel has no memory for it.
        """
        descriptor = _anonymous()
        try:
            os.ftruncate(descriptor, layout.size)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            board = cls(descriptor, layout)
        except BaseException:
            os.close(descriptor)
            raise
        board._map[:_MARKS] = _MAGIC
        return board

    @property
    def descriptor(self) -> int:
        """The descriptor, which programs that are executed do not inherit unless it is passed."""
        return self._descriptor

    def clear(self, number: int) -> None:
        """Strike out what a worker that has ended had counted, and make room for its successor.

        The worker must be gone.
        """
        _check(number)
        self._map[_MARKS + number] = 0
        start = self._layout.start(number)
        self._map[start : start + self._layout.region] = bytes(self._layout.region)

    def close(self) -> None:
        """Give up this process's hold of it; workers keep theirs."""
        self._map.close()
        os.close(self._descriptor)

    @staticmethod
    def attach(descriptor: int, key: bytes, number: int, layout: Layout = LAYOUT) -> "SharedCounts":
        """Return the counts of a worker, whose share they are from now on.

        Args:
            descriptor: that of the board; it may be closed afterwards.
            key: what digests are keyed with, the same for all workers; 16 to 64 bytes.
            number: which worker this is, from 0.
            layout: how the board is divided.

        Raises:
            OSError: the memory cannot be mapped.
            ValueError: there is no such worker, what the descriptor belongs to is no such board, or
                the region has not been cleared of what an earlier worker had counted.
        """
        _check(number)
        if os.fstat(descriptor).st_size != layout.size:
            raise ValueError("the descriptor is not that of a board of this version")
        memory = mmap.mmap(descriptor, layout.size)
        if memory[:_MARKS] != _MAGIC:
            raise ValueError("the descriptor is not that of a board of this version")
        if memory[_MARKS + number]:
            raise ValueError(f"worker {number} is there already, or has not been cleared away")
        memory[_MARKS + number] = 1
        return SharedCounts(memory, key, number, layout)


class SharedCounts:
    """The counts of one worker and all others; made by `Board.attach`.

    A key whose window has no room left counts in this process alone until there is some.
    """

    def __init__(self, memory: mmap.mmap, key: bytes, number: int, layout: Layout) -> None:
        self._memory = memory
        self._hash = hashlib.blake2b(key=key, digest_size=_NAME.size)
        self._number = number
        self._layout = layout
        self._marks = memoryview(memory)[_MARKS : _MARKS + MOST_WORKERS]
        self._seen = b""
        self._others: list[tuple[int, memoryview]] = []
        self._start = layout.start(number)
        self._words = self._words_of(number)
        self._taken = bytearray(layout.rows)
        self._shares: dict[bytes, int] = {}
        self._rows: dict[bytes, int] = {}

    def add(self, *key: str, amount: int = 1) -> None:
        """Add to the share of this process; see `proxy.session.counts.Counts.add`."""
        digest, tag, place = self._find(key)
        share = self._shares.get(digest, 0) + amount
        row = self._rows.get(digest)
        if not share:
            self._shares.pop(digest, None)
            if row is not None:
                self._release(digest, row)
            return
        self._shares[digest] = share
        shown = min(max(share, -_LARGEST), _LARGEST) % _HALF
        if row is not None:
            self._words[row] = tag * _HALF + shown
            return
        slot = place % self._layout.slots
        row = self._taken.find(0, slot, slot + self._layout.window)
        if row >= 0:
            self._taken[row] = 1
            self._rows[digest] = row
            self._words[row] = tag * _HALF + shown
            self._show(row, digest)

    def total(self, *key: str) -> int:
        """Return the sum of all shares; see `proxy.session.counts.Counts.total`."""
        digest, tag, place = self._find(key)
        total = self._shares.get(digest, 0)
        marks = self._marks.tobytes()
        if marks != self._seen:
            self._meet(marks)
        slot = place % self._layout.slots
        find, length = self._memory.find, self._layout.window * _DIGEST
        for start, words in self._others:
            begin = start + slot * _DIGEST
            found = find(digest, begin, begin + length)
            while found >= 0 and (found - begin) % _DIGEST:  # a digest across two rows
                found = find(digest, found + 1, begin + length)
            if found >= 0:
                total += _count(words[(found - start) // _DIGEST], tag)
        return total

    def __len__(self) -> int:
        """How many keys this process has a share of."""
        return len(self._shares)

    def _find(self, key: tuple[str, ...]) -> tuple[bytes, int, int]:
        """Return the digest of a key, its tag, and what says where its window begins."""
        state = self._hash.copy()
        state.update(delimited(key))
        return _NAME.unpack(state.digest())

    def _release(self, digest: bytes, row: int) -> None:
        """Let a row be used for another key."""
        self._words[row] = 0
        self._show(row, _EMPTY)
        self._taken[row] = 0
        del self._rows[digest]

    def _show(self, row: int, digest: bytes) -> None:
        place = self._start + row * _DIGEST
        self._memory[place : place + _DIGEST] = digest

    def _meet(self, marks: bytes) -> None:
        """Take note of which other regions are in use."""
        self._others = [
            (self._layout.start(number), self._words_of(number))
            for number, mark in enumerate(marks)
            if mark and number != self._number
        ]
        self._seen = marks

    def _words_of(self, number: int) -> memoryview:
        layout = self._layout
        start = layout.start(number) + layout.rows * _DIGEST
        return memoryview(self._memory)[start : start + layout.rows * _WORD].cast("Q")


def _anonymous() -> int:
    """Return the descriptor of anonymous memory that can be sealed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("bascule", flags | _NOT_EXECUTABLE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create("bascule", flags)  # Linux before 6.3


def _check(number: int) -> None:
    if not 0 <= number < MOST_WORKERS:
        raise ValueError(f"there is no worker {number}: they go from 0 to {MOST_WORKERS - 1}")


def _count(word: int, tag: int) -> int:
    """Return the count of a word; 0 if its tag is that of another key."""
    found, count = divmod(word, _HALF)
    if found != tag:
        return 0
    return count if count <= _LARGEST else count - _HALF
