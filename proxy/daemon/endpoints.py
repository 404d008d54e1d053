"""Addresses with a port, as they stand in the configuration."""

import ipaddress
import re
from abc import ABC, abstractmethod

import attrs

from proxy.net.proxied import Network

DNS_PORT = 53

_HIGHEST_PORT = 65535
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_LONGEST_HOST_NAME = 253
_PORT = re.compile(r"[0-9]{1,5}\Z")
_PASSED = "systemd:"
_PASSED_NAME = re.compile(r"[!-9;-~]{1,255}\Z")


class Place(ABC):
    """Where a listener accepts connections; ``str()`` writes it as the configuration has it."""

    @property
    @abstractmethod
    def endpoints(self) -> "tuple[Endpoint, ...]":
        """Every address that is listened on there, as far as that is known."""


@attrs.frozen
class PassedPlace(Place):
    """Sockets that systemd opens and passes: those of a ``.socket`` unit, by their name.

    ``endpoints`` are known only to the process that they were passed to.
    """

    name: str
    endpoints: "tuple[Endpoint, ...]" = attrs.field(default=(), eq=False)

    def __str__(self) -> str:
        return f"{_PASSED}{self.name}"


@attrs.frozen
class Endpoint(Place):
    """A host and a TCP port; ``str()`` writes it as it stands in the configuration.

    ``host`` is an IP address in its shortest form, without brackets, or a host name in lower case.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def endpoints(self) -> "tuple[Endpoint, ...]":
        """This very address."""
        return (self,)

    @property
    def is_loopback(self) -> bool:
        """Whether the host is an address of loopback; of a name nobody knows."""
        address = _parsed(self.host)
        return address is not None and address.is_loopback

    @property
    def is_global(self) -> bool:
        """Whether the host is an address of the public Internet; of a name nobody knows."""
        address = _parsed(self.host)
        return address is not None and address.is_global


def server_endpoint(text: str) -> Endpoint:
    """Read where a server is to be reached: ``host:port``, ``192.0.2.1:port``, ``[::1]:port``.

    Raises:
        ValueError: ``text`` is not of that form; the message says why.
    """
    host, port = _split(text)
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    address = _address(host)
    if address is not None:
        if address.is_unspecified:
            raise ValueError(f"{host} cannot be connected to")
        return Endpoint(host=str(address), port=port)
    # A name that ends in digits would be taken for an IPv4 address in some old form.
    if (
        len(host) > _LONGEST_HOST_NAME
        or not _HOST_NAME.match(host)
        or host.rpartition(".")[2].isdigit()
    ):
        raise ValueError("the host is neither an IP address nor a host name")
    return Endpoint(host=host.lower(), port=port)


def listening_endpoint(text: str) -> Endpoint:
    """Read where to listen: ``192.0.2.1:port``, ``[2001:db8::1]:port``, ``[::]:port``.

    Port 0 lets the system choose.

    Raises:
        ValueError: ``text`` is not of that form; the message says why.
    """
    host, port = _split(text)
    address = _address(host)
    if address is None:
        raise ValueError("the host is not an IP address")
    return Endpoint(host=str(address), port=port)


def listening_place(text: str) -> Place:
    """Read where a listener accepts: as in `listening_endpoint`, or ``systemd:NAME``.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    if not text.startswith(_PASSED):
        return listening_endpoint(text)
    name = text.removeprefix(_PASSED)
    if not _PASSED_NAME.match(name):
        raise ValueError("what follows systemd: is no name of sockets")
    return PassedPlace(name)


def dns_server(text: str) -> Endpoint:
    """Read where a DNS server is: an IP address, or one with a port as in `listening_endpoint`.

    Without a port it is 53. An IPv6 address in brackets has a port, one without has none.

    Raises:
        ValueError: ``text`` is not of that form; the message says why.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        endpoint = listening_endpoint(text)
    else:
        endpoint = Endpoint(host=str(address), port=DNS_PORT)
    if endpoint.port == 0:
        raise ValueError("port 0 cannot be asked")
    if ipaddress.ip_address(endpoint.host).is_unspecified:
        raise ValueError(f"{endpoint.host} cannot be asked")
    return endpoint


def network(text: str) -> Network:
    """Read which addresses are meant: one, or a network as ``10.0.0.0/8`` or ``2001:db8::/32``.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        if not _is_network(text):
            raise ValueError("neither an IP address nor a network") from error
        meant = ipaddress.ip_network(text, strict=False)
        raise ValueError(f"an address within a network, which would be {meant}") from error
    if found.version == 6 and found.network_address.ipv4_mapped is not None:  # noqa: PLR2004
        raise ValueError("an IPv4-mapped address, which is written as that of IPv4")
    return Network(found)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _split(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("the host or the port is missing")
    if not _PORT.match(port) or int(port) > _HIGHEST_PORT:
        raise ValueError(f"the port is not a number up to {_HIGHEST_PORT}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError("what stands in brackets is not an IPv6 address")
    elif ":" in host:
        raise ValueError("an IPv6 address must stand in brackets")
    return host, int(port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    address = _parsed(host)
    if address is None and ":" in host:
        raise ValueError("what stands in brackets is not an IPv6 address")
    return address


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
