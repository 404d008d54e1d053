"""The daemon itself, as a process of its own."""

import re
import sys
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.servers.program import HOST, Program, Way, free_port

STANZA_BYTES = 2_000_000


@attrs.frozen
class Served:
    """A domain that Bascule serves.

    Attributes:
        name: the domain.
        pairs: its certificates, each with its private key.
        port: where its server listens on 127.0.0.1.
        proxy_protocol: what its server is told of clients.
    """

    name: str
    pairs: Sequence[tuple[Path, Path]]
    port: int
    proxy_protocol: str = "none"

    def table(self) -> str:
        """Return its table of the conf."""
        certificates = ", ".join(f'"{certificate}"' for certificate, _ in self.pairs)
        private_keys = ", ".join(f'"{private_key}"' for _, private_key in self.pairs)
        return f"""\
[[domain]]
name = "{self.name}"
certificate = [{certificates}]
private_key = [{private_keys}]
c2s_server = "{HOST}:{self.port}"
c2s_proxy_protocol = "{self.proxy_protocol}"
"""


def housed(configuration: str, directory: Path) -> str:
    """Return a conf with a place for its state and its control socket, if it names none."""
    if "[bascule]" in configuration:
        return configuration
    return (
        f'{configuration}\n[bascule]\nstate_directory = "{directory}"\n'
        f'control_socket = "{directory}/control"\n'
    )


class Daemon(Program):
    """A Bascule with one listener.

    Args:
        directory: its state.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.configuration_path = directory / "bascule.toml"
        super().__init__("bascule", directory, [self.port])

    def start(self) -> None:
        """Write its conf, then start it."""
        self.write()
        command = Path(sys.executable).with_name("bascule")
        self.launch(command, "run", "-c", self.configuration_path)
        self.wait_until_ready()

    def write(self) -> None:
        """Write its conf."""
        directory = self.configuration_path.parent
        self.configuration_path.write_text(housed(self.configuration(), directory))

    @abstractmethod
    def configuration(self) -> str:
        """Return its conf."""


class Bascule(Daemon):
    """A reverse listener for clients, STARTTLS and direct TLS on one port.

    Args:
        directory: its state.
        domains: what it serves.
        stanza_bytes: the largest stanza it takes.
    """

    def __init__(
        self, directory: Path, domains: Sequence[Served], *, stanza_bytes: int = STANZA_BYTES
    ) -> None:
        self._domains = tuple(domains)
        self._stanza_bytes = stanza_bytes
        super().__init__(directory)

    def configuration(self) -> str:
        """Return its conf: the defaults, but for rates that audits exceed and the stanza size."""
        parts = [
            f"""\
[plugins]
chain = ["require_tls", "features", "limits"]

[plugins.limits]
stanza_bytes = {self._stanza_bytes}
connections_per_address = 0
handshakes_per_minute = 0
""",
            *(each.table() for each in self._domains),
            f"""\
[[listener]]
name = "c2s"
direction = "reverse"
stream = "c2s"
address = "{HOST}:{self.port}"
tls = "required"
""",
        ]
        return "\n".join(parts)


class ForwardBascule(Daemon):
    """A forward listener for clients without TLS.

    Args:
        directory: its state.
        domains: which domains may be reached.
        names: where the name server is, ``ADDRESS:PORT``.
        authority: the file of the authority that every domain must be certified by.
    """

    def __init__(
        self, directory: Path, domains: Sequence[str], *, names: str, authority: Path
    ) -> None:
        self._domains = tuple(domains)
        self._names = names
        self.authority = authority
        super().__init__(directory)

    def configuration(self) -> str:
        """Return its conf; servers on this machine are not refused, as they usually are."""
        domains = ", ".join(f'"{domain}"' for domain in self._domains)
        return f"""\
[dns]
servers = ["{self._names}"]

[[listener]]
name = "legacy-clients"
direction = "forward"
stream = "c2s"
address = "{HOST}:{self.port}"
domains = [{domains}]

[[policy]]
domain = "*"
level = "secure"
ca_file = "{self.authority}"
private_addresses = true
"""


class ServerBascule(Daemon):
    """One legacy server's way into the network of servers that require TLS, and out of it.

    Others reach it by STARTTLS and by direct TLS on `port`; its own server's plaintext streams
    reach it on `out_port`, and from there any domain.

    Args:
        directory: its state.
        domain: the domain that it serves.
        pair: the domain's certificate and private key.
        port: where the domain's server listens for streams of servers, on 127.0.0.1.
        names: where the name server is, ``ADDRESS:PORT``.
        authority: the file of the authority that every domain must be certified by.
        no_dialback: the domains that must not fall back on server dialback.
    """

    def __init__(
        self,
        directory: Path,
        domain: str,
        pair: tuple[Path, Path],
        port: int,
        *,
        names: str,
        authority: Path,
        no_dialback: Sequence[str],
    ) -> None:
        super().__init__(directory)
        self.name = f"bascule of {domain}"
        self.out_port = free_port()
        self.ports = (self.port, self.out_port)
        self._domain = domain
        self._pair = pair
        self._server_port = port
        self._names = names
        self._authority = authority
        self._no_dialback = tuple(no_dialback)

    def configuration(self) -> str:
        """Return its conf; servers on this machine are not refused, as they usually are."""
        certificate, private_key = self._pair
        parts = [
            f"""\
[dns]
servers = ["{self._names}"]

[plugins.limits]
connections_per_address = 0
handshakes_per_minute = 0

[[domain]]
name = "{self._domain}"
certificate = "{certificate}"
private_key = "{private_key}"
s2s_server = "{HOST}:{self._server_port}"

[[listener]]
name = "s2s-in"
direction = "reverse"
stream = "s2s"
address = "{HOST}:{self.port}"

[[listener]]
name = "s2s-out"
direction = "forward"
stream = "s2s"
address = "{HOST}:{self.out_port}"
domains = ["*"]
""",
            self._policy("*", "allow"),
            *(self._policy(domain, "never") for domain in self._no_dialback),
        ]
        return "\n".join(parts)

    def proofs(self) -> set[tuple[str, Way]]:
        """Return how the streams that have ended were authenticated, each with its listener."""
        pattern = r" session ended .*?listener=(\S+) .*?origin=(\S+) domain=(\S+) .*?proof=(\w+)"
        names = {"external": "EXTERNAL", "dialback": "dialback"}
        return {
            (listener, Way(sender, receiver, names[proof]))
            for listener, sender, receiver, proof in re.findall(pattern, self.whole_log())
        }

    def _policy(self, domain: str, dialback: str) -> str:
        return f"""\
[[policy]]
domain = "{domain}"
ca_file = "{self._authority}"
private_addresses = true
dialback = "{dialback}"
"""
