"""Streams between servers as both ends say them by rote: elements, ends, and scripts."""

import re
from pathlib import Path

from OpenSSL import SSL

from tests.net import hostile
from tests.net.hostile import MECHANISMS, Peer, Script
from tests.net.legacy import Connection
from tests.net.legacy import Script as LegacyScript
from tests.servers.stream import STARTTLS, Stream

Pair = tuple[Path, Path]
"""Files of a certificate and its private key."""

KEY = "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3"
"""A dialback key that is not ours."""

SERVER = "jabber:server"
DIALBACK = "xmlns:db='jabber:server:dialback'"
FEATURES = b"<stream:features/>"
EXTERNAL = MECHANISMS.replace(b"PLAIN", b"EXTERNAL")
AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>"
FAILURE = (
    b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure></stream:stream>"
)
END = "</stream:stream>"

_FEATURES = "<stream:features/>|</stream:features>"


def result(sender: str, to: str, key: str = KEY) -> str:
    """Return a request that asks for a pair of domains to be let pass."""
    return f"<db:result from='{sender}' to='{to}'>{key}</db:result>"


def verify(sender: str, to: str, stream_id: str, key: str = KEY) -> str:
    """Return a question whether a key is good."""
    return f"<db:verify from='{sender}' to='{to}' id='{stream_id}'>{key}</db:verify>"


def answer(sender: str, to: str, kind: str = "valid", stream_id: str = "") -> str:
    """Return an answer to `result`, or to `verify` where there is an id."""
    name, said = ("verify", f" id='{stream_id}'") if stream_id else ("result", "")
    return f"<db:{name} from='{sender}' to='{to}'{said} type='{kind}'/>"


def anew(element: str) -> str:
    """Return an element of dialback as the service writes it, who passes none on as it is."""
    quoted = re.sub(" (from|to|id)='([^']*)'", r' \1="\2"', element)
    return quoted.replace(" from=", f" {DIALBACK} from=", 1)


def message(sender: str, to: str, body: str = "x") -> str:
    """Return a stanza."""
    return f"<message from='a@{sender}/x' to='b@{to}'><body>{body}</body></message>"


class Sender(Stream):
    """A server's end of a stream that it opens.

    Args:
        bare: its connection.
        sender: the domain that it says it is.
        to: the domain that it wants to reach.
    """

    def __init__(self, bare: Stream, sender: str, to: str) -> None:
        super().__init__(bare.connection, to)
        self.sender = sender
        self.to = to

    def header(self, *, version: str | None = "1.0", declared: bool = True) -> str:
        """Return its header, with a version or not, dialback declared or not."""
        said = f" version='{version}'" if version else ""
        return (
            f"<?xml version='1.0'?><stream:stream from='{self.sender}' to='{self.to}'{said}"
            f" xmlns='{SERVER}' xmlns:stream='http://etherx.jabber.org/streams'"
            f"{' ' + DIALBACK if declared else ''}>"
        )

    def open(self, *, version: str | None = "1.0", declared: bool = True) -> str:
        """Open a stream; return the header that answers."""
        self.send(self.header(version=version, declared=declared))
        return self.read_until("<stream:stream [^>]*>")

    def read_features(self) -> str:
        """Read features; the service may have added what it allows (XEP-0478)."""
        return self.read_until(_FEATURES)

    def ask_for_tls(self) -> None:
        """Get to where TLS begins."""
        self.open()
        self.read_until("</stream:features>")
        self.send(STARTTLS)
        self.read_until("<proceed [^>]*/>")

    def authenticate(self) -> None:
        """Do SASL EXTERNAL, and open the stream that follows."""
        self.open()
        assert "<mechanism>EXTERNAL</mechanism>" in self.read_until("</stream:features>")
        self.send(AUTH)
        self.read_until("<success [^>]*/>")
        self.open()
        assert "EXTERNAL" not in self.read_features()

    def let_pass(self, receiver: Connection | Peer) -> None:
        """Do dialback, which the other end of the stream grants."""
        self.send(result(self.sender, self.to))
        receiver.read_until(rb"</db:result>")
        receiver.send(answer(self.to, self.sender).encode())
        assert "type='valid'" in self.read_until("<db:result [^>]*/>")

    def is_silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for a while."""
        before = self.connection.gettimeout()
        self.connection.settimeout(seconds)
        try:
            self._buffer += self.connection.recv(65536)
        except TimeoutError:
            return not self._buffer
        finally:
            self.connection.settimeout(before)
        return False


# What the legacy server does with a stream


def taking(
    prefix: str = "legacy", *, features: bytes = FEATURES, version: bool = True
) -> LegacyScript:
    """Return a script that answers a header; ids are the prefix and a number, from 1 on."""
    count = iter(range(1, 1_000_000))

    def taken(connection: Connection) -> None:
        stream_id = f"{prefix}-{next(count)}"
        connection.read_until(hostile.STREAM)
        connection.send(header(stream_id, version=version) + (features if version else b""))

    return taken


def header(stream_id: str, *, version: bool = True) -> bytes:
    """Return the header with which a server answers another."""
    opening = hostile.header(stream_id, version=version, content=SERVER)
    return opening.replace(b" xml:lang", f" {DIALBACK} xml:lang".encode())


# What the server of the network does with a stream


def script(
    pair: Pair,
    then: Script | None = None,
    *,
    direct: bool = False,
    newest: int = SSL.TLS1_3_VERSION,
    asking: bool = True,
) -> Script:
    """Return a script that begins TLS and goes on, by answering the stream with no features.

    Args:
        pair: the certificate that it shows, and its key.
        then: what it does under TLS.
        direct: whether TLS comes first, or STARTTLS.
        newest: the newest version of TLS.
        asking: whether it asks for a certificate.
    """
    then = then or opened()

    def secured(peer: Peer) -> None:
        if not direct:
            hostile.proceed(peer, SERVER)
        peer.secure(*pair, newest, b"xmpp-server", asking=asking)
        then(peer)

    return secured


def opened(
    stream_id: str = "remote-1", features: bytes = FEATURES, *, version: bool = True
) -> Script:
    """Return what answers a header; the test goes on from there."""

    def answered(peer: Peer) -> None:
        peer.read_until(hostile.STREAM)
        peer.established = True
        peer.send(header(stream_id, version=version) + (features if version else b""))

    return answered


def accepting(stream_id: str = "remote-2", said: bytes = hostile.SUCCESS) -> Script:
    """Return what offers SASL EXTERNAL, accepts it and answers the header that follows."""

    def accepted(peer: Peer) -> None:
        offering(peer)
        peer.read_until(b"</auth>")
        peer.send(said)
        opened(stream_id)(peer)

    return accepted


def refusing(said: bytes = FAILURE) -> Script:
    """Return what offers SASL EXTERNAL, and says something else than yes; nothing: it closes."""

    def refused(peer: Peer) -> None:
        offering(peer)
        peer.read_until(b"</auth>")
        if said:
            peer.send(said)
        else:
            peer.close()

    return refused


def offering(peer: Peer) -> None:
    """Answer a header, and offer SASL EXTERNAL."""
    peer.read_until(hostile.STREAM)
    peer.send(header("remote-0") + EXTERNAL)
