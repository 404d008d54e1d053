"""What keeps a benchmark from being run."""

import os


class BenchError(Exception):
    """A reason, in one line, why there is no result, and the exit code that says so.

    Args:
        text: The line.
        code: A sysexits code; `EX_UNAVAILABLE` if something is missing on this machine.
    """

    def __init__(self, text: str, code: int = os.EX_SOFTWARE) -> None:
        super().__init__(text)
        self.code = code
