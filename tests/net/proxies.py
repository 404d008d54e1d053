"""Bascule behind a proxy that the tests play, in front of a server that is told of clients."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from proxy.net.proxy_protocol import SIGNATURE, write
from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net.client import connected
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.stream import SECONDS, Stream

CLIENT = Address("192.0.2.7", 56324)
CLIENT6 = Address("2001:db8::7", 56324)
PLACE = Address("198.51.100.1", 5222)
PLACE6 = Address("2001:db8::1", 5222)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n"
LINE6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 5222\r\n"
BLOCK = write(CLIENT, PLACE)
BLOCK6 = write(CLIENT6, PLACE6)
LOCAL = SIGNATURE + b"\x20\0\0\0"
STREAM = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
).encode()
LISTENERS = {
    "any": "required",
    "v1": "required",
    "v2": "required",
    "none": "none",
    "bare": "required",
}
NEGOTIATION = 600.0
"""Seconds that a client has, so many that no test can have waited for their end."""


@contextlib.contextmanager
def daemon(
    directory: Path,
    legacy: LegacyServer,
    authority: Authority,
    *,
    negotiation: float = NEGOTIATION,
) -> Iterator[Front]:
    """Give a daemon behind proxies, but for its last listener.

    It tells the server of the first of its two domains of clients. Each address may have two
    connections, and no more.
    """
    domains = [
        Served(DOMAIN, [authority.issue(DOMAIN)], legacy.port, proxy_protocol="v2"),
        Served(OTHER_DOMAIN, [authority.issue(OTHER_DOMAIN)], legacy.port),
    ]
    with Front(
        directory,
        domains,
        listeners=LISTENERS,
        proxies={"any": "any", "v1": "v1", "v2": "v2", "none": "any"},
        tables={
            "deadlines": {"negotiation": negotiation},
            "plugins.limits": {"connections_per_address": 2, "handshakes_per_minute": 0},
        },
    ) as front:
        until(lambda: len(front.summaries()) == 1)  # of who has seen that it listens
        yield front
        assert front.alive()


@contextlib.contextmanager
def opened(
    front: Front, header: bytes = b"", listener: str = "any", domain: str = DOMAIN
) -> Iterator[Stream]:
    """Give a connection that has begun with a header."""
    with connected(front.named[listener]) as connection:
        connection.sendall(header)
        stream = Stream(connection, domain)
        yield stream
        stream.connection.close()


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


class Ended:
    """The lines of the log since this was made."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._sessions = len(front.summaries())
        self._start = len(front.log())

    def session(self) -> dict[str, str]:
        """Wait for the one session that ends."""
        until(lambda: len(self._front.summaries()) > self._sessions)
        [summary] = self._front.summaries()[self._sessions :]
        return summary

    def line(self, part: str) -> str:
        """Wait for the one line with this in it."""
        until(lambda: part in self._front.log()[self._start :])
        [line] = [line for line in self._front.log()[self._start :].splitlines() if part in line]
        return line
