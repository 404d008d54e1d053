"""Tells systemd how the service is doing (sd_notify(3))."""

import os
import socket


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``; without a service manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.sendto(state.encode(), address)
        except OSError:
            return  # the manager waits for it and says so itself
