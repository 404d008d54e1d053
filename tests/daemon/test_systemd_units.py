"""The units: each line explained, hardened, and fit for each other."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
SOCKETS = sorted(UNITS.glob("*.socket"))
HIGHEST_EXPOSURE = 1.5


def directives(unit: Path) -> Iterator[str]:
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            yield line


def by_name(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in directives(unit):
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def test_the_units_are_found() -> None:
    assert [unit.name for unit in SERVICES] == ["bascule.service", "bascule@.service"]
    assert [unit.name for unit in SOCKETS] == ["bascule-s2s.socket", "bascule.socket"]


@pytest.mark.parametrize("unit", [*SERVICES, *SOCKETS], ids=lambda unit: unit.name)
def test_each_directive_is_explained(unit: Path) -> None:
    before = ""
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            assert before.startswith("# "), line
        before = line


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_services_are_hardened(unit: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    [exposure] = re.findall(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(exposure) <= HIGHEST_EXPOSURE
    assert "Unknown" not in done.stderr


def test_an_instance_is_hardened_as_the_service_is() -> None:
    one, instance = map(by_name, SERVICES)
    differ = {name for name in one | instance if one.get(name) != instance.get(name)}
    assert differ == {
        "Description",
        "ExecStart",
        "ExecReload",
        "User",
        "StateDirectory",
        "RuntimeDirectory",
        "ConfigurationDirectory",
    }
    assert all("%i" in instance[name][0] for name in differ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "78"),
        ("LimitCORE", "0"),
        ("NoNewPrivileges", "yes"),
        ("StateDirectoryMode", "0700"),
    ],
)
def test_what_must_not_get_lost(name: str, value: str) -> None:
    for unit in SERVICES:
        assert by_name(unit)[name] == [value]


def test_the_sockets_lead_to_the_service() -> None:
    names = set()
    for unit in SOCKETS:
        said = by_name(unit)
        # A unit that does not say which service is its own has the one of its name.
        service = said.get("Service", [f"{unit.stem}.service"])
        assert service == ["bascule.service"]
        [name] = said["FileDescriptorName"]
        assert f'address = "systemd:{name}"' in unit.read_text()
        names.add(name)
    assert names == {"c2s", "s2s"}
