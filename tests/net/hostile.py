"""A hostile XMPP server: it does what its scripts say, with real TLS, and writes down all it gets.

A script is run on each connection, in a thread of its own. What a script leaves open is read to its
end, so that nothing a proxy sends too much can be missed.
"""

import contextlib
import queue
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cryptography.x509 import Certificate
from OpenSSL import SSL

from tests.servers.program import HOST

SECONDS = 20
T = TypeVar("T")

PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
FAILURE = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
OFFER = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    b"</stream:features>"
)
MECHANISMS = (
    b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
BIND = b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>"
BOUND = (
    b"<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    b"<jid>alice@example.com/x</jid></bind></iq>"
)
STREAM = rb"<stream:stream [^>]*>"
STARTTLS = rb"<starttls [^>]*/>"
FOOTER = b"</stream:stream>"

FAULTS = (OSError, EOFError, SSL.Error)
"""What ends a script: the proxy has left, or TLS has failed."""


def header(stream_id: str, *, version: bool = True, content: str = "jabber:client") -> bytes:
    """Return a header as servers send it, to clients or, by the namespace, to servers."""
    said = " version='1.0'" if version else ""
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{content}' id='{stream_id}'{said}"
        " xmlns:stream='http://etherx.jabber.org/streams' xml:lang='de'>"
    ).encode()


def stream_error(condition: str, content: str = "") -> bytes:
    """Return a stream error and the end of the stream."""
    return (
        f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{content}"
        f"</{condition}></stream:error></stream:stream>"
    ).encode()


class Patient(SSL.Connection):
    """A connection of TLS that goes on when it is interrupted, for `SECONDS` at most.

    OpenSSL takes that for a deadline of the kernel's: so it is where a machine was suspended.
    """

    def do_handshake(self) -> None:
        self._patiently(super().do_handshake)

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        return self._patiently(partial(super().recv, bufsiz, flags))

    def send(self, buf: Any, flags: int = 0) -> int:
        return self._patiently(partial(super().send, buf, flags))

    def sendall(self, buf: Any, flags: int = 0) -> int:
        data, sent = memoryview(buf), 0
        while sent < len(data):
            sent += self.send(data[sent:], flags)
        return sent

    def _patiently(self, act: Callable[[], T]) -> T:
        end = time.monotonic() + SECONDS
        while True:
            try:
                return act()
            except (SSL.WantReadError, SSL.WantWriteError):
                if not self.getblocking() or time.monotonic() >= end:
                    raise


class Peer:
    """One connection that the hostile server has accepted; all waiting ends after `SECONDS`.

    Attributes:
        socket: the connection; from TLS on, that of TLS.
        plain: every byte that was read before TLS.
        sealed: every byte that was read under TLS, decrypted.
        server_name: what the client has indicated.
        shown: the certificate that it has shown, if it was asked for one and has any.
        error: what ended its script.
        done: whether nothing more will be read.
        established: whether a client is logged in and a test goes on with it.
    """

    def __init__(self, connection: socket.socket) -> None:
        # Deadlines of the kernel's, for pyOpenSSL knows none of its own.
        connection.settimeout(None)
        for each in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, each, struct.pack("ll", SECONDS, 0))
        self.socket: Any = connection
        self.plain = b""
        self.sealed = b""
        self.server_name: bytes | None = None
        self.shown: Certificate | None = None
        self.error: BaseException | None = None
        self.done = False
        self.established = False
        self._secured = False
        self._read = 0

    @property
    def secured(self) -> bool:
        """Whether a handshake has succeeded."""
        return self._secured

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, pattern: bytes) -> bytes:
        """Read to the end of a match of a regular expression; return what was not read before."""
        compiled = re.compile(pattern, re.DOTALL)
        while not (match := compiled.search(self._heard, self._read)):
            if not self._receive():
                raise EOFError(f"the proxy closed before {pattern!r}: {self._heard!r}")
        start, self._read = self._read, match.end()
        return self._heard[start : match.end()]

    def read_to_end(self) -> bytes:
        """Read until the proxy closes; return what was not read before."""
        with contextlib.suppress(*FAULTS):
            while self._receive():
                pass
        start, self._read = self._read, len(self._heard)
        return self._heard[start:]

    def secure(
        self,
        certificate: Path,
        key: Path,
        newest: int = SSL.TLS1_3_VERSION,
        protocol: bytes = b"xmpp-client",
        *,
        asking: bool = False,
    ) -> None:
        """Turn to TLS as the server.

        Args:
            certificate: a file with the chain that is shown.
            key: the file of its private key.
            newest: the newest version of TLS that it speaks.
            protocol: what it chooses where ALPN asks for anything at all.
            asking: whether it asks for a certificate; it takes any, and none.
        """
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.set_max_proto_version(newest)
        context.set_alpn_select_callback(lambda _connection, _offered: protocol)
        if asking:
            context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        connection = Patient(context, self.socket)
        connection.set_accept_state()
        connection.do_handshake()
        self.server_name = connection.get_servername()
        self.shown = connection.get_peer_certificate(as_cryptography=True)
        self.socket = connection
        self._secured = True
        self._read = 0

    def close(self) -> None:
        self.socket.close()

    @property
    def _heard(self) -> bytes:
        return self.sealed if self._secured else self.plain

    def _receive(self) -> bool:
        try:
            data: bytes = self.socket.recv(65536)
        except SSL.ZeroReturnError:
            return False
        if self._secured:
            self.sealed += data
        else:
            self.plain += data
        return bool(data)


