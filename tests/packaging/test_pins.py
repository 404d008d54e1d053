"""What the Debian package carries is what Bascule needs, and has been tested with."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.pages import ROOT
from tools import pins

CARRIED = ROOT / "debian/requirements.txt"
BUILDING = ROOT / "debian/build-requirements.txt"


def listed(file: Path) -> dict[str, tuple[str, list[str]]]:
    """What a list says: by name, the version and the hashes."""
    joined = file.read_text().replace(" \\\n", " ")
    found: dict[str, tuple[str, list[str]]] = {}
    for line in joined.splitlines():
        if not line.startswith("#"):
            requirement, *hashes = line.split()
            name, _, version = requirement.partition("==")
            found[canonicalize_name(name)] = (version, hashes)
    return found


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names of all that a distribution needs, itself among them."""
    yield canonicalize_name(name)
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in ("", *extras)):
            yield from needed(requirement.name, frozenset(requirement.extras))


def test_all_that_is_needed_is_carried_and_nothing_else() -> None:
    assert set(needed("bascule")) - {"bascule"} == set(listed(CARRIED))


def test_the_versions_are_those_that_setup_cfg_allows() -> None:
    carried = listed(CARRIED)
    for text in distribution("bascule").requires or ():
        requirement = Requirement(text)
        if requirement.marker is None:
            version, _ = carried[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), text


@pytest.mark.parametrize("file", [CARRIED, BUILDING], ids=lambda file: file.name)
def test_each_has_hashes(file: Path) -> None:
    found = listed(file)
    assert found
    for name, (version, hashes) in found.items():
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), name
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name


def test_what_is_compiled_has_a_wheel_for_each_target() -> None:
    _, hashes = listed(CARRIED)["lxml"]
    assert len(hashes) == len(pins.TARGETS)


def test_the_best_platform_comes_first() -> None:
    found = list(pins.platforms(pins.Target("3.11", 18, "aarch64")))
    assert found[:3] == [
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    ]
    assert found[-2:] == ["manylinux_2_5_aarch64", "manylinux1_aarch64"]


def test_hashes_of_one_version_are_gathered() -> None:
    text = pins.text_of(
        [pins.Pin("b", "1", "dd"), pins.Pin("A", "2", "cc"), pins.Pin("b", "1", "aa")]
    )
    expected = (
        "A==2 \\\n    --hash=sha256:cc\nb==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:dd\n"
    )
    assert text == pins.HEAD + expected


def test_two_versions_of_one_are_a_mistake() -> None:
    with pytest.raises(pins.PinError, match=r"^not the same version everywhere: b$"):
        pins.text_of([pins.Pin("b", "1", "aa"), pins.Pin("a", "1", "aa"), pins.Pin("b", "2", "bb")])


def test_pip_is_asked_for_wheels_of_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(command: list[str], **_: Any) -> SimpleNamespace:
        asked.extend(command)
        info = {"archive_info": {"hashes": {"sha256": "ab"}}}
        chosen = {"metadata": {"name": "attrs", "version": "25"}, "download_info": info}
        report = Path(command[command.index("--report") + 1])
        report.write_text(json.dumps({"install": [chosen]}))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr("tools.pins.subprocess.run", answer)
    target = pins.Target("3.13", 41, "aarch64")
    found = list(pins.chosen(target, ["attrs>=24.2"], tmp_path / "constraints.txt"))
    assert found == [pins.Pin("attrs", "25", "ab")]
    assert asked[asked.index("--python-version") + 1] == "3.13"
    assert asked[asked.index("--only-binary") + 1] == ":all:"
    assert asked[-1] == "attrs>=24.2"


def test_what_pip_cannot_do_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(returncode=1, stderr="much\nERROR: no wheel\n")

    monkeypatch.setattr("tools.pins.subprocess.run", fail)
    before = CARRIED.read_bytes()
    assert pins.main() == 1
    assert capsys.readouterr().err == "pip, for Python 3.11 on x86_64: ERROR: no wheel\n"
    assert CARRIED.read_bytes() == before
