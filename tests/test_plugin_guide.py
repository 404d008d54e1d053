"""The examples of the plugin guide work."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxy.daemon.exits import Exit
from proxy.session.chain import Chain
from proxy.session.hooks import Continue, Direction, Plugin, Replace
from tests.authority import Authority
from tests.pages import ROOT, bascule, blocks, example, put_in_place
from tests.plugins.views import view
from tests.xmpp.streams import element


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
