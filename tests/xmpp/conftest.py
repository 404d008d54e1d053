"""What all tests of the language share: room for every name that Hypothesis makes up."""

from collections.abc import Iterator

import pytest

from tests.xmpp.tables import tables


@pytest.fixture(autouse=True, scope="module")
def _roomy() -> Iterator[None]:
    """Let the order and number of examples decide nothing: no table of names gets full."""
    with tables(1 << 30):
        yield
