"""Somebody with an old server follows the guide, and nothing but the guide."""

import asyncio
import datetime as dt
import os
import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.daemon.exits import Exit
from tests.authority import Authority, now, self_signed
from tests.servers.abroad import DOMAIN as EXAMPLE_NET
from tests.servers.abroad import Abroad
from tests.servers.client import Client, converse
from tests.servers.guide import Section, Walk, assert_logged, assert_shown
from tests.servers.mcabber import Mcabber
from tests.servers.old_server import (
    DOMAIN,
    LeadingNames,
    Old,
    OldJabberd2,
    OldProsody,
    is_reached_elsewhere,
)
from tests.servers.program import free_port
from tests.servers.stream import starttls

TEN_MINUTES = "## In front of an old server in ten minutes"

CONF = "/etc/bascule/bascule.toml"
LETSENCRYPT = (
    "/etc/letsencrypt/live/example.com/fullchain.pem",
    "/etc/letsencrypt/live/example.com/privkey.pem",
)
TLS = ("/etc/bascule/tls/example.com.crt", "/etc/bascule/tls/example.com.key")
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/bascule"
RENEW = f"RENEWED_LINEAGE={Path(LETSENCRYPT[0]).parent} {HOOK}"  # as Certbot calls it
RENEWAL = "### Certificates, roots and revocation lists"
TAKEN_UP = re.compile(
    "certificate taken up domain=example.com file=/etc/bascule/tls/example.com.crt"
    r" fingerprint=\S+ pin=\S+ serial=\S+ days_left=\d+\n"
)
PARTNER = "partner.example"


@pytest.fixture
def walk(tmp_path: Path, authority: Authority) -> Iterator[Walk]:
    """A machine on which the guide's first certificate is there, and nothing else."""
    with Walk(tmp_path, authority.ca_path) as walk:
        certify(walk, authority)
        yield walk


def certify(
    walk: Walk, root: Authority, places: tuple[str, str] = LETSENCRYPT, domain: str = DOMAIN
) -> None:
    """Put a new certificate, and its private key, where the guide has them."""
    issuing = Authority(walk.directory / "issuing", name="Example CA", parent=root)
    for place, file in zip(places, issuing.issue(domain), strict=True):
        path = walk.path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, path)


def of_example_com(name: str, walk: Walk, authority: Authority) -> Client:
    """A client of today, which insists on TLS."""
    return Client(name, DOMAIN, walk.ports["5222"], "starttls", authority.ca_path)


@pytest.mark.server("openssl")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(OldProsody, marks=pytest.mark.server("prosody"), id="prosody"),
        pytest.param(OldJabberd2, marks=pytest.mark.server("jabberd2"), id="jabberd2"),
    ],
)
def test_an_old_server_is_fronted(
    walk: Walk, authority: Authority, make: Callable[[Walk], Old]
) -> None:
    async def log_in() -> None:
        async with (
            of_example_com("alice", walk, authority) as alice,
            of_example_com("bob", walk, authority) as bob,
        ):
            await converse(alice, bob)

    with make(walk), Section(TEN_MINUTES) as guide:
        # 1. Install Bascule.
        assert "message" in walk.carry_out(guide.block("sh"))
        # 2. Move the old server. "From another machine, this must fail":
        port = guide.block("sh").split()[-1]
        assert not is_reached_elsewhere(walk.ports[port])
        # 3. Write the conf.
        walk.carry_out(guide.block("sh"))
        walk.write(CONF, guide.block("toml"))
        # 4. Check it.
        said = walk.carry_out(guide.block("sh"))
        assert_shown(guide.block("text"), said)
        # 5. Run it.
        walk.carry_out(guide.block("sh"))
        # 6. Look from outside.
        said = walk.carry_out(guide.block("sh"))
        assert_shown(guide.block("text"), said)
        # 7. Log in.
        asyncio.run(log_in())
        assert "with features" in walk.carry_out("bascule status --probe")
        assert_logged(Section("## Reading the log").block("text"), walk.log)


