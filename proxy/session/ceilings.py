"""What a session may cost at most, whatever the plugins allow."""

import sys
from functools import cache
from typing import Final

import attrs

from proxy.session.hooks import Bounds
from proxy.xmpp.framing import Limits

CLIENT: Final = Limits(element=1_048_576)
"""What a client may cost where no plugin bounds it."""

AUTHENTICATED_CLIENT: Final = attrs.evolve(CLIENT, white_space=sys.maxsize)
"""The same for a client that is authenticated, which may send keepalives for ever."""

UNAUTHENTICATED_BYTES: Final = 262_144
"""Bytes a client may send before it is authenticated, where no plugin bounds it."""

UNAUTHENTICATED_ELEMENTS: Final = 256
"""First-level elements a client may send before that, where no plugin bounds it."""

SERVER: Final = Limits(element=262_144, white_space=sys.maxsize)
"""What the server may cost while it negotiates: it is ours, yet memory and time stay bounded."""

STRANGER: Final = attrs.evolve(SERVER, element=32_768)
"""The same for a server beyond a forward listener, which is nobody's of ours."""

STRANGER_BYTES: Final = 262_144
"""Bytes that such a server may send in all before the client is authenticated."""

ESTABLISHED_SERVER: Final = attrs.evolve(SERVER, element=16_777_216, start_tag=1_048_576)
"""The same for an established session in which a plugin watches stanzas."""


@cache
def client_limits(bounds: Bounds, authenticated: bool) -> Limits:
    """Return the limits for the stream of a client that plugins bound by ``bounds``."""
    element = bounds.stanza_bytes or CLIENT.element
    if authenticated:
        return attrs.evolve(AUTHENTICATED_CLIENT, element=element)
    element = min(element, unauthenticated_bytes(bounds))
    return attrs.evolve(CLIENT, element=element, start_tag=min(CLIENT.start_tag, element))


def unauthenticated_bytes(bounds: Bounds) -> int:
    """Return how many bytes a client may send before it is authenticated."""
    return bounds.unauthenticated_bytes or UNAUTHENTICATED_BYTES


def unauthenticated_elements(bounds: Bounds) -> int:
    """Return how many first-level elements a client may send before it is authenticated."""
    return bounds.unauthenticated_elements or UNAUTHENTICATED_ELEMENTS
