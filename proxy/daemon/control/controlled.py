"""What the control socket needs of the daemon."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Protocol, TypeVar, Union

import attrs
from twisted.internet.defer import Deferred, succeed

from proxy.daemon.control.facts import Drained, Reloaded, SessionFacts, Status, Traced
from proxy.session.commands import Severity

T = TypeVar("T")

Soon = Union[T, "Deferred[T]"]
"""A value, or one that will be there."""


def awaited(value: "Soon[T]") -> Deferred[T]:
    """Return a value as a Deferred, which has fired if it is there already."""
    return value if isinstance(value, Deferred) else succeed(value)


Told = Callable[[Traced], None]
"""Takes what happens in a traced session."""


@attrs.frozen
class Wanted:
    """Which sessions are to be traced: one that is there, or the next that begin.

    Attributes:
        session: the id of a session that is there; empty for those that begin.
        listener: only sessions of this listener; empty for any.
        client: only sessions of clients in this network; None for any.
        count: how many sessions that begin.
    """

    session: str = ""
    listener: str = ""
    client: IPv4Network | IPv6Network | None = None
    count: int = 1


NO_LISTENER: Final = "there is no listener with this name"
"""What is said of a listener that nobody knows."""

NO_SESSION: Final = "there is no session with this id"
"""Likewise of a session."""


class NotControllableError(Exception):
    """What was asked for cannot be done; ``str()`` says why, in one line."""


class Ended(Protocol):
    """Takes note that a trace is over."""

    def __call__(self, why: str = "") -> None:
        """Take note of it.

        Args:
            why: why nothing can be traced, in one line; empty where the negotiation is over.
        """


class Steering(Protocol):
    """What can be done to a daemon as a whole."""

    def reload(self) -> "Deferred[Reloaded]":
        """Take up the conf as it now is, all of it or nothing.

        Returns:
            What came of it, when that is known; it does not fail.

        Raises:
            NotControllableError: the daemon is about to end, or does not know its conf.
        """

    def drain(self, older_than: str) -> Soon[Drained]:
        """End sessions one after another.

        Args:
            older_than: which: see `proxy.daemon.draining.age`, or ``certificate`` for those whose
                own certificate has been replaced since; empty for all of them and the daemon too.

        Returns:
            How many, and how long that takes.

        Raises:
            NotControllableError: the daemon is about to end, or cannot end by itself.
            ValueError: ``older_than`` cannot be understood; the message says what is allowed.
        """


class Controlled(Steering, Protocol):
    """A daemon under control. No method may take long: the reactor waits for it.

    What a Deferred has may be a failure of `NotControllableError` or of
    `proxy.daemon.control.protocol.RefusedError`, as if it had been raised.
    """

    def status(self) -> Soon[Status]:
        """Return how the daemon is doing."""

    def sessions(
        self, listener: str, domain: str
    ) -> "Iterator[SessionFacts | Deferred[None] | None]":
        """Return sessions one by one.

        The iterator is drawn from in many turns of the reactor: it must stand sessions that begin
        and end meanwhile. It has None for what takes its time without being told, and a Deferred
        where it has to be waited for what comes next.

        Args:
            listener: only those of this listener; empty for any.
            domain: only those to or from this domain, as A-labels; empty for any.

        Raises:
            NotControllableError: there is no listener with this name, nor a session of one that
                there was; raised by this or by the iterator.
        """

    def kick(self, session_id: str) -> Soon[bool]:
        """End a session, telling its client why; whether there is one with this id."""

    def trace(self, wanted: Wanted, told: Told, ended: Ended) -> Callable[[], None]:
        """Tell what happens in the negotiation of sessions.

        Args:
            wanted: which.
            told: is told all that happens, from now on.
            ended: is called once, when the negotiation of the last of these sessions is over, or
                when it turns out that nothing can be traced; not before this returns, and not
                after what this returns was called.

        Returns:
            What ends the trace.

        Raises:
            NotControllableError: there is no such session, or none that is being negotiated, or no
                such listener.
        """

    def log_level(self, level: Severity | None) -> Soon[Severity]:
        """Return the least severity that the log has, having set it unless ``level`` is None."""
