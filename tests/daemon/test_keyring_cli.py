"""proxy.daemon.keyring_cli: what the commands do, print and end with."""

import io
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from proxy.daemon import stated
from proxy.daemon.keyring_cli import keyring as commands
from proxy.daemon.keyring_shown import print_entries
from proxy.daemon.state import StateTable
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import How, State
from proxy.trust.keyring.judging import Accepted, Refused
from proxy.trust.keyring.store import Keyring
from tests.trust.keyring.made import LATER, PROVED, certificate, shown
from tests.trust.showing import NAME, NOW

OTHER = "example.org"


class Commands:
    """The commands on a keyring of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / FILE_NAME

    def run(self, *arguments: str, **options: Any) -> Result:
        runner = CliRunner()
        name, *rest = arguments
        place = ["--state-directory", str(self.directory)]
        return runner.invoke(commands, [name, *place, *rest], standalone_mode=False, **options)

    def text(self, *arguments: str, **options: Any) -> str:
        """What a command prints that succeeds."""
        done = self.run(*arguments, **options)
        assert (done.return_value, done.exception, done.stderr) == (0, None, ""), done.output
        return done.stdout

    def remark(self, *arguments: str) -> str:
        """What a command says that succeeds and has nothing to print."""
        done = self.run(*arguments)
        assert (done.return_value, done.exception, done.stdout) == (0, None, ""), done.output
        return done.stderr

    def structure(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, "--json"))

    def fault(self, code: int, *arguments: str, **options: Any) -> str:
        """What a command says that fails."""
        done = self.run(*arguments, **options)
        assert (done.return_value, done.exception, done.stdout) == (code, None, ""), done.output
        assert done.stderr.startswith("bascule: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("bascule: ").strip()


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    """The daemon's."""
    with closing(Keyring(tmp_path / FILE_NAME)) as opened:
        yield opened


@pytest.fixture
def command(tmp_path: Path, keyring: Keyring) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def held_id(keyring: Keyring) -> str:
    """A certificate that is held, beside one that is known."""
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.PKIX)
    return keyring.hold(NAME, "s2s", certificate(2), "it is self-signed", NOW).id


def test_list_is_a_table(command: Commands, keyring: Keyring, held_id: str) -> None:
    keyring.approve(held_id, "alice", NOW)
    entries = keyring.entries()
    keyring.remember(OTHER, "c2s", certificate(3), NOW, how=How.DANE)
    keyring.revoke(OTHER, "bob", NOW)
    heading, *lines = command.text("list").splitlines()
    assert " ".join(heading.split()) == "DOMAIN STREAM BELIEVED BY ENDS LAST SEEN SHA-256"
    assert [line.split()[:3] for line in lines] == [
        [NAME, "s2s", "pkix"],
        [NAME, "s2s", "operator"],
        [OTHER, "c2s", "revoked"],
    ]
    assert "operator (alice)" in lines[1]
    assert f"{entries[0].facts.fingerprint[:23]}…" in lines[0]
    assert len(command.text("list", OTHER).splitlines()) == 2
    remark = command.remark("list", "nowhere.example")
    assert remark == "the keyring has none of nowhere.example\n"


def test_list_for_programs(command: Commands, keyring: Keyring, held_id: str) -> None:
    (found,) = command.structure("list")
    (entry,) = keyring.entries()
    assert found == {
        "domain": NAME,
        "stream": "s2s",
        "fingerprint": entry.facts.fingerprint,
        "pin": entry.facts.pin,
        "subject": f"CN={NAME}",
        "issuer": f"CN={NAME}",
        "names": [NAME],
        "not_before": entry.facts.not_before.isoformat(),
        "not_after": entry.facts.not_after.isoformat(),
        "how": "pkix",
        "permitted_by": "policy",
        "permitted_at": NOW.isoformat(),
        "first_seen": NOW.isoformat(),
        "last_seen": NOW.isoformat(),
        "revoked_by": None,
        "revoked_at": None,
    }


def test_an_empty_keyring(command: Commands) -> None:
    assert command.remark("list") == "the keyring is empty\n"
    assert command.remark("pending") == "no certificate waits for a decision\n"
    assert command.structure("list") == command.structure("pending") == []


