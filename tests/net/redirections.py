"""Redirections as docs/redirect.md describes them, and a network in which they lead somewhere."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net import legacy
from tests.net.legacy import Connection, LegacyServer
from tests.net.name_server import NameServer
from tests.net.namespaces import SERVER, Namespace, Network
from tests.pages import ROOT, blocks
from tests.servers.bascule import Daemon, Served
from tests.servers.program import HOST
from tests.servers.stream import Stream

DOMAIN = "example.net"
UNTRUSTED = "example.org"
"""Has the same server; its certificate is by an authority that its policy does not trust."""

PORT = 5222
LISTENING = 5229
"""Where the confs of the page listen."""

OTHER_PORT = 5322
"""A port of the same server that no rule is about."""

SOMEBODY = 65534
NOBODY = 4242
"""A user who has no process."""

PAGE = ROOT / "docs/redirect.md"


# The page


def section(title: str, language: str) -> str:
    """The one block of a language in a section of the page."""
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", _text(title), re.DOTALL | re.MULTILINE)
    return str(block)


def admitting(title: str) -> str:
    """The rule that a section of the page gives machines that filter what comes in."""
    [rule] = re.findall(r"`([^`\n]* accept)`", _text(title))
    return str(rule)


def _text(title: str) -> str:
    text = PAGE.read_text()
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


REDIRECT = "On a router, by redirect"
TPROXY = "On a router, by tproxy"
OUTPUT = "On the client's own machine"


def load_output(machine: Namespace, *, excepted: int) -> None:
    """Load the rules for the client's own machine, with a user of this one."""
    rules = section(OUTPUT, "nft")
    assert '"bascule"' in rules
    machine.run("nft", "-f", "-", given=rules.replace('"bascule"', str(excepted)))


def capabilities() -> list[str]:
    """What restricts a program to the capabilities that the page gives the service."""
    [settings] = blocks(PAGE, "ini")
    [named] = re.findall(r"^AmbientCapabilities=CAP_(.*)$", settings, re.MULTILINE)
    [bound] = re.findall(r"^CapabilityBoundingSet=CAP_(.*)$", settings, re.MULTILINE)
    return restricted(f"+{named.lower()}", f"+{bound.lower()}")


def restricted(inherited: str = "", bound: str = "") -> list[str]:
    """What restricts a program, still root's, to some capabilities."""
    some, most = (",".join(filter(None, ("-all", each))) for each in (inherited, bound))
    return ["setpriv", f"--inh-caps={some}", f"--bounding-set={most}", "--"]


# The daemons


class Placed(Daemon):
    """A Bascule in a namespace.

    Args:
        directory: its state.
        namespace: where it runs.
        conf: its conf.
        before: a command that runs it.
    """

    def __init__(
        self, directory: Path, namespace: Namespace, conf: str, before: list[str] | None = None
    ) -> None:
        super().__init__(directory)
        self._namespace = namespace
        self._conf = conf
        self._before = before or []

    def configuration(self) -> str:
        return self._conf

    def launch(self, *arguments: str | Path, **options: object) -> None:
        assert not options
        super().launch(*self._namespace.command(*self._before, *arguments))

    def wait_until_ready(self, *ports: int, seconds: float = 30) -> None:
        for name in re.findall(r'^name = "(.*)"$', self._conf, re.MULTILINE)[-1:]:
            self.wait_for_log(f"listening listener={name}", seconds=seconds)

    def log(self) -> str:
        return self.log_path.read_text()

    def warnings(self) -> list[str]:
        """What it warns of, but for warnings of the conf."""
        return re.findall(r" warning (connection closed: .*)$", self.log(), re.MULTILINE)


@attrs.frozen
class World:
    """The network, and what answers in it.

    Attributes:
        network: the namespaces.
        legacy: the server behind the Bascule that stands in front of the domain's server.
        names: a name server on the router.
        local_names: a name server on the client's machine.
        authority: who certifies the server.
        stranger: an authority that does not.
    """

    network: Network
    legacy: LegacyServer
    names: NameServer
    local_names: NameServer
    authority: Authority
    stranger: Authority

    def forward(
        self,
        directory: Path,
        conf: str,
        *,
        on_client: bool = False,
        before: list[str] | None = None,
    ) -> Placed:
        """Return a Bascule on the router, or on the client's machine."""
        machine = self.network.client if on_client else self.network.router
        names = self.local_names if on_client else self.names
        whole = f"""\
[dns]
servers = ["{HOST}:{names.port}"]

[[policy]]
domain = "*"
ca_file = "{self.authority.ca_path}"
private_addresses = true

[[policy]]
domain = "{UNTRUSTED}"
ca_file = "{self.stranger.ca_path}"
private_addresses = true

{conf}"""
        return Placed(directory, machine, whole, before)

    @contextlib.contextmanager
    def open(
        self, host: str, port: int = PORT, *, domain: str = DOMAIN, from_router: bool = False
    ) -> Iterator[Stream]:
        """Connect from the client's machine, as a user of it, or the router; send a header."""
        machine = self.network.router if from_router else self.network.client
        with machine.connect(host, port, user=SOMEBODY) as connection:
            stream = Stream(connection, domain)
            with contextlib.suppress(OSError):  # it may be closed already
                stream.send_header()
            yield stream

    def refresh(self) -> None:
        """Have the server forget what it heard."""
        self.legacy.forget()
        self.legacy.script = log_in

    def clear(self) -> None:
        """Take all rules away."""
        for machine in (self.network.client, self.network.router):
            machine.run("nft", "flush", "ruleset")
            for family in ("-4", "-6"):
                if "fwmark" in machine.run("ip", family, "rule", "list"):
                    machine.run("ip", family, "rule", "del", "fwmark", "0x5229")
                    machine.run("ip", family, "route", "flush", "table", "5229")


