"""What is known of the process."""

import os
import time
from pathlib import Path

import pytest

from proxy.daemon.metrics.process import COUNTED_EVERY, Process


def copied(directory: Path) -> Path:
    """The system's files about this process, without the number of descriptors."""
    (directory / "self/fd").mkdir(parents=True)
    for name in ("stat", "self/stat"):
        (directory / name).write_bytes((Path("/proc") / name).read_bytes())
    return directory


def test_the_process_is_measured() -> None:
    opened = os.open("/dev/null", os.O_RDONLY)
    try:
        values = {name: series[()][0] for name, series in Process().values().items()}
    finally:
        os.close(opened)
    assert 3 < values["process_open_fds"] <= values["process_max_fds"]
    assert values["process_cpu_seconds_total"] > 0
    assert values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
    assert time.time() - 86_400 < values["process_start_time_seconds"] <= time.time()


def test_descriptors_are_listed_seldom_where_the_system_does_not_count_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    listed = ["0", "1", "2"]
    asked = []

    def listdir(directory: Path) -> list[str]:
        asked.append(directory)
        return listed

    class Nothing:
        st_size = 0

    proc = copied(tmp_path)
    process = Process(proc, lambda: now)
    plain = Path.stat
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **given: Nothing() if path.name == "fd" else plain(path, **given),
    )
    monkeypatch.setattr("os.listdir", listdir)
    for _ in range(2):
        assert process.values()["process_open_fds"] == {(): (3,)}
    assert asked == [proc / "self/fd"]
    now = COUNTED_EVERY
    listed.append("3")
    assert process.values()["process_open_fds"] == {(): (4,)}


def test_a_system_that_does_not_tell_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="stat"):
        Process(tmp_path).values()
    proc = copied(tmp_path)
    (proc / "stat").write_text("cpu 1 2 3\n")
    with pytest.raises(ValueError, match="started"):
        Process(proc).values()
