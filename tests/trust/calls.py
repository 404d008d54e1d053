"""What something costs, counted in calls: as many on every machine, whatever else it does."""

import sys
from collections.abc import Callable


def calls(act: Callable[[], object]) -> int:
    """Return how many functions ``act`` calls, those in C among them."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count
