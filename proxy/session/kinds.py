"""Kinds of streams: between client and server, between servers, and of components."""

from enum import Enum
from typing import Final

from proxy.xmpp import namespaces as ns

_FACTS: Final = {
    "c2s": (ns.CLIENT, b"xmpp-client", "xmpp-client", "clients"),
    "s2s": (ns.SERVER, b"xmpp-server", "xmpp-server", "servers"),
    "component": (ns.COMPONENT, b"", "", "components"),
}


class Kind(Enum):
    """A kind of stream. The values are the words of the configuration file.

    Attributes:
        content: the default namespace of such streams.
        protocol: what ALPN calls them (XEP-0368); empty if it has no name for them.
        service: the service of their SRV records, without the underscore; empty if there is none.
        peers: what is called who opens them, in the plural.
    """

    C2S = "c2s"
    """Of clients (RFC 6120)."""

    S2S = "s2s"
    """Of servers, each for one direction (RFC 6120, XEP-0220)."""

    COMPONENT = "component"
    """Of components (XEP-0114)."""

    def __init__(self, word: str) -> None:
        self.content, self.protocol, self.service, self.peers = _FACTS[word]
