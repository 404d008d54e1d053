"""The documentation is true: its confs load, its commands exist, its links lead somewhere."""

import ast
import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.daemon.cli import cli
from proxy.daemon.conf import build
from proxy.daemon.exits import Exit
from proxy.daemon.files import Document
from proxy.daemon.installed import InstalledPlugins
from proxy.daemon.service import _fields
from proxy.net.summary import Summary
from proxy.session.chain import HOOKS, Chain
from proxy.session.commands import Severity
from proxy.session.hooks import Continue, Direction, Plugin, Replace, TLSRule
from proxy.trust.policy import pin_of
from tests.authority import Authority
from tests.plugins.views import view
from tests.xmpp.streams import element

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "bench/README.md"])
MAN_PAGE = ROOT / "docs/bascule.8"
UNIT = ROOT / "systemd/bascule.service"
SYSTEM_COMMANDS = {
    "apt-get",
    "cd",
    "certbot",
    "ip",
    "journalctl",
    "ln",
    "nc",
    "nft",
    "openssl",
    "python3",
    "rm",
    "systemctl",
    "useradd",
}
HIGHEST_EXPOSURE = 2.0


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language; those of lists without their indentation."""
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(found[2]) for found in fence.finditer(page.read_text())]


def spans(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, or fails where all must be there."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return path


# Links


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links() -> Iterator[Any]:
    for page in PAGES:
        text = re.sub(r"`[^`]*`", "", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith("https://"):
                yield pytest.param(page, target, id=f"{page.name}: {target}")


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_links_lead_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.is_file()
    if anchor:
        assert anchor in map(slug, re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE))


# Confs

LISTENER: dict[str, Any] = {
    "name": "c2s",
    "direction": "reverse",
    "stream": "c2s",
    "address": "[::]:5222",
}
DOMAIN: dict[str, Any] = {
    "name": "example.com",
    "certificate": "tls/example.com.crt",
    "private_key": "tls/example.com.key",
    "s2s_server": "127.0.0.1:15269",
}
FORWARD_LISTENER: dict[str, Any] = {
    "name": "legacy-clients",
    "direction": "forward",
    "stream": "c2s",
    "address": "127.0.0.1:5222",
    "domains": ["*"],
}


def confs() -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(blocks(page, "toml"), start=1):
            if "project" in tomllib.loads(block):
                continue
            yield pytest.param(block, id=f"{page.name} {number}")


@pytest.mark.parametrize("text", list(confs()))
def test_confs_load(text: str) -> None:
    content = tomllib.loads(text)
    forward = {"policy", "dns"} & content.keys()
    content.setdefault("listener", [FORWARD_LISTENER if forward else LISTENER])
    if any(each["direction"] == "reverse" for each in content["listener"]):
        content.setdefault("domain", [DOMAIN])
    installed = InstalledPlugins(own_only=True)
    plugins = {name: installed[name] for name in installed} | {"newer_tls": example("NewerTLS")}
    file = Path("/etc/bascule/bascule.toml")
    assert build([Document(file, content)], plugins, main=file).mistakes == ()


def bascule(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("bascule")
    return subprocess.run(
        [program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def put_in_place(directory: Path, authority: Authority, text: str) -> Path:
    """Write a conf for /etc/bascule, and the certificates it names, into a directory."""
    (directory / "tls").mkdir()
    intermediate = Authority(directory / "authority", name="Bascule test CA", parent=authority)
    certificate, private_key = intermediate.issue("example.com")
    shutil.copy(certificate, directory / "tls/example.com.crt")
    shutil.copy(private_key, directory / "tls/example.com.key")
    file = directory / "bascule.toml"
    file.write_text(text.replace("/etc/bascule", str(directory)))
    return file


@pytest.mark.parametrize(
    ("number", "domain"), [(0, "example.com"), (1, "example.net")], ids=["reverse", "forward"]
)
def test_the_first_confs_work(
    tmp_path: Path, authority: Authority, number: int, domain: str
) -> None:
    conf = blocks(ROOT / "README.md", "toml")[number]
    done = bascule("check", "-c", put_in_place(tmp_path, authority, conf))
    assert (done.returncode, done.stderr) == (0, "")
    assert domain in done.stdout


def test_the_guide_shows_what_check_prints(tmp_path: Path, authority: Authority) -> None:
    page = ROOT / "docs/guide.md"
    [conf] = [text for text in blocks(page, "toml") if 'tls = "report"' in text]
    [sample] = [text for text in blocks(page, "text") if ": warning: " in text]
    done = bascule("check", "-c", put_in_place(tmp_path, authority, conf))
    assert done.returncode == 0
    assert (done.stderr + done.stdout).replace(str(tmp_path), "/etc/bascule") == sample


def test_the_guide_shows_what_check_prints_of_federation(
    tmp_path: Path, authority: Authority
) -> None:
    page = ROOT / "docs/guide.md"
    [conf] = [text for text in blocks(page, "toml") if text.count("[[listener]]") == 3]
    [sample] = [text for text in blocks(page, "text") if "S2S SERVER" in text]
    done = bascule("check", "-c", put_in_place(tmp_path, authority, conf))
    assert (done.returncode, done.stderr) == (0, "")
    until = re.compile(r"\d{4}-\d\d-\d\d  \d+ +")
    shown = done.stdout.replace(str(tmp_path), "/etc/bascule")
    assert until.sub("UNTIL  ", shown) == until.sub("UNTIL  ", sample)


def test_the_example_of_a_tunnel_goes_both_ways(tmp_path: Path, authority: Authority) -> None:
    confs = blocks(ROOT / "docs/guide.md", "toml")
    [whole] = [text for text in confs if text.count("[[listener]]") == 3]
    [tunnel] = [text for text in confs if "s2s-tunnel" in text]
    policy, listener = tunnel.split("[[listener]]")
    done = bascule("check", "-c", put_in_place(tmp_path, authority, whole + policy))
    assert "every reverse listener for servers demands TLS" in done.stderr
    (tmp_path / "bascule.toml").write_text(
        (tmp_path / "bascule.toml").read_text() + f"[[listener]]{listener}"
    )
    done = bascule("check", "-c", tmp_path / "bascule.toml")
    assert done.returncode == 0
    # What is left is what its author wants: plaintext, both ways.
    first, second = done.stderr.splitlines()
    assert 'listener "s2s-tunnel".tls: warning: with "none" no TLS is offered' in first
    assert 'policy "archive.example".level: warning: with "none" dialback keys' in second


def test_the_guide_explains_the_example_of_federation() -> None:
    whole = tomllib.loads((ROOT / "conf/federation.toml").read_text())
    [conf] = [
        tomllib.loads(text)
        for text in blocks(ROOT / "docs/guide.md", "toml")
        if text.count("[[listener]]") == 3
    ]
    assert conf == {name: whole[name] for name in ("domain", "listener")}


def test_the_first_confs_work_in_one_file(tmp_path: Path, authority: Authority) -> None:
    conf = "".join(blocks(ROOT / "README.md", "toml"))
    done = bascule("check", "-c", put_in_place(tmp_path, authority, conf))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.server("openssl")
def test_the_recipe_for_a_pin_gives_it(tmp_path: Path, authority: Authority) -> None:
    certificate, _ = authority.issue("example.net")
    shutil.copy(certificate, tmp_path / "server.crt")
    [recipe] = [text for text in blocks(ROOT / "docs/guide.md", "sh") if "-pubkey" in text]
    done = subprocess.run(
        ["sh", "-c", recipe], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    pin = pin_of(
        x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    )
    assert f"sha256:{done.stdout.strip()}" == pin


def test_the_readme_and_the_manual_page_show_the_same_confs() -> None:
    first, second = blocks(ROOT / "README.md", "toml")
    assert first in MAN_PAGE.read_text()
    assert second in MAN_PAGE.read_text()


# Commands


def command_lines() -> Iterator[Any]:
    for page in PAGES:
        lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
        lines += [span for span in spans(page) if re.match(r"(bascule|make|python) ", span)]
        for line in lines:
            yield pytest.param(line, id=f"{page.name}: {line}")


@pytest.mark.parametrize("line", list(command_lines()))
def test_commands_exist(line: str) -> None:
    program, *words = shlex.split(line)
    name = Path(program).name
    if name == "bascule":
        assert_command(words)
    elif name == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif name in {"cp", "install"} and "-d" not in words:
        assert (ROOT / words[-2]).is_file()
    elif name == "python":
        there = find_spec(words[1]) if words[0] == "-m" else (ROOT / words[0]).is_file()
        assert there
    else:
        assert name in {*SYSTEM_COMMANDS, "install", "pip"}


def assert_command(words: list[str]) -> None:
    command: click.Command = cli
    for word in words:
        if word.startswith("-"):
            options = [option for each in command.params for option in each.opts]
            assert word in [*options, "-h", "--help"]
        elif command is cli:
            assert word in cli.commands
            command = cli.commands[word]


# The manual page


def test_the_manual_page_has_every_command_and_option() -> None:
    text = MAN_PAGE.read_text().replace("\\-", "-")
    for command in (cli, *cli.commands.values()):
        if command is not cli:
            assert re.search(rf"^\.TP\n\.B {command.name}$", text, re.MULTILINE)
        for option in [option for each in command.params for option in each.opts]:
            assert re.search(rf"^\.TP\n\.BR? .*(?<![\w-]){option}\b", text, re.MULTILINE)


def test_the_manual_page_is_free_of_warnings() -> None:
    done = subprocess.run(
        [tool("groff"), "-man", "-Tutf8", "-ww", "-z", MAN_PAGE],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("code", Exit)
def test_exit_codes_are_told(code: Exit) -> None:
    assert f"\n| {code.value} |" in (ROOT / "docs/guide.md").read_text()
    assert f"\n.B {code.value}\n" in MAN_PAGE.read_text()


# The unit


def test_each_directive_of_the_unit_is_explained() -> None:
    before = ""
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            assert before.startswith("# "), line
        before = line


def test_the_unit_starts_what_there_is() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    program, *words = service["ExecStart"].split()
    assert Path(program).name == "bascule"
    assert_command(words)
    assert service["RestartPreventExitStatus"] == str(Exit.CONFIG.value)
    assert service["Type"] == "notify"


def test_the_unit_is_well_hardened() -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=True,
    )
    [exposure] = re.findall(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(exposure) <= HIGHEST_EXPOSURE
    assert "Unknown" not in done.stderr


# What pages say about the code


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
    for field in _fields(summary):
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


# The examples of the plugin guide


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The examples, installed: their modules, with entry points as their project declares."""
    page = ROOT / "docs/plugins.md"
    first, second, script = blocks(page, "python")
    (tmp_path / "newer_tls.py").write_text(first)
    (tmp_path / "no_chat_states.py").write_text(second)
    (tmp_path / "script.py").write_text(script)
    project = tomllib.loads(blocks(page, "toml")[0])["project"]
    information = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = "".join(
        f"{name} = {value}\n" for name, value in project["entry-points"]["bascule.plugins"].items()
    )
    (information / "entry_points.txt").write_text(f"[bascule.plugins]\n{entries}")
    return tmp_path


