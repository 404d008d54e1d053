"""bascule top: the view, and how often it asks."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import attrs
import pytest
from rich.console import Console

from proxy.daemon.control import top
from proxy.daemon.control.client import NotRunningError
from proxy.daemon.control.facts import WorkerFacts
from tests.daemon.control.fakes import STATUS, session


class Terminal(Console):
    """A terminal of which what is written is kept."""

    def __init__(self) -> None:
        self.written = StringIO()
        super().__init__(
            file=self.written,
            force_terminal=True,
            width=140,
            height=20,
            highlight=False,
            markup=False,
            emoji=False,
            color_system=None,
        )


def shown_by_top(answers: list[Callable[[str], Any]]) -> str:
    """What top writes when it is answered so, and interrupted when there are no more answers."""
    terminal = Terminal()
    time = 100.0

    def ask(command: str) -> Any:
        return iter(answers[0](command))

    def wait(seconds: float) -> None:
        nonlocal time
        time += seconds
        if seconds:
            answers.pop(0)
        if not answers:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        top.run(ask, 2.0, terminal, wait=wait, clock=lambda: time)
    return terminal.written.getvalue()


def answering(*passed: tuple[str, int, int]) -> Callable[[str], Any]:
    def answer(command: str) -> Any:
        if command == "status":
            return [json.loads(json.dumps(attrs.asdict(STATUS)))]
        return [attrs.asdict(session(name, (up, down))) for name, up, down in passed]

    return answer


def test_top_shows_the_busiest_first() -> None:
    before = answering(("aa", 0, 0), ("bb", 0, 0))
    after = answering(("aa", 200, 0), ("bb", 6_000, 3_000), ("cc", 0, 0))
    screen = shown_by_top([before, after]).split("\x1b[H")[-1]
    assert "bascule 0.1.0, process 4711, up 1 d 2 h   3.1 kB/s up, 1.5 kB/s down" in screen
    assert "sessions 2: 1 negotiating, 1 joined" in screen
    assert '2 pending in the keyring, 1 critical alert, see "bascule status"' in screen
    rows = [line.split()[0] for line in screen.splitlines() if line[:2] in ("aa", "bb", "cc")]
    assert rows == ["bb", "aa", "cc"]
    assert "3.0 kB" in screen


def test_top_shows_the_workers() -> None:
    workers = (
        WorkerFacts(1, "running", sessions=2),
        WorkerFacts(2, "silent"),
        WorkerFacts(3, "waiting", seconds=1.5),
    )
    status = json.loads(json.dumps(attrs.asdict(attrs.evolve(STATUS, workers=workers))))
    screen = shown_by_top([lambda command: [status] if command == "status" else []])
    assert "1 negotiating, 1 joined   workers 1: 2, 2: ?, 3: ?" in screen
    assert "2 of 3 workers not running, 2 pending in the keyring" in screen


def test_top_outlasts_a_daemon_that_is_away() -> None:
    def away(_command: str) -> Any:
        raise NotRunningError("nobody\x1b is there")

    screens = shown_by_top([answering(("aa", 1, 1)), away, answering(("bb", 1, 1))])
    assert "nobody\\x1b is there" in screens
    assert "bb " in screens.split("nobody")[-1]


def test_top_shows_no_more_than_there_is_room_for() -> None:
    screen = shown_by_top([answering(*((f"{n:04x}", n, n) for n in range(100)))])
    assert len([line for line in screen.splitlines() if "[2001:db8::7]:40123" in line]) == 15


def test_top_asks_a_tenth_of_the_time_at_most() -> None:
    waited: list[float] = []
    time = 0.0

    def ask(command: str) -> Any:
        nonlocal time
        time += 1.0
        return iter(answering(("aa", 1, 1))(command))

    def wait(seconds: float) -> None:
        nonlocal time
        waited.append(seconds)
        time += seconds
        if len(waited) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        top.run(ask, 1.0, Terminal(), wait=wait, clock=lambda: time)
    assert waited == [1.0, 17.0, 1.0, 17.0]
