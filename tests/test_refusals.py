"""docs/refusals.md names every refusal that the code can utter, and none that it cannot."""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from proxy.session.hooks import Condition

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/refusals.md"
ASIDE = [
    ROOT / "proxy/daemon/control/conversation.py",
    ROOT / "proxy/net/probe.py",
    ROOT / "proxy/session/welcome.py",
]
"""They answer operators, or look at servers for nobody's session, so they refuse none."""

WEB = ROOT / "proxy/net/https.py"
"""It gives up web sites, whose names its texts have themselves."""

ROOMS = {
    "plugins": ("plugins",),
    "proxy/xmpp": ("proxy/xmpp",),
    "proxy/session": ("proxy/session",),
    "proxy/trust": ("proxy/trust", "proxy/trust/dane", "proxy/trust/keyring"),
    "proxy/net": ("proxy/net",),
    "proxy/daemon/trusting": ("proxy/daemon/trusting", "proxy/daemon/control"),
}
"""Directories whose code refuses, by the room they belong to."""

DRAINING = ROOT / "proxy/daemon/draining.py"
"""The one file outside of these that ends sessions."""

SOURCES = sorted(
    [
        DRAINING,
        *(
            file
            for directories in ROOMS.values()
            for directory in directories
            for file in (ROOT / directory).glob("*.py")
            if file not in ASIDE
        ),
    ]
)
BEHIND, ABROAD = "the server behind this proxy", "the server of .+"
"""What the server is called in `ServerSide.name`, by the direction of the listener."""

ONLY_BEHIND = "cannot be reached: "
"""On a forward listener the reasons for this are told one by one."""

PLACE = r"HOST:PORT\ "
"""What stands before a clause about a server that was tried."""

OTHERS_WORDS = {"describe"}
"""Functions that give words of OpenSSL or the system, for which the page has a general line."""

SINGLE_WORDS = {"address", "domain", "host", "port", "shown"}
"""Names of what has no space in it."""

ENDS = {
    # What is called with a reason, which argument that is, and what stands before it in the log.
    "alert": (1, "TLS refused: "),
    "tls_failed": (0, "TLS failed: "),
    "tlsFailed": (0, "TLS failed: "),
    "MalformedError": (0, "TLS failed: "),
    "HandshakeError": (0, "TLS failed: "),
    "HeaderError": (0, "connection closed: "),
    "_refuse": (0, "connection closed: "),
    "refused": (1, "connection closed: "),
    "_finish": (0, ""),
    "close_client": (0, ""),
    "end": (0, ""),
    "fail": (0, ""),
    "LookupFailedError": (0, ""),
    "_UnprovenError": (1, ""),
    "_TakenBackError": (1, ""),
    "_NoProofError": (0, ""),
    "UntrustedError": (0, ""),
    "UndecidedError": (0, ""),
    "_untrusted": (1, ""),
    "_wait": (1, ""),
    "Failed": (0, ""),
    "PoshError": (0, ""),
    "_SaidError": (0, ""),
    "HTTPSError": (0, ""),
    "Verdict": (2, ""),
    "_decline": (2, "dialback refused: "),
    "_drop": (0, "dropped: "),
    "_unconvinced": (
        0,
        f"{Condition.REMOTE_CONNECTION_FAILED.value}: the server behind this proxy ",
    ),
}
"""Ends other than by a stream error whose condition stands there, why a server will not do, and
what is refused or dropped without an end."""


