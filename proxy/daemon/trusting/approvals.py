"""Waiting for operators, who permit or reject certificates by a command of their own."""

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.logger import Logger

from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.store import Keyring

INTERVAL: Final = 0.5
"""Seconds between looks at the keyring, while anybody waits."""

_log = Logger()


@attrs.define(eq=False)
class _Waiting:
    """Somebody who waits until ``until`` (the reactor's clock) for a held certificate."""

    held_id: str
    until: float
    told: Callable[[bool], None]


@attrs.frozen
class Approval:
    """An operator's decision about a held certificate (a `proxy.trust.undecided.Decision`)."""

    approvals: "Approvals"
    held_id: str
    seconds: float

    def wait(self, told: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``told`` once: whether an operator has decided within the seconds."""
        return self.approvals.wait(self.held_id, self.seconds, told)


class Approvals:
    """Looks at the keyring now and then, for as long as anybody waits.

    Args:
        keyring: the keyring.
        reactor: tells the time (``seconds``) and calls later.
    """

    def __init__(self, keyring: Keyring, reactor: Any) -> None:
        self._keyring = keyring
        self._reactor = reactor
        self._waiting: dict[_Waiting, None] = {}
        self._next: Any = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(
        self, held_id: str, seconds: float, told: Callable[[bool], None]
    ) -> Callable[[], None]:
        """Call ``told`` once: whether somebody has decided about a certificate in time.

        Returns:
            What gives up waiting.
        """
        waiting = _Waiting(held_id, self._reactor.seconds() + seconds, told)
        self._waiting[waiting] = None
        if self._next is None:
            self._next = self._reactor.callLater(INTERVAL, self._look)
        return lambda: self._give_up(waiting)

    def close(self) -> None:
        """Tell nobody any more."""
        self._waiting.clear()
        self._rest()

    def _give_up(self, waiting: _Waiting) -> None:
        self._waiting.pop(waiting, None)
        if not self._waiting:
            self._rest()

    def _rest(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._next = self._reactor.callLater(INTERVAL, self._look)
        now = self._reactor.seconds()
        decided = self._decided()
        for waiting in list(self._waiting):
            in_time = waiting.held_id in decided
            if (in_time or waiting.until <= now) and waiting in self._waiting:
                self._give_up(waiting)
                try:
                    waiting.told(in_time)
                except BaseException:  # noqa: BLE001 - one session's fault is not the others'
                    _log.failure("fault in a session")

    def _decided(self) -> set[str]:
        """Return what does not wait any more; whoever asks next is told what came of it."""
        try:
            pending = self._keyring.pending_ids()
        except KeyringError:
            return set()
        return {waiting.held_id for waiting in self._waiting} - pending
