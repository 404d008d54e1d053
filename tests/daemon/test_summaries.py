"""The lines of sessions that are over: each once, in order, and none too late."""

import io
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from proxy.daemon import summaries
from proxy.daemon.log import Log
from proxy.daemon.summaries import Summaries
from proxy.net.summary import Summary
from proxy.session.commands import Severity
from proxy.session.hooks import Address, View
from proxy.session.rules import TLSRule


class Scene:
    """Summaries on a clock, and the log that they are written to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.written = io.StringIO()
        self.summaries = Summaries(self.clock, Log(self.written))

    def end(self, session: str) -> None:
        view = View(session, "c2s", TLSRule.REQUIRED, Address("192.0.2.1", 5222))
        self.summaries.add(
            Summary(
                view=view,
                seconds=1.0,
                from_client=0,
                from_server=0,
                reason="the client closed the connection",
                severity=Severity.INFO,
                server=None,
            )
        )

    @property
    def sessions(self) -> list[str]:
        lines = self.written.getvalue().splitlines()
        assert all(" info session ended session=" in line for line in lines)
        return [line.partition("session=")[2].partition(" ")[0] for line in lines]


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    assert not scene.clock.getDelayedCalls()


def test_those_of_one_turn_are_written_in_the_next(scene: Scene) -> None:
    scene.end("a")
    scene.end("b")
    assert scene.sessions == []
    scene.clock.advance(0)
    assert scene.sessions == ["a", "b"]
    scene.end("c")
    scene.clock.advance(0)
    assert scene.sessions == ["a", "b", "c"]


def test_at_the_end_they_are_written_at_once_and_not_twice(scene: Scene) -> None:
    scene.end("a")
    scene.summaries.write()
    assert scene.sessions == ["a"]
    scene.clock.advance(0)
    scene.summaries.write()
    assert scene.sessions == ["a"]


def test_one_that_cannot_be_written_takes_no_others_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_summary: Summary) -> dict[str, object]:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(summaries, "fields", fail)
    for session in ("a", "b"):
        scene.end(session)
    with pytest.raises(RuntimeError):
        scene.clock.advance(0)
    scene.end("c")
    scene.clock.advance(0)
    assert scene.sessions == ["b", "c"]
