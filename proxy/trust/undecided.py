"""Verdicts that must be waited for: somebody else has to be asked first."""

from collections.abc import Callable
from typing import Protocol


class Decision(Protocol):
    """Something that is to be found out, or decided by somebody."""

    def wait(self, told: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``told`` once: whether it has come in time.

        That never happens before this has returned.

        Returns:
            What gives up waiting: nothing is called any more.
        """


class UndecidedError(Exception):
    """It cannot be said yet whether a server is to be believed; till then it is not.

    ``str()`` is one clause that says why not, fit to be shown, should nobody wait.

    Attributes:
        decision: What is waited for; afterwards the server is to be judged anew.
    """

    def __init__(self, problem: str, decision: Decision) -> None:
        super().__init__(problem)
        self.decision = decision
