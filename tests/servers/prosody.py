"""Prosody: without TLS, as one finds it behind Bascule, or requiring TLS, as the network does."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

import attrs

from tests.servers.dns.unbound import NameServer
from tests.servers.program import HOST, Program, Way, free_port

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
$servers
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
local pair = { certificate = "$certificate", key = "$private_key"$authority }
VirtualHost "$domain"
  ssl, c2s_direct_tls_ssl, s2s_direct_tls_ssl = pair, pair, pair
""")

# libunbound would answer for "test." itself, and asks nobody on this machine unless told to.
_SERVERS = Template("""
s2s_ports = { $s2s_port }
s2s_direct_tls_ports = { $s2s_direct_port }
s2s_require_encryption = $tls
s2s_secure_auth = $external
plugin_paths = { "$directory/modules" }
unbound = {
  resolvconf = false, hoststxt = false, trustfile = "$trust_anchor", forward = { "$names" },
  options = { ["local-zone:"] = "test. transparent", ["do-not-query-localhost:"] = "no" }
}
""")

_WITHOUT_EXTERNAL = """\
local sasl = "urn:ietf:params:xml:ns:xmpp-sasl"
module:hook_tag("http://etherx.jabber.org/streams", "features", function (_, features)
  features:remove_children("mechanisms", sasl)
end, 200)
"""
"""A module for a server that does not know SASL EXTERNAL: it overlooks it in what it is offered."""

_WAYS = """\
module:hook("s2s-authenticated", function (event)
  local session = event.session
  local here, out = module.host, session.direction == "outgoing"
  module:log("info", "authenticated %s -> %s by %s",
    out and here or event.host, out and event.host or here, event.mechanism)
end, 1)
"""
"""A module that says how each stream between servers was authenticated."""


@attrs.frozen
class _Federation:
    """What a Prosody has to know to reach other servers; see `Prosody.federate`."""

    names: NameServer
    authority: Path | None
    external: bool


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
        self.s2s_port = free_port()
        self.s2s_direct_port = free_port() if certificates else None
        self.stanza_bytes = stanza_bytes
        self._federation: _Federation | None = None
        self._certificates = certificates or {}
        super().__init__("prosody", directory, list(filter(None, [self.port, self.direct_port])))

    def federate(
        self, names: NameServer, authority: Path | None = None, *, external: bool = True
    ) -> None:
        """Let it be reached by other servers, and reach them, from its next start on.

        They are reached on `s2s_port`, by STARTTLS if it has certificates, and by direct TLS on
        `s2s_direct_port` then. Without certificates it knows server dialback only.

        Args:
            names: the name server that it asks, and whose signatures it verifies.
            authority: who certifies other servers; needed if it has certificates itself.
            external: whether it authenticates servers by their certificates only, with SASL
                EXTERNAL. If not, it neither checks certificates nor knows EXTERNAL: it requires
                TLS and authenticates by server dialback.
        """
        self._federation = _Federation(names, authority, external)
        ports = [self.port, self.direct_port, self.s2s_port, self.s2s_direct_port]
        self.ports = tuple(filter(None, ports))

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
                servers=self._servers(),
                **self._tls(),
            )
        )
        self.launch("prosody", "-F", "--config", configuration)
        self.wait_until_ready()

    def ways(self) -> set[Way]:
        """Return how streams between servers, whichever way they went, were authenticated."""
        found = re.findall(r"authenticated (\S+) -> (\S+) by (\S+)", self.whole_log())
        return {Way(*each) for each in found}

    def _tls(self) -> dict[str, str]:
        if not self._certificates:
            return {
                "modules": self._modules(),
                "without": self._without("tls"),
                "plaintext": "true",
                "tls": "false",
                "hosts": f'VirtualHost "{DOMAIN}"\n',
            }
        authority = self._federation and self._federation.authority
        hosts = [
            _SECURE_HOST.substitute(
                domain=domain,
                certificate=certificate,
                private_key=private_key,
                authority=f', cafile = "{authority}"' if authority else "",
            )
            for domain, (certificate, private_key) in self._certificates.items()
        ]
        return {
            "modules": self._modules("tls"),
            "without": self._without(),
            "plaintext": "false",
            "tls": "true",
            "hosts": "\n".join(hosts),
        }

    def _modules(self, *names: str) -> str:
        if self._federation:
            names = (*names, "dialback", "ways")
            if self._dialback_only():
                names = (*names, "without_external")
        return _quoted(names)

    def _without(self, *names: str) -> str:
        if self._federation is None:
            return _quoted([*names, "s2s"])
        return _quoted([*names, "s2s_auth_certs"] if self._dialback_only() else names)

    def _dialback_only(self) -> bool:
        federation = self._federation
        return federation is not None and not (self._certificates and federation.external)

    def _servers(self) -> str:
        """Return the options of streams between servers, if there are any."""
        if self._federation is None:
            return ""
        modules = self.directory / "modules"
        modules.mkdir(exist_ok=True)
        (modules / "mod_without_external.lua").write_text(_WITHOUT_EXTERNAL)
        (modules / "mod_ways.lua").write_text(_WAYS)
        names = self._federation.names
        return _SERVERS.substitute(
            s2s_port=self.s2s_port,
            s2s_direct_port=self.s2s_direct_port or "",
            tls="true" if self._certificates else "false",
            external="false" if self._dialback_only() else "true",
            directory=self.directory,
            trust_anchor=names.trust_anchor,
            names=f"{HOST}@{names.port}",
        )

    def _write_accounts(self, domain: str) -> None:
        # The names of its folders are escaped as in URLs, dots and hyphens included.
        folder = "".join(each if each.isalnum() else f"%{ord(each):02x}" for each in domain)
        accounts = self.directory / "data" / folder / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        for name in ("alice", "bob"):
            (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "pw-{name}" }};\n')


def resolves() -> bool:
    """Tell whether Prosody can ask a name server of a test's choice, by libunbound."""
    return next(Path("/usr/lib").glob("*/lua/*/lunbound.so"), None) is not None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
