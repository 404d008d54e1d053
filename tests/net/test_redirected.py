"""Connections that the packet filter leads to Bascule, by the rules of docs/redirect.md.

A plaintext client connects to the server's own address; on the router, or on the client's machine,
it is taken from there and carried on over TLS.
"""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from proxy.daemon.exits import Exit
from proxy.net.redirected import NotRedirectedError, original_destination
from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net import legacy, namespaces
from tests.net.legacy import Connection, LegacyServer
from tests.net.name_server import NameServer
from tests.net.namespaces import CLIENT, LAN, ROOT_USER, SERVER, SERVER_TOO, Namespace, Network
from tests.servers.bascule import Daemon, Served
from tests.servers.program import HOST
from tests.servers.stream import Stream
from tests.test_docs import ROOT, blocks

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

each_family = pytest.mark.parametrize("family", ["IPv4", "IPv6"])


@pytest.fixture(autouse=True, scope="module")
def _namespaces() -> None:
    """Skip where no namespaces can be made, or fail where all must be there."""
    lack = namespaces.lack()
    if lack is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lack)


# The page


def section(title: str, language: str) -> str:
    """The one block of a language in a section of the page."""
    text = PAGE.read_text()
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.DOTALL | re.MULTILINE)
    return str(block)


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


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
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
        stranger = Authority(tmp_path_factory.mktemp("stranger"))
        conf = "".join(
            Served(domain, [authority.issue(domain)], behind.port).table()
            for domain in (DOMAIN, UNTRUSTED)
        )
        for name, port in (("c2s", PORT), ("other", OTHER_PORT)):
            conf += f'\n[[listener]]\nname = "{name}"\ndirection = "reverse"\nstream = "c2s"\n'
            conf += f'address = "[::]:{port}"\n'
        stack.enter_context(Placed(tmp_path_factory.mktemp("server"), network.server, conf))
        yield World(network, behind, names, local_names, authority, stranger)


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """The network without any rules."""
    _world.legacy.forget()
    _world.legacy.script = log_in
    yield _world
    _world.clear()


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


# Without rules


@each_family
def test_without_rules_the_server_itself_answers(world: World, family: str) -> None:
    with world.open(SERVER.of(family)) as stream:
        assert "<required" in stream.read_until("</stream:features>")


def test_a_kernel_without_rules_knows_no_original_destination() -> None:
    with contextlib.ExitStack() as stack:
        alone = Namespace()
        stack.callback(alone.close)
        for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, "::1")):
            where = (host, PORT)
            listening = alone.inside(lambda w=where, f=family: socket.create_server(w, family=f))
            stack.enter_context(listening)
            stack.enter_context(alone.connect(*where))
            accepted = stack.enter_context(listening.accept()[0])
            with pytest.raises(NotRedirectedError):
                original_destination(accepted, tproxy=False)
            with pytest.raises(NotRedirectedError):
                original_destination(accepted, tproxy=True)


# On a router


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
        router.run("nft", "-f", "-", given=section(self.title, "nft"))
        if self.title == TPROXY:
            router.shell(section(self.title, "sh"))


KINDS = {
    "redirect": Kind(REDIRECT),
    "redirect to 0.0.0.0": Kind(REDIRECT, "0.0.0.0", ("IPv4",)),
    "tproxy": Kind(TPROXY),
    "tproxy to [::]": Kind(TPROXY, "[::]"),
    "tproxy to 0.0.0.0": Kind(TPROXY, "0.0.0.0", ("IPv4",)),
}

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_title = pytest.mark.parametrize("kind", [KINDS["redirect"], KINDS["tproxy"]])


@each_kind
def test_what_passes_a_router_is_carried_on(world: World, kind: Kind, tmp_path: Path) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, kind.conf, before=kind.before) as bascule:
        for family in kind.families:
            with world.open(SERVER.of(family)) as stream:
                assert_carried(stream, world, bascule, Address(SERVER.of(family), PORT))
                port: int = stream.connection.getsockname()[1]
            bascule.wait_for_log(f" client={Address(CLIENT.of(family), port)} ")


@each_title
def test_no_more_is_taken_than_the_rules_say(world: World, kind: Kind, tmp_path: Path) -> None:
    """Other ports, the router itself, other networks."""
    kind.load(world.network.router)
    with world.forward(tmp_path, kind.conf, before=kind.before):
        for family in kind.families:
            with world.open(SERVER.of(family), OTHER_PORT) as stream:
                assert "<required" in stream.read_until("</stream:features>")
            with world.open(SERVER.of(family), from_router=True) as stream:
                assert "<required" in stream.read_until("</stream:features>")


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_tproxy_leaves_connections_to_the_router_alone(
    world: World, family: str, tmp_path: Path
) -> None:
    kind = KINDS["tproxy to [::]"]
    kind.load(world.network.router)
    with (
        world.forward(tmp_path, kind.conf, before=kind.before) as bascule,
        pytest.raises(ConnectionRefusedError),
        world.open(LAN.of(family)),
    ):
        pass
    assert bascule.warnings() == []


NOT_REDIRECTED = "connection closed: the connection was not redirected"
LED_BACK = "connection closed: our own connection to a server was led back to us"


