"""Addresses in a stream between servers: which domains they name, and where else one might be seen.

What one server takes for an address must be what every other one takes for it.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from proxy.session.dialback import Pair
from proxy.session.hooks import Condition, Element
from proxy.xmpp import namespaces as ns
from proxy.xmpp.domains import unambiguous
from proxy.xmpp.errors import StreamError

_MOST_SPELLINGS: Final = 4_096
_LONGEST_SPELLING: Final = 256
_ADDRESSING: Final = frozenset(("from", "to", "id", "type", "version"))


class Spellings(dict[tuple[bytes, bytes], bool]):
    """For addresses as they stand in a start tag, whether their domains are a proved pair.

    A stream has few of them, each many times; what has been found out is kept, within bounds, and
    must be cleared when the proved pairs change.

    Args:
        proven: the proved pairs.
    """

    def __init__(self, proven: set[Pair]) -> None:
        super().__init__()
        self._proven = proven

    def __missing__(self, addresses: tuple[bytes, bytes]) -> bool:
        """Find it out."""
        known = False
        with suppress(ValueError):
            sender, to = addresses
            known = Pair(domain_of(sender.decode()), domain_of(to.decode())) in self._proven
        if len(self) >= _MOST_SPELLINGS:
            self.clear()
        if sum(map(len, addresses)) <= _LONGEST_SPELLING:
            self[addresses] = known
        return known


def demand_plain(attributes: Mapping[str, str]) -> None:
    """Refuse attributes that some server might take for an address, in spite of their namespace.

    Raises:
        StreamError: there is one.
    """
    for name in attributes:
        namespace, local = ns.split(name)
        if namespace and local in _ADDRESSING:
            raise StreamError(
                Condition.BAD_FORMAT, f"the attribute '{local}' is in a namespace that it is not of"
            )


def addresses(stanza: Element) -> Pair:
    """Return the domains of a stanza's addresses.

    Raises:
        StreamError: it lacks an address, or one has no domain (RFC 6120, section 8.1).
    """
    sender, to = stanza.attributes.get("from"), stanza.attributes.get("to")
    if sender is None or to is None:
        raise StreamError(
            Condition.IMPROPER_ADDRESSING, "between servers a stanza needs both 'from' and 'to'"
        )
    try:
        return Pair(domain_of(sender), domain_of(to))
    except ValueError as error:
        raise StreamError(
            Condition.IMPROPER_ADDRESSING, f"an address of a stanza has no domain: {error}"
        ) from error


def domain_of(address: str) -> str:
    """Return the domain of an address (RFC 7622, section 3.2), as A-labels; raises ValueError."""
    return unambiguous(spelling_of(address))


def spelling_of(address: str) -> str:
    """Return the domain of an address as it is written there."""
    bare = address.partition("/")[0]
    return bare.partition("@")[2] if "@" in bare else bare
