"""proxy.trust.keyring.database: a file that is not as it should be is an error, never empty."""

import os
import resource
import sqlite3
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from proxy.trust.keyring import database
from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.schema import MIGRATIONS
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import certificate
from tests.trust.showing import NAME, NOW

HIDDEN = """
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = 'CREATE INDEX entry_certificate ON entry (how)'
WHERE name = 'entry_certificate'
"""
"""An index that leads elsewhere."""

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut off within a page": lambda path: os.truncate(path, 1000),
    "text": lambda path: path.write_text("no keyring\n" * 1000),
    "header overwritten": lambda path: patch(path, 0, b"\xff" * 100),
    "first page overwritten": lambda path: patch(path, 100, b"\xff" * 3000),
    "a page overwritten": lambda path: patch(path, 4096 * 2, os.urandom(4096)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}
CHANGES = {
    "another program's": "PRAGMA application_id = 7",
    "of no version": "PRAGMA user_version = 0",
}
BREAKS = {
    "a table is gone": "DROP VIEW known",
    "an index is wrong": HIDDEN,
    "a column is gone": "ALTER TABLE seen RENAME COLUMN tls_since TO something",
    "a certificate is another one": "UPDATE certificate SET der = x'30'",
    "a certificate is gone": "PRAGMA foreign_keys = OFF; DELETE FROM certificate",
    "a pin is none": "UPDATE certificate SET pin = 'x'",
    "names are none": "UPDATE certificate SET names = '{'",
    "a time is none": "UPDATE entry SET last_seen = 1000000000000000",
    "a word is not known": "PRAGMA ignore_check_constraints = ON; UPDATE entry SET how = 'x'",
}


