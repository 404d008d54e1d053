"""The commands that ask a daemon: what they print and end with."""

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner, Result

from proxy.daemon.control import commands, conversation
from proxy.daemon.control.client import NotRunningError
from proxy.daemon.control.commands import COMMANDS
from proxy.daemon.control.peer import Peer
from proxy.daemon.exits import Exit
from proxy.session.commands import Severity
from tests.daemon.control.fakes import STATUS, Running, session, traced


@click.group()
def group() -> None:
    """Stands for the whole command line."""


for each in COMMANDS:
    group.add_command(each)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(group, arguments, standalone_mode=False)


class Invoked:
    """A command in a thread of its own."""

    def __init__(self, *arguments: str) -> None:
        self.result: Result | None = None
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.result is not None

    def _run(self, *arguments: str) -> None:
        self.result = invoke(*arguments)


def begun(running: Running, name: str, *arguments: str) -> Invoked:
    return Invoked(name, "--control-socket", str(running.path), *arguments)


def done(running: Running, name: str, *arguments: str) -> Result:
    invoked = begun(running, name, *arguments)
    running.until(lambda: invoked.result)
    assert invoked.result is not None
    return invoked.result


def text(running: Running, name: str, *arguments: str) -> str:
    result = done(running, name, *arguments)
    assert (result.return_value, result.exception, result.stderr) == (0, None, ""), result.output
    return result.stdout


