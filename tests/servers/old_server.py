"""Old servers, set up as the operating guide says: its fragments in an ordinary configuration."""

import os
import re
import shutil
import socket
from string import Template
from typing import Final

from tests.servers.dns.unbound import program
from tests.servers.guide import Section, Walk
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import Program
from tests.servers.prosody import Prosody

DOMAIN: Final = "example.com"
"""The domain of the guide's old server."""

ELSEWHERE: Final = "127.0.0.3"
"""An address of this machine at which no server of the guide may be reached."""

# In what matters as Debian ships it: TLS is demanded, and the guide has to say otherwise.
_PROSODY = Template("""\
daemonize = false
run_as_root = $root
pidfile = "$directory/prosody.pid"
data_path = "$directory/data"
certificates = "$directory"
log = { { levels = { min = "info" }, to = "console" } }
modules_enabled = { "roster", "saslauth", "tls", "disco", "ping", "private", $modules }
modules_disabled = {}
s2s_secure_auth = true
authentication = "internal_hashed"
VirtualHost "$domain"
""")


class OldProsody(Prosody):
    """A Prosody for the guide's domain, set up as the guide says.

    Args:
        walk: where the guide is carried out.
        between: whether it takes other servers, and asks the guide's name server for them.
    """

    def __init__(self, walk: Walk, *, between: bool = False) -> None:
        super().__init__(walk.directory / "prosody")
        self.port = walk.ports["15222"]
        self.domain = DOMAIN
        self.ports = (self.port,)
        with Section("### Prosody") as guide:
            parts = [guide.block("lua")]
        modules = ["s2s"]
        if between:
            self.ports = (self.port, walk.ports["15269"])
            modules.append("dialback")
            with Section("#### Prosody between servers") as guide:
                parts.append(guide.block("lua"))
                guide.block("lua")  # for newer ones
                parts.append(guide.block("lua"))
        else:
            parts.append("s2s_ports = {}\n")
        self._modules_added = ", ".join(f'"{name}"' for name in modules)
        self._guide = [walk.here(part) for part in parts]

    def start(self) -> None:
        """Write its configuration and accounts, then start it."""
        self._write_accounts(DOMAIN)
        configuration = self.directory / "prosody.cfg.lua"
        text = _PROSODY.substitute(
            root="true" if os.geteuid() == 0 else "false",
            directory=self.directory,
            modules=self._modules_added,
            domain=DOMAIN,
        )
        for options in self._guide:
            text = _in_place(text, options)
        configuration.write_text(text)
        self.launch("prosody", "-F", "--config", configuration)
        self.wait_until_ready()


def _in_place(configuration: str, options: str) -> str:
    """Put options in the place of those of the same names; Prosody takes each of them once."""
    for option in options.splitlines(keepends=True):
        if name := re.match(r"\w+ = ", option):
            configuration = re.sub(rf"^{name[0]}.*\n", "", configuration, flags=re.MULTILINE)
    return options + configuration


class OldJabberd2(Jabberd2):
    """A jabberd2 for the guide's domain, set up as the guide says.

    Args:
        walk: where the guide is carried out.
    """

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk.directory / "jabberd2", domain=DOMAIN)
        self.port = walk.ports["15222"]
        self.ports = (self.port,)
        with Section("### jabberd2") as clients:
            self._guide = walk.here(clients.block("xml"))

    def _write_configuration(self) -> None:
        super()._write_configuration()
        file = self.directory / "c2s.xml"
        parts = re.split(r"<local>.*?</local>\n", file.read_text(), flags=re.DOTALL)
        assert len(parts) == 2
        file.write_text(self._guide.join(parts))


Old = OldProsody | OldJabberd2


def is_reached_elsewhere(port: int) -> bool:
    """Tell whether a port can be reached at another address than 127.0.0.1."""
    with socket.socket() as connection:
        return connection.connect_ex((ELSEWHERE, port)) == 0


class LeadingNames(Program):
    """The name server that leads the guide's old server to Bascule, whatever it asks for.

    Args:
        walk: where the guide is carried out.
    """

    def __init__(self, walk: Walk) -> None:
        port = int(walk.addresses["127.0.0.2"].partition("@")[2])
        super().__init__("unbound", walk.directory / "leading", [port])
        guide = Section("### Lead the server's own connections to Bascule")
        self._configuration = walk.here(guide.only("text"))

    def start(self) -> None:
        """Start it."""
        configuration = self.directory / "bascule.conf"
        configuration.write_text(self._configuration)
        # Under its usual name Debian's AppArmor profile would let it read /etc/unbound only.
        own = self.directory / "unbound"
        shutil.copy2(program() or "unbound", own)
        self.launch(own, "-d", "-c", configuration)
        self.wait_until_ready()
