"""The sources of the Debian package agree with those of Bascule."""

import configparser
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.daemon.conf import build
from proxy.daemon.exits import Exit
from proxy.daemon.files import Document
from proxy.daemon.installed import InstalledPlugins
from tests.authority import Authority
from tests.pages import ROOT, bascule, put_in_place

DEBIAN = ROOT / "debian"
UNITS = sorted([*ROOT.glob("systemd/*.service"), *ROOT.glob("systemd/*.socket")])


def directives(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield line


def packaged(unit: Path) -> str:
    """A unit as the package has it."""
    return subprocess.run(
        ["sed", "-f", DEBIAN / "units.sed", unit], capture_output=True, text=True, check=True
    ).stdout


def uncommented(text: str) -> str:
    """The examples of a conf, without the prose between them."""
    lines = [line[1:] for line in text.splitlines() if re.match(r"#(\[\[|\w+ = )", line)]
    return "\n".join(lines)


def test_the_version_is_that_of_bascule() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    found = re.fullmatch(r"bascule \((.+)-[0-9]+\) \w+; urgency=\w+", first)
    assert found is not None
    assert found[1] == settings["metadata"]["version"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_differ_in_the_place_of_the_program_alone(unit: Path) -> None:
    text = packaged(unit)
    assert "/opt/" not in text
    assert "/etc/systemd/system" not in text
    placed = unit.read_text().replace("/opt/bascule/bin/bascule", "/usr/bin/bascule")
    assert list(directives(text)) == list(directives(placed))
    before = ""
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            assert before.startswith("# "), line
        before = line


def test_every_unit_is_packaged_and_none_is_started_by_itself() -> None:
    rules = (DEBIAN / "rules").read_text()
    [names] = re.findall(r"^UNITS := (.*)$", rules, re.MULTILINE)
    assert sorted(names.split()) == [unit.name for unit in UNITS]
    calls = re.findall(r"^\tdh_installsystemd .*$", rules, re.MULTILINE)
    assert calls
    assert all("--no-enable --no-start" in call for call in calls)


def test_the_conf_waits_for_a_person() -> None:
    done = bascule("check", "-c", DEBIAN / "bascule.toml")
    assert done.returncode == Exit.CONFIG
    assert "listener" in done.stderr


def test_the_examples_of_the_conf_are_right() -> None:
    conf = tomllib.loads(uncommented((DEBIAN / "bascule.toml").read_text()))
    assert len(conf["listener"]) == 2
    plugins = InstalledPlugins(own_only=True)
    file = Path("/etc/bascule/bascule.toml")
    assert build([Document(file, conf)], plugins, main=file).mistakes == ()


def test_check_has_nothing_against_the_examples(tmp_path: Path, authority: Authority) -> None:
    text = uncommented((DEBIAN / "bascule.toml").read_text())
    text = text.replace("/run/credentials/bascule.service", str(tmp_path / "tls"))
    done = bascule("check", "-c", put_in_place(tmp_path, authority, text))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_scripts_are_shell_that_stops_at_a_failure(name: str) -> None:
    script = DEBIAN / f"bascule.{name}"
    subprocess.run(["sh", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert lines[:2] == ["#!/bin/sh", "set -e"]
    assert "#DEBHELPER#" in lines


def test_each_override_of_lintian_is_explained() -> None:
    comment = ""
    explained = 0
    for line in (DEBIAN / "bascule.lintian-overrides").read_text().splitlines():
        if line.startswith("# "):
            comment = line
        else:
            assert line.startswith("bascule: ")
            assert comment
            explained += 1
    assert explained


def test_the_readme_names_what_there_is() -> None:
    text = (DEBIAN / "bascule.README.Debian").read_text()
    for command in re.findall(r"(?:^|: )(bascule \w+)$", text, re.MULTILINE):
        assert bascule(*command.split()[1:], "--help").returncode == 0
    assert "/usr/local/lib/bascule" in (DEBIAN / "rules").read_text()
    assert "guide.md" in text
    assert "docs/*.md" in (DEBIAN / "bascule.docs").read_text()
