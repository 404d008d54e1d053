"""proxy.daemon.trusting.opening: what is said of a state directory that will not do."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest

from proxy.daemon.model import Conf
from proxy.daemon.state import StateTable
from proxy.daemon.trusting.opening import open_keyring, problem
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from tests.daemon.conf_fakes import conf_of, forwarding

NOBODY = 65534


def at(directory: Path, level: str = "keyring") -> Conf:
    """A conf with a policy of that level, and its state in that directory."""
    conf = conf_of(forwarding({"domain": "example.net", "level": level}))
    return attrs.evolve(conf, state=StateTable(state_directory=directory))


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_directory_that_will_do(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert problem(at(tmp_path)) == ""
    keyring = open_keyring(at(tmp_path))
    assert keyring is not None
    keyring.close()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_one_that_others_can_write_to(tmp_path: Path, mode: int) -> None:
    """What would be refused later is told of before."""
    tmp_path.chmod(mode)
    told = problem(at(tmp_path))
    assert told.startswith(f"{tmp_path} can be written by others (its mode is {mode:04o}); allowed")
    with pytest.raises(KeyringError, match="can be written by others"):
        open_keyring(at(tmp_path))
    assert problem(at(tmp_path, "encrypt")) == ""


def test_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert problem(at(tmp_path / "gone")).startswith(f"{tmp_path}/gone does not exist; allowed")
    assert problem(at(tmp_path / "file")).startswith(f"{tmp_path}/file is not a directory; allowed")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user comes to."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Be another user than root meanwhile."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has others' files")
@pytest.mark.parametrize("owned", ["directory", "file"])
def test_whose_it_is_and_who_we_are(
    place: Path, request: pytest.FixtureRequest, owned: str
) -> None:
    shown = place
    if owned == "file":
        keyring = open_keyring(at(place))
        assert keyring is not None
        with closing(keyring):
            os.chown(place, NOBODY, NOBODY)
        shown = place / FILE_NAME
    request.getfixturevalue("as_nobody")
    with pytest.raises(KeyringError) as raised:
        open_keyring(at(place))
    assert str(raised.value).endswith(f"; {shown} belongs to root, and Bascule runs as nobody")
