"""proxy.trust is pure: it knows the language and what compares certificates, nothing else."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxy.trust

ROOM = Path(proxy.trust.__file__).parent
INPUT_AND_OUTPUT = {"asyncio", "select", "selectors", "socket", "socketserver", "ssl", "urllib"}
ALLOWED = (sys.stdlib_module_names - INPUT_AND_OUTPUT) | {
    "attrs",
    "cryptography",
    "idna",
    "service_identity",
}


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def allowed(name: str) -> bool:
    if name.startswith("proxy."):
        return name.split(".")[1] in {"trust", "xmpp"}
    return name.partition(".")[0] in ALLOWED


@pytest.mark.parametrize("file", sorted(ROOM.glob("**/*.py")), ids=lambda file: file.name)
def test_imports_of_the_room(file: Path) -> None:
    assert [name for name in imported(file.read_text()) if not allowed(name)] == []


@pytest.mark.parametrize(
    "line",
    ["import OpenSSL", "from twisted.web import x", "import proxy.session.hooks", "import socket"],
)
def test_what_does_not_belong_there_is_seen(line: str) -> None:
    assert not all(map(allowed, imported(line)))
