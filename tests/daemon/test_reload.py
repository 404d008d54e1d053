"""A conf is taken up while sessions go on: all of it, or nothing."""

import datetime as dt
import json
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, gatherResults

from proxy.daemon import accepting, reloading
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.facts import Reloaded
from proxy.daemon.trusting import trust
from proxy.net.tls import TLSSetupError
from tests.authority import Authority
from tests.daemon.notifying import Notifying
from tests.daemon.reloaded import Changing, bascule, changed
from tests.net.client import log_in, logged_in, offered
from tests.net.forward import Logged
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, free_port, listens
from tests.servers.stream import Stream, plaintext

RULES = {"c2s": "required", "old": "report"}


@pytest.fixture
def front(tmp_path: Path, legacy: LegacyServer, authority: Authority) -> Iterator[Front]:
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    with Front(tmp_path, domains, listeners=RULES) as front:
        yield front
        assert front.alive()


def listener(name: str, port: int, rule: str = "required") -> str:
    return (
        f'\n[[listener]]\nname = "{name}"\ndirection = "reverse"\nstream = "c2s"\n'
        f'address = "{HOST}:{port}"\ntls = "{rule}"\n'
    )


def passes(stream: Stream, legacy: LegacyServer, text: str) -> None:
    """Send something through a session that is up."""
    server = legacy.connections[-1]
    stream.send(f"<message>{text}</message>")
    server.read_until(text.encode())
    server.send(f"<message>re {text}</message>".encode())
    stream.read_until(f"re {text}</message>")


