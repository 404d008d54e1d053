"""Wheel and sdist hold all that is needed."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.pages import ROOT, blocks, put_in_place

UNITS = ("bascule.service", "bascule@.service", "bascule.socket", "bascule-s2s.socket")
SHARED = {
    "man/man8/bascule.8": "docs/bascule.8",
    "bascule/conf/bascule.toml": "conf/bascule.toml",
    "bascule/conf/federation.toml": "conf/federation.toml",
    "bascule/systemd/sysusers.d/bascule.conf": "systemd/sysusers.d/bascule.conf",
    "bascule/systemd/tmpfiles.d/bascule.conf": "systemd/tmpfiles.d/bascule.conf",
} | {f"bascule/systemd/{unit}": f"systemd/{unit}" for unit in UNITS}


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a wheel that was made from an sdist, and that sdist."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--quiet", "-o", directory, ROOT)
    return directory


@pytest.fixture(scope="module")
def sdist(built: Path) -> Sequence[str]:
    """The names of the files in the sdist."""
    [file] = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        files = [member.name for member in archive.getmembers() if not member.isdir()]
    return [name.partition("/")[2] for name in files]


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the wheel is, with this one's packages for what it depends on."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    [wheel] = built.glob("*.whl")
    python = environment / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-index", "--no-deps", wheel)
    [site] = environment.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_the_sdist_has_what_is_kept_under_version_control(sdist: Sequence[str]) -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no repository")
    kept = set(run(git, "-C", ROOT, "ls-files", "-z").split("\0")) - {"", ".gitignore"}
    assert {name for name in kept if (ROOT / name).exists()} <= set(sdist)


def test_the_sdist_has_nothing_that_was_made_here(sdist: Sequence[str]) -> None:
    assert {"setup.cfg", "proxy/daemon/cli.py", "debian/rules"} <= set(sdist)
    made = ("__pycache__", "node_modules", ".venv", ".state", "debian/build/", "debian/bascule/")
    assert [name for name in sdist if any(part in name for part in made)] == []


def test_the_wheel_has_every_module(built: Path) -> None:
    [file] = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
    modules = [path for room in ("proxy", "plugins") for path in ROOT.glob(f"{room}/**/*.py")]
    there = {str(path.relative_to(ROOT)) for path in modules}
    assert there == {name for name in names if name.endswith(".py")}
    assert {"proxy/py.typed", "plugins/py.typed"} <= names


def test_what_is_installed_runs(installed: Path, tmp_path: Path, authority: Authority) -> None:
    program = installed / "bin/bascule"
    where = run(installed / "bin/python", "-Pc", "import proxy; print(proxy.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    said = run(program, "--version").split()
    assert said[0] == "bascule"
    assert f"version = {said[1]}\n" in (ROOT / "setup.cfg").read_text()
    conf = put_in_place(tmp_path, authority, blocks(ROOT / "README.md", "toml")[0])
    assert "No mistakes" in run(program, "check", "-c", conf)
    assert "limits" in run(program, "show-config", "-c", conf)


@pytest.mark.parametrize(("name", "source"), list(SHARED.items()))
def test_units_conf_and_manual_page_are_installed(installed: Path, name: str, source: str) -> None:
    assert (installed / "share" / name).read_bytes() == (ROOT / source).read_bytes()
