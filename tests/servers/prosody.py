"""Prosody: without TLS, as one finds it behind Bascule, or requiring TLS, as the network does."""

import os
from collections.abc import Mapping
from pathlib import Path
from string import Template

from tests.servers.program import HOST, Program, free_port

DOMAIN = "legacy.test"

_CONFIGURATION = Template("""\
daemonize = false
run_as_root = $root
pidfile = "$directory/prosody.pid"
data_path = "$directory/data"
certificates = "$directory"
log = { { levels = { min = "info" }, to = "console" } }

interfaces = { "$host" }
c2s_ports = { $port }
c2s_direct_tls_ports = { $direct_port }
legacy_ssl_ports = {}

modules_enabled = {
  "roster", "saslauth", "legacyauth", "disco", "ping", "private", "version", "time", "offline",
  $modules
}
modules_disabled = { $without }

authentication = "internal_hashed"
allow_unencrypted_plain_auth = $plaintext
c2s_require_encryption = $tls
c2s_stanza_size_limit = $stanza_bytes

$hosts""")

_SECURE_HOST = Template("""\
local pair = { certificate = "$certificate", key = "$private_key" }
VirtualHost "$domain"
  ssl, c2s_direct_tls_ssl = pair, pair
""")


class Prosody(Program):
    """A Prosody that serves the accounts alice and bob of each of its domains.

    It offers SCRAM, PLAIN and ``jabber:iq:auth``; the password of NAME is ``pw-NAME``.

    Args:
        directory: its state.
        stanza_bytes: the largest stanza it takes.
        certificates: the domains it serves, each with its certificate and private key. They are
            reached by STARTTLS on `port` and by direct TLS on `direct_port`, and without TLS
            nobody can log in. If there are none, it serves `DOMAIN` in plaintext on `port`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        stanza_bytes: int = 8_000_000,
        certificates: Mapping[str, tuple[Path, Path]] | None = None,
    ) -> None:
        self.port = free_port()
        self.direct_port = free_port() if certificates else None
        self.domain = DOMAIN
        self.stanza_bytes = stanza_bytes
        self._certificates = certificates or {}
        super().__init__("prosody", directory, list(filter(None, [self.port, self.direct_port])))

    def start(self) -> None:
        """Write its configuration and accounts, then start it."""
        for domain in self._certificates or [DOMAIN]:
            self._write_accounts(domain)
        configuration = self.directory / "prosody.cfg.lua"
        configuration.write_text(
            _CONFIGURATION.substitute(
                root="true" if os.geteuid() == 0 else "false",
                directory=self.directory,
                host=HOST,
                port=self.port,
                direct_port=self.direct_port or "",
                stanza_bytes=self.stanza_bytes,
                **self._tls(),
            )
        )
        self.launch("prosody", "-F", "--config", configuration)
        self.wait_until_ready()

    def _tls(self) -> dict[str, str]:
        if not self._certificates:
            return {
                "modules": "",
                "without": '"tls", "s2s"',
                "plaintext": "true",
                "tls": "false",
                "hosts": f'VirtualHost "{DOMAIN}"\n',
            }
        hosts = [
            _SECURE_HOST.substitute(domain=domain, certificate=certificate, private_key=private_key)
            for domain, (certificate, private_key) in self._certificates.items()
        ]
        return {
            "modules": '"tls",',
            "without": '"s2s"',
            "plaintext": "false",
            "tls": "true",
            "hosts": "\n".join(hosts),
        }

    def _write_accounts(self, domain: str) -> None:
        # The names of its folders are escaped as in URLs, dots and hyphens included.
        folder = "".join(each if each.isalnum() else f"%{ord(each):02x}" for each in domain)
        accounts = self.directory / "data" / folder / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        for name in ("alice", "bob"):
            (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "pw-{name}" }};\n')
