"""docs/refusals.md names every refusal that the code can utter, and none that it cannot."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.session.hooks import Condition

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/refusals.md"
SOURCES = sorted(
    file
    for room in ("proxy/xmpp", "proxy/session", "proxy/net", "plugins")
    for file in (ROOT / room).glob("*.py")
)
UPSTREAM = "remote-connection-failed: the server behind this proxy "
ENDS = {
    # What is called with a reason, which argument that is, and what stands before it in the log.
    "alert": (1, "TLS refused: "),
    "tls_failed": (0, "TLS failed: "),
    "tlsFailed": (0, "TLS failed: "),
    "MalformedError": (0, "TLS failed: "),
    "_upstream_failed": (0, UPSTREAM),
    "_finish": (0, ""),
    "close_client": (0, ""),
    "end": (0, ""),
    "fail": (0, ""),
}
"""Ends other than by a stream error whose condition stands there."""


def literals(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    """The texts that an expression may be, as regular expressions."""
    match node:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=parts):
            yield "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
                for part in parts
            )
        case ast.BoolOp(values=values):
            for value in values:
                yield from literals(value, constants)
        case ast.Name(id=name) if name in constants:
            yield re.escape(constants[name])
        case ast.BinOp(left=left, op=ast.Add()):
            # What is added is a peer's words, or nothing.
            for text in literals(left, constants):
                yield f"{text}(?:: .+)?"


def constants_of(tree: ast.Module) -> dict[str, str]:
    """The module's own constants that are text."""
    return {
        node.target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def reasons(call: ast.Call, constants: dict[str, str]) -> Iterator[str]:
    """What a call may refuse with, as regular expressions."""
    name = name_of(call.func)
    match name, call.args:
        case "StreamError" | "Reject", [ast.Attribute(attr=condition), text]:
            before = re.escape(f"{Condition[condition].value}: ")
            for found in list(literals(text, constants)) or [".+"]:
                yield before + found
        case "sasl_failure", [ast.Constant(value=condition), text]:
            for found in literals(text, constants):
                yield re.escape(f"{condition!s}: ") + found
        case "alert", [_, ast.Call(func=ast.Name(id="str"))]:
            yield re.escape(ENDS[name][1]) + "[A-Za-z-]+: .+"  # a stream error's own words
        case _ if name in ENDS and len(call.args) > ENDS[name][0]:
            position, before = ENDS[name]
            for found in literals(call.args[position], constants):
                yield re.escape(before) + found


def name_of(node: ast.expr) -> str:
    """The last word of a name or an attribute; nothing for other expressions."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def collect(file: Path) -> Iterator[tuple[str, int]]:
    """Each refusal in a file, as a regular expression for its line in the page."""
    tree = ast.parse(file.read_text())
    constants = constants_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and name_of(node.targets[0]) in {"_reason", "reason"}:
            yield from ((text, node.lineno) for text in literals(node.value, constants) if text)
        elif isinstance(node, ast.Call):
            yield from ((text, node.lineno) for text in reasons(node, constants))


FOUND = [
    pytest.param(text, id=f"{file.relative_to(ROOT)}:{line}")
    for file in SOURCES
    for text, line in collect(file)
]
NAMED = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)


def test_refusals_are_found_in_the_code() -> None:
    assert len(FOUND) > 60


@pytest.mark.parametrize("text", FOUND)
def test_every_refusal_is_explained(text: str) -> None:
    assert any(re.fullmatch(text, name) for name in NAMED), text


@pytest.mark.parametrize("name", NAMED)
def test_every_explanation_is_of_a_refusal(name: str) -> None:
    texts = [str(each.values[0]) for each in FOUND]
    if not re.search(r": (?:WHY|WHAT THE XML PARSER SAYS|DOMAIN)$", name):
        # Where it is said what comes after the colon, the code must say so too.
        texts = [text for text in texts if not text.endswith(r":\ .+")]
    assert any(re.fullmatch(text, name) for text in texts)
