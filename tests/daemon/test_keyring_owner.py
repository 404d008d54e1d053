"""The commands of root beside a daemon that is another user's: whose files there are then."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner, Result

from proxy.daemon.keyring_cli import keyring as commands
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import How, State
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import HANDED_DOWN, certificate, original
from tests.trust.showing import NAME, NOW

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
OTHER = 65533

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has others' files")

DAEMON = """
import sys
from pathlib import Path
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import certificate
from tests.trust.showing import NAME, NOW
keyring = Keyring(Path(sys.argv[1]))
print(keyring.hold(NAME, "s2s", certificate(1), "why", NOW).id, flush=True)
for line in sys.stdin:
    print(keyring.hold(line.strip(), "s2s", certificate(2), "why", NOW).id, flush=True)
keyring.close()
"""


@contextmanager
def daemon(path: Path) -> Iterator[Callable[[str], str]]:
    """Another user's process that has the keyring open, and holds something of NAME.

    It yields what has that process hold something of another domain and returns its id.
    """
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment[HANDED_DOWN] = original().hex()
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert stdout.readline().strip()

        def hold(domain: str) -> str:
            stdin.write(f"{domain}\n")
            stdin.flush()
            return stdout.readline().strip()

        yield hold
        stdin.close()
        assert process.wait(60) == 0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A state directory of another user's, with nothing in its way."""
    with TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture
def hidden(directory: Path) -> Iterator[Path]:
    """The same below a directory that only root gets into, as systemd has it for DynamicUser=."""
    with TemporaryDirectory() as name:
        moved = Path(name) / "bascule"
        directory.rename(moved)
        yield moved
        moved.rename(directory)


def run(directory: Path, *words: str) -> Result:
    place = ["--state-directory", str(directory)]
    return CliRunner().invoke(commands, [*words, *place], standalone_mode=False)


def owners(directory: Path) -> set[tuple[int, int]]:
    return {(each.stat().st_uid, each.stat().st_gid) for each in directory.iterdir()}


def held_by_another(path: Path) -> str:
    """What waits in a keyring that is another user's, and that nobody has open."""
    with closing(Keyring(path)) as keyring:
        return keyring.hold(NAME, "s2s", certificate(1), "why", NOW).id


def test_root_decides_while_the_daemon_runs(directory: Path) -> None:
    with daemon(directory / FILE_NAME) as hold:
        second = hold("example.org")
        done = run(directory, "approve", second)
        assert (done.return_value, done.stderr) == (0, ""), done.output
        assert owners(directory) == {(NOBODY, NOBODY)}
        assert {each.name for each in directory.iterdir()} > {FILE_NAME}, "there were others"
        assert hold("example.com"), "the daemon goes on writing"
    assert owners(directory) == {(NOBODY, NOBODY)}


@pytest.mark.parametrize("place", ["directory", "hidden"])
def test_root_decides_while_nobody_has_it_open(place: str, request: pytest.FixtureRequest) -> None:
    where: Path = request.getfixturevalue(place)
    held = held_by_another(where / FILE_NAME)
    assert owners(where) == {(NOBODY, NOBODY)}
    with closing(Keyring(where / FILE_NAME)) as beside:
        beside.find(NAME, "s2s")
        done = run(where, "approve", held)
        assert (done.return_value, done.stderr) == (0, ""), done.output
        assert owners(where) == {(NOBODY, NOBODY)}, "with its log, which is there meanwhile"
        assert beside.held(held).state is State.APPROVED


@pytest.mark.parametrize("place", ["directory", "hidden"])
def test_what_root_imports_the_daemon_can_write(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    with closing(Keyring(tmp_path / FILE_NAME)) as other:
        other.remember(NAME, "s2s", certificate(3), NOW, how=How.PKIX)
    exported = tmp_path / "exported.json"
    assert run(tmp_path, "export", "--output", str(exported)).return_value == 0
    where: Path = request.getfixturevalue(place)
    done = run(where, "import", str(exported))
    assert (done.return_value, done.stderr) == (0, ""), done.output
    assert owners(where) == {(NOBODY, NOBODY)}
    if place == "directory":
        with daemon(where / FILE_NAME) as hold:
            assert hold("example.org")


@pytest.mark.parametrize("place", ["directory", "hidden"])
def test_links_lead_root_nowhere(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whoever has taken over the daemon could put them there."""
    where: Path = request.getfixturevalue(place)
    held = held_by_another(where / FILE_NAME)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for suffix in ("-wal", "-shm"):
        link = where / f"{FILE_NAME}{suffix}"
        link.symlink_to(victim)
        done = run(where, "approve", held)
        assert done.return_value == 69
        assert victim.read_text() == "precious"
        assert victim.stat().st_uid == 0
        link.unlink()
    assert run(where, "approve", held).return_value == 0


def test_another_user_is_told_what_to_do(directory: Path) -> None:
    held_by_another(directory / FILE_NAME)
    for mode in (0o700, 0o755):
        directory.chmod(mode)
        program = "import sys; from proxy.daemon.keyring_cli import keyring; sys.exit(keyring())"
        done = subprocess.run(
            [sys.executable, "-c", program, "pending", "--state-directory", str(directory)],
            capture_output=True,
            text=True,
            check=False,
            user=OTHER,
            group=OTHER,
            extra_groups=[],
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith(
            "; run the command as root, or as the user that Bascule runs as\n"
        )
