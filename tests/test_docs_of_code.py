"""What the documentation says about the code is so, and all that it must say is there."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.summaries import fields
from proxy.net.summary import Summary
from proxy.session.chain import HOOKS
from proxy.session.commands import Severity
from proxy.session.hooks import TLSRule
from proxy.trust.keyring.alerts import Kind
from tests.pages import PAGES, ROOT, spans
from tests.plugins.views import view


def test_every_field_of_the_log_is_explained() -> None:
    text = (ROOT / "docs/guide.md").read_text()
    summary = Summary(
        view=view(secured=True),
        seconds=0.0,
        from_client=0,
        from_server=0,
        reason="",
        severity=Severity.INFO,
        server=None,
    )
    for field in fields(summary):
        assert f"\n| `{field}` |" in text


LOGGING = {"Report": 1, "write": 1, "_write": 1, "_report": 1, "failure": 0}
"""What writes a line of the log, and which argument its message is."""


def log_lines() -> Iterator[Any]:
    """The beginnings of the lines that the code writes to the log, as far as they are fixed."""
    for file in sorted((ROOT / "proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments):
                    if len(arguments) <= LOGGING.get(name, len(arguments)):
                        continue
                    message = arguments[LOGGING[name]]
                    if isinstance(message, ast.JoinedStr):
                        message = message.values[0]
                    if isinstance(message, ast.Constant) and isinstance(message.value, str):
                        yield pytest.param(message.value.strip(": "), id=file.name)


def test_lines_of_the_log_are_found() -> None:
    assert len(list(log_lines())) > 12


@pytest.mark.parametrize("line", list(log_lines()))
def test_every_line_of_the_log_is_explained(line: str) -> None:
    assert line in (ROOT / "docs/guide.md").read_text()


@pytest.mark.parametrize("rule", TLSRule)
def test_every_rule_of_listeners_is_explained(rule: TLSRule) -> None:
    assert f"\n| `{rule.value}` |" in (ROOT / "docs/guide.md").read_text()


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_alert_is_explained(kind: Kind) -> None:
    assert f"\n| `{kind.value}` |" in (ROOT / "docs/guide.md").read_text()


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_explained(hook: str) -> None:
    assert f"\n| `on_{hook}(" in (ROOT / "docs/plugins.md").read_text()


def test_the_tests_that_hold_the_security_model_exist() -> None:
    claimed = [span for span in spans(ROOT / "docs/security.md") if span.startswith("test_")]
    code = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(claimed) > 10
    assert [name for name in claimed if f"def {name}(" not in code] == []


def test_the_tables_of_the_architecture_are_up_to_date(tmp_path: Path) -> None:
    script, page = ROOT / "tools/tables.py", ROOT / "docs/architecture.md"
    copy = tmp_path / page.name
    copy.write_text(page.read_text().replace("| STARTTLS offered | starttls |", "| X | starttls |"))

    def run(*words: object) -> int:
        command = [sys.executable, str(script), *map(str, words)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert run("--check") == 0
    assert run("--check", copy) == 1
    assert run(copy) == 0
    assert copy.read_text() == page.read_text()


def test_modules_that_pages_name_are_there() -> None:
    pattern = re.compile(r"(?:proxy|plugins)(?:\.\w+)+")
    for page in PAGES:
        for name in {span for span in spans(page) if pattern.fullmatch(span)}:
            parent, _, last = name.rpartition(".")
            assert find_spec(name) or hasattr(import_module(parent), last), name