def test_pending_shows_all_there_is_to_compare(
    command: Commands, keyring: Keyring, held_id: str
) -> None:
    shown_text = command.text("pending")
    facts = keyring.held(held_id).facts
    lines = dict(line.split(maxsplit=1) for line in shown_text.splitlines())
    assert lines["id"] == held_id
    assert lines["domain"] == f"{NAME} (s2s)"
    assert lines["change"].endswith("possible security breach")
    assert lines["reason"] == "it is self-signed"
    assert lines["SHA-256"] == facts.fingerprint
    assert (lines["subject"], lines["issuer"]) == (facts.subject, facts.issuer)
    assert lines["state"] == "pending"
    (found,) = command.structure("pending")
    assert (found["id"], found["state"], found["count"]) == (held_id, "pending", 1)
    assert (found["change"], found["by"]) == (True, None)


def test_approve(command: Commands, keyring: Keyring, held_id: str) -> None:
    text = command.text("approve", held_id.upper(), "--by", "alice")
    assert text == (f"approved for {NAME} (s2s): {keyring.held(held_id).facts.fingerprint}\n")
    assert keyring.changed()
    came = shown(keyring, certificate(2), now=LATER)
    assert isinstance(came, Accepted)
    assert came.entry.permitted_by == "alice"
    assert command.structure("pending") == []


def test_reject(command: Commands, keyring: Keyring, held_id: str) -> None:
    assert command.text("reject", held_id, "--by", "bob").startswith(f"rejected for {NAME} (s2s): ")
    assert isinstance(shown(keyring, certificate(2), PROVED), Refused)
    assert keyring.held(held_id).by == "bob"


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_several_ids_or_none(command: Commands, keyring: Keyring, held_id: str, act: str) -> None:
    second = keyring.hold(OTHER, "s2s", certificate(3), "why", NOW).id
    assert "nothing by the id" in command.fault(65, act, held_id, "zzzzzzzz", second)
    assert len(keyring.pending()) == 2
    assert command.text(act, held_id, second).count("\n") == 2
    assert keyring.pending() == ()


def test_revoke(command: Commands, keyring: Keyring, held_id: str) -> None:
    (entry,) = keyring.find(NAME, "s2s")
    text = command.text("revoke", entry.facts.fingerprint, "--by", "bob")
    assert text.startswith(f"revoked for {NAME} (s2s): {entry.facts.fingerprint}; ")
    assert isinstance(shown(keyring, certificate(1), PROVED), Refused)
    assert command.text("revoke", NAME) == f"revoked already: {NAME}\n"
    held = keyring.held_for(NAME, "s2s", certificate(1))
    assert held is not None
    assert f'"bascule keyring approve {held.id}" takes that back' in text
    command.text("approve", held.id)
    assert isinstance(shown(keyring, certificate(1)), Accepted)


def test_revoke_takes_a_domain_as_people_write_it(command: Commands, keyring: Keyring) -> None:
    keyring.remember("xn--fa-hia.de", "s2s", certificate(1), NOW, how=How.PKIX)
    assert command.text("revoke", "faß.de").startswith("revoked for xn--fa-hia.de (s2s): ")


def test_revoke_nothing(command: Commands) -> None:
    assert "has no certificate of" in command.fault(65, "revoke", OTHER)
    assert "neither a fingerprint nor a domain" in command.fault(65, "revoke", "a/b")


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_what_is_no_id_and_cannot_be(
    command: Commands, keyring: Keyring, held_id: str, act: str
) -> None:
    for named in (keyring.held(held_id).facts.fingerprint, NAME, held_id[:7]):
        said = command.fault(65, act, held_id, named)
        assert said == 'approve and reject take an id: "bascule keyring pending" has them'
    assert len(keyring.pending()) == 1


def test_what_is_no_certificate_and_cannot_be(
    command: Commands, keyring: Keyring, held_id: str
) -> None:
    (entry,) = keyring.entries()
    whole = entry.facts.fingerprint
    for cut in (whole[:23], f"{whole[:23]}…", whole[:-1], whole.replace(":", "")[:40]):
        said = command.fault(65, "revoke", cut)
        assert said == (
            "not a whole SHA-256 fingerprint (64 hexadecimal digits); "
            '"bascule keyring show DOMAIN" has it'
        )
    said = command.fault(65, "revoke", held_id.upper())
    assert said == "this is an id; revoke takes a fingerprint or a domain"
    assert "has no certificate of" in command.fault(65, "revoke", "00" * 32)
    assert "has no certificate of cafe" in command.fault(65, "revoke", "cafe")
    assert not any(each.revoked for each in keyring.entries())


def test_forget(command: Commands, keyring: Keyring) -> None:
    keyring.note_seen(NAME, "s2s", NOW, tls=True)
    assert command.text("forget", NAME) == f"forgotten: {NAME}\n"
    assert not keyring.seen(NAME, "s2s").tls
    assert command.fault(65, "forget", NAME) == f"nothing was known of {NAME}"