def example(name: str) -> type[Any]:
    """A class of the examples, made without a file."""
    for block in blocks(ROOT / "docs/plugins.md", "python"):
        if f"class {name}(" in block:
            scope: dict[str, Any] = {"__name__": name}
            exec(compile(block, name, "exec", dont_inherit=True), scope)
            found: type[Any] = scope[name]
            return found
    raise AssertionError(f"no example has the class {name}")


def test_the_example_is_found_by_its_entry_point(
    examples: Path, tmp_path: Path, authority: Authority
) -> None:
    _, conf = blocks(ROOT / "docs/plugins.md", "toml")
    file = put_in_place(tmp_path, authority, conf)
    done = bascule("check", "-c", file, PYTHONPATH=str(examples))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Plugins: require_tls, features, limits, newer_tls\n" in done.stdout
    file.write_text(file.read_text().replace("tolerant", "lenient"))
    done = bascule("check", "-c", file, PYTHONPATH=str(examples))
    assert done.returncode == Exit.CONFIG
    assert "plugins.newer_tls.lenient" in done.stderr


def test_the_test_of_the_example_passes(examples: Path) -> None:
    command = [sys.executable, str(examples / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_accepts_new_tls_and_tolerant_listeners() -> None:
    plugin = example("NewerTLS")
    strict = Chain([plugin(plugin.Config())])
    assert strict.tls_established(view(secured=True)) == Continue()
    tolerant = Chain([plugin(plugin.Config(tolerant=("c2s",)))])
    assert tolerant.tls_established(view(secured=True)) == Continue()


@pytest.mark.parametrize(
    ("inside", "verdict"),
    [
        ("<composing xmlns='http://jabber.org/protocol/chatstates'/>", Replace(b"")),
        ("<body>x</body><active xmlns='http://jabber.org/protocol/chatstates'/>", Continue()),
        ("", Continue()),
    ],
)
def test_the_example_drops_typing_notifications(inside: str, verdict: object) -> None:
    plugin = example("NoChatStates")
    instance: Plugin = plugin(plugin.Config())
    chain = Chain([instance])
    message = element(f"<message to='bob@example.com'>{inside}</message>".encode())
    assert chain.stanza(view(secured=True), Direction.TO_SERVER, message) == verdict
    assert chain.wants_stanzas(Direction.TO_SERVER)


def test_modules_that_pages_name_are_there() -> None:
    pattern = re.compile(r"(?:proxy|plugins)(?:\.\w+)+")
    for page in PAGES:
        for name in {span for span in spans(page) if pattern.fullmatch(span)}:
            parent, _, last = name.rpartition(".")
            assert find_spec(name) or hasattr(import_module(parent), last), name
