"""The place of the control socket, and who the kernel says has connected."""

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.daemon.control import place
from proxy.daemon.control.peer import Peer, peer_of
from tests.daemon.control.fakes import Running


def test_the_socket_is_of_the_owner_and_its_group_alone(running: Running) -> None:
    found = running.path.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert [each.name for each in running.path.parent.iterdir()] == ["control"]


def test_the_socket_is_never_wider_open_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        taken = place.take(tmp_path / "control")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "control").lstat().st_mode) == 0o660
    taken.leave()


def test_the_socket_is_removed_at_the_end(running: Running) -> None:
    running.socket.stop()
    assert list(running.path.parent.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
    place.take(path).leave()
    assert not path.exists()


def test_a_socket_on_which_somebody_listens_is_left_alone(running: Running) -> None:
    with pytest.raises(OSError, match="another process listens there"):
        place.take(running.path)
    assert running.asked("log-level").items == [{"level": "info"}]


def test_a_busy_socket_is_left_alone_too(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(OSError, match="another process listens there"):
            place.take(path)


def test_anything_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(OSError, match="something else than a socket"):
        place.take(path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="something else than a socket"):
        place.take(path)
    assert path.is_symlink()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(OSError, match="can be written to by others than its owner"):
        place.take(directory / "control")
    assert list(directory.iterdir()) == []


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.stat_result((0o40755, 0, 0, 1, os.geteuid() + 4711, 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda _path: found)
    with pytest.raises(OSError, match="belongs to another user"):
        place.take(tmp_path / "control")


def test_a_missing_directory_and_a_path_that_is_too_long_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        place.take(tmp_path / "nowhere" / "control")
    with pytest.raises(OSError, match="is longer than 107 bytes"):
        place.take(tmp_path / ("c" * 107))
    assert list(tmp_path.iterdir()) == []


def test_a_successor_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "control"
    first = place.take(path)
    first.listening.close()
    second = place.take(path)
    first.leave()
    assert stat.S_ISSOCK(path.lstat().st_mode)
    second.leave()


def test_the_kernel_says_who_has_connected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


def test_only_root_the_daemon_and_the_group_may_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    group = 42
    assert Peer(1, 0, frozenset()).may_control(group)
    assert Peer(1, 990, frozenset()).may_control(group)
    assert Peer(1, 1000, frozenset((1000, 42))).may_control(group)
    assert not Peer(1, 1000, frozenset((1000, 990, 0))).may_control(group)