def target_in(said: str) -> str:
    """Return what the probe says from its first target on; before that it names files."""
    return said[said.index("1. ") :]


@pytest.fixture
def abroad(tmp_path: Path) -> Iterator[Abroad]:
    """A server of today for example.net, and what leads there."""
    with Abroad(tmp_path / "abroad") as abroad:
        yield abroad


async def log_in_with_mcabber(walk: Walk, account: str, abroad: Abroad) -> None:
    """Write to a client of today, and read what it answers."""
    port, trusted = abroad.server.port, abroad.root.ca_path
    directory = walk.directory / "mcabber"
    async with (
        Mcabber("alice", EXAMPLE_NET, walk.ports["5221"], directory, account=account) as alice,
        Client("bob", EXAMPLE_NET, port, "starttls", trusted) as bob,
    ):
        await converse(alice, bob)


@pytest.mark.server("prosody")
@pytest.mark.server("unbound")
@pytest.mark.server("mcabber")
def test_old_clients_are_forwarded(tmp_path: Path, abroad: Abroad) -> None:
    with (
        Walk(tmp_path, abroad.root.ca_path, abroad.conf) as walk,
        Section("### In ten minutes") as guide,
    ):
        # 2. Look at the domain. Here names and addresses of a laboratory take a conf.
        walk.write(CONF, guide.only("toml").replace('tls = "report"\n', ""))
        look, shown = guide.block("sh"), guide.block("text")
        assert_shown(target_in(shown), target_in(abroad.told(walk.carry_out(look))))
        shown = guide.block("text")
        life = now() - dt.timedelta(days=9), now() - dt.timedelta(days=2)
        expired = abroad.issuing.issue(EXAMPLE_NET, not_before=life[0], not_after=life[1])
        with abroad.showing(expired):
            said = walk.carry_out(look, status=1)
            assert_shown(shown, f"{abroad.told(said).splitlines()[-1]}\n")
        # 3. Write the conf.
        walk.write(CONF, guide.block("toml"))
        # 4. Check and run it.
        said = walk.carry_out(guide.block("sh"))
        assert_shown(guide.block("text"), abroad.told(said))
        # 5. Set the client.
        account = walk.here(guide.block("text"))
        # 6. Log in.
        asyncio.run(log_in_with_mcabber(walk, account, abroad))
        assert_logged(guide.block("text"), lambda: abroad.told(walk.log()))


@pytest.mark.server("prosody")
@pytest.mark.server("unbound")
@pytest.mark.server("lua-unbound")
@pytest.mark.server("openssl")
def test_an_old_server_federates(tmp_path: Path) -> None:
    back = free_port()
    with (
        Abroad(tmp_path / "abroad", back=back) as abroad,
        Walk(tmp_path / "here", abroad.root.ca_path, abroad.conf, {"5269": back}) as walk,
        # 1. Let the server take other servers in plaintext. 3. Lead its connections to s2s-out.
        LeadingNames(walk),
        OldProsody(walk, between=True),
        Section("### Federation in ten minutes") as guide,
    ):
        # 2. Write the conf.
        certify(walk, abroad.root, TLS)
        conf = guide.block("toml")
        walk.write(CONF, conf)
        # 4. Check and run it.
        said = walk.carry_out("bascule check")
        assert_shown(guide.block("text"), abroad.told(said))
        walk.carry_out("bascule run")
        # 5. Look from outside.
        assert "\nVerified peername: example.com\n" in walk.carry_out(guide.block("sh"))
        with Walk(tmp_path / "outside", abroad.root.ca_path, abroad.conf) as outside:
            certify(outside, abroad.root, TLS, "example.org")
            others = 'name = "example.org"'
            outside.write(CONF, conf.replace(f'name = "{DOMAIN}"', others))
            probe = guide.block("sh")
            assert "may prove itself by its certificate" in outside.carry_out(probe)
            # Without a conf it would show none. Here names and addresses take one.
            outside.write(CONF, Section("### In ten minutes").only("toml"))
            said = outside.carry_out(probe, status=1)
            assert re.search(r"^ +dialback +announced$", said, re.MULTILINE)
        # 6. Look at another domain.
        said = walk.carry_out(guide.block("sh"))
        assert "would be carried to example.net" in said.splitlines()[-1]
        assert walk.carry_out("bascule status --probe").count("with features") == 2
        # 7. Write to somebody.
        asyncio.run(write_to_somebody(walk, abroad))
        abroad.server.stop()
        samples = Section("### Which way it went")
        assert_logged(samples.block("text"), lambda: abroad.told(walk.log()))