def fault(result: Result, code: int) -> str:
    assert (result.return_value, result.exception, result.stdout) == (code, None, "")
    assert result.stderr.startswith("bascule: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("bascule: ").strip()


# What is printed


def test_status_for_people(running: Running) -> None:
    assert text(running, "status").splitlines() == [
        "bascule       0.1.0, process 4711",
        "up            1 d 2 h, since 2026-05-01 10:00:00 UTC",
        "sessions      2: 1 negotiating, 1 joined",
        'keyring       2 certificates wait for a decision: "bascule keyring pending"',
        "",
        "LISTENER  DIRECTION  STREAM  ADDRESS         TLS       SESSIONS",
        "c2s       reverse    c2s     [::]:5222       required  1",
        "s2s-out   forward    s2s     127.0.0.1:5270  required  1",
        "",
        "CERTIFICATE  KEY          ENDS        LEFT     FILE",
        "example.com  ECDSA P-256  2026-05-20  19 days  /etc/bascule/tls/a.crt",
        "example.org  RSA 2048     2026-04-01  expired  /etc/bascule/tls/b.crt",
        "",
        "ALERT                    SEVERITY  TIMES  TEXT",
        "2026-05-01 11:00:00 UTC  critical  3      possible security breach: x",
    ]


def test_status_for_programs(running: Running) -> None:
    found = json.loads(text(running, "status", "--json"))
    assert found == json.loads(json.dumps(attrs.asdict(STATUS)))


def test_sessions_for_people(running: Running) -> None:
    lines = text(running, "sessions").splitlines()
    assert [line.split("  ")[0] for line in lines] == ["SESSION", "a1", "c2s", "b2", "s2s-out"]
    first = " | ".join(lines[1:3])
    for told in ("joined", "1 h 2 min", "[2001:db8::7]:40123", "TLSv1.3 X25519MLKEM768, resumed"):
        assert told in first
    for told in ("example.com", "127.0.0.1:15222", "plaintext", "1.5 kB up", "2.5 MB down"):
        assert told in first
    assert "from example.com" in lines[4]


def test_sessions_for_programs(running: Running) -> None:
    found = json.loads(text(running, "sessions", "--json"))
    assert [each["id"] for each in found] == ["a1", "b2"]
    assert found[0]["client_tls"]["group"] == "X25519MLKEM768"
    assert found[0]["server_tls"] is None
    assert found[0]["direction"] == "reverse"
    assert (found[0]["from_client"], found[0]["from_server"]) == (1_500, 2_500_000)


def test_some_sessions(running: Running) -> None:
    error = fault(done(running, "sessions", "--listener", "nothing"), os.EX_DATAERR)
    assert error == "there is no listener with this name"
    found = json.loads(text(running, "sessions", "--json", "--domain", "EXAMPLE.net"))
    assert [each["id"] for each in found] == ["b2"]


def test_no_sessions(running: Running) -> None:
    running.daemon.there.clear()
    told = done(running, "sessions", "--listener", "c2s")
    assert (told.return_value, told.stdout, told.stderr) == (0, "", "no sessions\n")
    assert text(running, "sessions", "--json") == "[]\n"


def test_what_peers_say_cannot_steer_a_terminal(running: Running) -> None:
    hostile = "[red]x[/red]\x1b]0;\u202ey\n"
    running.daemon.there = [attrs.evolve(session(), domain=hostile, origin=hostile)]
    told = text(running, "sessions")
    assert "[red]x[/red]\\x1b]0;\\u202ey\\n" in told
    assert all(line.isprintable() for line in told.splitlines())
    assert text(running, "sessions", "--json").isascii()


def test_kick(running: Running) -> None:
    assert text(running, "kick", "a1") == "ended: a1\n"
    assert fault(done(running, "kick", "zz"), os.EX_DATAERR) == ("there is no session with this id")


def test_log_level(running: Running) -> None:
    assert text(running, "log-level") == "info\n"
    assert text(running, "log-level", "error") == "error\n"
    assert running.daemon.level is Severity.ERROR


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_trace_is_printed_line_by_line(running: Running, form: tuple[str, ...]) -> None:
    invoked = begun(running, "trace", "--next", "c2s", "--from", "192.0.2.7/24", *form)
    running.until(lambda: running.daemon.sinks)
    (wanted,) = running.daemon.wanted
    assert (wanted.listener, str(wanted.client), wanted.count) == ("c2s", "192.0.2.0/24", 1)
    told, ended = running.daemon.sinks[0]
    told(traced('<auth xmlns="x">(masked)</auth>'))
    ended()
    running.until(lambda: invoked.result)
    assert invoked.result is not None
    assert (invoked.result.return_value, invoked.result.stderr) == (0, "")
    if form:
        assert json.loads(invoked.result.stdout)["text"] == '<auth xmlns="x">(masked)</auth>'
    else:
        assert invoked.result.stdout == (
            '10:00:00.123 a1 client <- <auth xmlns="x">(masked)</auth>\n'
        )


def test_a_trace_of_a_session_that_is_there(running: Running) -> None:
    error = fault(done(running, "trace", "gone"), os.EX_DATAERR)
    assert error == "there is no session with this id"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("trace",), "name a SESSION, or give --next or --from"),
        (("trace", "a1", "--next", "c2s"), "name a SESSION, or give --next or --from"),
        (("trace", "a1", "--count", "2"), "--count is for sessions to come"),
        (("trace", "--from", "here"), "neither an IP address nor a network"),
        (("trace", "--next", "c2s", "--count", "101"), "101 is not in the range"),
        (("log-level", "loud"), "Invalid value for '[LEVEL]': 'loud' is not one of 'debug'"),
        (("sessions", "--domain", "a..b"), "Invalid value for '--domain'"),
        (("top", "--interval", "0"), "0.0 is not in the range"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], told: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, click.UsageError)
    assert told in result.exception.format_message()


# Where nobody answers


def test_where_no_daemon_runs(tmp_path: Path) -> None:
    path = tmp_path / "control"
    hint = (
        "is Bascule running, with this configuration? If it could not make the socket, its log "
        "says so"
    )
    for name in ("status", "sessions", "log-level"):
        result = invoke(name, "--control-socket", str(path))
        told = f"{path}: nobody answers there (No such file or directory); {hint}"
        assert fault(result, Exit.UNAVAILABLE) == told
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    result = invoke("status", "--control-socket", str(path))
    told = f"{path}: nobody answers there (Connection refused); {hint}"
    assert fault(result, Exit.UNAVAILABLE) == told


