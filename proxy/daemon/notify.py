"""Tells systemd how the service is doing (sd_notify(3)), and that it is not stuck."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

STATUS_INTERVAL: Final = 10.0
"""Seconds after which what ``systemctl status`` shows is brought up to date, at the latest."""

_PATIENCE: Final = 1.0
"""Seconds that a service manager may take to make room for a message that must not be lost."""

_MICROSECONDS: Final = 1_000_000


def notify(state: str, *, urgent: bool = True) -> None:
    """Send ``state``, such as ``READY=1``; without a service manager nothing happens.

    Args:
        state: one assignment, or several on lines of their own.
        urgent: whether to wait a moment for a service manager that has no room for it; otherwise
            it is lost.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        # The manager waits for it and says so itself; want of descriptors ends.
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.settimeout(_PATIENCE if urgent else 0)
        connection.sendto(state.encode(), address)


def reloading(status: str) -> None:
    """Say that a new conf is taken up; ``READY=1`` must follow.

    The time goes along, by which systemd tells this reload from an earlier one.
    """
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS={status}")


def watchdog() -> float | None:
    """Return the seconds within which systemd wants to hear ``WATCHDOG=1``; None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return None
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    return int(microseconds) / _MICROSECONDS


class Pulse:
    """Feeds systemd's watchdog from the reactor, and keeps what ``systemctl status`` shows fresh.

    A reactor that is stuck does not call it, and the service is started anew.

    Args:
        reactor: the reactor, or a clock.
        status: says in a few words how the service is doing.
    """

    def __init__(self, reactor: Any, status: Callable[[], str]) -> None:
        self._reactor = reactor
        self._status = status
        self._told = ""
        self._call: Any = None
        limit = watchdog()
        self._watched = limit is not None
        self._interval = STATUS_INTERVAL if limit is None else min(limit / 2, STATUS_INTERVAL)

    def start(self) -> None:
        """Begin at once; without a service manager nothing happens."""
        if os.environ.get("NOTIFY_SOCKET"):
            self._beat()

    def stop(self) -> None:
        """Say nothing any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _beat(self) -> None:
        self._call = self._reactor.callLater(self._interval, self._beat)
        said = ["WATCHDOG=1"] if self._watched else []
        status = self._status()
        if status != self._told:
            self._told = status
            said.append(f"STATUS={status}")
        if said:
            notify("\n".join(said), urgent=False)
