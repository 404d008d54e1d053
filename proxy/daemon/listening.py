"""Opening the sockets of a listener, or taking those that systemd has passed for it."""

import socket

from proxy.daemon.activation import Activation
from proxy.daemon.endpoints import PassedPlace
from proxy.daemon.model import Listener as ListenerConf
from proxy.net.hub import Hub
from proxy.net.listener import Accepted, Listener


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
    conf: ListenerConf, hub: Hub, accepted: Accepted, activation: Activation | None
) -> list[Listener]:
    """Listen on every address of a listener; each is a `Listener` of its own.

    Args:
        conf: the listener.
        hub: watches the sockets.
        accepted: takes each connection, and where its peer is.
        activation: has the sockets that were passed.

    Raises:
        OSError: an address cannot be listened on; the message says which and why.
    """
    place = conf.address
    passed: tuple[socket.socket, ...] = ()
    if isinstance(place, PassedPlace) and activation is not None:
        passed = activation.sockets(place)
    ports: list[Listener] = []
    for number, endpoint in enumerate(place.endpoints):
        port = Listener(
            hub,
            endpoint.host,
            endpoint.port,
            accepted,
            tproxy=conf.tproxy,
            # The one that was passed stays open for a listener of a later conf.
            passed=passed[number].dup() if passed else None,
        )
        try:
            port.start()
        except OSError as error:
            for started in ports:
                started.stop()
            raise OSError(f"listener {conf.name}: {endpoint}: {error.strerror}") from error
        ports.append(port)
    return ports