def assert_closed(stream: Stream, bascule: Placed, warning: str) -> None:
    """Find that the connection has been closed without a word, but for one in the log."""
    with contextlib.suppress(ConnectionResetError):  # as the header was not read
        assert stream.read_to_end() == ""
    bascule.wait_for_log(warning)
    [said] = bascule.warnings()
    host, port = stream.connection.getsockname()[:2]
    assert said == f"{warning} listener=redirected client={Address(host, port)}"
    assert f"`{warning}`" in PAGE.read_text()


@each_family
@pytest.mark.parametrize(
    "kind", [KINDS["redirect"], KINDS["tproxy to [::]"]], ids=lambda k: k.title
)
@pytest.mark.parametrize("rules", [True, False])
def test_a_connection_to_the_listener_itself_is_closed(
    world: World, kind: Kind, family: str, rules: bool, tmp_path: Path
) -> None:
    if rules:
        kind.load(world.network.router)
    with (
        world.forward(tmp_path, kind.conf, before=kind.before) as bascule,
        world.open(LAN.of(family), LISTENING) as stream,
    ):
        assert_closed(stream, bascule, NOT_REDIRECTED)


def test_what_tproxy_hands_over_for_this_machine_is_closed(world: World, tmp_path: Path) -> None:
    """Though the rules lack the line that leaves it alone."""
    kind = KINDS["tproxy"]
    kind.load(world.network.router)
    rules = section(TPROXY, "nft")
    spoilt = rules.replace("fib daddr type local return\n", "\n")
    assert spoilt != rules
    world.network.router.run("nft", "-f", "-", given=spoilt)
    with (
        world.forward(tmp_path, kind.conf, before=kind.before) as bascule,
        world.open(LAN.ipv4) as stream,
    ):
        assert_closed(stream, bascule, NOT_REDIRECTED)


@each_title
def test_a_destination_that_is_not_the_domains_is_refused(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, kind.conf, before=kind.before):
        for family in kind.families:
            place = Address(SERVER_TOO.of(family), PORT)
            with world.open(place.host) as stream:
                text = f"{place} is not a server of {DOMAIN}"
                assert_refused(stream, "policy-violation", text)
    assert world.legacy.heard == b""


def unlisted(kind: Kind) -> str:
    """The conf, and every destination allowed."""
    original = 'destination = "original"\n'
    assert original in kind.conf
    domains = kind.conf.replace(f'["{DOMAIN}"]', f'["{DOMAIN}", "{UNTRUSTED}"]')
    return domains.replace(original, f"{original}unlisted_destinations = true\n")


@each_title
def test_a_destination_that_is_not_the_domains_may_be_allowed(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, unlisted(kind), before=kind.before) as bascule:
        for family in kind.families:
            with world.open(SERVER_TOO.of(family)) as stream:
                assert_carried(stream, world, bascule, Address(SERVER_TOO.of(family), PORT))


@each_title
def test_an_allowed_destination_must_prove_its_domain(
    world: World, kind: Kind, tmp_path: Path
) -> None:
    kind.load(world.network.router)
    with world.forward(tmp_path, unlisted(kind), before=kind.before):
        for family in kind.families:
            with world.open(SERVER_TOO.of(family), domain=UNTRUSTED) as stream:
                assert_refused(stream, "policy-violation", "certificate")
    assert world.legacy.heard == b""


# Capabilities


def test_without_its_capability_tproxy_does_not_start(world: World, tmp_path: Path) -> None:
    kind = KINDS["tproxy"]
    bascule = world.forward(tmp_path, kind.conf, before=restricted())
    with pytest.raises(RuntimeError, match=f"exit status {Exit.UNAVAILABLE.value}"):
        bascule.start()
    complaint = "listener redirected: 127.0.0.1:5229: Operation not permitted"
    assert complaint in bascule.log()
    assert f"`{complaint}`" in PAGE.read_text()


def test_the_greater_capability_does_as_well(world: World, tmp_path: Path) -> None:
    kind = KINDS["tproxy"]
    before = restricted("+net_admin", "+net_admin")
    with world.forward(tmp_path, kind.conf, before=before) as bascule:
        assert bascule.processes[0].poll() is None


# On the client's own machine


def test_what_leaves_a_machine_is_carried_on(world: World, tmp_path: Path) -> None:
    """But for Bascule's own connections."""
    load_output(world.network.client, excepted=ROOT_USER)
    conf = section(OUTPUT, "toml")
    with world.forward(tmp_path, conf, on_client=True, before=restricted()) as bascule:
        for family in ("IPv4", "IPv6"):
            with world.open(SERVER.of(family)) as stream:
                assert_carried(stream, world, bascule, Address(SERVER.of(family), PORT))


@each_family
def test_an_own_connection_that_is_led_back_ends_at_once(
    world: World, family: str, tmp_path: Path
) -> None:
    load_output(world.network.client, excepted=NOBODY)
    conf = section(OUTPUT, "toml")
    with world.forward(tmp_path, conf, on_client=True, before=restricted()) as bascule:
        with world.open(SERVER.of(family)) as stream:
            assert_refused(stream, "remote-connection-failed", f"{DOMAIN} cannot be reached")
        print(bascule.log()); [warning] = bascule.warnings()
        assert warning.startswith(f"{LED_BACK} listener=redirected")
        assert f"`{LED_BACK}`" in PAGE.read_text()
        bascule.wait_for_log("session ended")
        assert bascule.log().count("session ended") == 1
    assert world.legacy.heard == b""
