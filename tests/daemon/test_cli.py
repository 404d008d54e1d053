"""proxy.daemon.cli: what is printed where, and the exit codes."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import proxy.daemon
from proxy.daemon import cli, conf
from proxy.daemon.activation import Activation
from proxy.daemon.cli import main
from proxy.daemon.model import SECTIONS, Conf
from tests.authority import Authority
from tests.daemon.conf_fakes import PLUGINS
from tests.daemon.test_check import sound, write


@pytest.fixture(autouse=True)
def _made_up_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "InstalledPlugins", lambda: PLUGINS)


@pytest.fixture
def good(middle: Authority, tmp_path: Path) -> str:
    return str(write(tmp_path, sound(middle)))


@pytest.fixture
def bad(tmp_path: Path) -> str:
    return str(write(tmp_path, "colour = 1\nshape = 2\ndomain = []\nlistener = []\n"))


def mistakes_of(path: str) -> list[str]:
    known = f"(known here: {', '.join(section.name for section in SECTIONS)})"
    return [
        f"{path}: colour: is not known {known}",
        f"{path}: shape: is not known {known}",
        f"{path}: listener: is missing; at least one table [[listener]] is needed",
    ]


def test_check_good(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", good]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("LISTENER")
    assert captured.out.endswith("\nNo mistakes.\n")


def test_check_prints_warnings_and_passes(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(good).open("a") as file:
        file.write('tls = "report"\n')
    assert main(["check", "-c", good]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f'{good}: listener "c2s".tls: warning: ')
    assert captured.err.count("\n") == 1
    assert captured.out.endswith("\nNo mistakes, 1 warning.\n")
    with Path(good).open("a") as file:
        file.write('[[policy]]\ndomain = "a.b"\nlevel = "may"\n')
    assert main(["check", "-c", good]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2
    assert captured.out.endswith("\nNo mistakes, 2 warnings.\n")


@pytest.mark.parametrize("command", ["check", "run", "show-config"])
def test_mistakes_one_line_each_and_78(
    bad: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "-c", bad]) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert mistakes_of(bad) == captured.err.splitlines()


def test_show_config(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show-config", "--conf", good]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert tomllib.loads(captured.out)["listener"][0]["name"] == "c2s"


def test_run_hands_over_to_the_service(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(good).open("a") as file:
        file.write('tls = "report"\n')
    seen: list[tuple[Conf, Sequence[str]]] = []

    def run(conf: Conf, warnings: Sequence[str], activation: Activation, path: Path) -> int:
        assert activation.left() == ()
        assert path == Path(good)
        seen.append((conf, warnings))
        return 69

    replace_module(monkeypatch, "running", run)
    assert main(["run", "-c", good]) == 69
    [(handed, [warning])] = seen
    assert handed.listeners[0].name == "c2s"
    assert warning.startswith(f'{good}: listener "c2s".tls: with "report"')


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], (False, 0)), (["--once"], (True, 0)), (["--port", "5222"], (False, 5222))],
)
def test_demo(
    arguments: list[str], expected: tuple[bool, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []

    def run(*, once: bool, port: int) -> int:
        seen.append((once, port))
        return 3

    replace_module(monkeypatch, "demo", run)
    assert main(["demo", *arguments]) == 3
    assert [expected] == seen


def replace_module(monkeypatch: pytest.MonkeyPatch, name: str, run: Any) -> None:
    module = SimpleNamespace(run=run)
    monkeypatch.setitem(sys.modules, f"proxy.daemon.{name}", module)
    monkeypatch.setattr(proxy.daemon, name, module, raising=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chek"], "No such command 'chek'"),
        (["check", "--colour"], "No such option"),
        (["check", "extra"], "unexpected extra argument"),
        (["demo", "--port", "70000"], "70000 is not in the range"),
    ],
)
def test_usage_is_one_line_and_64(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 64
    captured = capsys.readouterr()
    assert captured.err.startswith("bascule: ")
    assert expected in captured.err
    assert captured.err.count("\n") == 1


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bascule 0.")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("run", "check", "show-config", "probe", "demo"))
    words = ("servers", "clients", "reverse", "forward", "federate")
    assert all(word in text for word in words)
    assert main(["probe", "--help"]) == 0
    assert "With --s2s: whether an old server behind" in capsys.readouterr().out
    assert main(["run", "-h"]) == 0
    assert "/etc/bascule/bascule.toml" in capsys.readouterr().out
    assert main([]) == 64
    assert "Usage: bascule" in capsys.readouterr().err


def faulty(*_: object) -> None:
    raise RuntimeError("two\nlines")


def test_a_fault_is_one_line_and_70(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "inspect", faulty)
        assert main(["check"]) == 70
        assert capsys.readouterr().err == "bascule: internal fault: RuntimeError: two\\nlines\n"
        assert main(["--debug", "check"]) == 70
        assert "Traceback" in capsys.readouterr().err
        patch.setenv("BASCULE_DEBUG", "1")
        assert main(["check"]) == 70
        assert "Traceback" in capsys.readouterr().err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "inspect", interrupted)
    assert main(["check"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def bascule(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    program = "import sys; from proxy.daemon.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_as_a_process(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    done = bascule("check", "-c", str(missing), stdout=subprocess.PIPE)
    text = (
        f"{missing}: cannot be read: No such file or directory; -c names another file, and "
        "conf/bascule.toml in Bascule's repository is a template\n"
    )
    assert (78, "", text) == (done.returncode, done.stdout, done.stderr)


def test_nobody_reads_the_output() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = bascule("--help", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (74, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["show-config", "-c"], ["check", "-c"]])
def test_output_that_cannot_be_written(
    good: str, arguments: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*arguments, good] if "-c" in arguments else arguments
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Path("/dev/full").open("w") as full:
        done = bascule(*words, stdout=full)
    text = "bascule: output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, text)
    closed = bascule(*words, preexec_fn=lambda: os.close(1))
    text = "bascule: output cannot be written: Bad file descriptor\n"
    assert (closed.returncode, closed.stderr) == (74, text)


def test_errors_that_cannot_be_written(tmp_path: Path) -> None:
    program = "import sys; from proxy.daemon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "check", "-c", str(tmp_path / "none.toml")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stderr=full, check=False, timeout=60)
    assert done.returncode == 74


def test_other_faults_of_the_system_are_not_called_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error", "a file")

    monkeypatch.setattr(cli, "inspect", broken)
    assert main(["check"]) == 70
    assert capsys.readouterr().err.startswith("bascule: internal fault: OSError: ")
