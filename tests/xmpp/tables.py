"""Tables of names in place of those of the process, which any test may have filled."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.xmpp import events, features, names
from proxy.xmpp.names import Names


@contextmanager
def tables(most: int) -> Iterator[tuple[Names, Names]]:
    """Have trees use tables that know what the project knows, with room for ``most`` others.

    Yields:
        the table of elements and that of attributes.
    """
    elements = Names(names.UNKNOWN, names.is_element, most)
    attributes = Names("", names.is_attribute, most)
    names.know_vocabulary(elements, attributes)
    with pytest.MonkeyPatch.context() as patch:
        for module in (names, events, features):
            patch.setattr(module, "ELEMENTS", elements)
        for module in (names, events):
            patch.setattr(module, "ATTRIBUTES", attributes)
        yield elements, attributes