def patch(path: Path, offset: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def altered(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.fixture
def filled(path: Path) -> Path:
    """A keyring that has something in it, closed."""
    with closing(Keyring(path)) as keyring:
        for number in range(30):
            keyring.remember(f"d{number}.{NAME}", "s2s", certificate(number), NOW, how=How.PKIX)
        keyring.remember(NAME, "s2s", certificate(), NOW, how=How.PKIX)
    return path


@contextmanager
def refused(path: Path, words: str) -> Iterator[None]:
    """What is raised is one line that names the file."""
    with pytest.raises(KeyringError, match=words) as raised:
        yield
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_file_is_nobody_elses(keyring: Keyring, path: Path) -> None:
    keyring.note_seen(NAME, "s2s", NOW, tls=True)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == [path.name, f"{path.name}-shm", f"{path.name}-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_is_not_made_where_it_must_be_there(path: Path) -> None:
    with refused(path, "there is no keyring"):
        Keyring(path, create=False)
    assert not path.exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(filled: Path, damage: str) -> None:
    DAMAGES[damage](filled)
    before = filled.read_bytes()
    with refused(filled, "is damaged|not a keyring"):
        Keyring(filled)
    assert filled.read_bytes() == before, "it is left as it is, for whoever looks into it"


@pytest.mark.parametrize("change", CHANGES)
def test_files_of_others(filled: Path, change: str) -> None:
    altered(filled, CHANGES[change])
    with refused(filled, "is not a keyring, or is damaged"):
        Keyring(filled)


@pytest.mark.parametrize("what", BREAKS)
def test_damaged_contents_are_not_passed_over(filled: Path, what: str) -> None:
    altered(filled, BREAKS[what])
    with refused(filled, "is damaged"), closing(Keyring(filled)) as keyring:
        keyring.find(NAME, "s2s")
        keyring.seen(NAME, "s2s")


def test_damage_that_comes_while_it_is_open(filled: Path) -> None:
    with closing(Keyring(filled)) as keyring, keyring.changing():
        for number in range(3000):  # more than SQLite keeps in memory
            keyring.remember(f"d{number}.example", "s2s", certificate(number), NOW, how=How.PKIX)
    with closing(Keyring(filled)) as keyring:
        patch(filled, 4096, os.urandom(filled.stat().st_size - 4096))
        with refused(filled, "is damaged"):
            keyring.entries()


def test_a_newer_version(filled: Path) -> None:
    altered(filled, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with refused(filled, "is of version 2, made by a newer Bascule"):
        Keyring(filled)


def test_an_older_version_is_brought_to_the_newest(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = (*MIGRATIONS, ("CREATE TABLE more (thing)", "INSERT INTO more VALUES (7)"))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    for _ in range(2):
        with closing(Keyring(filled)) as keyring:
            assert keyring._file.rows("SELECT thing FROM more") == [(7,)]
            assert len(keyring.find(NAME, "s2s")) == 1


def test_a_migration_that_fails_changes_nothing(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = (*MIGRATIONS, ("CREATE TABLE more (thing)", "INSERT INTO nowhere VALUES (7)"))
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", newer)
        with refused(filled, "is damaged"):
            Keyring(filled)
    with closing(Keyring(filled)) as keyring:
        assert len(keyring.find(NAME, "s2s")) == 1
        assert keyring._file.rows("SELECT * FROM sqlite_schema WHERE name = 'more'") == []


def test_an_old_sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 9))
    with pytest.raises(KeyringError, match=r"needs SQLite 3\.37"):
        Keyring(path)


def test_a_file_that_is_open_to_others(filled: Path) -> None:
    filled.chmod(0o640)
    with refused(filled, "its mode must be 0600"):
        Keyring(filled)


def test_a_link_is_not_followed(filled: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(filled)
    with refused(link, "is not a file"):
        Keyring(link)


@pytest.mark.parametrize("mode", [0o770, 0o1777])
def test_a_directory_that_others_can_write_to(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(KeyringError, match="can be written by others"):
        Keyring(directory / "keyring.sqlite")
    assert list(directory.iterdir()) == []


def test_a_directory_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="there is no directory"):
        Keyring(tmp_path / "nowhere" / "keyring.sqlite")
    (tmp_path / "file").touch()
    with pytest.raises(KeyringError, match="cannot be used: Not a directory"):
        Keyring(tmp_path / "file" / "keyring.sqlite")


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_keyring_that_has_left_something_behind_is_not_made_anew(path: Path, suffix: str) -> None:
    Path(f"{path}{suffix}").write_bytes(b"rest")
    with refused(path, "is gone, but"):
        Keyring(path)
    assert not path.exists()


def test_a_file_that_has_gone_while_it_is_open(keyring: Keyring, path: Path) -> None:
    path.rename(path.with_name("away"))
    with refused(path, "is gone"):
        keyring.find(NAME, "s2s")
    with refused(path, "is gone"):
        keyring.note_seen(NAME, "s2s", NOW, tls=True)


def test_a_file_that_was_replaced(keyring: Keyring, path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sqlite"
    Keyring(elsewhere).close()
    elsewhere.rename(path)
    with refused(path, "was replaced"):
        keyring.note_seen(NAME, "s2s", NOW, tls=True)


def test_a_file_that_was_replaced_within_a_change(
    keyring: Keyring, path: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.sqlite"
    Keyring(elsewhere).close()
    with refused(path, "was replaced"), keyring.changing():
        keyring.note_seen(NAME, "s2s", NOW, tls=True)
        elsewhere.rename(path)


def test_closed(keyring: Keyring, path: Path) -> None:
    keyring.close()
    keyring.close()
    with refused(path, "closed"):
        keyring.find(NAME, "s2s")
    with refused(path, "closed"), keyring.changing():
        pass


def test_what_another_process_is_changing_is_waited_for_in_vain(
    keyring: Keyring, other: Keyring, path: Path
) -> None:
    with other.changing():
        assert keyring.find(NAME, "s2s") == (), "reading goes on"
        with refused(path, r"is locked by another process, for more than 0\.05 seconds"):
            keyring.note_seen(NAME, "s2s", NOW, tls=True)
    assert keyring.note_seen(NAME, "s2s", NOW, tls=True).tls


def in_child(act: Callable[[], None]) -> None:
    """Do something in a child process, which fails if it raises."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001 - nothing may get out of a child
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_child_process_does_not_use_what_it_inherits(keyring: Keyring) -> None:
    def act() -> None:
        with pytest.raises(KeyringError, match="was opened by another process"):
            keyring.find(NAME, "s2s")
        with pytest.raises(KeyringError, match="was opened by another process"):
            keyring.note_seen(NAME, "s2s", NOW, tls=True)

    in_child(act)
    assert keyring.note_seen(NAME, "s2s", NOW, tls=True).tls


def test_a_read_only_file_is_read() -> None:
    nobody = 65534

    def act() -> None:
        if os.geteuid() == 0:
            os.setgid(nobody)
            os.setuid(nobody)
        with closing(Keyring(path, create=False)) as keyring:
            assert keyring.seen(NAME, "s2s").tls
            assert keyring.note_seen(NAME, "s2s", NOW, tls=True).tls, "that is known already"
            with pytest.raises(KeyringError, match="cannot be written: it is read-only"):
                keyring.note_seen(NAME, "c2s", NOW, tls=True)

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "keyring.sqlite"
        with closing(Keyring(path)) as keyring:
            keyring.note_seen(NAME, "s2s", NOW, tls=True)
        path.chmod(0o400)
        if os.geteuid() == 0:
            os.chown(name, nobody, nobody)
            os.chown(path, nobody, nobody)
        in_child(act)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_makes_it_for_the_owner_of_the_directory() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, 65534, 65534)
        path = Path(name) / "keyring.sqlite"
        with closing(Keyring(path)) as keyring:
            keyring.note_seen(NAME, "s2s", NOW, tls=True)
            owners = {file.stat().st_uid for file in Path(name).iterdir()}
        assert owners == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_believed(filled: Path) -> None:
    os.chown(filled, 65534, 65534)
    with refused(filled, "belongs to another user"):
        Keyring(filled)


def test_a_full_disk_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """The limit on the size of files stands for the end of the disk: writes fail in the middle."""
    log = path.with_suffix(".log")

    def act() -> None:
        with closing(Keyring(path)) as keyring, log.open("w", buffering=1) as acknowledged:
            wal = Path(f"{path}-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 200_000, resource.RLIM_INFINITY))
            for number in range(1000):
                try:
                    keyring.remember(NAME, "s2s", certificate(number), NOW, how=How.PKIX)
                except KeyringError:
                    break
                acknowledged.write(f"{number}\n")
            else:
                pytest.fail("the disk did not get full")
            assert len(keyring.find(NAME, "s2s")) == number
            with pytest.raises(KeyringError, match="cannot be"):
                keyring.hold(NAME, "s2s", certificate(5000), "why", NOW)
            assert len(keyring.find(NAME, "s2s")) == number

    in_child(act)
    numbers = list(map(int, log.read_text().split()))
    assert len(numbers) > 5
    with closing(Keyring(path, create=False)) as keyring:
        there = {entry.certificate for entry in keyring.find(NAME, "s2s")}
        assert there == set(map(certificate, numbers))
        keyring.remember(NAME, "s2s", certificate(2000), NOW, how=How.PKIX)
