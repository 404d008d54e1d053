#!/usr/bin/env python3
"""Writes the lists of what the Debian package carries and of what builds it.

`python tools/pins.py` asks the package index, by way of pip, for wheels of the versions that are
installed here, and writes `debian/requirements.txt` (Bascule's dependencies, and theirs) and
`debian/build-requirements.txt` (what makes Bascule's own wheel). Each line has one version and the
hashes of its wheels for the releases of Debian and the processors in `TARGETS`.
"""

import configparser
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
HEAD: Final = "# Written by tools/pins.py: versions, and hashes of their wheels.\n"
_OLDEST_GLIBC: Final = 5
_LEGACY: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


class Target(NamedTuple):
    """Where wheels are to run.

    Attributes:
        python: the version of Python, as 3.11.
        glibc: the minor version of the GNU C library 2.
        machine: the processor, as the tags of wheels call it.
    """

    python: str
    glibc: int
    machine: str


class Pin(NamedTuple):
    """A wheel that pip has chosen: the distribution's name, its version, the wheel's SHA-256."""

    name: str
    version: str
    digest: str


TARGETS: Final = tuple(
    Target(python, glibc, machine)
    for python, glibc in (("3.11", 36), ("3.13", 41))  # Debian 12 and 13
    for machine in ("x86_64", "aarch64")
)


class PinError(Exception):
    """There is nothing to write; the message says why."""


def platforms(target: Target) -> Iterator[str]:
    """Return the platforms whose wheels run on a target, the best first."""
    for minor in range(target.glibc, _OLDEST_GLIBC - 1, -1):
        yield f"manylinux_2_{minor}_{target.machine}"
        if minor in _LEGACY:
            yield f"{_LEGACY[minor]}_{target.machine}"


def chosen(target: Target, wanted: Sequence[str], constraints: Path) -> Iterator[Pin]:
    """Return what pip would install on a target.

    Raises:
        PinError: it would not.
    """
    tags = [word for platform in platforms(target) for word in ("--platform", platform)]
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--only-binary", ":all:", "--target", directory]
        command += ["--report", str(report), "--constraint", str(constraints)]
        command += ["--implementation", "cp", "--python-version", target.python, *tags, *wanted]
        # The words are ours and those of setup.cfg.
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            last = done.stderr.strip().rpartition("\n")[2]
            raise PinError(f"pip, for Python {target.python} on {target.machine}: {last}")
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    for each in installed:
        hashes = each["download_info"]["archive_info"]["hashes"]
        yield Pin(each["metadata"]["name"], each["metadata"]["version"], hashes["sha256"])


def text_of(pins: Iterable[Pin]) -> str:
    """Return pins as a file of requirements for pip.

    Raises:
        PinError: a distribution has two versions.
    """
    digests: dict[str, set[str]] = {}
    for pin in pins:
        digests.setdefault(f"{pin.name}=={pin.version}", set()).add(pin.digest)
    names = [requirement.partition("==")[0] for requirement in digests]
    if len(names) != len(set(names)):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PinError(f"not the same version everywhere: {', '.join(twice)}")
    lines = []
    for requirement in sorted(digests, key=str.lower):
        hashes = [f"    --hash=sha256:{digest}" for digest in sorted(digests[requirement])]
        lines.append(" \\\n".join([requirement, *hashes]))
    return HEAD + "\n".join(lines) + "\n"


def wanted() -> Mapping[str, Sequence[str]]:
    """Return the files to write, each with what it is to list before dependencies are added."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    return {
        "requirements.txt": settings["options"]["install_requires"].split(),
        "build-requirements.txt": ["setuptools"],
    }


def main() -> int:
    """Write the files; return 0, or 1 and one line if that cannot be done."""
    with tempfile.TemporaryDirectory() as directory:
        constraints = Path(directory, "constraints.txt")
        here = [f"{each.name}=={each.version}\n" for each in distributions()]
        constraints.write_text("".join(here), encoding="utf-8")
        try:
            files = {
                name: text_of(pin for each in TARGETS for pin in chosen(each, names, constraints))
                for name, names in wanted().items()
            }
        except PinError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    for name, text in files.items():
        (ROOT / "debian" / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