@attrs.define
class Scope:
    """What names stand for at some place in the code.

    Attributes:
        values: the expressions that names are bound to, those of the function before the module's.
        functions: the functions of the room.
        place: what stands before a clause about a server.
    """

    values: dict[str, list[ast.expr]] = attrs.field(factory=dict)
    functions: dict[str, ast.FunctionDef] = attrs.field(factory=dict)
    place: str = PLACE

    def within(self, nodes: Iterable[ast.AST]) -> "Scope":
        """Return the scope with what is assigned among some nodes."""
        values = {name: list(found) for name, found in self.values.items()}
        for node in nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values.setdefault(name, []).append(value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    values.setdefault(name, []).append(value)
                case ast.NamedExpr(target=ast.Name(id=name), value=value):
                    values.setdefault(name, []).append(value)
        return attrs.evolve(self, values=values)

    def returned(self, name: str, seen: frozenset[str]) -> Iterator[str]:
        """The texts that a function of the room may return."""
        if name in self.functions and name not in seen | OTHERS_WORDS:
            nodes = list(ast.walk(self.functions[name]))
            scope = self.within(nodes)
            for node in nodes:
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from scope.texts(node.value, seen | {name})

    def texts(self, node: ast.expr, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """The texts that an expression may be, as regular expressions; known words only."""
        match node:
            case ast.Constant(value=str(text)):
                yield re.escape(text)
            case ast.JoinedStr(values=parts):
                yield "".join(map(pattern, parts))
            case ast.BoolOp(values=values):
                yield from self.any_of(values, seen)
            case ast.Name(id=name) if name not in seen:
                yield from self.any_of(self.values.get(name, ()), seen | {name})
            case ast.BinOp(left=left, op=ast.Add()):
                # What is added is a peer's words, or nothing.
                yield from (f"{text}(?:: .+)?" for text in self.texts(left, seen))
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="format")):
                filled = (re.escape("{}"), ".+")
                yield from (text.replace(*filled) for text in self.texts(name, seen))
            case ast.Call(func=function):
                yield from self.returned(name_of(function), seen)

    def any_of(self, nodes: Iterable[ast.expr], seen: frozenset[str]) -> Iterator[str]:
        """The texts that any of several expressions may be."""
        for node in nodes:
            yield from self.texts(node, seen)


def pattern(part: ast.expr) -> str:
    """The part of a formatted text as a regular expression."""
    match part:
        case ast.Constant(value=value):
            return re.escape(str(value))
        case ast.FormattedValue(value=value) if name_of(value) in SINGLE_WORDS:
            return r"\S+"
        case _:
            return ".+"


def name_of(node: ast.expr) -> str:
    """The last word of a name or an attribute; nothing for other expressions."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def reasons(call: ast.Call, scope: Scope) -> Iterator[str]:
    """What a call may refuse with, as regular expressions."""
    name = name_of(call.func)
    match name, call.args:
        case "StreamError" | "Reject", [ast.Attribute(attr=condition), text]:
            before = re.escape(f"{Condition[condition].value}: ")
            yield from (before + found for found in list(scope.texts(text)) or [".+"])
        case "sasl_failure", [ast.Constant(value=condition), text]:
            yield from (re.escape(f"{condition!s}: ") + found for found in scope.texts(text))
        case "alert", [_, ast.Call(func=ast.Name(id="str"))]:
            yield re.escape(ENDS[name][1]) + "[A-Za-z-]+: .+"  # a stream error's own words
        case "_upstream_failed" | "WayError" | "_fail" | "give_up", [text, *_]:
            for found in scope.texts(text):
                yield from about_server(call, found, scope.place)
        case _ if name in ENDS and len(call.args) > ENDS[name][0]:
            position, before = ENDS[name]
            texts = filter(None, scope.texts(call.args[position]))
            yield from (re.escape(before) + found for found in texts)


def about_server(call: ast.Call, clause: str, place: str) -> Iterator[str]:
    """What becomes of a clause about a server, by what takes it."""
    if name_of(call.func) == "_upstream_failed":
        before = re.escape(f"{Condition.REMOTE_CONNECTION_FAILED.value}: ")
        yield f"{before}{BEHIND} {clause}"
        if not clause.startswith(re.escape(ONLY_BEHIND)):
            yield f"{before}{ABROAD} {clause}"
    elif any(keyword.arg == "clause" for keyword in call.keywords):
        yield clause  # it is none
    else:
        yield place + clause


def overdue(node: ast.AST, scope: Scope) -> Iterator[str]:
    """What the server behind is late with."""
    match node:
        case ast.FunctionDef(name="overdue"):
            for each in ast.walk(node):
                if isinstance(each, ast.Return) and each.value is not None:
                    before = re.escape(f"{Condition.REMOTE_CONNECTION_FAILED.value}: ")
                    yield from (f"{before}{BEHIND} {text}" for text in scope.texts(each.value))


def troubles(node: ast.AST, scope: Scope) -> Iterator[str]:
    """The texts that stand behind a `Trouble`: why no way to a server is left."""
    match node:
        case ast.Call(args=together) | ast.Tuple(elts=together):
            for first, text in pairwise(together):
                if isinstance(first, ast.Attribute) and name_of(first.value) == "Trouble":
                    yield from scope.texts(text)


def gathered(node: ast.AST, scope: Scope) -> Iterator[str]:
    """The texts that are gathered as keys of ``reasons``, or are the session's ``_reason``."""
    match node:
        case ast.Assign(targets=[ast.Subscript(value=mapping, slice=text)]):
            if name_of(mapping) in {"reasons", "_reasons"}:
                yield from scope.texts(text)
        case ast.Assign(targets=[target], value=value) if name_of(target) == "_reason":
            yield from (text for text in scope.texts(value) if text)