async def write_to_somebody(walk: Walk, abroad: Abroad) -> None:
    """Exchange messages between a user of the old server and one of example.net."""
    port, trusted = abroad.server.port, abroad.root.ca_path
    async with (
        Client("alice", DOMAIN, walk.ports["5222"], "starttls", trusted) as alice,
        Client("bob", EXAMPLE_NET, port, "starttls", trusted) as bob,
    ):
        await converse(alice, bob)


@pytest.mark.server("prosody")
def test_certificates_and_the_conf_change_while_sessions_go_on(
    walk: Walk, authority: Authority
) -> None:
    conf = Section(TEN_MINUTES).only("toml")
    for place, copy in zip(LETSENCRYPT, TLS, strict=True):
        conf = conf.replace(place, copy)
    walk.write(CONF, conf)
    with Section(RENEWAL) as guide, OldProsody(walk):
        walk.write(HOOK, guide.block("bash")).chmod(0o755)
        walk.carry_out(RENEW)
        walk.carry_out("bascule run")
        asyncio.run(change(walk, authority, guide.block("sh")))
    assert walk.daemon.processes[0].wait(timeout=60) == Exit.OK


def certificate_of(walk: Walk, authority: Authority) -> bytes:
    """Return the certificate that clients get, as DER."""
    with starttls(walk.ports["5222"], DOMAIN, authority.ca_path) as stream:
        assert isinstance(stream.connection, ssl.SSLSocket)
        certificate = stream.connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


async def change(walk: Walk, authority: Authority, drain: str) -> None:
    """Renew, reload, drain and stop, under the eyes of a client."""
    with Section("## Changing things while sessions go on") as guide:
        assert guide.block("sh") == "systemctl reload bascule\n"  # "so do bascule reload and ..."
    async with of_example_com("alice", walk, authority) as alice:
        assert await alice.login() == "session started"
        # A renewed certificate is taken up within a minute.
        shown = certificate_of(walk, authority)
        certify(walk, authority)
        walk.carry_out(RENEW)
        await asyncio.to_thread(walk.daemon.wait_for_log, "certificate taken up", seconds=60)
        assert TAKEN_UP.search(walk.log())
        assert certificate_of(walk, authority) != shown
        # The conf is taken up, all of it or nothing.
        path = walk.path(CONF)
        good = path.read_text()
        path.write_text(good.replace('"reverse"', '"sideways"'))
        assert "sideways" in await walk.meanwhile("bascule reload", status=Exit.CONFIG)
        path.write_text(f"{good}[deadlines]\nnegotiation = 20\n")
        assert "deadlines" in await walk.meanwhile("bascule reload")
        with Section("### Stopping") as guide:
            assert "0 sessions" in await walk.meanwhile(guide.block("sh"))
        # Those that were set up with the old certificate end where that is asked for.
        alice.write(alice.jid, "Still here.")
        assert await alice.read() == (alice.jid, "Still here.")
        assert "1 session" in await walk.meanwhile(drain)
        assert await alice.stream_error() == "reset"
    async with of_example_com("bob", walk, authority) as bob:
        assert await bob.login() == "session started"
        await walk.meanwhile("bascule drain")
        assert await bob.stream_error() == "system-shutdown"


@pytest.mark.server("prosody")
def test_a_running_bascule_is_looked_into(walk: Walk, authority: Authority) -> None:
    walk.write(CONF, Section(TEN_MINUTES).only("toml"))
    with OldProsody(walk):
        walk.carry_out("bascule run")
        asyncio.run(look_into(walk, authority))
    with Section("### What partners need of yours") as guide:
        walk.carry_out(guide.block("sh"))


