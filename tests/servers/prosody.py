"""Prosody without TLS, as one finds it behind Bascule."""

import os
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
c2s_direct_tls_ports = {}
legacy_ssl_ports = {}

modules_enabled = {
  "roster", "saslauth", "legacyauth", "disco", "ping", "private", "version", "time", "offline",
}
modules_disabled = { "tls", "s2s" }

authentication = "internal_hashed"
allow_unencrypted_plain_auth = true
c2s_require_encryption = false
c2s_stanza_size_limit = $stanza_bytes

VirtualHost "$domain"
""")


class Prosody(Program):
    """A Prosody that serves `DOMAIN` in plaintext to the accounts alice and bob.

    It offers SCRAM, PLAIN and ``jabber:iq:auth``; the password of NAME is ``pw-NAME``.

    Args:
        directory: its state.
        stanza_bytes: the largest stanza it takes.
    """

    def __init__(self, directory: Path, *, stanza_bytes: int = 8_000_000) -> None:
        self.port = free_port()
        self.domain = DOMAIN
        self.stanza_bytes = stanza_bytes
        super().__init__("prosody", directory, [self.port])

    def start(self) -> None:
        """Write its configuration and accounts, then start it."""
        accounts = self.directory / "data" / DOMAIN.replace(".", "%2e") / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        for name in ("alice", "bob"):
            (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "pw-{name}" }};\n')
        configuration = self.directory / "prosody.cfg.lua"
        configuration.write_text(
            _CONFIGURATION.substitute(
                root="true" if os.geteuid() == 0 else "false",
                directory=self.directory,
                host=HOST,
                port=self.port,
                stanza_bytes=self.stanza_bytes,
                domain=DOMAIN,
            )
        )
        self.launch("prosody", "-F", "--config", configuration)
        self.wait_until_ready()
