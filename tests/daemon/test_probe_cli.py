"""bascule probe: the command as a process, before scripted servers and a scripted name server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import proxy.daemon
from proxy.daemon import cli
from proxy.daemon.cli import main
from proxy.daemon.model import Conf
from proxy.daemon.probe import Question
from proxy.xmpp.headers import opening
from tests.authority import Authority
from tests.net.client import read_all
from tests.net.name_server import NameServer
from tests.net.remote_server import NO_OFFER, RemoteServer
from tests.pages import ROOT
from tests.servers.bascule import ForwardBascule
from tests.servers.program import HOST, free_port

DOMAIN = "example.net"
SRV = f"_xmpp-client._tcp.{DOMAIN}"
DIRECT_SRV = f"_xmpps-client._tcp.{DOMAIN}"
PROGRAM = (
    sys.executable,
    "-bb",
    "-c",
    "import sys; from proxy.daemon.cli import main; sys.exit(main())",
    "probe",
)
FORWARD = """
[[listener]]
name = "legacy-clients"
direction = "forward"
stream = "c2s"
address = "{address}"
domains = ["{domains}"]
tls = "{rule}"
"""


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


class Command:
    """The command with a conf of its own.

    Attributes:
        roots: the line of a [[policy]] that names the authority.
        table: what its [[policy]] says.
    """

    def __init__(self, directory: Path, names: NameServer, authority: Authority) -> None:
        self.path = directory / "bascule.toml"
        self.names = names
        self.roots = f'ca_file = "{authority.ca_path}"\n'
        self.table = f"{self.roots}private_addresses = true"
        self.address = f"{HOST}:{free_port()}"
        self.domains = "*"
        self.rule = "required"
        self.listener = FORWARD

    def write(self) -> None:
        listener = self.listener.format(address=self.address, domains=self.domains, rule=self.rule)
        self.path.write_text(
            f'[dns]\nservers = ["{HOST}:{self.names.port}"]\n{listener}\n'
            f'[[policy]]\ndomain = "*"\n{self.table}\n'
        )

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        self.write()
        return subprocess.run(
            [*PROGRAM, DOMAIN, "-c", str(self.path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **options,
        )

    def structure(self, code: int) -> Any:
        """Run it with --json and return what it prints."""
        done = self.run("--json")
        assert (done.returncode, done.stderr) == (code, ""), done
        return json.loads(done.stdout)


@pytest.fixture
def command(tmp_path: Path, names: NameServer, authority: Authority) -> Command:
    return Command(tmp_path, names, authority)


def test_a_domain_with_two_ways_and_a_dead_one(command: Command, authority: Authority) -> None:
    files = authority.issue(DOMAIN, srv=["_xmpp-client.example.net"])
    with RemoteServer(files) as starttls, RemoteServer(files, direct=True) as direct:
        command.names.add(
            SRV, "SRV", f"5 1 {free_port()} one.{DOMAIN}.", f"7 2 {starttls.port} one.{DOMAIN}."
        )
        command.names.add(DIRECT_SRV, "SRV", f"9 3 {direct.port} one.{DOMAIN}.")
        command.names.add(f"one.{DOMAIN}", "A", HOST)
        found = command.structure(0)
        text = command.run()
    assert set(found) == {
        "domain",
        "configuration",
        "policy",
        "dnssec_believed",
        "posh",
        "keyring",
        "listeners",
        "targets",
        "outcome",
    }
    assert (found["posh"], found["keyring"]) == (None, None)
    assert found["listeners"] == [{"name": "legacy-clients", "tls": "required", "carried": True}]
    assert found["configuration"] == str(command.path)
    assert found["policy"]["default"] is False
    assert found["policy"]["level"] == "secure"
    dead, upgraded, secured = found["targets"]
    assert [dead["priority"], upgraded["priority"], secured["priority"]] == [5, 7, 9]
    assert dead["addresses"][0]["problem"] == "connection refused"
    assert dead["addresses"][0]["tls"] is None
    (address,) = upgraded["addresses"]
    assert (address["starttls_offered"], address["starttls_proceeded"]) == (True, True)
    assert address["accepted"] == "tls"
    tls = address["tls"]
    assert tls["version"] == "TLSv1.3"
    assert tls["identities"]["srv"] == ["_xmpp-client.example.net"]
    assert (tls["status"], tls["matched"]) == ("Verified", f"DNS-ID {DOMAIN}")
    assert tls["pin"].startswith("sha256:")
    assert tls["chain"][0]["days_left"] == 89
    assert secured["direct_tls"]
    assert secured["addresses"][0]["tls"]["alpn"] == "xmpp-client"
    outcome = found["outcome"]
    assert (outcome["carried"], outcome["by"]) == (True, "tls")
    assert (outcome["address"], outcome["port"]) == (HOST, starttls.port)
    assert text.returncode == 0
    assert "Verified" in text.stdout
    assert f"pin          {tls['pin']}" in text.stdout
    assert text.stdout.endswith(f"proved by DNS-ID {DOMAIN}.\n")
    assert "\x1b" not in text.stdout


def test_a_certificate_of_another_domain(command: Command, authority: Authority) -> None:
    with RemoteServer(authority.issue("example.org")) as server:
        command.names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        command.names.add(f"one.{DOMAIN}", "A", HOST)
        found = command.structure(1)
    (address,) = found["targets"][0]["addresses"]
    reason = "the certificate is for example.org, not for example.net"
    assert (address["accepted"], address["reason"]) == (None, reason)
    assert (address["tls"]["status"], address["tls"]["matched"]) == ("Trusted", None)
    outcome = found["outcome"]
    assert (outcome["carried"], outcome["by"], outcome["host"]) == (False, None, None)
    assert reason in outcome["text"]


def test_a_private_address_is_not_connected_to(command: Command, authority: Authority) -> None:
    command.table = command.roots
    with RemoteServer(authority.issue(DOMAIN)) as server:
        command.names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        command.names.add(f"one.{DOMAIN}", "A", HOST)
        found = command.structure(1)
        text = command.run()
        assert not server.plain
    (address,) = found["targets"][0]["addresses"]
    assert address["forbidden"] == f"{HOST} is a loopback address"
    assert address["connect_seconds"] is None
    assert f"forbidden    {HOST} is a loopback address" in text.stdout
    remedy = f"a [[policy]] for {DOMAIN} with private_addresses = true allows it"
    assert remedy == address["remedy"]
    assert text.stdout.endswith(f"({remedy}).\n")


def test_a_listener_of_the_conf_is_not_connected_to(command: Command) -> None:
    port = free_port()
    command.address = f"0.0.0.0:{port}"
    command.names.add(SRV, "SRV", f"0 0 {port} one.{DOMAIN}.")
    command.names.add(f"one.{DOMAIN}", "A", "127.0.0.3")
    found = command.structure(1)
    (address,) = found["targets"][0]["addresses"]
    assert address["forbidden"] == f"127.0.0.3:{port} is a listener of this proxy"


def test_a_domain_that_does_not_exist(command: Command) -> None:
    found = command.structure(1)
    assert found["targets"][0]["source"] == "fallback"
    assert found["targets"][0]["problem"] == f"the name {DOMAIN} does not exist"
    assert "does not exist" in found["outcome"]["text"]


def test_dns_that_fails(command: Command) -> None:
    command.names.fail(SRV, "SRV")
    found = command.structure(1)
    assert found["targets"] == []
    assert "SERVFAIL" in found["outcome"]["text"]
    text = command.run()
    assert text.returncode == 1
    assert text.stdout.splitlines()[-1].startswith(f"A client would not be carried to {DOMAIN}")


def test_plaintext_where_the_policy_allows_it(command: Command) -> None:
    with RemoteServer(features=NO_OFFER) as server:
        command.table = f'level = "may"\nserver = "{HOST}:{server.port}"'
        found = command.structure(0)
        command.table = f'level = "encrypt"\nserver = "{HOST}:{server.port}"'
        text = command.run()
    assert not command.names.asked
    assert found["outcome"]["by"] == "plaintext"
    assert found["targets"][0]["source"] == "policy"
    assert text.returncode == 1
    assert "not offered" in text.stdout


def test_the_deadline_of_the_conf_holds(command: Command) -> None:
    with socket.create_server((HOST, 0)) as mute:
        port = mute.getsockname()[1]
        command.table = f'server = "{HOST}:{port}"\n[deadlines]\nconnect = 0.4'
        found = command.structure(1)
    assert "within 0.4 s" in found["outcome"]["text"]


def test_a_domain_that_no_listener_allows(command: Command, authority: Authority) -> None:
    command.domains = "example.org"
    with RemoteServer(authority.issue(DOMAIN)) as server:
        command.table = f'{command.roots}server = "{HOST}:{server.port}"'
        text = command.run()
        found = command.structure(1)
    assert text.returncode == 1
    assert "listener     no forward listener for clients allows this domain" in text.stdout
    why = (
        f"client would not be carried to {DOMAIN}: no forward listener for clients allows it; the "
        "server at"
    )
    assert f"A {why}" in text.stdout.splitlines()[-1]
    assert found["listeners"] == []
    outcome = found["outcome"]
    assert (outcome["carried"], outcome["by"], outcome["host"]) == (False, None, None)
    assert why in outcome["text"]
    assert found["targets"][0]["addresses"][0]["accepted"] == "tls"


def test_a_conf_without_a_forward_listener(command: Command, authority: Authority) -> None:
    certificate, private_key = authority.issue("example.com")
    command.listener = f"""
