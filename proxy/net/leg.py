"""A leg: a Twisted transport on a TCP socket that turns to TLS in place.

TLS runs on the socket itself and not on top of a TCP transport, so nothing that was read as
plaintext can come to stand behind it, and nothing that was written as plaintext can be overtaken by
it: before TLS the leg only looks at what has come (``MSG_PEEK``) and takes what its protocol says
is plaintext; the ClientHello it never takes at all.
"""

import os
import socket
from enum import Enum
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet import interfaces
from twisted.internet.error import ConnectionLost
from zope.interface import implementer

from proxy.net import openssl
from proxy.net.buffered import HIGH_WATER
from proxy.net.client_hello import Hello, MalformedError
from proxy.net.closing import ClosingSocket
from proxy.net.handshake import HandshakeError, Next
from proxy.net.hello_watch import HelloWatch, Wait
from proxy.net.hub import GONE, HUNG_UP, IN, OUT
from proxy.net.leg_protocol import LegProtocol, Silence
from proxy.net.peer import shown
from proxy.net.tls import alert, describe, evidence
from proxy.net.tls_start import ClientTLSStart, ServerTLSStart, TLSStart
from proxy.session.kinds import Kind
from proxy.trust.evidence import Evidence

_READS_AT_ONCE: Final = 128
_LAST_PIECE: Final = openssl.RECORD * (openssl.RECORDS - 1)
_ORDINARY: Final = (openssl.WANT_READ, openssl.WANT_WRITE, openssl.ZERO_RETURN, openssl.NONE)
_RETRY: Final = 0.05


class _Mode(Enum):
    """What is read, until all is said."""

    PEEK = "plaintext, at which one only looks"
    STREAM = "bytes as they come"
    HELLO = "waiting for a ClientHello"
    HANDSHAKE = "TLS handshake"


