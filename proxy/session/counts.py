"""Counts that all processes of the proxy keep together, under keys of text."""

from typing import Protocol


class Counts(Protocol):
    """Counts to which each process adds a share of its own, and which all can read.

    A key is one text or several; no two different keys are ever the same, however their texts are
    divided. What a process has added goes with it when it ends.
    """

    def add(self, *key: str, amount: int = 1) -> None:
        """Add to the share of this process; a negative amount takes away."""

    def total(self, *key: str) -> int:
        """Return the sum of the shares of all processes; 0 for what nobody has counted."""


class LocalCounts:
    """Counts of a process that is alone: its share is the total."""

    __slots__ = ("_shares",)

    def __init__(self) -> None:
        self._shares: dict[tuple[str, ...], int] = {}

    def add(self, *key: str, amount: int = 1) -> None:
        """Add to the count; see `Counts.add`."""
        share = self._shares.get(key, 0) + amount
        if share:
            self._shares[key] = share
        else:
            self._shares.pop(key, None)

    def total(self, *key: str) -> int:
        """Return the count; see `Counts.total`."""
        return self._shares.get(key, 0)

    def __len__(self) -> int:
        return len(self._shares)


class Section:
    """A part of other counts that has its keys for itself.

    Args:
        counts: the whole.
        names: what each key of this part begins with there. Two sections of one whole share
            nothing unless the names of one are the beginning of the other's.
    """

    __slots__ = ("_counts", "_names")

    def __init__(self, counts: Counts, *names: str) -> None:
        self._counts = counts
        self._names = names

    def add(self, *key: str, amount: int = 1) -> None:
        """Add to the share of this process; see `Counts.add`."""
        self._counts.add(*self._names, *key, amount=amount)

    def total(self, *key: str) -> int:
        """Return the sum of all shares; see `Counts.total`."""
        return self._counts.total(*self._names, *key)


def delimited(key: tuple[str, ...]) -> bytes:
    """Return texts as one, their lengths first, so that no two keys give the same bytes."""
    lengths = ",".join([str(len(text)) for text in key])
    return f"{lengths};{''.join(key)}".encode("utf-8", "surrogatepass")
