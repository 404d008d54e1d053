"""The domains that are ours: which there are for a kind of stream, and what their servers get."""

from collections.abc import Callable, Sequence

from OpenSSL import SSL

from proxy.daemon.model import REVERSE, Conf, Listener
from proxy.net.proxy_protocol import preface
from proxy.net.tls import server_context
from proxy.session.hooks import Address, View
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule


class OwnDomains:
    """The domains of a conf whose servers take streams of a kind.

    The first of them is shown to clients that name none.

    Args:
        conf: the conf.
        kind: the kind of stream.
    """

    def __init__(self, conf: Conf, kind: Kind) -> None:
        self._servers = {
            domain.name: Address(server.host, server.port)
            for domain in conf.domains
            if (server := domain.server(kind)) is not None
        }

    def serves(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) is one of ours."""
        return domain in self._servers

    def default(self) -> str:
        """Return the domain shown to clients that name none."""
        return next(iter(self._servers), "")

    def server(self, domain: str) -> Address:
        """Return where the server of a domain that is served is."""
        return self._servers[domain]

    def together(self, domain: str, other: str) -> bool:
        """Whether both domains are ours, and behind the same server."""
        server = self._servers.get(domain)
        return server is not None and server == self._servers.get(other)


def contexts(conf: Conf) -> dict[str, dict[str, SSL.Context]]:
    """Make the TLS context of each domain on each listener, by their names.

    Raises:
        TLSSetupError: a certificate cannot be used.
    """
    return {
        listener.name: _contexts_of(conf, listener)
        for listener in conf.listeners
        if listener.direction == REVERSE and listener.tls is not TLSRule.NONE
    }


def _contexts_of(conf: Conf, listener: Listener) -> dict[str, SSL.Context]:
    return {
        domain.name: server_context(
            [(files.certificate, files.private_key) for files in domain.certificates],
            scope=f"{listener.name}/{domain.name}",
            kind=listener.stream,
        )
        for domain in conf.domains
        if domain.server(listener.stream) is not None
    }


def prefaces(conf: Conf, kind: Kind) -> Callable[[View, Address, Sequence[bytes]], bytes] | None:
    """Return what writes the PROXY header for those servers that get one, if any does."""
    told = {domain.name for domain in conf.domains if domain.tells(kind)}

    def written(view: View, place: Address, shown: Sequence[bytes]) -> bytes:
        return preface(view, place, shown) if view.domain in told else b""

    return written if told else None
