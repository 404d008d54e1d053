"""The commands that change a daemon as a whole: reload and drain."""

import json
import os
import socket

import click
import pytest

from proxy.daemon.control.facts import Reloaded
from tests.daemon.control.fakes import Running
from tests.daemon.control.test_commands import begun, done, fault, text


def test_a_reload_is_answered_when_it_is_over(running: Running) -> None:
    asked = begun(running, "reload")
    running.until(lambda: running.daemon.reloads)
    running.turn()
    assert asked.over is False
    changes = {"changed": "listener", "listeners_added": "new", "listeners_removed": ""}
    running.daemon.reloads[0].callback(Reloaded(warnings=("mind this",), changes=changes))
    running.until(lambda: asked.result)
    assert asked.result is not None
    assert asked.result.return_value == 0
    assert asked.result.stdout == "reloaded; changed: listener; listeners_added: new\n"
    assert asked.result.stderr == "warning: mind this\n"


def test_mistakes_are_told_one_by_one(running: Running) -> None:
    asked = begun(running, "reload")
    running.until(lambda: running.daemon.reloads)
    running.daemon.reloads[0].callback(Reloaded(mistakes=("one", "two\x1b[2J")))
    running.until(lambda: asked.result)
    assert asked.result is not None
    assert (asked.result.return_value, asked.result.stdout) == (78, "")
    assert asked.result.stderr == "one\ntwo\\x1b[2J\n"


def test_a_reload_that_fails_is_a_fault(running: Running) -> None:
    asked = begun(running, "reload")
    running.until(lambda: running.daemon.reloads)
    running.daemon.reloads[0].errback(RuntimeError("broken"))
    running.until(lambda: asked.result)
    assert asked.result is not None
    assert fault(asked.result, 70) == "the daemon has failed; its log says more"


def test_who_catches_up_meanwhile_waits_on(running: Running) -> None:
    asked = begun(running, "reload")
    running.until(lambda: running.daemon.reloads)
    (client,) = running.socket._clients._there
    client.pauseProducing()
    client.resumeProducing()
    running.turn()
    assert asked.over is False
    running.daemon.reloads[0].callback(Reloaded(changes={"changed": "dns"}))
    running.until(lambda: asked.result)
    assert asked.result is not None
    assert asked.result.stdout == "reloaded; changed: dns\n"


def test_who_has_gone_is_not_answered(running: Running) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(running.path))
        connection.sendall(b'{"v":1,"command":"reload"}\n')
        running.until(lambda: running.daemon.reloads)
    running.turn()
    running.daemon.reloads[0].callback(Reloaded())
    assert text(running, "status").startswith("bascule")


def test_a_daemon_that_ends_does_not_reload(running: Running) -> None:
    running.daemon.ending = True
    assert fault(done(running, "reload"), os.EX_DATAERR) == "the daemon is about to end"


def test_a_retired_socket_answers_who_has_asked(running: Running) -> None:
    asked = begun(running, "reload")
    running.until(lambda: running.daemon.reloads)
    running.socket.retire()
    assert not running.path.exists()
    running.daemon.reloads[0].callback(Reloaded(changes={"changed": "bascule"}))
    running.until(lambda: asked.result)
    assert asked.result is not None
    assert asked.result.stdout == "reloaded; changed: bascule\n"


@pytest.mark.parametrize(("arguments", "older_than"), [((), ""), (("--older-than", "1h"), "1h")])
def test_drain(running: Running, arguments: tuple[str, ...], older_than: str) -> None:
    printed = text(running, "drain", *arguments)
    assert printed == "3 sessions will be ended within 0.1 seconds\n"
    assert running.daemon.drained == [older_than]


def test_an_age_that_is_none(running: Running) -> None:
    told = done(running, "drain", "--older-than", "soon")
    assert isinstance(told.exception, click.BadParameter)
    assert "allowed: an age as" in str(told.exception)
    assert running.daemon.drained == []


def test_the_language(running: Running) -> None:
    asked = running.begin("reload")
    running.until(lambda: running.daemon.reloads)
    running.daemon.reloads[0].callback(Reloaded(changes={"changed": "dns"}))
    running.until(lambda: asked.over)
    assert asked.items == [{"mistakes": [], "warnings": [], "changes": {"changed": "dns"}}]
    assert running.asked("drain").items == [{"sessions": 3, "seconds": 0.06}]
    assert json.dumps(asked.items)
