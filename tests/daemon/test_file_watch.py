"""Files that are replaced, in whatever way, are taken up once they have come to rest."""

import os
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from proxy.daemon.file_watch import INTERVAL, FileWatch, signatures


class Watched:
    """A watch over some files, and what it has had taken up."""

    def __init__(self, *paths: Path) -> None:
        self.clock = Clock()
        self.told: list[frozenset[Path]] = []
        self.fails: set[Path] = set()
        self.waiting: Deferred[frozenset[Path]] | None = None
        self.watch = FileWatch(self.clock, self._changed)
        self.watch.adopt(signatures(paths))
        self.watch.start()

    def _changed(self, paths: frozenset[Path]) -> Deferred[frozenset[Path]]:
        self.told.append(paths)
        return self.waiting or succeed(paths - self.fails)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(INTERVAL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def in_place(path: Path) -> None:
    path.write_text("new")


def by_rename(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("new")
    # Neither its time nor its length tells it from the old one.
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def by_symlink(path: Path) -> None:
    (path.with_name("new")).write_text("new")
    link = path.with_name("link.new")
    link.symlink_to("new")
    link.rename(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("replace", [in_place, by_rename, by_symlink, removed])
def test_a_change_is_taken_up_once_within_a_minute(path: Path, replace: object) -> None:
    watched = Watched(path)
    watched.look(3)
    assert watched.told == []
    assert callable(replace)
    replace(path)
    watched.look(2)
    assert 3 * INTERVAL <= 60
    assert watched.told == [{path}]
    watched.look(5)
    assert watched.told == [{path}]


def test_a_link_to_a_directory_that_moves_on(tmp_path: Path) -> None:
    """Certbot and Kubernetes link to what a directory holds now."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "crt").write_text(name)
    (tmp_path / "live").symlink_to("a")
    watched = Watched(tmp_path / "live/crt")
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").rename(tmp_path / "live")
    watched.look(2)
    assert watched.told == [{tmp_path / "live/crt"}]


def test_what_still_changes_is_waited_for_and_the_rest_is_not(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("old")
    watched = Watched(path, other)
    other.write_text("new")
    for turn in range(4):
        path.write_text("x" * turn)
        watched.look()
    assert watched.told == [{other}]
    watched.look()
    assert watched.told == [{other}, {path}]


def test_what_cannot_be_taken_up_is_tried_again(path: Path) -> None:
    watched = Watched(path)
    watched.fails = {path}
    in_place(path)
    watched.look(4)
    assert watched.told == [{path}] * 3
    watched.fails = set()
    watched.look(3)
    assert watched.told == [{path}] * 4


def test_nothing_is_looked_at_while_something_is_taken_up(path: Path) -> None:
    watched = Watched(path)
    watched.waiting = Deferred()
    in_place(path)
    watched.look(6)
    assert watched.told == [{path}]
    # What changes meanwhile is not taken for what was taken up.
    path.write_text("newer still")
    waiting, watched.waiting = watched.waiting, None
    waiting.callback(frozenset({path}))
    watched.look(2)
    assert watched.told == [{path}] * 2


def test_other_files_after_another_conf(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    watched = Watched(path)
    watched.watch.adopt(signatures([other]))
    in_place(path)
    other.write_text("there now")
    watched.look(3)
    assert watched.told == [{other}]
    watched.watch.stop()
    watched.watch.stop()
    assert watched.clock.getDelayedCalls() == []
