"""The way to an account's server, in plaintext as it is at this end."""

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from proxy.daemon.alerting.stream import DeliveryError
from proxy.daemon.alerting.table import AlertsTable, account_endpoint
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.served import Domain
from proxy.net.connector import Connector
from proxy.net.proxy_protocol import write
from proxy.session.hooks import Address
from proxy.session.kinds import Kind


@attrs.frozen
class Way:
    """A connection on which the account's server can be spoken to.

    Attributes:
        connection: a connected socket, not blocking; whoever gets it closes it.
        plain: whether the account's password itself may be said on it: it leads to a server of
            ours, or to nobody who has not proved the domain.
    """

    connection: socket.socket
    plain: bool


Connect = Callable[[str], "Deferred[Way]"]
"""Finds the way to a domain's server.

The Deferred fails with an exception whose message says why, and is cancelled when the way is not
wanted any more.
"""


@attrs.frozen
class Direct:
    """A server that takes clients in plaintext.

    Attributes:
        server: where it is.
        plain: whether a password may be said to it.
        preface: whether it expects a header of the PROXY protocol.
    """

    server: Endpoint
    plain: bool
    preface: bool


def direct(table: AlertsTable, domain: str, domains: Iterable[Domain]) -> Direct | None:
    """Return the server of an account to which there is a direct way; ``None`` if there is none.

    Args:
        table: says where the server is, if it does.
        domain: the account's, in A-labels.
        domains: our own.
    """
    own = next((each for each in domains if each.name == domain and each.c2s_server), None)
    behind = None if own is None else own.c2s_server
    server = account_endpoint(table.server) or behind
    if server is None:
        return None
    ours = server == behind
    preface = ours and own is not None and own.tells(Kind.C2S)
    return Direct(server, plain=ours or server.is_loopback, preface=preface)


def connecting(
    table: AlertsTable, domains: Iterable[Domain], reactor: Any, abroad: Connect
) -> Connect:
    """Return what finds the way to an account's server: the direct one where there is one.

    Args:
        table: says where the server is, if it does.
        domains: our own.
        reactor: the reactor.
        abroad: finds the way to the servers of other domains.
    """
    own = tuple(domains)

    def connect(domain: str) -> "Deferred[Way]":
        server = direct(table, domain, own)
        return abroad(domain) if server is None else directly(server, reactor)

    return connect


def directly(way: Direct, reactor: Any) -> "Deferred[Way]":
    """Connect to a server that takes clients in plaintext; see `Connect`."""

    def arrived(connection: socket.socket) -> None:
        with suppress(OSError):  # a connection that is lost again is found out about soon enough
            if way.preface:
                ends = (connection.getsockname(), connection.getpeername())
                here, there = (Address(end[0], end[1]) for end in ends)
                connection.send(write(here, there))
        found.callback(Way(connection, way.plain))

    def stranded(reason: str) -> None:
        found.errback(DeliveryError(f"{way.server}: {reason}"))

    connector = Connector(reactor, way.server.host, way.server.port, arrived, stranded)
    found: Deferred[Way] = Deferred(lambda _: connector.cancel())
    connector.start()
    return found
