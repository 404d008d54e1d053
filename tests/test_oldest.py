"""The oldest versions that tests run with are those that setup.cfg allows."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

EXAMPLE = """\
[options]
install_requires =
    attrs>=24.2
    twisted{bound}

[options.extras_require]
dev =
    mypy>=2.4,<2.5
"""


def printed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/oldest.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("bound", [">=26.4", ">=26.4,<27"])
def test_a_dependency_is_held_to_its_lower_bound(tmp_path: Path, bound: str) -> None:
    file = tmp_path / "setup.cfg"
    file.write_text(EXAMPLE.format(bound=bound))
    assert printed(file).stdout == "attrs==24.2\ntwisted==26.4\nmypy>=2.4,<2.5\n"


@pytest.mark.parametrize("bound", ["", "<27", "~=26.4", "[tls]>=26.4", ">=26.4; sys_platform"])
def test_what_has_no_plain_lower_bound_is_refused(tmp_path: Path, bound: str) -> None:
    file = tmp_path / "setup.cfg"
    file.write_text(EXAMPLE.format(bound=bound))
    found = printed(file)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"setup.cfg: 'twisted{bound}' is not of the kind name>=version\n"


def test_every_dependency_of_bascule_is_held() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    needed = settings["options"]["install_requires"].split()
    held = printed().stdout.splitlines()
    assert held[: len(needed)] == [requirement.replace(">=", "==") for requirement in needed]
