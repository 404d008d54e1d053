"""The sockets that are listened on: they stay open from one conf to the next."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import attrs

from proxy.daemon.activation import Activation
from proxy.daemon.endpoints import Endpoint, Place
from proxy.daemon.listening import listen
from proxy.daemon.model import Listener as ListenerConf
from proxy.net.hub import Hub
from proxy.net.listener import Accepted, Listener
from proxy.session.hooks import Address


@attrs.frozen
class _Key:
    """What makes two listeners, each of a conf, the same place."""

    place: Place
    tproxy: bool
    name: str

    @classmethod
    def of(cls, conf: ListenerConf) -> "_Key":
        # Any port is another one for each listener.
        any_port = isinstance(conf.address, Endpoint) and conf.address.port == 0
        return cls(conf.address, conf.tproxy, conf.name if any_port else "")


@attrs.frozen
class _Held:
    name: str
    ports: tuple[Listener, ...]


class Opened:
    """The sockets of a conf, those of the last one among them; nothing has changed for that one."""

    def __init__(self) -> None:
        self.held: dict[_Key, _Held] = {}
        self.fresh: dict[_Key, _Held] = {}

    @property
    def added(self) -> tuple[str, ...]:
        """The names of listeners that listen anew."""
        return tuple(held.name for held in self.fresh.values())

    def close(self) -> None:
        """Close what was opened anew."""
        for held in self.fresh.values():
            _stop(held)


class Ports:
    """Listens where confs say.

    Args:
        activation: has the sockets that systemd has passed; None if there are none.
    """

    def __init__(self, activation: Activation | None) -> None:
        self._activation = activation
        self._held: dict[_Key, _Held] = {}

    def open(
        self, confs: Iterable[ListenerConf], accepted: Mapping[str, Accepted], hub: Hub
    ) -> Opened:
        """Listen wherever nobody does yet; connections are accepted when the reactor turns.

        Args:
            confs: the listeners of a conf.
            accepted: what takes the connections of each, by its name.
            hub: watches the sockets.

        Raises:
            OSError: an address cannot be listened on; the message says which and why. Nothing has
                been opened then.
        """
        opened = Opened()
        wanted = {_Key.of(conf): conf for conf in confs}
        for key, conf in wanted.items():
            held = self._held.get(key)
            if held is not None:
                opened.held[key] = _Held(conf.name, held.ports)
                continue
            try:
                ports = listen(conf, hub, accepted[conf.name], self._activation)
            except OSError as error:
                opened.close()
                raise OSError(f"{error}{self._in_the_way(conf, wanted)}") from error
            opened.fresh[key] = opened.held[key] = _Held(conf.name, tuple(ports))
        return opened

    def adopt(self, opened: Opened, accepted: Mapping[str, Accepted]) -> tuple[str, ...]:
        """Have connections go where another conf says, and close what it has no use for.

        Args:
            opened: what `open` has returned.
            accepted: what takes the connections of each listener, by its name.

        Returns:
            The names of the listeners that are closed.
        """
        gone = [held for key, held in self._held.items() if key not in opened.held]
        for held in opened.held.values():
            for port in held.ports:
                port.serve(accepted[held.name])
        for held in gone:
            _stop(held)
        self._held = opened.held
        return tuple(held.name for held in gone)

    def stop(self) -> None:
        """Close everything."""
        for held in self._held.values():
            _stop(held)
        self._held = {}

    def places(self) -> Mapping[str, tuple[Address, ...]]:
        """Return where each listener listens, by its name."""
        return {
            held.name: tuple(Address(port.host, port.port) for port in held.ports)
            for held in self._held.values()
        }

    def is_own(self, address: str, port: int) -> bool:
        """Whether an IP address and a port are a listener of ours."""
        return any(
            listening.port == port and (listening.host == address or listening.takes(address))
            for listening in self._all()
        )

    def _all(self) -> Iterator[Listener]:
        return chain.from_iterable(held.ports for held in self._held.values())

    def _in_the_way(self, conf: ListenerConf, wanted: Mapping[_Key, ListenerConf]) -> str:
        """Say which of our own sockets keeps a listener from its address, if any may."""
        numbers = {endpoint.port for endpoint in conf.address.endpoints}
        for key, held in self._held.items():
            if key not in wanted and numbers & {port.port for port in held.ports}:
                return f"; listener {held.name} is there until a restart"
        return ""


def _stop(held: _Held) -> None:
    for port in held.ports:
        port.stop()
