"""Standard output for people: with colours on a terminal, and fit for a file elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def printed(width: int) -> Iterator[Console]:
    """Give a console; what is printed on it comes out at the end, all at once.

    Args:
        width: Columns of output that goes to no terminal.

    Raises:
        OSError: It cannot be written.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        yield console
    # rich would end the process by itself when nobody reads.
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
