"""The control socket, on the side of who asks."""

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from proxy.daemon.control.protocol import (
    LONGEST_ANSWER,
    Code,
    NotUnderstoodError,
    RefusedError,
    read_answer,
    request_line,
)

PATIENCE: Final = 15.0
"""Seconds to wait for the daemon's next words, where it has no reason to keep silent."""


class NotRunningError(Exception):
    """Nobody can be asked; ``str()`` says why, in one line."""


class NotAllowedError(Exception):
    """The system does not let us ask; ``str()`` says why, in one line."""


def ask(
    path: Path, command: str, arguments: Mapping[str, object], *, patience: float | None = PATIENCE
) -> Iterator[Any]:
    """Ask a daemon.

    Args:
        path: where its control socket is.
        command: what for.
        arguments: by name; those that are empty or None are left out.
        patience: seconds to wait for the next words; None for as long as it takes.

    Yields:
        The items of the answer, as JSON has them, as they come.

    Raises:
        NotRunningError: no daemon listens there, or it has ended meanwhile.
        NotAllowedError: the system lets others than us ask.
        RefusedError: the daemon does not fulfil the request, or no further.
        NotUnderstoodError: what came is no answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience)
        _connect(connection, path)
        # Who is turned away at once may not get rid of the request; the answer says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request_line(command, arguments))
        for line in _lines(connection):
            is_item, item = read_answer(line)
            if not is_item:
                return
            yield item
    raise NotRunningError("the daemon has closed the connection before its answer was complete")


def _connect(connection: socket.socket, path: Path) -> None:
    try:
        connection.connect(os.fsencode(path))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(f"{path}: {_absence(path, error)}") from error
    except PermissionError as error:
        text = "only root, the daemon's own user and the group of the socket may connect"
        raise NotAllowedError(f"{path}: {text}") from error
    except TimeoutError as error:
        raise RefusedError(Code.BUSY, f"{path}: the daemon does not answer") from error
    except OSError as error:
        raise NotRunningError(f"{path}: {error.strerror or error}") from error


def _absence(path: Path, error: OSError) -> str:
    """Say why nobody answers at a path, and what to look at."""
    with suppress(OSError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            return "is no socket"
    return (
        f"nobody answers there ({error.strerror}); is Bascule running, with this configuration? "
        "If it could not make the socket, its log says so"
    )


def _lines(connection: socket.socket) -> Iterator[bytes]:
    """Return what comes, line by line, each within bounds."""
    read = bytearray()
    while True:
        try:
            data = connection.recv(65_536)
        except TimeoutError as error:
            raise RefusedError(Code.TIMEOUT, "the daemon does not answer in time") from error
        except ConnectionResetError:
            data = b""
        if not data:
            return
        read += data
        *lines, rest = read.split(b"\n")
        if len(rest) > LONGEST_ANSWER:
            raise NotUnderstoodError(f"has a line of more than {LONGEST_ANSWER} bytes")
        read = bytearray(rest)
        yield from map(bytes, lines)