def listed(node: ast.AST, scope: Scope) -> Iterator[str]:
    """What the functions return that put OpenSSL's codes into words."""
    match node:
        case ast.AnnAssign(target=ast.Name(id="_REASONS"), value=ast.Dict(values=functions)):
            for name in {name_of(function) for function in functions}:
                yield from scope.returned(name, frozenset())


def conditions(node: ast.AST) -> Iterator[str]:
    """With what the last word on a server begins that cannot be used."""
    match node:
        case ast.Assign(targets=[ast.Name(id="_CONDITIONS")], value=ast.Dict(values=values)) | (
            ast.AnnAssign(target=ast.Name(id="_CONDITIONS"), value=ast.Dict(values=values))
        ):
            for value in values:
                condition = Condition[name_of(value)]
                failed = condition is Condition.REMOTE_CONNECTION_FAILED
                yield re.escape(
                    f"{condition.value}: {'DOMAIN cannot be reached: ' if failed else ''}WHY"
                )


def functions_for(file: Path) -> dict[str, ast.FunctionDef]:
    """The functions of a file's room, its own before others of the same name."""
    directory = str(file.parent.relative_to(ROOT))
    near = next((each for each in ROOMS.values() if directory in each), ())
    others = [each for room in near for each in sorted((ROOT / room).glob("*.py")) if each != file]
    return {
        node.name: node
        for each in (*others, file)
        for node in ast.walk(ast.parse(each.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def parts(tree: ast.Module, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """Each node, with what names stand for there."""
    outside = scope.within(tree.body)
    inside: dict[ast.AST, Scope] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes = list(ast.walk(node))
            inside |= dict.fromkeys(nodes, outside.within(nodes))
    for node in ast.walk(tree):
        yield node, inside.get(node, outside)


def collect(file: Path) -> Iterator[tuple[str, int]]:
    """Each refusal in a file, as a regular expression for its line in the page."""
    tree = ast.parse(file.read_text())
    place = "" if file == WEB else PLACE
    for node, scope in parts(tree, Scope(functions=functions_for(file), place=place)):
        found = [*troubles(node, scope), *gathered(node, scope), *listed(node, scope)]
        found += [*conditions(node), *overdue(node, scope)]
        if isinstance(node, ast.Call):
            found += reasons(node, scope)
        for text in found:
            if re.search(r"[a-z]{2}", text):  # else it only joins other texts
                yield text, getattr(node, "lineno", 0)


FOUND = [
    pytest.param(text, id=f"{file.relative_to(ROOT)}:{line}")
    for file in SOURCES
    for text, line in dict.fromkeys(collect(file))
]
NAMED = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "least"),
    [
        ("proxy/session/outward.py", 8),
        ("proxy/session/securing.py", 8),
        ("proxy/session/session.py", 15),
        ("proxy/trust/reasons.py", 5),
        ("proxy/trust/verdict.py", 8),
        ("proxy/net/handshake.py", 4),
        ("proxy/net/joined.py", 4),
        ("proxy/net/tls_start.py", 2),
        ("proxy/net/proxied.py", 4),
        ("proxy/net/proxy_protocol.py", 9),
        ("proxy/net/name_servers.py", 6),
        ("proxy/net/resolver.py", 5),
        ("proxy/net/route.py", 8),
        ("proxy/net/connector.py", 1),
        ("proxy/net/https.py", 11),
        ("proxy/net/posh.py", 9),
        ("proxy/trust/dane/matching.py", 6),
        ("proxy/trust/posh.py", 6),
        ("proxy/trust/proof.py", 4),
        ("proxy/daemon/trusting/judge.py", 4),
        ("proxy/daemon/trusting/sites.py", 1),
        ("proxy/daemon/control/controls.py", 1),
        ("proxy/daemon/draining.py", 2),
    ],
)
def test_refusals_are_found_in_the_code(file: str, least: int) -> None:
    assert sum(str(each.id).startswith(f"{file}:") for each in FOUND) >= least


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


def test_nothing_is_explained_twice() -> None:
    assert [name for name in NAMED if NAMED.count(name) > 1] == []