def test_listeners_come_and_go_and_sessions_stay(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    port = free_port()
    old = listener("old", front.named["old"], "report").strip("\n")
    with logged_in(front.named["old"], authority.ca_path) as stream:
        legacy.next()
        changed(front.configuration_path, (old, ""), ("", listener("new", port)))
        done = bascule(front, "reload")
        assert (done.returncode, done.stdout) == (
            0,
            "reloaded; changed: listener; listeners_added: new; listeners_removed: old\n",
        )
        assert not listens(front.named["old"])
        passes(stream, legacy, "after")
        with logged_in(port, authority.ca_path):
            legacy.next()
        status = json.loads(bascule(front, "status", "--json").stdout)
        assert [each["name"] for each in status["listeners"]] == ["c2s", "new"]
        (session,) = json.loads(bascule(front, "sessions", "--json").stdout)
        assert (session["listener"], session["state"]) == ("old", "joined")
    log = front.log()
    assert "info reloaded changed=listener listeners_added=new listeners_removed=old" in log
    assert f"info listening listener=new direction=reverse stream=c2s address={HOST}:{port}" in log


MISTAKES = {
    "a word that is none": ('tls = "report"', 'tls = "perhaps"', "tls"),
    "no TOML": ("[plugins.limits]", "[plugins.limits", "TOML"),
    "a certificate that is not there": ('private_key = ["', 'private_key = ["/no', "private_key"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_changes_nothing(
    front: Front, legacy: LegacyServer, authority: Authority, mistake: str
) -> None:
    old, new, told = MISTAKES[mistake]
    port = free_port()
    changed(front.configuration_path, (old, new), ("", listener("new", port)))
    control = str(front.configuration_path.with_name("control"))
    done = bascule(front, "reload", "--control-socket", control)
    assert (done.returncode, done.stdout) == (78, "")
    mistakes = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert mistakes
    assert all(line.startswith(str(front.configuration_path)) for line in mistakes)
    assert any(told in line for line in mistakes)
    for line in mistakes:
        assert f"error not reloaded: {line}" in front.log()
    assert not listens(port)
    with logged_in(front.named["c2s"], authority.ca_path):
        legacy.next()
    with logged_in(front.named["old"], authority.ca_path, "plaintext"):
        legacy.next()
    changed(front.configuration_path, (new, old))
    assert bascule(front, "reload").returncode == 0
    assert listens(port)


def test_an_address_in_use_changes_nothing(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    first = free_port()
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        added = listener("first", first) + listener("new", port)
        changed(front.configuration_path, ('tls = "report"', 'tls = "none"'), ("", added))
        done = bascule(front, "reload")
    assert done.returncode == 78
    assert done.stderr.splitlines()[0] == f"listener new: {HOST}:{port}: Address already in use"
    assert not listens(first)
    with plaintext(front.named["old"], DOMAIN) as stream:
        stream.send_header()
        assert "starttls" in stream.read_until("</stream:features>")
    assert bascule(front, "reload").returncode == 0
    assert listens(first)


def test_an_address_that_another_listener_gives_up_takes_a_restart(front: Front) -> None:
    old = f'address = "{HOST}:{front.named["old"]}"'
    changed(front.configuration_path, (old, f'address = "0.0.0.0:{front.named["old"]}"'))
    done = bascule(front, "reload")
    assert done.returncode == 78
    assert "listener old is there until a restart" in done.stderr
    assert listens(front.named["old"])


def test_the_next_session_is_judged_by_the_new_conf(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(front.named["old"], authority.ca_path, "plaintext") as stream:
        legacy.next()
        changed(
            front.configuration_path,
            ('tls = "report"', 'tls = "required"'),
            ("[plugins.limits]", '[plugins]\nchain = ["require_tls", "limits"]\n[plugins.limits]'),
        )
        done = bascule(front, "reload")
        assert "changed: listener,plugins" in done.stdout
        with plaintext(front.named["old"], DOMAIN) as other:
            other.send_header()
            features = other.read_until("</stream:features>")
            assert "<required/>" in features
            assert "PLAIN" not in features
        passes(stream, legacy, "after")


def test_what_is_counted_goes_on_however_its_plugin_is_set(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    limits = {"plugins.limits": {"connections_per_address": 2, "handshakes_per_minute": 0}}
    front = Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])], tables=limits)
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        port = daemon.ports["c2s"]
        with logged_in(port, authority.ca_path), logged_in(port, authority.ca_path):
            daemon.reload(("", "[deadlines]\nconnect = 9\n"))
            with plaintext(port, DOMAIN) as third:
                assert "more than 2 connections from one address" in third.read_to_end()
            daemon.reload(("connections_per_address = 2", "connections_per_address = 3"))
            with (
                logged_in(port, authority.ca_path),
                plaintext(port, DOMAIN) as fourth,
            ):
                assert "more than 3 connections from one address" in fourth.read_to_end()
        _until(daemon, lambda: len(daemon.service._generations.all()) == 1)
        # Those of earlier confs have been counted off as well.
        with (
            logged_in(port, authority.ca_path),
            logged_in(port, authority.ca_path),
            logged_in(port, authority.ca_path),
            plaintext(port, DOMAIN) as fourth,
        ):
            assert "more than 3 connections from one address" in fourth.read_to_end()


def test_generations_are_given_up_when_their_last_session_ends(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    front = Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])])
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        service, port = daemon.service, daemon.ports["c2s"]
        with logged_in(port, authority.ca_path):
            for seconds in (7, 8, 9):
                before = f"connect = {seconds - 1}" if seconds > 7 else ""
                new = f"connect = {seconds}" if before else f"[deadlines]\nconnect = {seconds}\n"
                assert daemon.reload((before, new)).changes["changed"] == "deadlines"
            daemon.call(lambda: None)
            # The ones in between never had a session.
            assert len(service._generations.all()) == 2
            first = service._generations.all()[1]
            with plaintext(port, DOMAIN) as stream:
                offered(stream)
                assert daemon.call(lambda: first.idle) is False
        daemon.wait_for_line("session ended")
        _until(daemon, lambda: len(service._generations.all()) == 1)
        assert first.accepting._contexts == {"c2s": {}}
        with logged_in(port, authority.ca_path):
            pass


def _until(daemon: Changing, done: object) -> None:
    assert callable(done)
    end = time.monotonic() + 20
    while not daemon.call(done):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def fetched(port: int, path: str = "metrics") -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/{path}", timeout=20) as answer:
        content: bytes = answer.read()
    return content.decode()