[[domain]]
name = "example.com"
certificate = "{certificate}"
private_key = "{private_key}"
c2s_server = "{HOST}:1"

[[listener]]
name = "c2s"
direction = "reverse"
stream = "c2s"
address = "{HOST}:{free_port()}"
"""
    with RemoteServer(authority.issue(DOMAIN)) as server:
        command.table = f'{command.roots}server = "{HOST}:{server.port}"'
        found = command.structure(1)
    assert (
        f"to {DOMAIN}: there is no forward listener for clients; the server at"
        in found["outcome"]["text"]
    )


def test_a_listener_that_only_reports(command: Command, authority: Authority) -> None:
    command.rule = "report"
    with RemoteServer(authority.issue("example.org")) as server:
        command.table = f'{command.roots}server = "{HOST}:{server.port}"'
        text = command.run()
        found = command.structure(1)
    assert text.returncode == 1
    assert 'listener     legacy-clients, tls = "report": enforces nothing' in text.stdout
    last = text.stdout.splitlines()[-1]
    assert last.startswith(f"A client would be carried to {DOMAIN} at {HOST}[{HOST}]:{server.port}")
    assert 'but only because of tls = "report" (listener "legacy-clients")' in last
    assert found["listeners"] == [{"name": "legacy-clients", "tls": "report", "carried": True}]
    assert found["outcome"]["carried"] is False


def test_a_fixed_server_that_expects_direct_tls(command: Command, authority: Authority) -> None:
    with RemoteServer(authority.issue(DOMAIN), direct=True) as server:
        command.table = f'{command.roots}server = "{HOST}:{server.port}"'
        found = command.structure(1)
        command.table += "\ndirect_tls = true"
        command.structure(0)
    (address,) = found["targets"][0]["addresses"]
    assert address["remedy"].startswith("set direct_tls = true in its policy if the server")


def test_strange_names_reach_no_terminal(command: Command, authority: Authority) -> None:
    strange = "\x1b]0;x\x07\u202e[blink]é\n"
    files = authority.issue(DOMAIN, xmpp=[strange], common_name="a\x1b[2J")
    with RemoteServer(files) as server:
        command.table = f'{command.roots}server = "{HOST}:{server.port}"'
        text = command.run(env={**os.environ, "PYTHONIOENCODING": "ascii"})
        found = command.structure(0)
    assert text.stdout.isascii()
    assert "\x1b" not in text.stdout
    assert "CN=a\\x1b[2J, issued by CN=Bascule test root" in text.stdout
    (address,) = found["targets"][0]["addresses"]
    assert address["tls"]["identities"]["xmpp"] == [
        "\\x1b]0;x\\x07\\u202e[blink]é\\n",
    ]


def test_roots_that_cannot_be_read(command: Command, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate\n")
    command.table = f'\n[[policy]]\ndomain = "example.org"\nca_file = "{rubbish}"'
    done = command.run()
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"bascule: {rubbish}: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c(command: Command) -> None:
    with socket.create_server((HOST, 0)) as mute:
        mute.settimeout(20)
        command.table = f'server = "{HOST}:{mute.getsockname()[1]}"'
        command.write()
        with subprocess.Popen(
            [*PROGRAM, DOMAIN, "-c", str(command.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell that runs the tests in the background has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        ) as process:
            connection, _ = mute.accept()
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=20)
            connection.close()
    assert (process.returncode, *output) == (130, b"", b"")


def test_nobody_reads_the_output(command: Command) -> None:
    command.write()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, DOMAIN, "-c", str(command.path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    text = "bascule: output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, text)


@pytest.mark.parametrize(
    ("served", "known"), [(DOMAIN, True), ("example.org", True), (DOMAIN, False)]
)
def test_the_daemon_does_as_the_probe_says(
    tmp_path: Path,
    names: NameServer,
    authority: Authority,
    served: str,
    known: bool,
) -> None:
    """The client's header gets to the server exactly where the probe says that it would."""
    carried = known and served == DOMAIN
    issuer = authority if known else Authority(tmp_path / "unknown")
    daemon = ForwardBascule(
        tmp_path, [DOMAIN], names=f"{HOST}:{names.port}", authority=authority.ca_path
    )
    with RemoteServer(issuer.issue(served)) as server, daemon:
        names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        names.add(f"one.{DOMAIN}", "A", HOST)
        done = subprocess.run(
            [*PROGRAM, DOMAIN, "-c", str(daemon.configuration_path)],
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=60,
        )
        assert not server.spoken.is_set()
        with socket.create_connection((HOST, daemon.port)) as client:
            client.settimeout(20)
            client.sendall(opening(DOMAIN))
            if carried:
                assert server.spoken.wait(20)
            else:
                assert b"<stream:error>" in read_all(client)
                assert not server.spoken.is_set()
    assert done.returncode == (0 if carried else 1)


