"""What the tests of trust share."""

import pytest

from tests.authority import Authority


@pytest.fixture(scope="session")
def middle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    """An authority below the root, as public ones are: it issues certificates with a chain."""
    return Authority(tmp_path_factory.mktemp("middle"), name="middle", parent=authority)
