"""A worker in a process of its own: counts what it is told to, until it is killed."""

import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Self

from proxy.net.board import Board
from tests.net.boards import CROWDED, KEY

ROOT = Path(__file__).parents[2]


class Worker:
    """The process, as it is seen by a test; it has a board's descriptor and nothing else."""

    def __init__(self, board: Board, number: int) -> None:
        self.number = number
        words = [sys.executable, "-m", __name__, str(board.descriptor), str(number)]
        self._process = subprocess.Popen(
            words,
            cwd=ROOT,
            pass_fds=[board.descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def add(self, key: str, amount: int) -> None:
        """Have it add; what it has added is there when this returns."""
        assert self._ask("add", key, amount) == 0

    def total(self, key: str) -> int:
        """Ask it for a total."""
        return self._ask("total", key, 0)

    def churn(self) -> None:
        """Have it give rows from key to key without end, from now on."""
        assert self._ask("churn", "", 0) == 0

    def kill(self) -> None:
        """Kill it, wherever it is."""
        self._process.kill()
        self._process.wait()

    def _ask(self, verb: str, key: str, amount: int) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{verb}:{key}:{amount}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main(descriptor: int, number: int) -> None:
    """Do what is asked."""
    counts = Board.attach(descriptor, KEY, number, CROWDED)
    for line in sys.stdin:
        verb, key, amount = line.rstrip("\n").split(":")
        if verb == "add":
            counts.add(key, amount=int(amount))
        total = counts.total(key) if verb == "total" else 0
        sys.stdout.write(f"{total}\n")
        sys.stdout.flush()
        for turn in count() if verb == "churn" else ():
            names = [(turn * 7 + number) % 50 for number in range(20)]
            for name in names:
                counts.add("churned", str(name), amount=name + 1)
            for name in names:
                counts.add("churned", str(name), amount=-name - 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
