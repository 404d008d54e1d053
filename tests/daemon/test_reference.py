"""proxy.daemon.reference: what is generated is complete, true and up to date."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from proxy.daemon import reference
from proxy.daemon.conf import build, load
from proxy.daemon.files import Document
from proxy.daemon.installed import InstalledPlugins
from proxy.daemon.model import SECTIONS, Conf
from proxy.session.options import options_of
from proxy.trust.policy import Pattern, Policy
from tests.daemon.conf_fakes import PLUGINS

CONFS = reference.ROOT / reference.CONF.parent


def conf_of(text: str) -> Conf:
    document = Document(Path("/etc/bascule/bascule.toml"), tomllib.loads(text))
    found = build([document], PLUGINS, main=document.file)
    assert found.mistakes == ()
    assert found.conf is not None
    return found.conf


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=[a-z0-9_]+ = |\[)", "", text, flags=re.MULTILINE)


def test_commented_conf_is_a_working_example() -> None:
    conf = conf_of(reference.conf_text(PLUGINS))
    assert [domain.name for domain in conf.domains] == ["example.com"]
    assert [listener.name for listener in conf.listeners] == ["c2s"]


def test_what_is_commented_out_are_the_defaults() -> None:
    text = reference.conf_text(PLUGINS)
    assert text.count("\n#chain = ") == 1
    assert uncommented(text) != text
    whole = conf_of(uncommented(text))
    # Of tables that are optional the example stands there, which says what holds without it too.
    assert whole.policies == (Policy(Pattern("*")),)
    assert conf_of(text) == attrs.evolve(whole, policies=())


def test_the_commented_conf_gives_no_cause_for_warnings() -> None:
    document = Document(Path("x.toml"), tomllib.loads(reference.conf_text(PLUGINS)))
    assert build([document], PLUGINS, main=document.file).cautions == ()


def test_every_option_is_in_both() -> None:
    text, page = reference.conf_text(PLUGINS), reference.page_text(PLUGINS)
    declaring = [section.declaring for section in SECTIONS]
    declaring += [plugin.Config for plugin in PLUGINS.values()]
    for option in (option for each in declaring for option in options_of(each)):
        assert re.search(rf"^#?{option.name} = ", text, re.MULTILINE)
        assert f"### `{option.name}`\n" in page
        assert option.declared.help in page.replace("\\", "")


def test_the_examples_of_the_page_are_whole_configurations() -> None:
    examples = re.findall(r"```toml\n(.*?)```", reference.page_text(PLUGINS), re.DOTALL)
    assert [
        [(listener.direction, listener.stream.value) for listener in conf_of(each).listeners]
        for each in examples
    ] == [
        [("reverse", "c2s")],
        [("forward", "c2s")],
        [("reverse", "c2s"), ("reverse", "s2s"), ("forward", "s2s")],
    ]


@pytest.mark.parametrize("path", sorted(CONFS.glob("*.toml")), ids=lambda path: path.name)
def test_the_confs_of_the_repository_are_whole_and_give_no_cause_for_warnings(path: Path) -> None:
    found = load(path, InstalledPlugins(own_only=True))
    assert (found.mistakes, found.cautions) == ((), ())
    assert found.conf is not None
    assert [domain.name for domain in found.conf.domains] == ["example.com"]


def test_what_hardly_a_file_goes_without_stands_there_with_its_default() -> None:
    text, page = reference.conf_text(PLUGINS), reference.page_text(PLUGINS)
    assert re.search(r'^# .*By\s(# )?default "none"\.\nc2s_server = "127', text, re.MULTILINE)
    assert '- default `"none"`, for example `"127.0.0.1:15222"`\n' in page


def test_check_tells_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "InstalledPlugins", lambda **_: PLUGINS)
    for path in (reference.CONF, reference.PAGE):
        (tmp_path / path).parent.mkdir()
    assert reference.main(["--check"], tmp_path) == 1
    assert reference.main([], tmp_path) == 0
    assert reference.main(["--check"], tmp_path) == 0
    for path in (reference.CONF, reference.PAGE):
        with (tmp_path / path).open("a") as file:
            file.write("\n")
        assert reference.main(["--check"], tmp_path) == 1
        assert reference.main([], tmp_path) == 0


def test_what_is_in_the_repository_is_up_to_date() -> None:
    assert reference.main(["--check"]) == 0


def test_every_default_is_allowed() -> None:
    declaring = [section.declaring for section in SECTIONS]
    declaring += [plugin.Config for plugin in InstalledPlugins(own_only=True).values()]
    for each in declaring:
        for option in options_of(each):
            if option.required:
                assert option.read(option.declared.example) is not None
            else:
                assert option.default == option.read(option.show(option.default))
