"""ejabberd as the network has it: without TLS nobody can log in."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from tests.servers.program import HOST, Program, free_port

PROGRAM = "erl"

_READY = "accounts are there"

_CONFIGURATION = Template("""\
hosts: [$domains]
loglevel: info
certfiles: [$certificates]
auth_method: internal
auth_password_format: plain
listen:
  - {module: ejabberd_c2s, ip: "$host", port: $port, starttls_required: true, shaper: none}
  - {module: ejabberd_c2s, ip: "$host", port: $direct_port, tls: true, shaper: none}
  - {module: ejabberd_c2s, ip: "$host", port: $told_port, use_proxy_protocol: true, shaper: none}
modules:
  mod_disco: {}
  mod_legacy_auth: {}
  mod_offline: {}
  mod_ping: {}
  mod_roster: {}
""")

# Alone it needs neither a name nor Erlang's port mapper; what follows the start makes accounts.
_ACCOUNTS = Template("""\
lists:foreach(fun({Name, Domain}) ->
    ok = ejabberd_auth:try_register(Name, Domain, <<"pw-", Name/binary>>)
  end, [{Name, Domain} || Name <- [<<"alice">>, <<"bob">>], Domain <- [$domains]]),
io:format("$ready~n").""")


class Ejabberd(Program):
    """An ejabberd that serves the accounts alice and bob of each of its domains.

    It offers SCRAM, PLAIN and ``jabber:iq:auth``, by STARTTLS on `port` and by direct TLS on
    `direct_port`; the password of NAME is ``pw-NAME``. On `told_port` it speaks plaintext with
    those who begin with a header of the PROXY protocol.

    Args:
        directory: its state; it starts with none.
        certificates: the domains it serves, each with its certificate and private key.
    """

    def __init__(self, directory: Path, certificates: Mapping[str, tuple[Path, Path]]) -> None:
        self.port = free_port()
        self.direct_port = free_port()
        self.told_port = free_port()
        self._certificates = dict(certificates)
        super().__init__("ejabberd", directory, [self.port, self.direct_port])

    def start(self) -> None:
        """Write its configuration, start it and make the accounts."""
        configuration = self.directory / "ejabberd.yml"
        configuration.write_text(
            _CONFIGURATION.substitute(
                domains=_listed(f'"{domain}"' for domain in self._certificates),
                certificates=_listed(f'"{file}"' for file in self._combined()),
                host=HOST,
                port=self.port,
                direct_port=self.direct_port,
                told_port=self.told_port,
            )
        )
        domains = _listed(f'<<"{domain}">>' for domain in self._certificates)
        self.launch(
            PROGRAM,
            *("-noinput", "+S", "1:1", "+sbwt", "none"),
            *("-mnesia", "dir", f'"{self.directory / "spool"}"'),
            *("-s", "ejabberd"),
            *("-eval", _ACCOUNTS.substitute(domains=domains, ready=_READY)),
            environment={
                "ERL_LIBS": str(libraries()),
                "ERL_CRASH_DUMP": str(self.directory / "crash.dump"),
                "EJABBERD_CONFIG_PATH": str(configuration),
                "EJABBERD_LOG_PATH": str(self.directory / "ejabberd-own.log"),
                "HOME": str(self.directory),
            },
        )
        self.wait_for_log(_READY)
        self.wait_until_ready()

    def own_log(self) -> str:
        """Return what it has logged of connections."""
        return (self.directory / "ejabberd-own.log").read_text(errors="replace")

    def _combined(self) -> list[Path]:
        """Write each certificate with its key into one file."""
        files = []
        for domain, pair in self._certificates.items():
            file = self.directory / f"{domain}.pem"
            file.touch(mode=0o600)
            file.write_bytes(b"".join(path.read_bytes() for path in pair))
            files.append(file)
        return files


def libraries() -> Path | None:
    """Return the folder of ejabberd's modules, which depends on the machine's architecture."""
    found = next(Path("/usr/lib").glob("*/ejabberd-*/ebin"), None)
    return found and found.parent.parent


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items)
