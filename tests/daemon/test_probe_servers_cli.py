"""bascule probe --s2s: the command as a process, before scripted servers and a name server."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.cli import main
from proxy.session.kinds import Kind
from proxy.xmpp import namespaces as ns
from proxy.xmpp.headers import opening
from tests.authority import Authority
from tests.daemon.test_probe_cli import DOMAIN, PROGRAM, Run
from tests.net.hostile import Hostile
from tests.net.legacy import LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import EXTERNAL, FEATURES, opened, script, taking
from tests.servers.bascule import ServerBascule
from tests.servers.program import HOST, free_port

OURS, OTHER = "example.com", "example.org"
SRV = f"_xmpp-server._tcp.{DOMAIN}"
LISTENER = """
[[listener]]
name = "{stream}"
direction = "forward"
stream = "{stream}"
address = "{host}:{port}"
domains = ["{domains}"]
"""


class Command:
    """The command with a conf of its own.

    Attributes:
        domains: the domains of ours, each with its files.
        listeners: which streams forward listeners take, and for which domains.
        policy: more of the [[policy]].
    """

    def __init__(self, directory: Path, names: NameServer, authority: Authority) -> None:
        self.path = directory / "bascule.toml"
        self.names = names
        self.domains = {each: authority.issue(each, common_name=each) for each in (OURS, OTHER)}
        self.listeners = {"s2s": "*"}
        self.policy = f'ca_file = "{authority.ca_path}"\nprivate_addresses = true\n'

    def write(self) -> None:
        parts = [f'[dns]\nservers = ["{HOST}:{self.names.port}"]\n']
        parts += [
            f'[[domain]]\nname = "{name}"\ncertificate = "{files[0]}"\nprivate_key = "{files[1]}"\n'
            f's2s_server = "{HOST}:1"\n'
            for name, files in self.domains.items()
        ]
        parts += [
            LISTENER.format(stream=stream, host=HOST, port=free_port(), domains=domains)
            for stream, domains in self.listeners.items()
        ]
        parts.append(f'[[policy]]\ndomain = "*"\n{self.policy}')
        self.path.write_text("\n".join(parts))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.write()
        return subprocess.run(
            [*PROGRAM, DOMAIN, "-c", str(self.path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def structure(self, code: int, *arguments: str) -> Any:
        """Run it with --s2s and --json, and return what it prints."""
        done = self.run("--s2s", "--json", *arguments)
        assert (done.returncode, done.stderr) == (code, ""), done
        return json.loads(done.stdout)


@pytest.fixture
def server(authority: Authority) -> Iterator[Hostile]:
    """A server of the domain, which offers SASL EXTERNAL."""
    with Hostile() as server:
        server.play(script(authority.issue(DOMAIN, dns=[], srv=[f"_xmpp-server.{DOMAIN}"])))
        yield server


@pytest.fixture
def command(tmp_path: Path, authority: Authority, server: Hostile) -> Iterator[Command]:
    with NameServer() as names:
        names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        names.add(f"one.{DOMAIN}", "A", HOST)
        yield Command(tmp_path, names, authority)


def test_a_domain_that_servers_reach(
    command: Command, server: Hostile, authority: Authority
) -> None:
    files = authority.issue(DOMAIN, dns=[], srv=[f"_xmpp-server.{DOMAIN}"])
    server.play(script(files, opened(features=EXTERNAL)))
    found = command.structure(0)
    text = command.run("--s2s")
    assert found["from"] == OURS
    assert found["listeners"] == [{"name": "s2s", "tls": "required", "carried": True}]
    (address,) = found["targets"][0]["addresses"]
    assert (address["external_offered"], address["dialback_announced"]) == (True, True)
    assert address["tls"]["matched"] == f"SRV-ID _xmpp-server.{DOMAIN}"
    assert text.returncode == 0
    assert "EXTERNAL     offered" in text.stdout
    last = text.stdout.splitlines()[-1]
    assert last.startswith(f"The server of {OURS} would be carried to {DOMAIN} at one.{DOMAIN}[")
    assert last.endswith("may prove itself by its certificate (SASL EXTERNAL).")
    for _ in range(2):
        peer = server.next()
        assert peer.plain.startswith(opening(DOMAIN, ns.SERVER, OURS))
        assert peer.shown is not None
        assert peer.shown.subject.rfc4514_string() == f"CN={OURS}"


def test_one_domain_of_several_asks(command: Command, server: Hostile) -> None:
    assert command.structure(0, "--from", "EXAMPLE.org.")["from"] == OTHER
    peer = server.next()
    assert peer.plain.startswith(opening(DOMAIN, ns.SERVER, OTHER))
    assert peer.shown is not None
    assert peer.shown.subject.rfc4514_string() == f"CN={OTHER}"


def test_dialback_that_is_ruled_out(
    command: Command, server: Hostile, authority: Authority
) -> None:
    server.play(script(authority.issue(DOMAIN), opened(features=FEATURES)))
    assert command.structure(0)["targets"][0]["addresses"][0]["external_offered"] is False
    command.policy += 'dialback = "never"\n'
    found = command.structure(1)
    assert "dialback is ruled out" in found["outcome"]["text"]


def test_a_certificate_for_clients_only(
    command: Command, server: Hostile, authority: Authority
) -> None:
    server.play(script(authority.issue(DOMAIN, dns=[], srv=[f"_xmpp-client.{DOMAIN}"])))
    found = command.structure(1)
    assert found["targets"][0]["addresses"][0]["tls"]["matched"] is None


@pytest.mark.parametrize(
    ("listeners", "why"),
    [
        ({"c2s": "*"}, "there is no forward listener for servers"),
        ({"s2s": "example.org", "c2s": "*"}, "no forward listener for servers allows it"),
    ],
)
def test_listeners_for_clients_do_not_count(
    command: Command, listeners: dict[str, str], why: str
) -> None:
    """The domain is looked at all the same, with the certificate that would be shown."""
    command.listeners = listeners
    found = command.structure(1)
    assert found["listeners"] == []
    assert f"would not be carried to {DOMAIN}: {why}" in found["outcome"]["text"]
    assert found["targets"][0]["addresses"][0]["accepted"] == "tls"
    assert found["targets"][0]["addresses"][0]["dialback_announced"] is True


def test_listeners_for_servers_do_not_count_for_clients(command: Command) -> None:
    command.names.add(f"_xmpp-client._tcp.{DOMAIN}", "SRV", "0 0 0 .")
    done = command.run("--json")
    text = json.loads(done.stdout)["outcome"]["text"]
    assert "there is no forward listener for clients" in text


def test_without_a_domain_no_certificate_is_shown(command: Command, server: Hostile) -> None:
    command.domains = {}
    command.listeners = {"c2s": "*"}
    found = command.structure(1)
    assert found["from"] is None
    peer = server.next()
    assert peer.plain.startswith(opening(DOMAIN, ns.SERVER))
    assert peer.shown is None


def test_another_bascule(command: Command, tmp_path: Path, authority: Authority) -> None:
    """It offers SASL EXTERNAL to those whose certificate proves their domain, and only to them."""
    directory = tmp_path / "another"
    place = f"{HOST}:{command.names.port}"
    with LegacyServer() as legacy:
        legacy.script = taking()
        with ServerBascule(
            directory,
            DOMAIN,
            authority.issue(DOMAIN),
            legacy.port,
            names=place,
            authority=authority.ca_path,
            no_dialback=[],
        ) as other:
            command.policy += f's2s_server = "{HOST}:{other.port}"\n'
            for direct in (False, True):
                (address,) = command.structure(0)["targets"][0]["addresses"]
                assert (address["external_offered"], address["dialback_announced"]) == (True, True)
                assert address["tls"]["alpn"] == ("xmpp-server" if direct else None)
                command.policy += "s2s_direct_tls = true\n" * (not direct)
            command.listeners = {"c2s": "*"}
            wrong: dict[str, Any] = {OURS: authority.issue("elsewhere.example")}
            for command.domains in (wrong, {}):
                (address,) = command.structure(1)["targets"][0]["addresses"]
                offered = address["external_offered"], address["dialback_announced"]
                assert offered == (False, True)


def test_a_key_that_cannot_be_used(command: Command, server: Hostile) -> None:
    """Of servers it is told in one line; who asks about clients need not read private keys."""
    command.domains[OURS] = command.domains[OURS][0], command.domains[OTHER][1]
    done = command.run("--s2s")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"bascule: {command.domains[OURS][0]} with ")
    assert done.stderr.count("\n") == 1
    assert server.peers == []
    command.structure(0, "--from", OTHER)
    command.names.add(f"_xmpp-client._tcp.{DOMAIN}", "SRV", "0 0 0 .")
    assert command.run().returncode == 1


# The command line


def test_what_is_asked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.write()
    ran = Run(monkeypatch)
    assert main(["probe", DOMAIN, "-c", str(command.path), "--s2s", "--from", OURS]) == 1
    assert main(["probe", DOMAIN, "-c", str(command.path), "--s2s"]) == 1
    assert main(["probe", DOMAIN, "-c", str(command.path)]) == 1
    asked = [question for _, _, question, _ in ran.seen]
    assert [(each.kind, each.sender) for each in asked] == [
        (Kind.S2S, OURS),
        (Kind.S2S, None),
        (Kind.C2S, None),
    ]
    conf = ran.seen[0][0]
    assert conf is not None
    assert [each.sender_of(conf) for each in asked] == [OURS, OURS, ""]


def test_a_server_needs_no_way_to_itself(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def probe(*words: str) -> int:
        command.write()
        return main(["probe", OTHER, "-c", str(command.path), *words])

    ran = Run(monkeypatch)
    assert probe("--s2s", "--from", OURS) == 64
    assert (
        f"{OTHER} is a [[domain]] here, and your server needs no way to itself; to see it as "
        f"others do, run bascule probe {OTHER} --s2s on another machine"
    ) in capsys.readouterr().err
    assert not ran.seen
    assert probe() == 1
    # Another server of ours, to which a policy leads, is another matter.
    command.policy += f'[[policy]]\ndomain = "{OTHER}"\ns2s_server = "{HOST}:25269"\n'
    assert probe("--s2s", "--from", OURS) == 1
    assert len(ran.seen) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--from", OURS], "--from is for --s2s alone"),
        (["--s2s", "--from", DOMAIN], f"there is no [[domain]] with the name {DOMAIN}"),
        (["--s2s", "--from", "no domain"], "not a domain: "),
        (["--s2s", "--from"], "Option '--from' requires an argument"),
    ],
)
def test_usage(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    command.write()
    ran = Run(monkeypatch)
    assert main(["probe", DOMAIN, "-c", str(command.path), *words]) == 64
    assert reason in capsys.readouterr().err
    assert not ran.seen