Script = Callable[[Peer], None]
Secure = Callable[[Peer], None]
"""Turns a connection to TLS."""


def showing(pair: tuple[Path, Path], newest: int = SSL.TLS1_3_VERSION) -> Secure:
    """Return how TLS is begun with a certificate and its key."""
    return lambda peer: peer.secure(*pair, newest)


def offer(peer: Peer, stream_id: str = "outside", content: str = "jabber:client") -> None:
    """Take a header and offer STARTTLS."""
    peer.read_until(STREAM)
    peer.send(header(stream_id, content=content) + OFFER)


def proceed(peer: Peer, content: str = "jabber:client") -> None:
    """Be asked for TLS, and agree."""
    offer(peer, content=content)
    peer.read_until(STARTTLS)
    peer.send(PROCEED)


def login(peer: Peer) -> None:
    """Let a client log in whatever it says; the ids are ``inside-1`` and ``inside-2``."""
    peer.read_until(STREAM)
    peer.send(header("inside-1") + MECHANISMS)
    peer.read_until(rb"</auth>")
    peer.send(SUCCESS)
    peer.read_until(STREAM)
    peer.send(header("inside-2") + BIND)
    peer.read_until(rb"</iq>")
    peer.established = True
    peer.send(BOUND)


def upgraded(secure: Secure, then: Script = login) -> Script:
    """Return a script that begins TLS by STARTTLS."""

    def script(peer: Peer) -> None:
        proceed(peer)
        secure(peer)
        then(peer)

    return script


def direct(secure: Secure, then: Script = login) -> Script:
    """Return a script that begins with TLS."""

    def script(peer: Peer) -> None:
        secure(peer)
        then(peer)

    return script


def saying(*answers: bytes, closing: bool = False) -> Script:
    """Return a script that says something after the header and after each element, come what may.

    Args:
        answers: the first one to the header, the others to ``<starttls/>``.
        closing: whether the server closes when it has said all.
    """

    def script(peer: Peer) -> None:
        for number, answer in enumerate(answers):
            peer.read_until(STARTTLS if number else STREAM)
            peer.send(answer)
        if closing:
            peer.close()

    return script


def pointing(place: str, *, secure: Secure | None = None) -> Script:
    """Return a script that points to another server, before TLS or after it."""

    def point(peer: Peer) -> None:
        peer.read_until(STREAM)
        peer.send(header("pointing") + stream_error("see-other-host", place))

    return point if secure is None else upgraded(secure, point)


class Hostile:
    """Accepts connections on loopback and runs its scripts: the first on the first, and so on.

    The last script runs on all connections that follow.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        self.peers: list[Peer] = []
        self.established: queue.Queue[Peer] = queue.Queue()
        self._scripts: tuple[Script, ...] = (login,)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.play(login)

    def play(self, *scripts: Script) -> None:
        """Forget all that was, and do this from now on."""
        for peer in self.peers:
            with contextlib.suppress(*FAULTS):
                peer.close()
        self.peers = []
        self.established = queue.Queue()
        self._scripts = scripts

    def next(self) -> Peer:
        """Wait for a client that is logged in."""
        return self.established.get(timeout=SECONDS)

    def settle(self) -> list[Peer]:
        """Wait until the proxy has left every connection; return what they were."""
        end = time.monotonic() + SECONDS
        while not all(peer.done for peer in self.peers):
            assert time.monotonic() < end, "the proxy does not leave"
            time.sleep(0.002)
        return self.peers

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                peer = Peer(accepted)
                script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
                self.peers.append(peer)
                arguments = (peer, script, self.established)
                threading.Thread(target=_serve, args=arguments, daemon=True).start()


def _serve(peer: Peer, script: Script, established: "queue.Queue[Peer]") -> None:
    try:
        script(peer)
    except FAULTS as error:
        peer.error = error
    if peer.established:
        established.put(peer)
        return
    peer.read_to_end()
    with contextlib.suppress(*FAULTS):
        peer.close()
    peer.done = True
