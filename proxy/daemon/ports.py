"""What is listened on: it stays open from one conf to the next."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Generic, Protocol, TypeVar

import attrs

from proxy.daemon.endpoints import Endpoint, Place
from proxy.daemon.model import Listener as ListenerConf
from proxy.session.hooks import Address


class Port(Protocol):
    """A socket that listens."""

    @property
    def host(self) -> str:
        """The address that is listened on."""

    @property
    def port(self) -> int:
        """The port that is listened on."""

    def stop(self) -> None:
        """Close it."""


P = TypeVar("P", bound=Port)


@attrs.frozen
class _Key:
    """Where a listener listens: two confs that say the same mean the same sockets.

    Attributes:
        place: its address.
        tproxy: whether it takes connections to addresses that are not ours.
        name: its name, where that decides; empty otherwise.
    """

    place: Place
    tproxy: bool
    name: str

    @classmethod
    def of(cls, conf: ListenerConf) -> "_Key":
        # Any port is another one for each listener.
        any_port = isinstance(conf.address, Endpoint) and conf.address.port == 0
        return cls(conf.address, conf.tproxy, conf.name if any_port else "")


@attrs.frozen
class Held(Generic[P]):
    """What a listener listens on.

    Attributes:
        name: the listener's name.
        ports: one for each of its endpoints.
    """

    name: str
    ports: tuple[P, ...]

    def stop(self) -> None:
        """Close everything."""
        for port in self.ports:
            port.stop()


class Opened(Generic[P]):
    """The ports of a conf, those of the last one among them; nothing has changed for that one."""

    def __init__(self) -> None:
        self.held: dict[_Key, Held[P]] = {}
        self.fresh: dict[_Key, Held[P]] = {}

    @property
    def added(self) -> tuple[str, ...]:
        """The names of listeners that listen anew."""
        return tuple(held.name for held in self.fresh.values())

    def __iter__(self) -> Iterator[Held[P]]:
        return iter(self.held.values())

    def close(self) -> None:
        """Close what was opened anew."""
        for held in self.fresh.values():
            held.stop()


class Ports(Generic[P]):
    """What confs have listened on."""

    def __init__(self) -> None:
        self._held: dict[_Key, Held[P]] = {}

    def open(
        self, confs: Iterable[ListenerConf], listen: Callable[[ListenerConf], Sequence[P]]
    ) -> Opened[P]:
        """Listen wherever nobody does yet.

        Args:
            confs: the listeners of a conf.
            listen: opens the ports of a listener, or raises `OSError`.

        Raises:
            OSError: an address cannot be listened on; the message says which and why. Nothing has
                been opened then.
        """
        opened: Opened[P] = Opened()
        wanted = {_Key.of(conf): conf for conf in confs}
        for key, conf in wanted.items():
            held = self._held.get(key)
            if held is not None:
                opened.held[key] = Held(conf.name, held.ports)
                continue
            try:
                ports = listen(conf)
            except OSError as error:
                opened.close()
                raise OSError(f"{error}{self._in_the_way(conf, wanted)}") from error
            opened.fresh[key] = opened.held[key] = Held(conf.name, tuple(ports))
        return opened

    def adopt(self, opened: Opened[P]) -> None:
        """Have what another conf asks for, and close what it has no use for.

        Args:
            opened: what `open` has returned.
        """
        gone = [held for key, held in self._held.items() if key not in opened.held]
        for held in gone:
            held.stop()
        self._held = opened.held

    def stop(self) -> None:
        """Close everything."""
        for held in self._held.values():
            held.stop()
        self._held = {}

    def places(self) -> Mapping[str, tuple[Address, ...]]:
        """Return where each listener listens, by its name."""
        return {
            held.name: tuple(Address(port.host, port.port) for port in held.ports)
            for held in self._held.values()
        }

    def held(self) -> tuple[Held[P], ...]:
        """Return what each listener listens on."""
        return tuple(self._held.values())

    def __iter__(self) -> Iterator[P]:
        return chain.from_iterable(held.ports for held in self._held.values())

    def _in_the_way(self, conf: ListenerConf, wanted: Mapping[_Key, ListenerConf]) -> str:
        """Say which of our own sockets keeps a listener from its address, if any may."""
        numbers = {endpoint.port for endpoint in conf.address.endpoints}
        for key, held in self._held.items():
            if key not in wanted and numbers & {port.port for port in held.ports}:
                return f"; listener {held.name} is there until a restart"
        return ""
