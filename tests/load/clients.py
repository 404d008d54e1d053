"""A client that does little, so that there can be thousands: it logs in, talks, and leaves."""

import os
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final

from tests.load.echo_server import FOOTER
from tests.load.loop import READ, WRITE, Ready
from tests.net.client import AUTH, BIND
from tests.net.front import DOMAIN
from tests.servers.program import HOST
from tests.servers.stream import STARTTLS

if TYPE_CHECKING:
    from tests.load.crowd import Crowd

GARBAGE: Final = b"\x16\x03\x01<\xff\xfe</a>]]>\x00GET / HTTP/1.1\r\n\r\n"
SPOILT: Final = b"<a></b>]]>&nobody;\xff"

_HEADER: Final = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
).encode()
_FEATURES: Final = b"</stream:features>"
_ERROR: Final = re.compile(
    rb"<stream:error><([a-z-]+) .*</stream:error></stream:stream>", re.DOTALL
)
_NEVER: Final = b"\0"
"""What a login yields that waits until it is ended."""

_SECURE: Final = b""
"""What a login yields where TLS has to be up, instead of what has to have come."""


class Stage(Enum):
    """How far a client has come."""

    CONNECTING = "connecting"
    GREETING = "before TLS"
    SECURING = "in the TLS handshake"
    LOGGING_IN = "logging in"
    UP = "logged in"


class Way(Enum):
    """How a client that does not stay goes, or does not even come."""

    FOOTER = "closes its stream"
    FIN = "closes its connection"
    RESET = "resets its connection"
    HALF_CLOSED = "closes its direction, and waits"
    SPOILT = "sends what is no XML, then closes its connection"
    GARBAGE = "begins with what is no stream, and waits"
    SILENT = "says nothing, and waits"
    HELLO = "goes in the TLS handshake"
    MUTE = "says nothing after TLS, and waits"


EARLY: Final = frozenset((Way.GARBAGE, Way.SILENT, Way.HELLO, Way.MUTE))
"""Those that never log in."""

LEFT: Final = "left"
SOON: Final = 0.5
"""Seconds that what is no XML gets to arrive."""


