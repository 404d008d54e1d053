"""What the tests of the keyring share."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.trust.keyring.store import Keyring


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.sqlite"


@pytest.fixture
def keyring(path: Path) -> Iterator[Keyring]:
    with closing(Keyring(path, patience=0.05)) as opened:
        yield opened


@pytest.fixture
def other(path: Path, keyring: Keyring) -> Iterator[Keyring]:
    """The same keyring, opened once more, as another process has it."""
    with closing(Keyring(path, create=False, patience=0.05)) as opened:
        yield opened