def test_show_a_domain(command: Commands, keyring: Keyring, held_id: str) -> None:
    keyring.note_seen(NAME, "s2s", NOW, tls=True, dane=True)
    keyring.reject(held_id, "bob", NOW)
    first, second, third = command.text("show", NAME.upper()).split("\n\n")
    assert "believed  by pkix, policy on" in first
    assert f"state     rejected, bob on {NOW:%Y-%m-%d}" in second
    assert f"TLS       since {NOW:%Y-%m-%d}" in third
    assert f"DANE      since {NOW:%Y-%m-%d}" in third
    found = command.structure("show", NAME)
    assert [len(found[name]) for name in ("entries", "held", "seen")] == [1, 1, 1]
    assert found["entries"][0]["certificate"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert found["held"][0]["certificate"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert found["seen"][0]["dane_since"] == NOW.isoformat()


def test_show_a_certificate(command: Commands, keyring: Keyring, held_id: str) -> None:
    (entry,) = keyring.entries()
    keyring.remember(OTHER, "c2s", certificate(1), NOW, how=How.PKIX)
    keyring.revoke(OTHER, "bob", NOW)
    text = command.text("show", entry.facts.fingerprint.replace(":", "").lower())
    assert text.count("SHA-256") == 2
    assert f"revoked   bob on {NOW:%Y-%m-%d}" in text
    assert held_id not in text


def test_show_what_is_held(command: Commands, held_id: str) -> None:
    text = command.text("show", held_id)
    assert text.startswith(f"id        {held_id}\n")
    assert text.count("SHA-256") == 1


def test_a_domain_that_looks_like_an_id(command: Commands, keyring: Keyring) -> None:
    keyring.remember("intranet", "s2s", certificate(1), NOW, how=How.PKIX)
    assert command.text("show", "intranet").startswith("domain    intranet (s2s)\n")


@pytest.mark.parametrize("which", [OTHER, "a/b", "00" * 32, "zzzzzzzz", "\x1b[2J"])
def test_show_nothing(command: Commands, which: str) -> None:
    said = command.fault(65, "show", which)
    assert said.startswith("the keyring has nothing by the id, fingerprint or domain ")
    assert "\x1b" not in said


def test_export_and_import(
    command: Commands, keyring: Keyring, held_id: str, tmp_path: Path
) -> None:
    keyring.approve(held_id, "alice", NOW)
    keyring.remember(OTHER, "s2s", certificate(3), NOW, how=How.PKIX)
    file = tmp_path / "exported.json"
    file.write_text(command.text("export"))
    (tmp_path / "new").mkdir(mode=0o700)
    new = Commands(tmp_path / "new")
    assert new.text("import", str(file)) == "imported: 3 of 3 were new\n"
    assert new.text("import", str(file)) == "imported: 0 of 3 were new\n"
    assert new.structure("list") == command.structure("list")
    assert [each["domain"] for each in json.loads(new.text("export", OTHER))["entries"]] == [OTHER]


def test_import_from_standard_input(command: Commands, keyring: Keyring, held_id: str) -> None:
    text = command.text("export")
    assert command.text("import", "-", input=text) == "imported: 0 of 1 were new\n"


def test_import_of_what_is_none(command: Commands, tmp_path: Path) -> None:
    file = tmp_path / "text"
    assert command.fault(66, "import", str(file)).endswith(
        "cannot be read: No such file or directory"
    )
    file.write_text("{}")
    assert command.fault(65, "import", str(file)) == f"{file}: format: is missing"
    file.write_bytes(b"\xff")
    assert command.fault(65, "import", str(file)) == f"{file}: is not UTF-8"


ALL = [
    ("list",),
    ("show", NAME),
    ("pending",),
    ("approve", "00000000"),
    ("reject", "00000000"),
    ("revoke", NAME),
    ("forget", NAME),
    ("export",),
]


@pytest.mark.parametrize("words", ALL, ids=lambda words: words[0])
def test_no_keyring_and_a_damaged_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = Commands(tmp_path)
    assert command.fault(69, *words) == (
        f"there is no keyring {command.path}; "
        "Bascule makes it when it starts with a policy that needs it"
    )
    assert not command.path.exists(), "looking makes none"
    command.path.write_bytes(b"damaged")
    command.path.chmod(0o600)
    assert "is damaged, or not a keyring" in command.fault(69, *words)


def test_a_locked_keyring(command: Commands, keyring: Keyring, held_id: str) -> None:
    with keyring.changing():
        assert "is locked by another process" in command.fault(69, "approve", held_id)
        assert held_id in command.text("pending"), "reading goes on"


@pytest.mark.parametrize("name", ["", "  "])
def test_who_decides_has_a_name(command: Commands, held_id: str, name: str) -> None:
    done = command.run("approve", held_id, "--by", name)
    assert isinstance(done.exception, click.BadParameter)


def test_who_decides(command: Commands, keyring: Keyring, held_id: str) -> None:
    command.text("reject", held_id, "--by", "a\x1bb")
    assert keyring.held(held_id).by == "a\\x1bb"


def test_who_decides_by_default(
    command: Commands, keyring: Keyring, held_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    command.text("approve", held_id)
    assert keyring.held(held_id).by == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    command.text("approve", held_id)
    assert keyring.held(held_id).by == "alice"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    command.text("approve", held_id)
    assert keyring.held(held_id).by == "user 4000000000"


class TestWhereItIs:
    """The state directory, by the conf or the command line."""

    @staticmethod
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(commands, [*arguments], standalone_mode=False)

    def test_by_the_conf(self, command: Commands, held_id: str, tmp_path: Path) -> None:
        conf = tmp_path / "bascule.toml"
        conf.write_text(f'mistake = 1\n[bascule]\nstate_directory = "{tmp_path}"\n')
        done = self.run("pending", "-c", str(conf))
        assert done.return_value == 0, done.output
        assert held_id in done.stdout

    def test_relative_to_the_conf(self, command: Commands, held_id: str, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        conf = tmp_path / "etc" / "bascule.toml"
        conf.write_text('[bascule]\nstate_directory = ".."\n')
        assert held_id in self.run("pending", "-c", str(conf)).stdout

    def test_the_command_line_goes_before(
        self, command: Commands, held_id: str, tmp_path: Path
    ) -> None:
        conf = tmp_path / "bascule.toml"
        conf.write_text('[bascule]\nstate_directory = "/nowhere"\n')
        done = self.run("pending", "-c", str(conf), "--state-directory", str(tmp_path))
        assert held_id in done.stdout

    @pytest.mark.parametrize("text", ["", "[bascule]\n", "bascule = 1\n"])
    def test_where_it_is_otherwise(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
    ) -> None:
        conf = tmp_path / "bascule.toml"
        conf.write_text(text)
        monkeypatch.setattr(stated, "DEFAULTS", StateTable(state_directory=tmp_path / "default"))
        done = self.run("pending", "-c", str(conf))
        assert f"there is no keyring {tmp_path}/default/{FILE_NAME}" in done.stderr
        assert "names another" not in done.stderr

    def test_where_nobody_says_where(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The conf may be another one than the default."""
        monkeypatch.setattr(stated, "DEFAULTS", StateTable(state_directory=tmp_path / "default"))
        monkeypatch.setattr(os.path, "lexists", lambda _: False)
        said = self.run("pending").stderr
        assert said.endswith("; -c CONF or --state-directory names another\n")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (None, "cannot be read"),
            ("no", "is not TOML"),
            ("[bascule]\nstate_directory = 7\n", "bascule.state_directory: 7 is not text"),
            ('[bascule]\nstate_directory = ""\n', "bascule.state_directory: "),
            ("[bascule.state_directory]\nx = 1\n", "bascule.state_directory: a table is not"),
        ],
    )
    def test_a_conf_that_does_not_say(self, tmp_path: Path, text: str | None, words: str) -> None:
        conf = tmp_path / "bascule.toml"
        if text is not None:
            conf.write_text(text)
        done = self.run("pending", "-c", str(conf))
        assert done.return_value == 78
        assert done.stderr.startswith(f"bascule: {conf}: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_as_a_process(command: Commands, keyring: Keyring, held_id: str) -> None:
    """Two of them decide the same at once, while the daemon has the file open."""
    script = "import sys; from proxy.daemon.keyring_cli import keyring; sys.exit(keyring())"
    program = [sys.executable, "-bb", "-c", script, "approve", held_id]
    program += ["--state-directory", str(command.directory)]
    running = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [each.communicate(timeout=60)[0] for each in running]
    assert outputs[0] == outputs[1] != ""
    assert keyring.held(held_id).state is State.APPROVED


def test_nobody_reads_the_table(
    keyring: Keyring, held_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def writelines(self, _lines: object) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        print_entries(keyring.entries())
