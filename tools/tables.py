#!/usr/bin/env python3
"""Writes the transition tables of the negotiation into docs/architecture.md, between its markers.

`python tools/tables.py` writes them; with `--check` it writes nothing and exits with 1 when the
page is not what would be written. A last argument names another page.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from proxy.session import initiating, receiving, securing

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path("docs/architecture.md")

Rows = Mapping[Enum, Mapping[Enum, tuple[Enum, object]]]


def table(rows: Rows) -> str:
    """Return a transition table as Markdown: where a leg stands, what comes, what follows."""
    lines = ["| state | what comes | next state |", "|---|---|---|"]
    for state, row in rows.items():
        if not row:
            lines.append(f"| {state.value} | nothing more | |")
        for what, (following, _action) in row.items():
            after = "the same" if following is state else following.value
            lines.append(f"| {state.value} | {what.value} | {after} |")
    return "\n".join(lines).replace("<", "\\<")


def page(text: str) -> str:
    """Return the page with the tables as they are now.

    Raises:
        ValueError: a marker is missing.
    """
    tables = {
        "receiving": receiving.TABLE,
        "securing": securing.TABLE,
        "initiating": initiating.TABLE,
    }
    for name, rows in tables.items():
        begin, end = f"<!-- {name}: tools/tables.py -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _old, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the markers of {name} are missing")
        text = f"{before}{begin}{table(rows)}\n{end}{after}"  # type: ignore[arg-type]
    return text


def main(arguments: Sequence[str]) -> int:
    """Write the page, or compare it; return 0, or 1 if ``--check`` finds a difference."""
    names = [argument for argument in arguments if argument != "--check"]
    file = Path(names[0]) if names else ROOT / PAGE
    text = file.read_text(encoding="utf-8")
    wanted = page(text)
    if "--check" not in arguments:
        file.write_text(wanted, encoding="utf-8")
    elif text != wanted:
        sys.stderr.write(f"{file.name} differs: run python tools/tables.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