HEADER = legacy.HEADER.replace(b"example.com", DOMAIN.encode())


def log_in(connection: Connection) -> None:
    """Be a server of `DOMAIN` to which a client logs in."""
    connection.read_until(rb"<stream:stream [^>]*>")
    connection.send(HEADER + legacy.MECHANISMS)
    connection.read_until(rb"</auth>")
    connection.send(legacy.SUCCESS)
    connection.read_until(rb"<stream:stream [^>]*>")
    connection.send(HEADER.replace(b"legacy-1", b"legacy-2") + legacy.BIND)


@contextlib.contextmanager
def world_in(directory: Path, authority: Authority) -> Iterator[World]:
    """Make the network, and a server that takes nobody without TLS."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        behind = stack.enter_context(network.server.inside(LegacyServer))
        names = stack.enter_context(network.router.inside(NameServer))
        local_names = stack.enter_context(network.client.inside(NameServer))
        for server in (names, local_names):
            for domain in (DOMAIN, UNTRUSTED):
                server.add(f"_xmpp-client._tcp.{domain}", "SRV", f"0 0 {PORT} xmpp.{DOMAIN}.")
            server.add(f"xmpp.{DOMAIN}", "A", SERVER.ipv4)
            server.add(f"xmpp.{DOMAIN}", "AAAA", SERVER.ipv6)
        stranger = Authority(directory / "stranger")
        conf = "".join(
            Served(domain, [authority.issue(domain)], behind.port).table()
            for domain in (DOMAIN, UNTRUSTED)
        )
        for name, port in (("c2s", PORT), ("other", OTHER_PORT)):
            conf += f'\n[[listener]]\nname = "{name}"\ndirection = "reverse"\nstream = "c2s"\n'
            conf += f'address = "[::]:{port}"\n'
        stack.enter_context(Placed(directory / "server", network.server, conf))
        yield World(network, behind, names, local_names, authority, stranger)


@attrs.frozen
class Kind:
    """A way to lead connections to a Bascule on the router.

    Attributes:
        title: the section of the page.
        everywhere: where its first listener listens instead, alone; None leaves it to the page.
        families: what is redirected.
    """

    title: str
    everywhere: str | None = None
    families: tuple[str, ...] = ("IPv4", "IPv6")

    @property
    def conf(self) -> str:
        """The listeners."""
        whole = section(self.title, "toml")
        if self.everywhere is None:
            return whole
        first, _, _ = whole.partition("\n\n")
        return first.replace(HOST, self.everywhere).replace("[::]", self.everywhere) + "\n"

    @property
    def before(self) -> list[str]:
        """What takes all capabilities from Bascule that it does not need."""
        return capabilities() if self.title == TPROXY else restricted()

    def load(self, router: Namespace) -> None:
        """Load the rules."""
        router.run("nft", "-f", "-", given=section(self.title, "nft"))
        if self.title == TPROXY:
            router.shell(section(self.title, "sh"))


# What comes of it


def assert_carried(stream: Stream, world: World, bascule: Placed, place: Address) -> None:
    """Log in without TLS, and find that TLS was verified on the way."""
    features = stream.read_until("</stream:features>")
    assert "<mechanism>PLAIN" in features
    assert "starttls" not in features
    stream.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>")
    stream.read_until("<success [^>]*/>")
    stream.send_header()
    stream.read_until("</stream:features>")
    behind = world.legacy.next()
    assert b"AGEAYg==" in behind.got
    behind.send(b"<message><body>hello</body></message>")
    stream.read_until("hello</body></message>")
    said = f"Verified TLS connection established to {DOMAIN}[{place.host}]:{place.port}: TLSv1.3"
    assert said in bascule.log()
    assert bascule.warnings() == []


def assert_refused(stream: Stream, condition: str, text: str) -> None:
    said = stream.read_to_end()
    assert f"<{condition} " in said
    assert text in said
    assert "PLAIN" not in said
