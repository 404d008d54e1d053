"""What the tests of the judge share."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.trust.keyring.store import Keyring
from tests.authority import Authority
from tests.daemon.trusting.judged import Court


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    with closing(Keyring(tmp_path / "keyring.sqlite", patience=0.05)) as opened:
        yield opened


@pytest.fixture
def court(keyring: Keyring) -> Court:
    return Court(keyring)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that is trusted."""
    return Authority(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))
