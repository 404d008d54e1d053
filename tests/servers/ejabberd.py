"""ejabberd as the network has it: without TLS nobody can log in."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from string import Template

import attrs

from tests.servers.dns.unbound import NameServer
from tests.servers.program import HOST, Program, Way, free_port

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
$servers
modules:
  mod_disco: {}
  mod_legacy_auth: {}
  mod_offline: {}
  mod_ping: {}
  mod_roster: {}
""")

_SERVERS = Template("""\
  - {module: ejabberd_s2s_in, ip: "$host", port: $s2s_port, shaper: none}
  - {module: ejabberd_s2s_in, ip: "$host", port: $s2s_direct_port, tls: true, shaper: none}
s2s_use_starttls: required
s2s_cafile: "$authority"
s2s_max_retry_delay: 1
s2s_dns_timeout: 5
outgoing_s2s_families: [ipv4]
host_config: {$nobody}
append_host_config: {$dialback}
""")

# What Erlang has read in /etc/resolv.conf it would read again. Addresses it asks the system for.
_NAMES = Template("""\
inet_db:set_resolv_conf(""), inet_db:res_option(nameservers, [{{127, 0, 0, 1}, $port}]).""")


@attrs.frozen
class _Federation:
    """What an ejabberd has to know to reach other servers; see `Ejabberd.federate`."""

    names: NameServer
    authority: Path
    nobody: Path
    dialback: Collection[str]


# Alone it needs neither a name nor Erlang's port mapper; what follows the start makes accounts,
# which are there already if it has run before.
_ACCOUNTS = Template("""\
lists:foreach(fun({Name, Domain}) ->
    true = lists:member(ejabberd_auth:try_register(Name, Domain, <<"pw-", Name/binary>>),
      [ok, {error, exists}])
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
        self.s2s_port = free_port()
        self.s2s_direct_port = free_port()
        self._federation: _Federation | None = None
        self._certificates = dict(certificates)
        super().__init__("ejabberd", directory, [self.port, self.direct_port])

    def federate(
        self, names: NameServer, authority: Path, *, nobody: Path, dialback: Collection[str]
    ) -> None:
        """Let it be reached by other servers, and reach them, from its next start on.

        They are reached by STARTTLS on `s2s_port` and by direct TLS on `s2s_direct_port`. It
        requires TLS. SASL EXTERNAL it offers to everyone, and refuses it to those whose
        certificates it cannot prove.

        Args:
            names: the name server that it asks for SRV records. For addresses it asks the system,
                so that targets on this machine have to be called ``localhost.``.
            authority: who certifies other servers.
            nobody: an authority that certifies none of them.
            dialback: the domains that authenticate by server dialback whom they cannot prove; they
                prove nobody. The other domains do not know dialback.
        """
        self._federation = _Federation(names, authority, nobody, dialback)
        self.ports = (self.port, self.direct_port, self.s2s_port, self.s2s_direct_port)

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
                servers=self._servers(),
            )
        )
        domains = _listed(f'<<"{domain}">>' for domain in self._certificates)
        self.launch(
            PROGRAM,
            *("-noinput", "+S", "1:1", "+sbwt", "none"),
            *("-mnesia", "dir", f'"{self.directory / "spool"}"'),
            *self._names(),
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

    def ways(self) -> set[Way]:
        """Return how streams between servers, whichever way they went, were authenticated."""
        pattern = r"Accepted (?:in|out)bound s2s (\S+) authentication (\S+) -> (\S+)"
        found = re.findall(pattern, self.own_log())
        return {Way(sender, receiver, mechanism) for mechanism, sender, receiver in found}

    def _names(self) -> list[str]:
        if self._federation is None:
            return []
        return ["-eval", _NAMES.substitute(port=self._federation.names.port)]

    def _servers(self) -> str:
        """Return the options of streams between servers, if there are any."""
        if self._federation is None:
            return ""
        domains = self._federation.dialback

        def for_dialback(option: str) -> str:
            return _listed(f'"{domain}": {{{option}}}' for domain in domains)

        return _SERVERS.substitute(
            host=HOST,
            s2s_port=self.s2s_port,
            s2s_direct_port=self.s2s_direct_port,
            authority=self._federation.authority,
            nobody=for_dialback(f's2s_cafile: "{self._federation.nobody}"'),
            dialback=for_dialback("modules: {mod_s2s_dialback: {}}"),
        )

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
