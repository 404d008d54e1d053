"""Timers by a clock that nobody sets.

Twisted's reactor goes by the time of day. Were that set forward, every deadline would be over at
once; set back, none would ever end, and neither would a pause in accepting.
"""

import time
from typing import Any


def keep_steady(reactor: Any) -> None:
    """Have a reactor tell the time by the monotonic clock; to be called before it has any timer.

    Args:
        reactor: the reactor; ``seconds`` is of no meaning but for differences from now on.
    """
    reactor.seconds = time.monotonic
