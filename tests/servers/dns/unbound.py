"""unbound as the resolver next to Bascule: it has the tests' zones and validates them."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from tests.servers.dns.zones import State, Zone, make_zone
from tests.servers.program import HOST, Program, free_port

Records = Mapping[str, Iterable[str]]
"""For each zone its records, as `tests.servers.dns.zones.make_zone` takes them."""

_NAME_SERVER = "ns.invalid."

_TOP_LEVEL = ".test."
"""A zone of its own, as top-level domains are: unbound proves other names below it wrongly."""

# The zones are asked as any zone is, so that their signatures are checked; nobody else is asked.
_CONFIGURATION = Template("""\
server:
  directory: "$directory"
  chroot: ""
  username: ""
  pidfile: "$directory/unbound.pid"
  do-daemonize: no
  use-syslog: no
  logfile: ""
  verbosity: 1
  val-log-level: 2
  num-threads: 1
  interface: $host@$port
  do-ip6: no
  module-config: "validator iterator"
  trust-anchor-file: "$trust_anchor"
  qname-minimisation: no
  local-zone: "test." nodefault
  local-zone: "localhost." nodefault
remote-control:
  control-enable: no
$zones""")

_AUTHORITY = Template("""\
auth-zone:
  name: "$name"
  zonefile: "$file"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
""")


class NameServer(Program):
    """An unbound with made-up zones under a signed root: a name outside them does not exist.

    What it can validate it answers with the AD bit, what is bogus with SERVFAIL.

    Args:
        directory: its state.
        signed: zones whose chain of trust is whole.
        unsigned: zones that their parent says are unsigned.
        bogus: zones whose signatures are broken.
    """

    def __init__(
        self, directory: Path, signed: Records, *, unsigned: Records, bogus: Records
    ) -> None:
        self.port = free_port()
        self._records = {
            State.SIGNED: signed,
            State.UNSIGNED: unsigned,
            State.BOGUS: bogus,
        }
        super().__init__("unbound", directory, [self.port])

    @property
    def address(self) -> str:
        """Where it answers, by UDP and TCP, as the conf has it."""
        return f"{HOST}:{self.port}"

    @property
    def trust_anchor(self) -> Path:
        """The file with the root's key, for those who validate themselves; new at each start."""
        return self.directory / "root.key"

    def start(self) -> None:
        """Sign the zones, write them and the configuration, then start it."""
        children = [
            make_zone(name, records, state, name_server=_NAME_SERVER)
            for state, zones in self._records.items()
            for name, records in zones.items()
        ]
        below = [zone for zone in children if zone.name.endswith(_TOP_LEVEL)]
        top = _parent(_TOP_LEVEL.lstrip("."), below)
        root = _parent(".", [top, *(zone for zone in children if zone not in below)])
        self.trust_anchor.write_text(f"{root.key}\n")
        configuration = self.directory / "unbound.conf"
        configuration.write_text(
            _CONFIGURATION.substitute(
                directory=self.directory,
                trust_anchor=self.trust_anchor,
                host=HOST,
                port=self.port,
                zones="".join(map(self._write_zone, [root, top, *children])),
            )
        )
        # Under its usual name Debian's AppArmor profile would let it read /etc/unbound only.
        own = self.directory / "unbound"
        shutil.copy2(program() or "unbound", own)
        self.launch(own, "-d", "-p", "-c", configuration)
        self.wait_until_ready()

    def _write_zone(self, zone: Zone) -> str:
        file = self.directory / f"{zone.name}zone"
        file.write_text(zone.text)
        return _AUTHORITY.substitute(name=zone.name, file=file)


def _parent(name: str, children: Iterable[Zone]) -> Zone:
    delegations = [record for zone in children for record in zone.delegation]
    return make_zone(name, delegations, State.SIGNED, name_server=_NAME_SERVER)


def program() -> str | None:
    """Return where unbound is, None if it is not installed; /usr/sbin is not on every PATH."""
    return shutil.which("unbound", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
