"""A network of a test's own: a client, a router and a server, each in a network namespace.

The client is in the router's network ``lan0``, the server in its network ``wan0``. The namespaces
last as long as their files are open, so nothing of them outlives the tests.
"""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import attrs

T = TypeVar("T")

ROOT_USER = 0
SECONDS = 15.0

_CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def lack() -> str | None:
    """Return what is missing to make such a network, None if nothing is."""
    for program in ("ip", "nft", "nsenter", "setpriv", "sysctl"):
        if shutil.which(program, path=_PATH) is None:
            return f"{program} is not installed"
    try:
        Namespace().close()
    except OSError as error:
        return f"network namespaces cannot be made: {error.strerror}"
    return None


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Namespace:
    """A network namespace of its own, with its loopback interface up.

    Raises:
        OSError: making one takes the rights of root.
    """

    def __init__(self) -> None:
        self._descriptor = _in_thread(_made)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Let it go, once no process or socket is in it any more."""
        os.close(self._descriptor)

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return the command line that runs a program in it."""
        return ["nsenter", f"--net={self.path}", "--", *words]

    def run(self, *words: str | Path, given: str = "") -> str:
        """Run a program in it and return what it prints.

        Raises:
            AssertionError: it fails; with what it says.
        """
        done = subprocess.run(
            self.command(*words),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env={**os.environ, "PATH": _PATH},
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def shell(self, text: str) -> None:
        """Run lines of a shell in it, all of which must succeed."""
        self.run("sh", "-eu", given=text)

    def inside(self, action: Callable[[], T], *, user: int = ROOT_USER) -> T:
        """Do something in it, in a thread: sockets that this makes stay in it.

        Args:
            action: what to do.
            user: whose sockets they are.
        """

        def there() -> T:
            _succeed(_libc.setns(self._descriptor, _CLONE_NEWNET))
            _libc.setfsuid(user)
            return action()

        return _in_thread(there)

    def connect(
        self, host: str, port: int, *, user: int = ROOT_USER, seconds: float = SECONDS
    ) -> socket.socket:
        """Connect from it."""
        where = (host, port)
        return self.inside(lambda: socket.create_connection(where, timeout=seconds), user=user)


def _made() -> int:
    _succeed(_libc.unshare(_CLONE_NEWNET))
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, env={"PATH": _PATH})
    return descriptor


def _succeed(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(action: Callable[[], T]) -> T:
    """Do something in a thread of its own, whose namespace and user are nobody else's."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


@attrs.frozen
class Place:
    """The addresses that an interface has."""

    ipv4: str
    ipv6: str

    def of(self, family: str) -> str:
        """Return the address of a family, ``IPv4`` or ``IPv6``."""
        return self.ipv6 if family == "IPv6" else self.ipv4


CLIENT = Place("192.0.2.2", "2001:db8:1::2")
LAN = Place("192.0.2.1", "2001:db8:1::1")
WAN = Place("198.51.100.1", "2001:db8:2::1")
SERVER = Place("198.51.100.2", "2001:db8:2::2")

SERVER_TOO = Place("198.51.100.3", "2001:db8:2::3")
"""Other addresses of the server."""


class Network:
    """Three namespaces: the client's, the router's and the server's."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            made: list[Namespace] = []
            for _ in range(3):
                made.append(Namespace())
                stack.callback(made[-1].close)
            self.client, self.router, self.server = made
            self.router.run(
                "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"
            )
            _link((self.client, "eth0", CLIENT), (self.router, "lan0", LAN))
            _link((self.server, "eth0", SERVER), (self.router, "wan0", WAN))
            self.server.shell(_addresses("eth0", SERVER_TOO))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def _link(end: tuple[Namespace, str, Place], router: tuple[Namespace, str, Place]) -> None:
    """Join a machine to the router, which is its way to everywhere else."""
    (machine, device, _), (gateway, other, way) = end, router
    machine.run(
        "ip", "link", "add", device, "type", "veth", "peer", "name", other, "netns", gateway.path
    )
    for namespace, name, place in (end, router):
        namespace.shell(f"{_addresses(name, place)}ip link set {name} up\n")
    machine.shell(f"""\
ip route add default via {way.ipv4}
ip -6 route add default via {way.ipv6}
""")


def _addresses(device: str, place: Place) -> str:
    return f"""\
ip addr add {place.ipv4}/24 dev {device}
ip addr add {place.ipv6}/64 dev {device} nodad
"""