def test_metrics_move_and_count_on(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    ports = free_port(), free_port()
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    # A command is run while a client waits.
    front = Front(tmp_path, domains, listeners=RULES, tables={"deadlines": {"negotiation": 600}})
    with front:
        addresses = [f'\n[metrics]\naddress = "{HOST}:{port}"\n' for port in ports]
        changed(front.configuration_path, ("", addresses[0]))
        assert bascule(front, "reload").returncode == 0
        with logged_in(front.named["c2s"], authority.ca_path):
            legacy.next()
        front.wait_for_log("authenticated=yes")
        counted = 'bascule_sessions_started_total{listener="c2s"}'
        started = next(line for line in fetched(ports[0]).split("\n") if counted in line)
        old = listener("old", front.named["old"], "report").strip("\n")
        changed(
            front.configuration_path,
            (addresses[0], addresses[1]),
            (old, listener("new", front.named["old"])),
        )
        with plaintext(front.named["old"], DOMAIN) as staying:
            done = bascule(front, "reload")
            assert "changed: listener,metrics" in done.stdout
            assert not listens(ports[0])
            # Its server is connected to under a name that no listener has any more.
            log_in(staying)
            here = staying.connection.getsockname()[1]
            legacy.next().close()
            staying.read_to_end()
        front.wait_for_log(f"listener=old client={HOST}:{here} domain={DOMAIN} tls=none server=")
        now = fetched(ports[1])
        ended = [line for line in now.split("\n") if "sessions_ended_total" in line]
        values = [float(line.split()[-1]) for line in ended if 'listener="old"' in line]
        assert sum(values) == 1
        assert started in now
        assert 'bascule_sessions_started_total{listener="new"} 0' in now
        assert fetched(ports[1], "healthz") == "ready\n"
        changed(front.configuration_path, (addresses[1], ""))
        assert bascule(front, "reload").returncode == 0
        assert not listens(ports[1])
        assert front.alive()


def test_the_control_socket_moves(front: Front) -> None:
    directory = front.configuration_path.parent
    text = front.configuration_path.read_text()
    (line,) = (line for line in text.split("\n") if line.startswith("control_socket"))
    before = directory / "control"
    changed(front.configuration_path, (line, f'control_socket = "{directory}/other"'))
    done = bascule(front, "reload", "--control-socket", str(before))
    assert done.stdout == "reloaded; changed: bascule\n"
    assert not before.exists()
    assert bascule(front, "status").returncode == 0
    nowhere = f'control_socket = "{directory}/nowhere/control"'
    changed(front.configuration_path, (f'control_socket = "{directory}/other"', nowhere))
    done = bascule(front, "reload", "--control-socket", str(directory / "other"))
    assert done.returncode == 78
    assert done.stderr.splitlines()[0].startswith(f"bascule.control_socket: {directory}/nowhere")
    assert bascule(front, "status", "--control-socket", str(directory / "other")).returncode == 0


def test_domains_come_and_go(front: Front, legacy: LegacyServer, authority: Authority) -> None:
    other = served(legacy, [authority.issue(OTHER_DOMAIN)], OTHER_DOMAIN).table()
    changed(front.configuration_path, ("", f"\n{other}"))
    assert "changed: domain" in bascule(front, "reload").stdout
    with logged_in(front.port, authority.ca_path, domain=OTHER_DOMAIN):
        legacy.next()
    changed(front.configuration_path, (other, ""))
    assert bascule(front, "reload").returncode == 0
    with plaintext(front.port, OTHER_DOMAIN) as stream:
        stream.send_header()
        assert "<host-unknown" in stream.read_to_end()


def test_systemd_hears_of_a_reload(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    address = str(tmp_path / "notify")
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    front = Notifying(tmp_path, domains, environment={"NOTIFY_SOCKET": address})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        with front:
            assert manager.recv(200) == b"READY=1"
            assert manager.recv(200) == b"STATUS=0 sessions"
            for word in ("[[listener]]", "[[listeners]]"):
                changed(front.configuration_path, ("[[listener]]", word))
                front.processes[0].send_signal(signal.SIGHUP)
                assert manager.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert manager.recv(200) == b"READY=1\nSTATUS=0 sessions"
        assert manager.recv(200).startswith(b"STOPPING=1")


def test_alerts_are_not_told_again(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    """The certificate ends soon, which is told once, however often the conf is taken up."""
    soon = authority.issue(DOMAIN, not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=2))
    front = Front(tmp_path, [served(legacy, [soon])])
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        daemon.wait_for_line("alert=expiry")
        daemon.reload(("", "[deadlines]\nconnect = 7\n"))
        _until(daemon, lambda: daemon.service._telling.recent()[0].count == 2)
        assert told(daemon) == 1
        daemon.reload(("", "[alerts]\nper_hour = 7\n"))
        _until(daemon, lambda: told(daemon) == 2)


def told(daemon: Logged) -> int:
    return sum("alert=expiry" in line for line in daemon.lines())


def test_a_conf_that_cannot_be_put_to_work_changes_nothing(
    tmp_path: Path, legacy: LegacyServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no check finds may still fail."""
    front = Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])])
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        before = daemon.service._current

        def fail(_conf: object) -> None:
            raise TLSSetupError("it cannot be used")

        for module, name in ((accepting, "contexts"), (trust, "revocation_of")):
            with monkeypatch.context() as patched:
                patched.setattr(module, name, fail)
                reloaded = daemon.reload()
                assert reloaded.mistakes[0].endswith("it cannot be used")
        assert daemon.service._current is before
        assert daemon.service._generations.all() == [before]
        with logged_in(daemon.ports["c2s"], authority.ca_path):
            pass
        assert sum("error not reloaded: " in line for line in daemon.lines()) == 2


def test_those_who_ask_together_are_answered_together(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    front = Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])])
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:

        def ask() -> Deferred[list[Reloaded]]:
            other = daemon.path.with_name("other")
            other.write_text(daemon.path.read_text() + "[deadlines]\nconnect = 7\n")
            first = daemon.service.reload()
            other.rename(daemon.path)
            return gatherResults([first, *(daemon.service.reload() for _ in range(9))])

        answers = daemon.call(ask)
        # What was changed after the first had asked is there for the others in any case.
        assert len(answers) == 10
        assert {each.changes["changed"] for each in answers} <= {"deadlines", "nothing"}
        assert daemon.service._current.conf.deadlines.connect == 7
        assert sum("info reloaded" in line for line in daemon.lines()) == 2


def test_a_fault_in_reading_changes_nothing(
    tmp_path: Path, legacy: LegacyServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])])
    front.write()

    def fail(*_arguments: object, **_more: object) -> None:
        raise RuntimeError("broken")

    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        with monkeypatch.context() as patched:
            patched.setattr(reloading, "inspect", fail)
            reloaded = daemon.reload()
            assert reloaded.mistakes == ("fault in the proxy; see the log",)
        daemon.wait_for_line("error fault in reloading")
        assert daemon.reload().changes["changed"] == "nothing"


def test_a_connection_whose_header_comes_after_a_reload(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    front = Front(tmp_path, domains, proxies={"c2s": "v1"})
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        service = daemon.service
        with socket.create_connection((HOST, daemon.ports["c2s"]), timeout=20) as connection:
            _until(daemon, lambda: service._current.accepting.waits)
            daemon.reload(("", "[deadlines]\nconnect = 7\n"))
            assert len(service._generations.all()) == 2
            connection.sendall(f"PROXY TCP4 192.0.2.7 {HOST} 40000 5222\r\n".encode())
            stream = Stream(connection, DOMAIN)
            offered(stream)
        assert "client=192.0.2.7:40000" in daemon.wait_for_line("session ended")
        _until(daemon, lambda: len(service._generations.all()) == 1)
        with socket.create_connection((HOST, daemon.ports["c2s"]), timeout=20):
            _until(daemon, lambda: service._current.accepting.waits)
            daemon.reload(("connect = 7", "connect = 8"))
            assert len(service._generations.all()) == 2
        # One that goes without a word is noticed, too.
        _until(daemon, lambda: len(service._generations.all()) == 1)


def test_a_service_that_ends_is_not_reloaded(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    front = Front(tmp_path, [served(legacy, [authority.issue(DOMAIN)])])
    front.write()
    with Changing(front.configuration_path, front.configuration_path.read_text()) as daemon:
        port = daemon.ports["c2s"]
        with logged_in(port, authority.ca_path) as stream:
            stopped = daemon.call(lambda: [daemon.service.stop()])
            with pytest.raises(NotControllableError, match="the daemon is about to end"):
                daemon.call(daemon.service.reload)
            with pytest.raises(NotControllableError, match="the daemon is about to end"):
                daemon.call(daemon.service.drain, "1h")
            assert "<system-shutdown" in stream.read_to_end()
        _until(daemon, lambda: stopped[0].called)
