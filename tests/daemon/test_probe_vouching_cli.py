"""bascule probe with DANE, POSH and the keyring: real servers, and a scripted name server."""

import base64
import hashlib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxy.daemon.conf import load
from proxy.daemon.forwarding import Remote
from proxy.daemon.probe import Question, running
from proxy.daemon.probe.outcome import Carried, Report
from proxy.net.posh import Posh, PoshError
from proxy.trust.certificate import Certificate
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.store import Keyring
from proxy.xmpp.headers import opening
from tests.authority import Authority, now, self_signed
from tests.daemon.test_probe_cli import DOMAIN, PROGRAM, SRV, Command, command, names
from tests.net.conftest import Turning, turning
from tests.net.name_server import NameServer
from tests.net.remote_server import RemoteServer
from tests.net.web_site import WebSite, document
from tests.servers.bascule import ForwardBascule
from tests.servers.program import HOST
from tests.trust.showing import chain_of

__all__ = ["command", "names", "turning"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that nobody vouches for."""
    return self_signed(tmp_path, DOMAIN)


@pytest.fixture
def server(files: tuple[Path, Path], names: NameServer) -> Iterator[RemoteServer]:
    """A server that shows it, and that signed records lead to."""
    with RemoteServer(files) as server:
        names.authenticated = True
        names.add(SRV, "SRV", f"0 0 {server.port} one.{DOMAIN}.")
        names.add(f"one.{DOMAIN}", "A", HOST)
        yield server


def publish(names: NameServer, server: RemoteServer, record: str) -> None:
    names.add(f"_{server.port}._tcp.one.{DOMAIN}", "TLSA", record)


def record_of(files: tuple[Path, Path]) -> str:
    key = Certificate.read(chain_of(files[0])[0]).key
    return f"3 1 1 {hashlib.sha256(key).hexdigest()}"


def test_dane(command: Command, server: RemoteServer) -> None:
    """The record that the probe prints, once it is published, proves the server."""
    command.table = 'level = "dane-only"\nprivate_addresses = true'
    found = command.structure(1)
    (target,) = found["targets"]
    assert (target["dnssec"], target["tlsa"], found["dnssec_believed"]) == (True, [], True)
    record = target["addresses"][0]["tls"]["tlsa_record"]
    publish(command.names, server, record)
    found = command.structure(0)
    assert found["outcome"]["text"].endswith(f"proved by DANE-EE {record[:22]}…")
    publish(command.names, server, f"3 1 1 {'00' * 32}")
    text = command.run()
    assert text.returncode == 1
    assert f"the certificate of {DOMAIN} does not match its TLSA record" in text.stdout


def test_nobody_is_believed(command: Command, server: RemoteServer) -> None:
    publish(command.names, server, f"3 1 1 {'00' * 32}")
    command.table = 'level = "dane-only"\nprivate_addresses = true'
    command.write()
    text = command.path.read_text().replace("[dns]", '[dns]\nvalidating = "no"')
    command.path.write_text(text)
    done = subprocess.run(
        [*PROGRAM, DOMAIN, "-c", str(command.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no DNS server is believed about it" in done.stdout
    assert "DNSSEC       does not vouch for the SRV record" in done.stdout
    assert "see validating in [dns]).\n" in done.stdout


def test_the_keyring(
    command: Command, server: RemoteServer, files: tuple[Path, Path], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    command.table = (
        f'level = "keyring"\nprivate_addresses = true\n[bascule]\nstate_directory = "{state}"'
    )
    found = command.structure(1)
    kept = found["targets"][0]["addresses"][0]["tls"]["by_keyring"]
    assert (kept["standing"], kept["id"]) == ("unseen", None)
    assert not list(state.iterdir())
    with closing(Keyring(state / FILE_NAME)) as keyring:
        held = keyring.hold(DOMAIN, "c2s", chain_of(files[0])[0], "why", now()).id
    done = command.run()
    assert done.returncode == 1
    assert f"keyring      held as {held} since " in done.stdout
    assert f"is not permitted ({held} in the keyring)" in done.stdout
    assert f"bascule keyring approve {held}" in done.stdout
    with closing(Keyring(state / FILE_NAME)) as keyring:
        keyring.approve(held, "alice", now())
    found = command.structure(0)
    assert found["keyring"]["certificates"] == 1
    assert "permitted by alice" in found["outcome"]["text"]
    (state / FILE_NAME).chmod(0o644)
    found = command.structure(1)
    assert "is open to others" in found["keyring"]["problem"]
    assert "is open to others" in found["outcome"]["text"]


class _WithDANE(ForwardBascule):
    """A daemon whose domains prove themselves by TLSA records."""

    def configuration(self) -> str:
        return super().configuration().replace('"secure"', '"dane-only"')


@pytest.mark.parametrize("matching", [True, False])
def test_the_daemon_does_as_the_probe_says(
    command: Command,
    server: RemoteServer,
    authority: Authority,
    files: tuple[Path, Path],
    matching: bool,
) -> None:
    names = command.names
    publish(names, server, record_of(files) if matching else f"3 1 1 {'00' * 32}")
    daemon = _WithDANE(
        command.path.parent, [DOMAIN], names=f"{HOST}:{names.port}", authority=authority.ca_path
    )
    with daemon:
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
            if matching:
                assert server.spoken.wait(20)
            else:
                assert b"<stream:error>" in client.recv(65536)
                assert not server.spoken.is_set()
    assert done.returncode == (0 if matching else 1)


@attrs.define
class Asking:
    """The probe, in this process: a web site can have no port of its own otherwise."""

    turning: Turning
    command: Command

    def report(self) -> Report:
        self.command.write()
        conf = load(self.command.path).conf
        assert conf is not None
        reactor: Any = self.turning.reactor
        remote = Remote(conf, reactor)
        outcome: list[Report | Failure] = []
        examining = running.examine(conf, self.command.path, remote, Question(DOMAIN), reactor)
        Deferred.fromCoroutine(examining).addBoth(outcome.append)
        self.turning.until(lambda: outcome)
        remote.close()
        (report,) = outcome
        assert isinstance(report, Report), report
        return report


@pytest.fixture
def asking(turning: Turning, command: Command) -> Asking:
    return Asking(turning, command)


def test_posh(
    asking: Asking,
    server: RemoteServer,
    files: tuple[Path, Path],
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The web site is asked before the certificate is judged, where the policy lets it count."""
    digest = base64.b64encode(hashlib.sha256(chain_of(files[0])[0]).digest()).decode()
    said = document({"fingerprints": [{"sha-256": digest}], "expires": 3600})
    command = asking.command
    command.names.add(DOMAIN, "A", HOST)
    with WebSite(authority.issue(DOMAIN), said) as site:
        monkeypatch.setattr(running, "Posh", partial(Posh, port=site.port))
        command.table += "\nposh = true"
        report = asking.report()
        assert site.requests() == ["GET /.well-known/posh/xmpp-client.json HTTP/1.1"]
    assert report.outcome.carried is Carried.BY_TLS
    assert "proved by POSH sha-256" in report.outcome.text
    report = asking.report()
    assert isinstance(report.site, PoshError)
    assert report.outcome.carried is Carried.NOT
    command.table = command.table.removesuffix("posh = true")
    assert asking.report().site is None
    assert server.plain
