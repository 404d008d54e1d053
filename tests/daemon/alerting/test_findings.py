"""What is said about the table before it is put to work."""

import os
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.alerting.findings import cautions, examine, mistakes
from proxy.daemon.alerting.table import AlertsTable
from proxy.daemon.tables import Placed
from proxy.session.options import ItemsError, options_of
from proxy.trust.keyring.alerts import Kind, Severity

FILE = Path("/etc/bascule/bascule.toml")
FULL: dict[str, Any] = {
    "command": ["/bin/true"],
    "to": ["admin@example.com"],
    "account": "bascule@example.com",
    "password_file": "alerts.password",
}


def placed(directory: Path = FILE.parent, **given: Any) -> Placed[dict[str, Any]]:
    values = {
        option.name: option.read(given[option.name], directory)
        if option.name in given
        else option.default
        for option in options_of(AlertsTable)
    }
    return Placed(values, FILE, "alerts", frozenset(given))


def options() -> dict[str, Any]:
    return {option.name: option for option in options_of(AlertsTable)}


def test_a_full_table_and_an_empty_one_have_no_mistakes() -> None:
    assert not mistakes(placed(**FULL))
    assert not mistakes(placed())
    assert not examine(placed())
    AlertsTable(**placed(**FULL).value)


@pytest.mark.parametrize("name", ["repeat", "per_hour", *FULL, "server"])
def test_what_stands_in_a_file_comes_back(name: str) -> None:
    option = options()[name]
    given = {**FULL, "repeat": 60, "per_hour": 1, "server": "[::1]:15222"}[name]
    value = option.read(given, Path("/etc"))
    assert option.read(option.show(value), Path("/etc")) == value
    assert option.read(option.show(option.default), Path("/etc")) == option.default


def test_the_help_names_every_kind_and_severity() -> None:
    text = options()["command"].declared.help
    for name in (*Kind, *Severity):
        assert name.value in text


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("to", ["example.com"]),
        ("to", ["a b@example.com"]),
        ("to", ["admin@"]),
        ("to", [f"a{number}@example.com" for number in range(17)]),
        ("account", "example.com"),
        ("account", ""),
        ("server", "127.0.0.1"),
        ("server", ""),
        ("command", ["/bin/x\0y"]),
        ("repeat", 59),
        ("per_hour", 0),
    ],
)
def test_what_is_not_allowed_is_refused(name: str, given: Any) -> None:
    with pytest.raises((ItemsError, ValueError), match=r".+"):
        options()[name].read(given)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"command": ["notify"]},
            "alerts.command: the program's path is not absolute; allowed: one that is",
        ),
        (
            {"to": ["admin@example.com"]},
            "alerts.to: does nothing without account, which messages are sent from",
        ),
        (
            {"password_file": "x"},
            "alerts.password_file: does nothing without account, which messages are sent from",
        ),
        (
            {"server": "127.0.0.1:15222"},
            "alerts.server: does nothing without account, which messages are sent from",
        ),
        (
            {"account": "bascule@example.com"},
            "alerts.account: does nothing without to, which says who gets messages",
        ),
    ],
)
def test_options_that_lack_another_one_are_mistakes(given: dict[str, Any], line: str) -> None:
    assert [str(mistake) for mistake in mistakes(placed(**given))] == [f"{FILE}: {line}"]


def test_a_server_across_a_network_is_cautioned_of() -> None:
    [caution] = cautions(placed(**FULL, server="192.0.2.1:5222"))
    assert "192.0.2.1:5222 is not loopback" in str(caution)
    assert not cautions(placed(**FULL, server="[::1]:5222"))
    assert not cautions(placed(**FULL))


def examined(directory: Path, **given: Any) -> list[str]:
    return [
        str(caution).partition("warning: ")[2] for caution in examine(placed(directory, **given))
    ]


def test_files_that_can_do_their_work_are_passed_over(tmp_path: Path) -> None:
    password = tmp_path / "alerts.password"
    password.write_text("secret\n")
    password.chmod(0o640)
    assert not examined(tmp_path, **FULL)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_password_that_all_may_read_or_write_is_told_of(tmp_path: Path, mode: int) -> None:
    password = tmp_path / "alerts.password"
    password.write_text("secret\n")
    password.chmod(mode)
    [line] = examined(tmp_path, **FULL)
    assert f"{password} is open to every user of the machine (mode {mode:04o})" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no password in its first line"),
        (b"\nsecret\n", "has no password in its first line"),
        (b"\xff\n", "is not UTF-8"),
        (b"secret\x07\n", "cannot be used: a character in it is not allowed (RFC 4013)"),
        (b"s" * 1025, "is too long for a password"),
    ],
)
def test_a_file_without_a_password_is_told_of(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    password = tmp_path / "alerts.password"
    password.write_bytes(content)
    password.chmod(0o600)
    [line] = examined(tmp_path, **FULL)
    assert complaint in line
    assert "ecret" not in line


def test_what_is_no_file_is_told_of_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "alerts.password"
    assert "cannot be read: No such file or directory" in examined(tmp_path, **FULL)[0]
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in examined(tmp_path, **FULL)[0]
    path.unlink()
    path.mkdir()
    assert "is not a regular file" in examined(tmp_path, **FULL)[0]


def test_a_command_that_cannot_be_run_is_told_of(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    assert examined(tmp_path, command=[str(plain)]) == [
        f"{plain} is not there: nobody will be told by it"
    ]
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o600)
    assert examined(tmp_path, command=[str(plain)]) == [
        f"{plain} is not executable: nobody will be told by it"
    ]
    assert examined(tmp_path, command=[str(tmp_path)]) == [
        f"{tmp_path} is not a file: nobody will be told by it"
    ]
