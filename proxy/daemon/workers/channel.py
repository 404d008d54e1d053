"""What a supervisor and a worker say to each other: messages, and descriptors that go with them.

A channel is a pair of Unix sockets that keep messages apart. A message is an object of JSON with a
name under ``is``. Both ends are of one program, so a message that cannot be understood is a fault.
"""

import fcntl
import json
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from mmap import MAP_PRIVATE, PROT_READ, mmap
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.daemon.model import Conf

CHANNEL: Final = 3
"""Which descriptor of a worker is its end."""

VERSION: Final = version("bascule")
"""Which program this process is, whatever is installed in its place meanwhile."""

LONGEST: Final = 131_072
"""Bytes of a message."""

MOST_DESCRIPTORS: Final = 200
"""Descriptors that go with one message; Linux lets 253 through."""

MOST_WAITING: Final = 1_000
"""Messages that may wait to be taken in."""

MOST_OFFERED: Final = 500
"""How many may wait where those that can be done without are still sent."""

_BUFFER: Final = 1_048_576
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_log = Logger()

Told = Callable[[str, Mapping[str, Any], list[int]], None]
"""Takes a message: its name, what else it says, and the descriptors, which are the taker's."""


class Channel:
    """One end.

    Args:
        reactor: the reactor.
        connection: the socket.
        told: takes each message.
        gone: called once when the other end is gone, or does not take in what waits for it.
    """

    def __init__(
        self, reactor: Any, connection: socket.socket, told: Told, gone: Callable[[], None]
    ) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._reactor = reactor
        self._connection = connection
        self._told = told
        self._gone: Callable[[], None] | None = gone
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._open = True
        self._left_out = False
        self._heard = 0

    def start(self) -> None:
        """Begin to read."""
        self._reactor.addReader(self)

    def say(self, name: str, descriptors: Sequence[int] = (), /, **more: object) -> None:
        """Send a message; nothing happens when the other end is gone.

        Args:
            name: what it is.
            descriptors: go with it; they stay the caller's.
            more: what else it says, as JSON has it.

        Raises:
            OSError: there are no descriptors left.
        """
        if not self._open:
            return
        message = json.dumps({"is": name, **more}, separators=(",", ":")).encode()
        if len(message) > LONGEST or len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError(f"the message {name} is too long")
        if len(self._waiting) >= MOST_WAITING:
            _log.error("a process of the proxy does not take in what it is told")
            self._lose()
            return
        duplicates: list[int] = []
        try:
            duplicates.extend(map(os.dup, descriptors))
        except OSError:
            close_all(duplicates)
            raise
        self._waiting.append((message, duplicates))
        self.doWrite()

    def offer(self, name: str, /, **more: object) -> bool:
        """Send a message that may be left out: it is where many wait; whether it is not.

        Args:
            name: what it is.
            more: what else it says, as JSON has it.
        """
        if len(self._waiting) >= MOST_OFFERED:
            if not self._left_out:
                _log.warn("{name} is left out: a process of the proxy does not keep up", name=name)
            self._left_out = True
            return False
        self._left_out = False
        self.say(name, **more)
        return True

    def hear_out(self) -> None:
        """Take what the other end has said, if it is gone by now."""
        while self._open:
            before = self._heard
            self.doRead()
            if self._heard == before:
                return

    def close(self) -> None:
        """Say and hear nothing more."""
        self._gone = None
        self._lose()

    # What the reactor tells

    def fileno(self) -> int:
        """Return the descriptor that the reactor watches."""
        return self._connection.fileno()

    def logPrefix(self) -> str:
        """Return what the reactor calls this in its log."""
        return "channel"

    def doRead(self) -> None:
        """Take one message."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._connection, LONGEST + 1, MOST_DESCRIPTORS + 1
            )
        except BlockingIOError:
            return
        except OSError:
            data, descriptors, flags = b"", [], 0
        if not data:
            self._lose()
            return
        self._heard += 1
        for each in descriptors:
            os.set_inheritable(each, False)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            # There was no room for its descriptors. Whoever waits for what comes of it gives up.
            _log.error("a message between processes of the proxy was cut off")
            close_all(descriptors)
            return
        try:
            content = json.loads(data)
            self._told(content.pop("is"), content, descriptors)
        except Exception:  # noqa: BLE001 - one message's fault must not end the process
            _log.failure("fault in a message between processes")

    def doWrite(self) -> None:
        """Send what waits, as far as it goes."""
        while self._open and self._waiting:
            message, descriptors = self._waiting[0]
            try:
                socket.send_fds(self._connection, [message], descriptors)
            except BlockingIOError:
                self._reactor.addWriter(self)
                return
            except OSError:
                self._lose()
                return
            self._waiting.popleft()
            close_all(descriptors)
        if self._open:
            self._reactor.removeWriter(self)

    def connectionLost(self, _reason: Failure) -> None:
        """The reactor has found the socket broken."""
        self._lose()

    def _lose(self) -> None:
        if not self._open:
            return
        self._open = False
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._connection.close()
        for _, descriptors in self._waiting:
            close_all(descriptors)
        self._waiting.clear()
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()


def written(conf: Conf) -> int:
    """Write a conf for another process; return a descriptor of what it reads.

    Whatever the files of the conf say meanwhile, it reads the very same; and of several readers
    none can change what the others read.

    Raises:
        OSError: the system has no memory, or no descriptor, for it.
    """
    descriptor = os.memfd_create("bascule-conf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(conf, file)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> Conf:
    """Read a conf that the process which has started this one has written, and close it.

    Raises:
        TypeError: it is none.
    """
    # Others read it too, and all have one place in it together. What is sealed can be mapped only
    # for a process alone, before Linux 6.7.
    with (
        open(descriptor, "rb") as file,
        mmap(file.fileno(), 0, flags=MAP_PRIVATE, prot=PROT_READ) as content,
    ):
        conf = pickle.loads(content)  # noqa: S301 - it comes from who has started this process
    if not isinstance(conf, Conf):
        raise TypeError("what was passed is no conf")
    return conf


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors, as far as they are open."""
    for each in descriptors:
        with suppress(OSError):
            os.close(each)
