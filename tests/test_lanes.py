"""Targets of a Makefile beside each other: tools/lanes.sh."""

import os
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("MAKE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
}
MAKEFILE = """\
patient:
\t@while [ ! -e begun ]; do sleep 0.01; done; echo said by patient
beginning:
\t@touch begun; echo said by beginning
"""


def ran(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return tmp_path


@pytest.mark.parametrize("lanes", [*product(("good", "bad"), repeat=3)])
def test_all_must_succeed(folder: Path, lanes: tuple[str, ...]) -> None:
    (folder / "Makefile").write_text("".join(map(_named, enumerate(lanes))))
    names = [f"{name}{number}" for number, name in enumerate(lanes)]
    found = ran(folder, str(ROOT / "tools/lanes.sh"), *names)
    assert (found.returncode == 0) is ("bad" not in lanes)
    said = [line for line in found.stdout.splitlines() if line.startswith("said by ")]
    assert said == [f"said by {name}" for name in names]


def _named(numbered: tuple[int, str]) -> str:
    number, name = numbered
    code = int(name == "bad")
    return f"{name}{number}:\n\t@echo said by {name}{number}; exit {code}\n"


def test_they_run_beside_each_other(folder: Path) -> None:
    found = ran(folder, str(ROOT / "tools/lanes.sh"), "patient", "beginning")
    assert found.stdout == "said by patient\nsaid by beginning\n"
    assert found.returncode == 0


def test_a_dry_run_of_the_tests_runs_none(tmp_path: Path) -> None:
    """make runs even then whatever names it with $(MAKE)."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for needed in ("setup.cfg", "tests/servers/node/package-lock.json"):
        (tmp_path / needed).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / needed).touch()
    script = tmp_path / "tools/lanes.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\ntouch ran\n")
    script.chmod(0o755)
    found = ran(tmp_path, "make", "-n", "test")
    assert found.returncode == 0, found.stderr
    assert "tools/lanes.sh test-rest test-net test-servers" in found.stdout
    assert not (tmp_path / "ran").exists()
