"""The pages of the documentation, and what their confs and examples become."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "bench/README.md"])


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


def example(name: str) -> type[Any]:
    """A class of the examples, made without a file."""
    for block in blocks(ROOT / "docs/plugins.md", "python"):
        if f"class {name}(" in block:
            scope: dict[str, Any] = {"__name__": name}
            exec(compile(block, name, "exec", dont_inherit=True), scope)
            found: type[Any] = scope[name]
            return found
    raise AssertionError(f"no example has the class {name}")


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
