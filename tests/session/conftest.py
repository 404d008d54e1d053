"""Playbooks that nobody can forget to ask."""

from collections.abc import Callable, Iterable, Iterator

import pytest

from proxy.session.hooks import Plugin, TLSRule
from tests.session.playbook import Playbook

Play = Callable[..., Playbook]


@pytest.fixture
def play() -> Iterator[Play]:
    """Makes playbooks; at the test's end nothing may have come out that was not asked for."""
    books: list[Playbook] = []

    def make(rule: TLSRule = TLSRule.REQUIRED, plugins: Iterable[Plugin] = ()) -> Playbook:
        books.append(Playbook(rule, plugins))
        return books[-1]

    yield make
    for book in books:
        book.done()