@implementer(interfaces.ITCPTransport, interfaces.IReadWriteDescriptor, interfaces.IPushProducer)
class Leg(ClosingSocket):
    """A connected socket as a transport.

    Args:
        reactor: watches the socket: the reactor, or a hub, which is quicker.
        connection: the socket, connected and not blocking. The leg owns it from now on.
        protocol: is told what happens.
        peek: whether to begin with looking only, because TLS may follow.
        kind: the kind of stream, which ALPN names.
        answered: whether the peer is answered by the proxy itself, for as long as it likes to ask.
            It is not read then while it does not read: nobody else would stop it.
    """

    __slots__ = (
        "__weakref__",
        "_answered",
        "_choked",
        "_direct",
        "_ended_unread",
        "_held",
        "_hello",
        "_kind",
        "_mode",
        "_paused",
        "_read_blocked",
        "_starting",
        "_tls",
        "_watch",
    )

    def __init__(
        self,
        reactor: Any,
        connection: socket.socket,
        protocol: LegProtocol,
        *,
        peek: bool,
        kind: Kind = Kind.C2S,
        answered: bool = False,
    ) -> None:
        super().__init__(reactor, connection, protocol)
        self._answered = answered
        self._choked = False  # whether the peer has to read before it is read
        self._kind = kind
        self._tls: SSL.Connection | None = None
        self._mode = _Mode.PEEK if peek else _Mode.STREAM
        self._direct = False
        self._ended_unread = False  # whether TLS has ended, of which nobody was told yet
        self._held = False
        self._hello: Hello | None = None
        self._paused = False
        self._read_blocked = False  # reading waits until TLS could write
        self._starting: TLSStart | None = None  # that is under way
        self._watch: HelloWatch | None = None

    def start(self) -> None:
        """Tell the protocol that it is connected, and begin to read."""
        assert self.protocol is not None  # noqa: S101 - nothing has ended yet
        self.protocol.makeConnection(self)
        if not self._paused and not self._closing:
            self._watch_reading(wanted=True)

    # ITCPTransport

    def write(self, data: bytes) -> None:
        """Send ``data``, at once as far as the socket takes it."""
        super().write(data)
        if self._answered and len(self._buffer) > HIGH_WATER:
            self._choked = True
            self._stop_reading()

    # Producer

    def pauseProducing(self) -> None:
        """Read no more, for the other leg cannot take more."""
        self._paused = True
        self._stop_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        self._paused = False
        self._read_on()

    def hold(self) -> None:
        """Read no more, for it is not the peer's turn.

        On a hub, a peer that closes its direction meanwhile is told of at once, though it may have
        sent something that is still unread.
        """
        self._held = True
        self._stop_reading()
        self._watch_hang_up(wanted=not self._closing)

    def release(self) -> None:
        """Read again."""
        self._held = False
        self._watch_hang_up(wanted=False)
        self._read_on()

    def _drained(self) -> None:
        super()._drained()
        if self._choked:
            self._choked = False
            self._read_on()

    def _read_on(self) -> None:
        self._watch_if_read()
        if self._tls is None or self._mode is not _Mode.STREAM:
            return
        if self._ended_unread or self._tls.pending():
            # OpenSSL holds it already, so the socket will not tell.
            self._reactor.callLater(0, self._read_pending)

    # TLS

    def await_hello(self, *, direct: bool) -> None:
        """Take no more plaintext; tell the protocol of the ClientHello when it is there."""
        self._mode = _Mode.HELLO
        self._watch = HelloWatch()
        self._direct = direct

    def start_tls(self, context: SSL.Context) -> None:
        """Begin the handshake, as the server, with the ClientHello that was looked at.

        Raises:
            RuntimeError: there is none, or its handshake has begun already.
        """
        if self._socket is None:
            return
        if self._buffer:
            # It could only come out in the midst of TLS.
            self._end(ConnectionLost("plaintext was still waiting when TLS began"))
            return
        if self._hello is None:
            raise RuntimeError("TLS was begun without a ClientHello")
        hello, self._hello = self._hello, None
        self._begin(
            ServerTLSStart(context, self._socket, hello, kind=self._kind, direct=self._direct)
        )

    def start_client_tls(self, context: SSL.Context, server_name: str, *, direct: bool) -> None:
        """Begin the handshake, as the client.

        Args:
            context: what is spoken.
            server_name: the domain for server name indication, as A-labels; an address is not
                indicated.
            direct: whether TLS begins with the first byte (XEP-0368), which ALPN then says.
        """
        if self._socket is None:
            return
        if self._buffer:
            self._end(ConnectionLost("plaintext was still waiting when TLS began"))
            return
        self._begin(
            ClientTLSStart(context, self._socket, server_name, kind=self._kind, direct=direct)
        )

    def _begin(self, start: TLSStart) -> None:
        self._mode = _Mode.HANDSHAKE
        self._starting = start
        self._tls = start.tls
        self._shake_hands()

    def evidence(self) -> Evidence:
        """Return what the handshake has shown of the server.

        Raises:
            ConnectionLost: there is no TLS.
            OpenSSL.SSL.Error: OpenSSL cannot say.
        """
        if self._tls is None:
            raise ConnectionLost("there is no TLS")
        return evidence(self._tls)

    def shown(self) -> tuple[bytes, ...]:
        """Return the certificates in DER that the client has shown, its own first.

        Raises:
            ConnectionLost: there is no TLS.
            OpenSSL.SSL.Error: OpenSSL cannot say.
        """
        if self._tls is None:
            raise ConnectionLost("there is no TLS")
        return shown(self._tls)

    def send_alert(self, description: int) -> None:
        """Answer the ClientHello with a fatal alert, then close."""
        self._mode = _Mode.STREAM
        self.write(alert(description))
        self.loseConnection()

    def detach(self) -> tuple[socket.socket, Any, bytes]:
        """Give up the socket: return it, OpenSSL's object for its TLS, and what is unwritten.

        The protocol is not told of anything any more.
        """
        assert self._socket is not None  # noqa: S101 - a leg that has ended is not joined
        self._watch_nothing()
        connection, waiting = self._socket, bytes(self._buffer)
        tls = None if self._tls is None else openssl.inside(self._tls)
        self._socket = self.protocol = self._producer = None
        self._let_go()
        self._buffer.clear()
        return connection, tls, waiting

    def forget(self) -> None:
        """Close at once and tell nobody."""
        if self._socket is not None:
            self.detach()[0].close()

    # IReadWriteDescriptor

    def logPrefix(self) -> str:
        """Return what Twisted's log calls this."""
        return "leg"

    def ready(self, events: int) -> None:
        """Act on what a hub has seen."""
        hang_up_watched = self._hang_up_watched  # what is watched from now on was not looked for
        if events & (IN | GONE) and self._reading:
            self.doRead()
        if events & (OUT | GONE) and self._writing:
            self.doWrite()
        if events & (HUNG_UP | GONE) and hang_up_watched and self._hang_up_watched:
            self._hung_up(events)

    def doRead(self) -> None:
        """Read, because the socket has something."""
        if self._socket is None:
            return
        if self._starved:
            self._write_on()
            return
        if self._said_all:
            self._discard()
            return
        match self._mode:
            case _Mode.STREAM if self._tls is not None:
                self._read_tls()
            case _Mode.STREAM:
                self._read_plain()
            case _Mode.PEEK:
                self._peek()
            case _Mode.HELLO:
                self._peek_hello()
            case _Mode.HANDSHAKE:
                self._shake_hands()

    def _write_on(self) -> None:
        """Write, now that TLS can read what it needs for that."""
        self._starved = False
        self._flush()
        if self._resting and not self._said_all:
            self._stop_reading()

    def doWrite(self) -> None:
        """Write, because the socket can take something."""
        if self._socket is None:
            return
        if self._mode is _Mode.HANDSHAKE:
            self._read_blocked = False
            self._watch_writing(wanted=False)
            self._watch_if_read()
            self._shake_hands()
            return
        self._flush()
        if self._read_blocked:
            self._read_blocked = False
            self._watch_if_read()
            self.doRead()

    # Reading

    def _read_plain(self) -> None:
        data = self._receive()
        if data is None or self.protocol is None:
            return
        if data:
            self.protocol.dataReceived(data)
        else:
            self._read_ended()

    def _peek(self) -> None:
        data = self._receive(socket.MSG_PEEK)
        if data is None or self.protocol is None:
            return
        if not data:
            self._read_ended()
            return
        taken = self.protocol.dataPeeked(data)
        if taken and not self._drop(taken):
            return
        self.protocol.dataTaken()
        if self._mode is _Mode.HELLO and taken < len(data) and self._socket is not None:
            self._peek_hello(data[taken:])

    def _drop(self, count: int) -> bool:
        """Take bytes off the socket that were looked at; whether they were there to be taken."""
        assert self._socket is not None  # noqa: S101 - looking ends no leg
        try:
            gone = len(self._socket.recv(count))
        except OSError as error:
            self._end(error)
            return False
        if gone != count:
            self._end(ConnectionLost("what was looked at could not be taken"))
        return gone == count

    def _peek_hello(self, seen: bytes = b"") -> None:
        if self._socket is None or self.protocol is None or self._watch is None:
            return
        try:
            found = self._watch.look(self._socket, seen)
        except MalformedError as error:
            self.protocol.tlsFailed(str(error))
            return
        except OSError as error:
            self._end(error)
            return
        if isinstance(found, Hello):
            self._watch = None
            self._hello = found
            self.protocol.helloReceived(found)
        elif found is Wait.LATER:
            self._watch_reading(wanted=False)
            self._reactor.callLater(_RETRY, self._watch_if_read)
        elif found is Wait.ENDED:
            self._read_ended()

    def _watch_if_read(self) -> None:
        """Watch for what is to be read, unless nothing is."""
        if not (self._resting or self._read_blocked):
            self._watch_reading(wanted=True)

    @property
    def _resting(self) -> bool:
        """Whether nothing is to be read now."""
        return self._paused or self._held or self._choked or self._closing

    def _shake_hands(self) -> None:
        start = self._starting
        if start is None or self.protocol is None:
            return
        try:
            following = start.advance()
        except (HandshakeError, SSL.Error, OSError) as error:
            self.protocol.tlsFailed(describe(error))
            return
        if following is Next.WRITABLE:
            self._read_when_writable()
        if following is not Next.DONE:
            return
        self._starting = None
        try:
            agreed = start.agreed()
        except (HandshakeError, SSL.Error) as error:
            self.protocol.tlsFailed(describe(error))
            return
        self._mode = _Mode.STREAM
        self.protocol.tlsEstablished(agreed)
        if self._mode is _Mode.STREAM and self._socket is not None:
            self._read_tls()

    def _read_when_writable(self) -> None:
        self._read_blocked = True
        self._watch_reading(wanted=False)
        self._watch_writing(wanted=True)

    def _read_pending(self) -> None:
        if self._socket is not None and self._mode is _Mode.STREAM:
            self._read_tls()

    def _read_tls(self) -> None:
        """Read records that have come, as many as there is room for, and pass them on at once."""
        if self._tls is None or self.protocol is None or self._resting:
            return
        ssl = openssl.inside(self._tls)
        read, buffer, record = openssl.read, openssl.BUFFER, openssl.RECORD
        count, filled = 1, 0
        for _ in range(_READS_AT_ONCE):
            count = read(ssl, buffer + filled, record)
            if count <= 0:
                break
            filled += count
            if filled > _LAST_PIECE:
                break
        error = openssl.get_error(ssl, count)
        lost = None if error in _ORDINARY else ConnectionLost(describe(openssl.pending_error()))
        if filled:
            self.protocol.dataReceived(bytes(openssl.VIEW[:filled]))
        if count > 0:
            if self._pending():
                self._reactor.callLater(0, self._read_pending)
        elif lost is not None:
            self._end(lost)
        else:
            self._tls_read_failed(error)

    def _tls_read_failed(self, error: int) -> None:
        if error == openssl.WANT_WRITE:
            self._read_when_writable()
        elif error == openssl.ZERO_RETURN:
            self._ended_unread = self._resting
            if not self._ended_unread:
                self._read_ended()

    def _pending(self) -> int:
        """How many bytes OpenSSL holds decrypted; what was read may have ended the leg."""
        return 0 if self._tls is None else self._tls.pending()

    def _hung_up(self, events: int) -> None:
        """Tell that the peer has left a leg that is held: once, or it would be told of for ever."""
        assert self._socket is not None  # noqa: S101 - one that has ended is not watched
        self._watch_hang_up(wanted=False)
        if events & GONE:
            status = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._end(OSError(status, os.strerror(status)) if status else ConnectionLost())
        elif self.protocol is not None:
            self.protocol.readConnectionLost()

    def _read_ended(self) -> None:
        self._peer_closed = True
        if self.protocol is not None and not self._closing:
            self.protocol.readConnectionLost()
        self._watch_reading(wanted=False)

    # Writing

    def _send(self, piece: memoryview) -> int:
        if self._tls is not None:
            return self._tls.send(piece)
        assert self._socket is not None  # noqa: S101 - only called while there is one
        return self._socket.send(piece)

    def _write_failed(self, error: BaseException) -> None:
        self._end_soon(ConnectionLost(describe(error)))

    # The end

    @property
    def _is_mute(self) -> bool:
        return self._mode in (_Mode.HELLO, _Mode.HANDSHAKE)

    def _notify(self) -> None:
        if self._tls is not None:
            self._tls.shutdown()

    def _let_go(self) -> None:
        self._tls = self._starting = None


def close_politely(reactor: Any, connection: socket.socket) -> None:
    """Close a socket on which all has been said, so that the last words arrive."""
    Leg(reactor, connection, Silence(), peek=False).loseConnection()
