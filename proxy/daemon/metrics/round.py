"""One round of the sessions that there are, in steps that hold nobody up.

Bytes of a session are counted when it ends; until then they are added from what it has passed so
far. With ten thousand sessions that takes some milliseconds, so it is done some hundred at a time.
A session may end between two steps: then it is counted as one that has ended, and here no more.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

import attrs

from proxy.daemon.metrics import families
from proxy.daemon.metrics.snapshot import Labels, Numbers
from proxy.daemon.metrics.sources import Live
from proxy.daemon.metrics.tally import Tally
from proxy.session.commands import Side
from proxy.session.hooks import View

STEP: Final = 250
"""How many sessions are looked at in one step."""

NEGOTIATING: Final = "negotiating"
SECURED: Final = "secured"
ESTABLISHED: Final = "established"
STATES: Final = (NEGOTIATING, SECURED, ESTABLISHED)
"""What a session has come to."""


@attrs.frozen
class _Found:
    listener: str
    state: str
    passed: tuple[int, int]
    stalled: bool


class Round:
    """One round.

    Args:
        sessions: the sessions that there are.
    """

    def __init__(self, sessions: Iterable[Live]) -> None:
        self._left = iter(list(sessions))
        self._found: dict[Live, _Found] = {}
        self._gone: set[Live] = set()
        self._tally = Tally()

    def step(self) -> bool:
        """Look at some more sessions; whether any were left."""
        some = list(islice(self._left, STEP))
        for session in some:
            if session not in self._gone:
                view = session.view
                found = _Found(view.listener, state_of(view), session.passed, session.stalled)
                self._found[session] = found
                self._count(found, 1)
        return bool(some)

    def ended(self, session: Live) -> None:
        """Take note that a session has ended."""
        self._gone.add(session)
        found = self._found.pop(session, None)
        if found is not None:
            self._count(found, -1)

    def values(self) -> dict[str, dict[Labels, Numbers]]:
        """Return what was found."""
        return self._tally.values()

    def _count(self, found: _Found, sign: int) -> None:
        self._tally.add(families.SESSIONS, found.listener, found.state, amount=sign)
        if found.stalled:
            self._tally.add(families.STALLED, found.listener, amount=sign)
        add_passed(self._tally, found.listener, found.passed, sign)


def add_passed(tally: Tally, listener: str, passed: tuple[int, int], sign: int = 1) -> None:
    """Add the bytes that came from a session's client and from its server."""
    up, down = passed
    tally.add(families.RECEIVED, listener, Side.CLIENT.value, amount=sign * up)
    tally.add(families.RECEIVED, listener, Side.SERVER.value, amount=sign * down)


def state_of(view: View) -> str:
    """Return what a session has come to, one of `STATES`."""
    if view.authenticated:
        return ESTABLISHED
    return SECURED if view.tls or view.server_tls else NEGOTIATING