def test_where_something_else_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        result = invoke("status", "--control-socket", str(path))
        assert fault(result, Exit.UNAVAILABLE) == f"{path}: is no socket"


def test_where_the_daemon_does_not_let_us(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "peer_of", lambda _: Peer(1, 4711, frozenset()))
    told = fault(done(running, "status"), os.EX_NOPERM)
    assert told == "only root, the daemon's own user and the group of the socket may ask"


def test_where_the_system_does_not_let_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_socket: socket.socket, _path: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    class Refused(socket.socket):
        connect = refused  # type: ignore[assignment]

    monkeypatch.setattr(socket, "socket", Refused)
    result = invoke("status", "--control-socket", str(tmp_path / "control"))
    assert "only root, the daemon's own user and the group of the socket may connect" in fault(
        result, os.EX_NOPERM
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"hello\n", "the daemon's answer is not JSON"),
        (b'{"v":2,"end":true}\n', "the daemon's answer is not in version 1 of the language"),
        (b'{"v":1}\n', "the daemon's answer is neither an item nor an end nor an error"),
        (b'{"v":1,"item":[]}\n', "the daemon's answer has no SessionFacts where one belongs"),
        (b'{"v":1,"item":{"id":"a"}}\n', "the daemon's answer lacks listener"),
        (
            b'{"v":1,"item":{"id":7}}\n',
            "the daemon's answer has something else for id than belongs there",
        ),
        (b'{"v":1,"item":{}', "the daemon has closed the connection before its answer"),
    ],
)
def test_who_does_not_speak_our_language(tmp_path: Path, said: bytes, told: str) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        tail = b'{"v":1,"end":true}\n' if b'"item"' in said and said.endswith(b"\n") else b""

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said + tail)

        thread = threading.Thread(target=answer)
        thread.start()
        result = invoke("sessions", "--control-socket", str(path))
        thread.join()
    code = Exit.UNAVAILABLE if "closed" in told else os.EX_PROTOCOL
    assert fault(result, code).startswith(told)


# Where the socket is


def test_the_conf_says_where_the_socket_is(running: Running, tmp_path: Path) -> None:
    conf = tmp_path / "bascule.toml"
    conf.write_text(f'nonsense = 1\n[bascule]\ncontrol_socket = "{running.path}"\n')
    invoked = Invoked("log-level", "-c", str(conf))
    running.until(lambda: invoked.result)
    assert invoked.result is not None
    assert invoked.result.stdout == "info\n"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('[bascule]\ncontrol_socket = ""\n', "is not a path"),
        ("[bascule]\ncontrol_socket = 7\n", "is not text"),
        ("[bascule]\ncontrol_socket = {}\n", "is not text"),
        ("[bascule\n", "is not TOML"),
        (None, "cannot be read"),
    ],
)
def test_a_conf_that_does_not_say_it(tmp_path: Path, written: str | None, told: str) -> None:
    conf = tmp_path / "bascule.toml"
    if written is not None:
        conf.write_text(written)
    assert told in fault(invoke("status", "-c", str(conf)), Exit.CONFIG)


def test_without_a_word_about_it_the_default_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def ask(path: Path, *_: Any, **__: Any) -> None:
        asked.append(path)
        raise NotRunningError("nobody")

    monkeypatch.setattr(commands, "ask", ask)
    conf = tmp_path / "bascule.toml"
    conf.write_text("")
    assert fault(invoke("status", "-c", str(conf)), Exit.UNAVAILABLE) == "nobody"
    assert asked == [Path("/run/bascule/control")]


def test_top_needs_a_terminal(running: Running) -> None:
    told = fault(done(running, "top"), Exit.USAGE)
    assert told == "top needs a terminal; see bascule status and bascule sessions"
