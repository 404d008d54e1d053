"""Sockets that the service manager has opened and passes to us (sd_listen_fds(3)).

They outlast the process: while it restarts, connections wait in them.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterable, MutableMapping
from typing import Final, Self

import attrs

FIRST: Final = 3
"""The first descriptor that is passed; those after it follow without a gap."""

NAMELESS: Final = "unknown"
"""What descriptors are called that were passed without names."""

_PID, _COUNT, _NAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
_VARIABLES: Final = (_PID, _COUNT, _NAMES, "LISTEN_PIDFDID")
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


class PassedError(Exception):
    """What was passed cannot be used; the message says why in one line."""


@attrs.frozen
class Passed:
    """One descriptor that was passed, and the name that came with it."""

    name: str
    descriptor: int

    def __str__(self) -> str:
        return f"descriptor {self.descriptor}, named {self.name}"


class PassedSockets:
    """Descriptors that were passed; each can be had once, by its name.

    Args:
        passed: the descriptors in their order.
    """

    def __init__(self, passed: Iterable[Passed] = ()) -> None:
        self._passed = list(passed)

    @classmethod
    def of_process(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Take over what was passed to this process, so that no process it starts has it too.

        The variables are taken out of ``environment``. What was meant for another process, as
        ``LISTEN_PID`` says, is left alone.

        Raises:
            PassedError: what the variables say cannot be.
        """
        told = {name: environment.pop(name, "") for name in _VARIABLES}
        if told[_PID] != str(os.getpid()):
            return cls()
        count = _number(told[_COUNT])
        names = told[_NAMES].split(":") if told[_NAMES] else [NAMELESS] * count
        if len(names) != count:
            raise PassedError(f"{_NAMES} has {len(names)} names for {count} descriptors")
        passed = [Passed(name, FIRST + place) for place, name in enumerate(names)]
        for each in passed:
            try:
                os.set_inheritable(each.descriptor, False)
            except OSError as error:
                raise PassedError(f"{each}: {error.strerror}") from error
        return cls(passed)

    def names(self) -> tuple[str, ...]:
        """Return the names of those that nobody has taken, each once."""
        return tuple(dict.fromkeys(each.name for each in self._passed))

    def left(self) -> tuple[Passed, ...]:
        """Return those that nobody has taken."""
        return tuple(self._passed)

    def take(self, name: str) -> tuple[socket.socket, ...]:
        """Return the sockets of a name: TCP, listening and not blocking; none if none has it.

        They are the caller's from now on.

        Raises:
            PassedError: a descriptor of that name is something else.
        """
        taken = [each for each in self._passed if each.name == name]
        self._passed = [each for each in self._passed if each.name != name]
        return tuple(map(_listening, taken))


def _number(count: str) -> int:
    if not (count.isascii() and count.isdigit()):
        raise PassedError(f"{_COUNT} is no number")
    return int(count)


def _listening(passed: Passed) -> socket.socket:
    """Return the socket of a descriptor, once it is sure that it is one to accept from."""
    try:
        if not stat.S_ISSOCK(os.fstat(passed.descriptor).st_mode):
            raise PassedError(f"{passed}, is no socket")
        found = socket.socket(fileno=passed.descriptor)
    except OSError as error:
        raise PassedError(f"{passed}: {os.strerror(error.errno or errno.EBADF)}") from error
    problem = _problem(found)
    if problem:
        found.close()
        raise PassedError(f"{passed}, {problem}")
    found.setblocking(False)
    return found


def _problem(found: socket.socket) -> str:
    if (
        found.family not in _FAMILIES
        or found.type != socket.SOCK_STREAM
        or found.proto != socket.IPPROTO_TCP
    ):
        return "is no socket of TCP"
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen"
    return ""
