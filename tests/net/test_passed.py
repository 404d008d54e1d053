"""Sockets that the service manager has opened, taken over by name."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from proxy.net import passed as passed_sockets
from proxy.net.passed import Passed, PassedError, PassedSockets
from tests.servers.program import HOST

FIRST = 700
"""Where the descriptors of these tests are, instead of 3 and those after it."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def put(opened: ExitStack, descriptor: int, place: int) -> Passed:
    """Have a descriptor where it would be passed."""
    target = fcntl.fcntl(descriptor, fcntl.F_DUPFD, FIRST + place)
    assert target == FIRST + place
    os.set_inheritable(target, True)
    opened.callback(closed, target)
    return Passed("c2s", target)


def closed(descriptor: int) -> None:
    with suppress(OSError):  # who took it has closed it
        os.close(descriptor)


@pytest.fixture
def _first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_sockets, "FIRST", FIRST)


def environment(count: object, names: str | None, process: int | None = None) -> dict[str, str]:
    told = {"LISTEN_PID": str(process or os.getpid()), "LISTEN_FDS": str(count), "HOME": "/"}
    return told if names is None else told | {"LISTEN_FDNAMES": names}


@pytest.mark.usefixtures("_first")
def test_sockets_are_taken_by_name_and_kept_from_children(opened: ExitStack) -> None:
    servers = [opened.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
    for place, server in enumerate(servers):
        put(opened, server.fileno(), place)
    variables = environment(3, "c2s:s2s:c2s")
    found = PassedSockets.of_process(variables)
    assert variables == {"HOME": "/"}
    assert found.names() == ("c2s", "s2s")
    taken = found.take("c2s")
    for each in taken:
        opened.enter_context(each)
        assert not each.get_inheritable()
        assert not each.getblocking()
    assert [each.getsockname() for each in taken] == [servers[i].getsockname() for i in (0, 2)]
    assert found.left() == (Passed("s2s", FIRST + 1),)
    assert not os.get_inheritable(FIRST + 1)
    assert found.take("c2s") == ()


@pytest.mark.usefixtures("_first")
def test_sockets_without_names_are_unknown(opened: ExitStack) -> None:
    with socket.create_server((HOST, 0)) as server:
        put(opened, server.fileno(), 0)
        assert PassedSockets.of_process(environment(1, None)).names() == ("unknown",)


@pytest.mark.parametrize(
    "variables",
    [{}, environment(2, "a:b", process=1), {"LISTEN_FDS": "x"}, environment(0, None)],
    ids=["none", "another's", "no process", "no sockets"],
)
def test_what_is_not_for_us_is_left_alone(variables: dict[str, str]) -> None:
    assert PassedSockets.of_process(variables).left() == ()
    assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & variables.keys()


@pytest.mark.usefixtures("_first")
@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (environment("many", None), "LISTEN_FDS is no number"),
        (environment("-1", None), "LISTEN_FDS is no number"),
        (environment("", None), "LISTEN_FDS is no number"),
        (environment(2, "a"), "LISTEN_FDNAMES has 1 names for 2 descriptors"),
        (environment(1, "a:b"), "LISTEN_FDNAMES has 2 names for 1 descriptors"),
        (environment(1, "c2s"), f"descriptor {FIRST}, named c2s: Bad file descriptor"),
    ],
)
def test_variables_that_cannot_be_are_an_error(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(PassedError, match=re.escape(problem)):
        PassedSockets.of_process(variables)


def odd_descriptor(opened: ExitStack, kind: str) -> int:
    if kind == "file":
        return os.dup(opened.enter_context(Path(__file__).open("rb")).fileno())
    family = socket.AF_UNIX if kind == "Unix" else socket.AF_INET
    type_ = socket.SOCK_DGRAM if kind == "UDP" else socket.SOCK_STREAM
    made = opened.enter_context(socket.socket(family, type_))
    if kind == "Unix":
        made.bind("")
        made.listen()
    return made.fileno()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("file", "is no socket"),
        ("UDP", "is no socket of TCP"),
        ("Unix", "is no socket of TCP"),
        ("bound", "does not listen"),
    ],
)
def test_what_is_no_listening_socket_of_tcp_is_refused(
    opened: ExitStack, kind: str, problem: str
) -> None:
    found = put(opened, odd_descriptor(opened, kind), 0)
    with pytest.raises(PassedError) as told:
        PassedSockets([found]).take("c2s")
    assert str(told.value) == f"descriptor {FIRST}, named c2s, {problem}"
