"""The documentation is true: its confs load, its commands exist, its links lead somewhere."""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
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
from proxy.trust.policy import pin_of
from tests.authority import Authority
from tests.pages import PAGES, ROOT, bascule, blocks, example, put_in_place, spans, tool

MAN_PAGE = ROOT / "docs/bascule.8"
UNIT = ROOT / "systemd/bascule.service"
SYSTEM_COMMANDS = {
    "apt-get",
    "cd",
    "certbot",
    "chmod",
    "ip",
    "journalctl",
    "ln",
    "nc",
    "nft",
    "openssl",
    "python3",
    "rm",
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "useradd",
}
HIGHEST_EXPOSURE = 2.0


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
    "c2s_server": "127.0.0.1:15222",
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
        elif isinstance(command, click.Group):
            assert word in command.commands
            command = command.commands[word]


# The manual page


def named_commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """A group and all commands below it, each with the words by which it is called."""
    yield before.strip(), group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from named_commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_the_guide_has_every_command() -> None:
    pages = "".join((ROOT / f"docs/{name}.md").read_text() for name in ("guide", "control"))
    for name, command in named_commands(cli):
        if not isinstance(command, click.Group):
            assert re.search(rf"\bbascule {name}\b", pages), name


def test_the_manual_page_has_every_command_and_option() -> None:
    text = MAN_PAGE.read_text().replace("\\-", "-")
    for name, command in named_commands(cli):
        if command is not cli:
            assert re.search(rf"^\.TP\n\.BR? {name}(?: |$)", text, re.MULTILINE)
        options = [each for each in command.params if isinstance(each, click.Option)]
        for option in [option for each in options for option in each.opts]:
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
