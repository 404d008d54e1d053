#!/usr/bin/env python3
"""Prints the oldest versions that setup.cfg allows, as constraints for pip.

`python tools/oldest.py` holds each dependency of Bascule to exactly its lower bound, and each
development tool to its bounds as they are. A last argument names another setup.cfg.
"""

import configparser
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9]+(?:\.[0-9]+)*)(?:,<[0-9.]+)?")


def lines(text: str) -> list[str]:
    """Return the lines of a list in setup.cfg, without those that are empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def oldest(requirement: str) -> str:
    """Return a requirement that is met by its oldest version only.

    Raises:
        ValueError: it has no lower bound, or says more than bounds.
    """
    bound = BOUND.fullmatch(requirement)
    if bound is None:
        raise ValueError(f"{requirement!r} is not of the kind name>=version")
    return f"{bound['name']}=={bound['version']}"


def constraints(text: str) -> list[str]:
    """Return the constraints that follow from the text of a setup.cfg.

    Raises:
        ValueError: a dependency is not of the kind name>=version.
        configparser.Error, KeyError: it is no such text.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(text)
    needed = lines(settings["options"]["install_requires"])
    tools = lines(settings["options.extras_require"]["dev"])
    return [*map(oldest, needed), *tools]


def main(arguments: Sequence[str]) -> int:
    """Print the constraints; return 0, or 1 and one line if there are none to print."""
    file = Path(arguments[0]) if arguments else ROOT / "setup.cfg"
    try:
        found = constraints(file.read_text(encoding="utf-8"))
    except ValueError as error:
        sys.stderr.write(f"{file.name}: {error}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
