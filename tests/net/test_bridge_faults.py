"""A fault of our own in the midst of a session leaves nothing of the session behind."""

import time
from pathlib import Path
from typing import get_args

import pytest

from proxy.net.bridge import Bridge
from proxy.session.commands import AwaitTLS, Command
from tests.net.client import connected, read_all
from tests.net.front import Front
from tests.net.in_process import SECONDS, InProcess
from tests.servers.bascule import Served


def test_there_is_something_to_be_done_for_every_command() -> None:
    assert Bridge._doing.keys() == set(get_args(Command))


def test_a_session_whose_commands_fail_is_given_up_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domains: list[Served]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Bridge, "_doing", {**Bridge._doing, AwaitTLS: fail})
    front = Front(tmp_path, domains)
    front.write()
    with InProcess(front.configuration_path) as service:
        with connected(front.port) as connection:
            connection.sendall(b"\x16\x03\x01")
            assert not read_all(connection)
        until = time.monotonic() + SECONDS
        while service._service._bridges and time.monotonic() < until:
            time.sleep(0.01)
        assert not service._service._bridges
        assert service.running
