"""Faults of our own, or of a plugin, put so that they can be logged."""

import traceback


def located(error: BaseException) -> str:
    """Return the kind of an exception and where it was raised.

    Never its text: that may hold what a peer sent, a password among it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where
