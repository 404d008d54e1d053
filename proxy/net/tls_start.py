"""How TLS starts on a leg: what a handshake begins with, how it goes on, what it has agreed on."""

import socket
from abc import ABC, abstractmethod
from typing import Final

from OpenSSL import SSL

from proxy.net import openssl
from proxy.net.client_hello import Hello
from proxy.net.handshake import Handshake, HandshakeError, Next
from proxy.net.stapling import request_staple
from proxy.net.tcp import is_address
from proxy.net.tls import facts, server_facts
from proxy.session.hooks import TLSFacts
from proxy.session.kinds import Kind

_NEXT: Final = {
    openssl.NONE: Next.DONE,
    openssl.WANT_READ: Next.READABLE,
    openssl.WANT_WRITE: Next.WRITABLE,
}


class TLSStart(ABC):
    """The handshake of one leg, and what it was begun with.

    Args:
        tls: pyOpenSSL's connection, ready to begin.
        kind: the kind of stream, which ALPN names.
        direct: whether TLS begins with the first byte (XEP-0368).

    Attributes:
        tls: the same. The leg writes by it from the beginning, and reads by it once the handshake
            is finished.
    """

    __slots__ = ("_direct", "_kind", "tls")

    def __init__(self, tls: SSL.Connection, kind: Kind, *, direct: bool) -> None:
        openssl.read_a_record_at_a_time(tls)
        self.tls = tls
        self._kind = kind
        self._direct = direct

    @abstractmethod
    def advance(self) -> Next:
        """Go on as far as the socket allows.

        Raises:
            HandshakeError: the peer does not do its part.
            OpenSSL.SSL.Error: the handshake has failed; the peer has been told.
            OSError: the connection is lost.
        """

    @abstractmethod
    def agreed(self) -> TLSFacts:
        """Return what the handshake has agreed on, once it is finished.

        Raises:
            HandshakeError: it does not fit what the handshake was begun with.
            OpenSSL.SSL.Error: OpenSSL cannot say.
        """


class ServerTLSStart(TLSStart):
    """TLS as the server, which begins with a ClientHello that was looked at.

    Args:
        context: what is spoken.
        connection: the socket, connected and not blocking, the ClientHello still unread on it.
        hello: that ClientHello.
        kind: the kind of stream, as in ``context``.
        direct: whether TLS begins with the first byte.
    """

    __slots__ = ("_handshake", "_hello")

    def __init__(
        self,
        context: SSL.Context,
        connection: socket.socket,
        hello: Hello,
        *,
        kind: Kind,
        direct: bool,
    ) -> None:
        self._hello = hello
        self._handshake: Handshake | None = None
        # Behind a ClientHello that goes on, OpenSSL as the server takes in records without end.
        if hello.goes_on:
            self._handshake = Handshake(context, connection, accept=True)
            tls = self._handshake.tls
        else:
            tls = SSL.Connection(context, connection)
            tls.set_accept_state()
        super().__init__(tls, kind, direct=direct)

    def advance(self) -> Next:
        """Go on, as `TLSStart.advance` does."""
        if self._handshake is not None:
            return self._handshake.advance()
        return _NEXT[openssl.advance(self.tls)]

    def agreed(self) -> TLSFacts:
        """Return what was agreed on, as `TLSStart.agreed` does."""
        if not openssl.took_up(self.tls, self._hello.server_name):
            raise HandshakeError("the ClientHello has changed under way")
        return facts(self.tls, self._hello, direct=self._direct, kind=self._kind)


class ClientTLSStart(TLSStart):
    """TLS as the client.

    Args:
        context: what is spoken.
        connection: the socket, connected and not blocking.
        server_name: the domain for server name indication, as A-labels; an address is not
            indicated.
        kind: the kind of stream, which ALPN names with direct TLS.
        direct: whether TLS begins with the first byte (XEP-0368).
    """

    __slots__ = ("_handshake", "_server_name")

    def __init__(
        self,
        context: SSL.Context,
        connection: socket.socket,
        server_name: str,
        *,
        kind: Kind,
        direct: bool,
    ) -> None:
        self._server_name = server_name
        self._handshake = Handshake(context, connection, accept=False)
        super().__init__(self._handshake.tls, kind, direct=direct)
        if not is_address(server_name):
            self.tls.set_tlsext_host_name(server_name.encode("ascii"))
        if direct:
            self.tls.set_alpn_protos([kind.protocol])
        request_staple(self.tls)

    def advance(self) -> Next:
        """Go on, as `TLSStart.advance` does."""
        return self._handshake.advance()

    def agreed(self) -> TLSFacts:
        """Return what was agreed on, as `TLSStart.agreed` does."""
        agreed = server_facts(self.tls, self._server_name, direct=self._direct)
        # OpenSSL should have seen to it that nothing else is chosen.
        if agreed.protocol.encode() not in (b"", self._kind.protocol):
            raise HandshakeError("ALPN has chosen what was not offered")
        return agreed
