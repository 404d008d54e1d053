"""The other side of the operating guide: a server of today for example.net, and its names."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.authority import CLIENT, SERVER, Authority
from tests.servers.dns.unbound import NameServer
from tests.servers.old_server import DOMAIN as OLD
from tests.servers.program import HOST
from tests.servers.prosody import Prosody

DOMAIN: Final = "example.net"
"""The domain of the guide's other server."""


class Abroad:
    """A Prosody that requires TLS, and a name server that leads to it; not started.

    Args:
        directory: their state.
        domain: its domain.
        pair: its certificate, and the private key; one by `issuing` when left out.
        back: where the way back leads: the port of another server for the guide's own domain. With
            one, the server also speaks with other servers.

    Attributes:
        root: the authority that is trusted.
        issuing: the one below it that issues certificates.
        pair: the files that the server has, which are its own.
        server: the server.
    """

    def __init__(
        self,
        directory: Path,
        *,
        domain: str = DOMAIN,
        pair: tuple[Path, Path] | None = None,
        back: int | None = None,
    ) -> None:
        self.root = Authority(directory / "root", name="Example Root")
        self.issuing = Authority(directory / "issuing", name="Example CA", parent=self.root)
        self.pair = pair or self.issuing.issue(
            domain, srv=[f"_xmpp-client.{domain}"], usages=(SERVER, CLIENT)
        )
        self.server = Prosody(directory / "prosody", certificates={domain: self.pair})
        zones = {
            domain: [
                f"_xmpp-client._tcp IN SRV 5 1 {self.server.port} xmpp",
                f"_xmpp-server._tcp IN SRV 5 1 {self.server.s2s_port} xmpp",
                f"xmpp IN A {HOST}",
            ],
        }
        if back is not None:
            zones[OLD] = [f"_xmpp-server._tcp IN SRV 5 1 {back} xmpp", f"xmpp IN A {HOST}"]
        self.names = NameServer(directory / "unbound", {}, unsigned=zones, bogus={})
        if back is not None:
            self.server.federate(self.names, self.root.ca_path)

    @property
    def conf(self) -> str:
        """The conf that leads there: servers on this machine are refused as a rule."""
        return f"""\
[dns]
servers = ["{self.names.address}"]

[[policy]]
domain = "*"
ca_file = "{self.root.ca_path}"
private_addresses = true
"""

    def told(self, said: str) -> str:
        """Return what Bascule says as it would on the guide's machine, which needs no such conf."""
        ports = {self.server.port: "5222", self.server.s2s_port: "5269"}
        for own, guides in ports.items():
            said = said.replace(f":{own}", f":{guides}")
        said = re.sub(r"^POLICY .*\n(?:.+\n)*\n", "", said, flags=re.MULTILINE)
        return said.replace('the policy "*"', "the default policy")

    @contextmanager
    def showing(self, pair: tuple[Path, Path]) -> Iterator[None]:
        """Have the server show another certificate, with its private key, for a while."""
        before = [path.read_bytes() for path in self.pair]
        self._replace([path.read_bytes() for path in pair])
        yield
        self._replace(before)

    def _replace(self, pair: Sequence[bytes]) -> None:
        self.server.stop()
        for path, content in zip(self.pair, pair, strict=True):
            path.write_bytes(content)
        self.server.start()

    def __enter__(self) -> Self:
        """Start them."""
        self.names.start()
        self.server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop them."""
        self.server.stop()
        self.names.stop()
