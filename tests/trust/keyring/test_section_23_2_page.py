"""docs/keyring.md has every clause of the section, and no test that is not there."""

import re
from pathlib import Path

import pytest

from tests.trust.keyring.test_section_23_2 import CLAUSES

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "keyring.md"
CLAUSE = re.compile(r"test_clause\[([^\]…]+)\]")


def rows() -> list[tuple[str, str, str]]:
    """The rows of the table: the sentence, what is done, and the tests."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    _heading, *found = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [(sentence, done, tests) for sentence, done, tests in found]


def test_every_clause_is_there_and_no_other() -> None:
    assert {name for _, _, tests in rows() for name in CLAUSE.findall(tests)} == {
        clause for clause, _ in CLAUSES
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_has_tests_or_no_counterpart(row: tuple[str, str, str]) -> None:
    _, done, tests = row
    assert bool(tests) is not done.startswith("nothing")


def test_the_tests_that_it_names_exist() -> None:
    code = "".join(file.read_text() for file in (ROOT / "tests").glob("*/**/test_*.py"))
    named = {span for _, _, tests in rows() for span in re.findall(r"`(test_\w+)`", tests)}
    assert len(named) > 3
    assert [name for name in sorted(named) if f"def {name}(" not in code] == []
