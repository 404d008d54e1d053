"""Waits for several Deferreds as for one."""

from collections.abc import Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def together(deferreds: Iterable[Deferred[T]]) -> list[T]:
    """Return the results of all, in order.

    The first failure is that of the whole. Who stops waiting cancels all.
    """
    try:
        return await gatherResults(list(deferreds), consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
        raise
