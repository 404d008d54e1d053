"""The whole demo, in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from proxy.daemon.demo.client import Client

COMMAND = "import sys; from proxy.daemon.demo import run; sys.exit(run(once={}, port={}))"


def start(tmp_path: Path, *, once: bool, port: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(once, port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
            "TMPDIR": str(tmp_path),
        },
        encoding="utf-8",
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def test_once_shows_both_legs_and_leaves(tmp_path: Path) -> None:
    with start(tmp_path, once=True) as demo:
        output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, "")
    assert output.startswith("juliet@localhost logs in and talks to romeo@localhost: on the left ")
    tls = output.index("TLSv1.3")
    assert output.count("<starttls", 0, tls) == 2  # offered and asked for
    assert "<auth" not in output[:tls]
    assert "mechanism='PLAIN'>••••••••</auth>" in output[tls:]
    row = next(line for line in output[tls:].splitlines() if "→ <message" in line)
    assert row.count("→ <message") == 2
    assert "Nothing reached the legacy server before TLS was up." in output
    assert list(tmp_path.iterdir()) == []


CLI = "import sys; from proxy.daemon.cli import main; sys.exit(main(['demo', '--once']))"


def test_it_ends_when_nobody_reads_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLI],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUTF8": "1"},
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert demo.stdout.readline().startswith(b"juliet@")
        demo.stdout.close()
        errors = demo.stderr.read()
        assert (demo.wait(60), errors) == (74, b"")
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CLI],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            text=True,
            timeout=60,
            check=False,
        )
    text = "bascule: output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_and_lets_others_in_until_interrupted(tmp_path: Path, number: int) -> None:
    with start(tmp_path, once=False) as demo:
        assert demo.stdout is not None
        output = ""
        while "Ctrl-C" not in output:
            line = demo.stdout.readline()
            assert line, demo.communicate()
            output += line
        found = re.search(
            r"romeo@localhost, password (\S+)\n.*127\.0\.0\.1 .*, port (\d+)\n.*?(/\S+ca\.pem) ",
            output,
            re.DOTALL,
        )
        assert found is not None
        visit(int(found[2]), found[1], Path(found[3]))
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, "")
    assert list(tmp_path.iterdir()) == []


def visit(port: int, password: str, trusted: Path) -> None:
    """Come in as somebody who has read what the demo printed."""
    with closing(Client(("127.0.0.1", port), "localhost", authority=trusted)) as romeo:
        romeo.log_in("romeo", password, "visitor")
        assert romeo.roster() == ["juliet@localhost"]


def test_a_port_that_is_taken_is_one_readable_line(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        start(tmp_path, once=True, port=taken.getsockname()[1]) as demo,
    ):
        output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, output) == (1, "")
    assert re.fullmatch(r"bascule demo: [^\n]*[Aa]ddress already in use[^\n]*\n", errors)
    assert list(tmp_path.iterdir()) == []