async def look_into(walk: Walk, authority: Authority) -> None:
    """Carry out the commands for a running Bascule while a client is logged in."""
    with Section("## Looking into a running Bascule") as guide:
        look = guide.block("sh").splitlines()
        trace, of_servers = guide.block("sh").splitlines()
        kick, level = guide.block("sh").splitlines()
    async with of_example_com("alice", walk, authority) as alice:
        tracing = await walk.follow(trace)
        assert await alice.login() == "session started"
        traced, _ = await asyncio.wait_for(tracing.communicate(), 30)
        assert tracing.returncode == Exit.OK
        assert b"(masked)</auth>" in traced or b"(masked)</response>" in traced
        assert "there is no listener" in await walk.meanwhile(of_servers, status=os.EX_DATAERR)
        status, sessions, *rest = [await walk.meanwhile(command) for command in look]
        assert DOMAIN in status
        [session] = re.findall(rf"^([0-9a-f]{{12}}) .* {DOMAIN}\b", sessions, re.MULTILINE)
        assert rest == [""]
        await walk.meanwhile(kick.replace(kick.split()[-1], session))
        assert await alice.stream_error()
        await walk.meanwhile(level)


@pytest.mark.server("prosody")
@pytest.mark.server("unbound")
@pytest.mark.server("openssl")
def test_certificates_are_permitted(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, PARTNER)
    with (
        Abroad(tmp_path / "abroad", domain=PARTNER, pair=pair) as abroad,
        Walk(tmp_path / "here", abroad.root.ca_path, abroad.conf) as walk,
    ):
        conf = Section("### In ten minutes").only("toml")
        conf = conf.replace(EXAMPLE_NET, PARTNER).replace('tls = "report"\n', "")
        with Section("## Certificates you permit yourself") as guide:
            # Addresses of this machine are refused as a rule.
            conf += f"{guide.block('toml')}private_addresses = true\n"
        walk.write(CONF, conf)
        walk.carry_out("bascule check")
        walk.carry_out("bascule run")
        with Section("### Permit a certificate") as guide:
            look, compare, decide = (guide.block("sh") for _ in range(3))
            approve, reject = decide.splitlines()
            held = asyncio.run(refused(walk))
            said = walk.carry_out(look)
            assert held in said
            shutil.copy(pair[0], walk.directory / "server.crt")
            assert walk.carry_out(compare).strip().partition("=")[2] in said
            walk.carry_out(approve.replace(approve.split()[-1], held))
            assert asyncio.run(log_in(walk)) == "session started"
            # It shows another one, which is not what its operator says.
            with abroad.showing(self_signed(tmp_path / "here", PARTNER)):
                held = asyncio.run(refused(walk))
                walk.daemon.wait_for_log(" critical ")
                walk.carry_out(reject.replace(reject.split()[-1], held))
                assert asyncio.run(log_in(walk)) == "stream error: policy-violation"
            assert asyncio.run(log_in(walk)) == "session started"
        with Section("### Back up the keyring") as guide:
            walk.carry_out(guide.block("sh"))
        with Section("### When a certificate changes") as guide:
            walk.carry_out(guide.block("sh"))
            assert asyncio.run(log_in(walk)) == "stream error: policy-violation"
        with Section("### What a domain once had") as guide:
            walk.carry_out(guide.block("sh"))


async def log_in(walk: Walk) -> str:
    """Log an old client of the partner's in; return what became of it."""
    async with Client("alice", PARTNER, walk.ports["5221"], "plaintext") as alice:
        return await alice.login()


async def refused(walk: Walk) -> str:
    """Have an old client refused; return the id of the certificate that waits."""
    async with Client("alice", PARTNER, walk.ports["5221"], "plaintext") as alice:
        assert await alice.login() == "stream error: policy-violation"
    found = re.search(r"\((\w{8}) in the keyring\)", alice.error_text)
    assert found is not None, alice.error_text
    return found[1]
