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
from proxy.trust.policy import Level
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


LOGGING = {
    "Report": 1,
    "write": 1,
    "_write": 1,
    "_report": 1,
    "_say": 0,
    "failure": 0,
    "warn": 0,
    "error": 0,
}
"""What writes a line of the log, and which argument its message is."""

LATER = {"callFromThread": "write"}
"""What calls what writes a line, with its arguments after it."""


def texts(nodes: list[ast.AST], message: ast.expr) -> Iterator[str]:
    """The fixed beginnings of what a message may be, as far as it is written among some nodes."""
    match message:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=[first, *_]):
            yield from texts([], first)
        case ast.Name(id=name):
            for node in nodes:
                match node:
                    case ast.Assign(targets=[ast.Name(id=assigned)], value=value):
                        if assigned == name:
                            yield from texts([], value)


def log_lines() -> Iterator[Any]:
    """The beginnings of the lines that the code writes to the log, as far as they are fixed."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / "proxy").rglob("*.py")):
        functions = [
            list(ast.walk(node))
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for nodes in functions:
            for call in nodes:
                match call:
                    case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=words):
                        if name in LATER:
                            name, words = LATER[name], words[1:]
                        if len(words) > LOGGING.get(name, len(words)):
                            message = words[LOGGING[name]]
                            found |= dict.fromkeys(texts(nodes, message), file.name)
    for text, name in found.items():
        # What stands in braces is filled in; the guide has an ellipsis there.
        line = re.sub(r"\{\w+\}", "…", text).strip(": ")
        if line:
            yield pytest.param(line, id=f"{name}: {line[:30]}")


def test_lines_of_the_log_are_found() -> None:
    assert len(list(log_lines())) > 35


@pytest.mark.parametrize("line", list(log_lines()))
def test_every_line_of_the_log_is_explained(line: str) -> None:
    assert line in (ROOT / "docs/guide.md").read_text()


@pytest.mark.parametrize("rule", TLSRule)
def test_every_rule_of_listeners_is_explained(rule: TLSRule) -> None:
    assert f"\n| `{rule.value}` |" in (ROOT / "docs/guide.md").read_text()


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_alert_is_explained(kind: Kind) -> None:
    assert f"\n| `{kind.value}` |" in (ROOT / "docs/guide.md").read_text()


@pytest.mark.parametrize("level", Level)
def test_every_level_is_explained(level: Level) -> None:
    assert f"\n| `{level.value}` |" in (ROOT / "docs/guide.md").read_text()


TELLING = [ROOT / "proxy/trust/keyring/alerts.py", ROOT / "proxy/daemon/expiry.py"]
"""What makes alerts, and names their fields."""


def fields_of_alerts() -> set[str]:
    """The names that fields of alerts have."""
    return {
        key.value
        for file in TELLING
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def test_every_field_of_alerts_is_explained() -> None:
    found = fields_of_alerts() | {"alert", "count"}
    assert {"id", "fingerprint", "missing", "days", "file"} < found
    [_, page] = (ROOT / "docs/guide.md").read_text().split("\n### The fields of alerts\n")
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)))
    assert found <= set(named)


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