# The command line


class Run:
    """Stands in for `proxy.daemon.probe`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[Conf | None, Path, Question, bool]] = []
        module = SimpleNamespace(run=self.run, Question=Question)
        monkeypatch.setitem(sys.modules, "proxy.daemon.probe", module)
        monkeypatch.setattr(proxy.daemon, "probe", module, raising=False)

    def run(self, conf: Conf | None, file: Path, question: Question, *, as_json: bool) -> int:
        self.seen.append((conf, file, question, as_json))
        return 1


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def standard(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Have the command look for its conf at ``path`` unless it is told otherwise."""
    (option,) = [each for each in cli.probe.params if each.name == "conf_path"]
    monkeypatch.setattr(option, "default", path)


def test_without_a_conf_the_defaults_hold(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard(monkeypatch, tmp_path / "none.toml")
    assert main(["probe", "Bücher.Example."]) == 1
    assert ran.seen == [(None, tmp_path / "none.toml", Question("xn--bcher-kva.example"), False)]


def test_a_conf_in_which_nothing_is_set_is_none(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the package for Debian brings it."""
    path = tmp_path / "bascule.toml"
    shutil.copy(ROOT / "debian/bascule.toml", path)
    standard(monkeypatch, path)
    assert main(["probe", DOMAIN]) == 1
    assert ran.seen == [(None, path, Question(DOMAIN), False)]
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/more.toml").write_text("colour = 1\n")
    assert main(["probe", DOMAIN]) == 78
    assert main(["probe", DOMAIN, "-c", str(path)]) == 78


def test_a_conf_in_its_usual_place_counts(
    ran: Run, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.write()
    standard(monkeypatch, command.path)
    assert main(["probe", DOMAIN, "--json"]) == 1
    [(conf, file, _, as_json)] = ran.seen
    assert file == command.path
    assert conf is not None
    assert conf.dns.servers == ((HOST, command.names.port),)
    assert as_json


def test_a_conf_with_a_mistake_is_not_passed_over(
    ran: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bascule.toml"
    path.write_text("colour = 1\n")
    standard(monkeypatch, path)
    assert main(["probe", DOMAIN]) == 78
    assert "colour: is not known" in capsys.readouterr().err
    assert main(["probe", DOMAIN, "-c", str(tmp_path / "none.toml")]) == 78
    assert "cannot be read" in capsys.readouterr().err
    standard(monkeypatch, path / "below" / "a" / "file")  # which cannot be looked at
    assert main(["probe", DOMAIN]) == 78
    assert not ran.seen


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Missing argument 'DOMAIN'"),
        (["no domain"], "not a domain: "),
        (["a@example.net"], "a domain has no @"),
        (["example.net:5222"], "not a domain: a port does not belong here"),
        (["xmpp://example.net"], "not a domain: a scheme does not belong here"),
        (["*example.net"], "not a domain: a * does not belong here"),
        (["-x", DOMAIN], "No such option"),
    ],
)
def test_usage(ran: Run, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *words]) == 64
    told = capsys.readouterr().err
    assert told.startswith("bascule: ")
    assert reason in told
    assert not ran.seen