class Client:
    """One client; what becomes of it is told to its crowd.

    Attributes:
        number: which of the crowd it is.
        port: where it connects to.
        way: how it leaves; None if it stays.
        stage: how far it has come.
        shown: the certificate that it was shown last, DER.
        spoken: how many messages it has sent.
        logins: how often it has logged in.
    """

    def __init__(self, crowd: "Crowd", number: int, port: int, way: Way | None) -> None:
        self.number = number
        self.port = port
        self.way = way
        self.stage = Stage.CONNECTING
        self.shown = b""
        self.spoken = 0
        self.logins = 0
        self._crowd = crowd
        self._socket: socket.socket | None = None
        self._life: Generator[bytes, None, None] | None = None
        self._end = b""
        self._read = b""
        self._out = bytearray()
        self._events = 0
        self._due: deque[bytes] = deque()
        self._leaving = False

    @property
    def waits(self) -> bool:
        """Whether an echo has not come yet."""
        return bool(self._due)

    def dial(self) -> None:
        """Connect, and go on from there."""
        self.stage = Stage.CONNECTING
        self._read, self._leaving = b"", False
        self._out.clear()
        self._due.clear()
        self._life = self._log_in()
        self._socket = connecting = socket.socket()
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            connecting.connect((HOST, self.port))
        self._events = WRITE
        self._crowd.loop.watch(connecting, WRITE, self._connected)

    def say(self, text: bytes) -> None:
        """Send a message, whose echo is then due."""
        stanza = b"<message id='%d-%d'><body>%s</body></message>" % (
            self.number,
            self.spoken,
            text,
        )
        self.spoken += 1
        self._due.append(stanza)
        self._send(stanza)

    def leave(self) -> None:
        """Go, if it is logged in, its own way."""
        if self.stage is not Stage.UP or self._leaving or self._socket is None:
            return
        self._leaving = True
        if self.way is Way.SPOILT:
            self._send(SPOILT)
            self._crowd.loop.later(SOON, self._go_if(self.logins))
        elif self.way is Way.HALF_CLOSED:
            with suppress(OSError):  # it may be gone
                socket.socket.shutdown(self._socket, socket.SHUT_WR)
        elif self.way is Way.FOOTER:
            self._due.append(FOOTER)
            self._send(FOOTER)
        else:
            self._go()

    def abandon(self) -> None:
        """Close without a word to anybody."""
        if self._socket is not None:
            self._crowd.loop.forget(self._socket)
            self._socket.close()
            self._socket = None

    # The login

    def _log_in(self) -> Generator[bytes, None, None]:
        """Yield what has to come before the next is sent."""
        self.stage = Stage.GREETING
        if self.way is Way.SILENT:
            yield _NEVER
        if self.way is Way.GARBAGE:
            self._send(GARBAGE)
            yield _NEVER
        self._send(_HEADER)
        yield _FEATURES
        self._send(STARTTLS)
        yield b"/>"
        self.stage = Stage.SECURING
        yield _SECURE
        self.stage = Stage.LOGGING_IN
        self.shown = self._certificate()
        if self.way is Way.MUTE:
            yield _NEVER
        self._send(_HEADER)
        yield _FEATURES
        self._send(AUTH.encode())
        yield b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
        self._send(_HEADER)
        yield _FEATURES
        self._send(BIND.encode())
        yield b"</iq>"
        self.stage = Stage.UP
        self.logins += 1
        self._crowd.arrived(self)

    def _certificate(self) -> bytes:
        assert isinstance(self._socket, ssl.SSLSocket)
        return self._socket.getpeercert(binary_form=True) or b""

    def _advance(self) -> None:
        """Go on as far as what has come allows."""
        while self._life is not None and self._socket is not None:
            if self._end and (at := self._read.find(self._end)) < 0:
                return
            if self._end:
                self._read = self._read[at + len(self._end) :]
            try:
                self._end = next(self._life)
            except StopIteration:
                self._life = None
                return
            if self._end == _SECURE:
                self._secure()
                return

    def _secure(self) -> None:
        plain = self._socket
        assert plain is not None
        assert not self._read, f"plaintext after <proceed/>: {self._read!r}"
        self._crowd.loop.forget(plain)
        self._socket = self._crowd.context.wrap_socket(
            plain,
            server_hostname=DOMAIN,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._events = READ
        self._crowd.loop.watch(self._socket, READ, self._shake_hands)
        self._shake_hands(READ)

    def _shake_hands(self, _events: int) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            want = READ if isinstance(error, ssl.SSLWantReadError) else WRITE
            self._watch(want, self._shake_hands)
            if self.way is Way.HELLO:
                self._go()
        except OSError as error:
            self._over(_reason(error))
        else:
            self._events = 0
            self._watch(READ, self._ready)
            self._advance()
            self._flush()

    # What comes and goes

    def _connected(self, _events: int) -> None:
        assert self._socket is not None
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._over(os.strerror(error))
            return
        self._watch(READ, self._ready)
        self._end = _SECURE
        self._advance()

    def _ready(self, events: int) -> None:
        try:
            self._flush()
            if events & READ:
                self._receive()
        except OSError as error:
            self._over(_reason(error))

    def _receive(self) -> None:
        """Read all that there is.

        Raises:
            OSError: the connection is broken.
        """
        while self._socket is not None:
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                self._over("closed")
                return
            self._read += data
            self._advance()
            if self.stage is Stage.SECURING:
                return
            if self.stage is Stage.UP:
                self._compare()

    def _compare(self) -> None:
        """Strike off the echoes that have come; what differs stays, for `_over` to tell."""
        while self._due and self._read.startswith(self._due[0]):
            self._read = self._read[len(self._due.popleft()) :]
        if self._leaving and self.way is Way.FOOTER and not self._due:
            self._go()

    def _send(self, data: bytes) -> None:
        self._out += data
        if self.stage is not Stage.SECURING:
            try:
                self._flush()
            except OSError as error:
                # What was sent before it broke is still to be read.
                if not isinstance(error, ConnectionError):
                    self._over(_reason(error))

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ConnectionError:
            self._out.clear()  # reading tells what has happened
        self._watch(READ | (WRITE if self._out else 0), self._ready)

    def _watch(self, events: int, ready: Ready) -> None:
        if events != self._events and self._socket is not None:
            self._events = events
            self._crowd.loop.change(self._socket, events, ready)

    # The end

    def _go_if(self, login: int) -> Callable[[], None]:
        """Return what goes unless that has been done since."""

        def go() -> None:
            if self._socket is not None and self._leaving and self.logins == login:
                self._go()

        return go

    def _go(self) -> None:
        assert self._socket is not None
        if self.way is Way.RESET:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abandon()
        self._crowd.ended(self, LEFT)

    def _over(self, why: str) -> None:
        """The other side has ended it; tell how, which depends on what it has said."""
        stage = self.stage
        self.abandon()
        found = _ERROR.fullmatch(self._read) if stage is Stage.UP else _ERROR.search(self._read)
        if found is not None:
            why = found[1].decode() if why == "closed" else f"{found[1].decode()}, {why}"
        elif stage is Stage.UP and self._read:
            due = self._due[0] if self._due else b""
            why = f"{why} after {self._read[:200]!r} where {due[:200]!r} was due"
        wanted = self._leaving and not (self.way is Way.FOOTER and self._due)
        self._crowd.ended(self, LEFT if wanted else why)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "closed without close_notify"
    return error.strerror or type(error).__name__
