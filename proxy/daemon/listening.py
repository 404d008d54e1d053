"""Opening the sockets of a listener, or taking those that listen already."""

import socket
from collections.abc import Sequence
from typing import Protocol

from proxy.daemon.model import Listener as ListenerConf
from proxy.net.hub import Hub
from proxy.net.listener import Accepted, Listener, open_socket


class Sockets(Protocol):
    """Sockets that listen already, opened by somebody else.

    Attributes:
        shared: whether other processes accept from them too.
    """

    shared: bool

    def of(self, listener: ListenerConf) -> Sequence[socket.socket]:
        """Return those of a listener, one for each of its endpoints; none if it has none yet.

        They stay whose they were: who listens does so on duplicates.
        """


def facts(conf: ListenerConf, address: object) -> dict[str, object]:
    """Return what the log tells of a listener at one of its addresses."""
    return {
        "listener": conf.name,
        "direction": conf.direction,
        "stream": conf.stream.value,
        "address": address,
        "tls": conf.tls.value,
    }


def listen(
    conf: ListenerConf, hub: Hub, accepted: Accepted, sockets: Sockets | None
) -> list[Listener]:
    """Listen on every address of a listener; each is a `Listener` of its own.

    Args:
        conf: the listener.
        hub: watches the sockets.
        accepted: takes each connection, and where its peer is.
        sockets: those that listen already; None if there are none.

    Raises:
        OSError: an address cannot be listened on; the message says which and why.
    """
    there = () if sockets is None else sockets.of(conf)
    ports: list[Listener] = []
    for number, endpoint in enumerate(conf.address.endpoints):
        try:
            port = Listener(
                hub,
                endpoint.host,
                endpoint.port,
                accepted,
                tproxy=conf.tproxy,
                # The one that is there stays open for a listener of a later conf.
                passed=there[number].dup() if there else None,
                shared=sockets is not None and sockets.shared,
            )
            port.start()
        except OSError as error:
            for started in ports:
                started.stop()
            raise unavailable(conf, endpoint, error) from error
        ports.append(port)
    return ports


def open_sockets(conf: ListenerConf, sockets: Sockets | None) -> list[socket.socket]:
    """Return sockets that listen on every address of a listener; nobody accepts from them yet.

    Args:
        conf: the listener.
        sockets: those that listen already, of which duplicates are returned; None if there are
            none.

    Raises:
        OSError: an address cannot be listened on; the message says which and why.
    """
    there = () if sockets is None else sockets.of(conf)
    opened: list[socket.socket] = []
    for number, endpoint in enumerate(conf.address.endpoints):
        try:
            opened.append(
                there[number].dup()
                if there
                else open_socket(endpoint.host, endpoint.port, tproxy=conf.tproxy)
            )
        except OSError as error:
            for each in opened:
                each.close()
            raise unavailable(conf, endpoint, error) from error
    return opened


def unavailable(conf: ListenerConf, endpoint: object, error: OSError) -> OSError:
    """Say which address of which listener cannot be listened on, and why."""
    return OSError(f"listener {conf.name}: {endpoint}: {error.strerror}")
