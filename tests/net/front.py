"""The daemon as a process, with the conf that a test wants, in front of fake legacy servers."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.net.legacy import LegacyServer
from tests.servers.bascule import Bascule, Served
from tests.servers.program import HOST, free_port

DOMAIN = "example.com"
OTHER_DOMAIN = "example.org"
LISTENERS = {"c2s": "required"}


class Front(Bascule):
    """A Bascule with several listeners.

    Args:
        directory: its state.
        domains: what it serves.
        listeners: the ``tls`` of each listener by its name.
        proxies: what connections of a listener begin with, by its name: its ``proxy_protocol``.
            They come from this machine.
        tables: what else stands in the conf, by the name of the table: plugins, deadlines.
        environment: variables for the daemon.
        descriptors: how many descriptors it may have; None leaves that to the system.
    """

    def __init__(
        self,
        directory: Path,
        domains: Sequence[Served],
        *,
        listeners: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        tables: Mapping[str, Mapping[str, object]] | None = None,
        environment: Mapping[str, str] | None = None,
        descriptors: int | None = None,
    ) -> None:
        super().__init__(directory, domains)
        self.rules = dict(listeners or LISTENERS)
        self._proxies = dict(proxies or {})
        self.named = {name: free_port() for name in self.rules}
        self.ports = tuple(self.named.values())
        self.port = self.ports[0]
        unlimited = {"connections_per_address": 0, "handshakes_per_minute": 0}
        self._tables = {"plugins.limits": unlimited, **(tables or {})}
        self._environment = dict(environment or {})
        self._descriptors = descriptors

    def configuration(self) -> str:
        parts = [
            f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
            for name, table in self._tables.items()
        ]
        parts += [domain.table() for domain in self._domains]
        parts += [
            f'[[listener]]\nname = "{name}"\ndirection = "reverse"\nstream = "c2s"\n'
            f'address = "{HOST}:{self.named[name]}"\ntls = "{rule}"\n{self._proxied(name)}'
            for name, rule in self.rules.items()
        ]
        return "\n".join(parts)

    def _proxied(self, name: str) -> str:
        if name not in self._proxies:
            return ""
        return f'proxy_protocol = "{self._proxies[name]}"\ntrusted_proxies = ["{HOST}", "::1"]\n'

    def launch(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> None:
        before: tuple[str, ...] = ()
        if self._descriptors is not None:
            before = ("sh", "-c", f'ulimit -n {self._descriptors}; exec "$@"', "sh")
        both = {**self._environment, **(environment or {})}
        super().launch(*before, *arguments, environment=both, terminal=terminal)

    @property
    def process_id(self) -> int:
        return self.processes[0].pid

    def alive(self) -> bool:
        return self.processes[0].poll() is None

    def resident(self) -> int:
        """Return the bytes of memory that the daemon has now."""
        pages = int(Path(f"/proc/{self.process_id}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        """Return its whole log."""
        return self.log_path.read_text(errors="surrogateescape")

    def summaries(self) -> list[dict[str, str]]:
        """Return the fields of each session that has ended."""
        return [
            {name: value.strip('"') for name, value in _FIELD.findall(line)}
            for line in self.log().split("\n")
            if " session ended " in line
        ]


_FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def served(legacy: LegacyServer, pairs: Sequence[tuple[Path, Path]], name: str = DOMAIN) -> Served:
    """Return a domain whose server is ``legacy``."""
    return Served(name, pairs, legacy.port)
