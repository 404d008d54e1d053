"""Alerts about servers: what a command is given, and messages to an administrator abroad."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from tests.authority import Authority
from tests.net import hostile as hostile_module
from tests.net.forward import told_nothing
from tests.net.hostile import (
    BIND,
    BOUND,
    FOOTER,
    STREAM,
    SUCCESS,
    Hostile,
    Peer,
    header,
    showing,
    upgraded,
)
from tests.net.trusting import Operated, alone, fresh, with_level
from tests.servers.program import HOST

ABROAD = "abroad.example"
ADMIN = f"admin@{ABROAD}"
ACCOUNT = f"bascule@{ABROAD}"
SECRET = "correct horse"
PLAIN = "AGJhc2N1bGUAY29ycmVjdCBob3JzZQ=="
"""What SASL PLAIN says of the account."""

Pair = tuple[Path, Path]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


_IQ = rb"<iq [^>]*(?:/>|>.*?</iq>)"
_NEXT = _IQ + rb"|</message>|</stream:stream>"


def _confirm(peer: Peer, result: bytes, request: bytes = b"") -> None:
    """Answer a request, the next one where none is given, by its id."""
    found = re.search(rb" id=['\"]([^'\"]+)", request or peer.read_until(_IQ))
    assert found is not None
    peer.send(result.replace(b"id='bind'", b"id='" + found[1] + b"'"))


@attrs.define
class Abroad:
    """The account's server, which knows PLAIN only, and what it got."""

    server: Hostile
    pair: Pair
    messages: list[str] = attrs.field(factory=list)

    def play(self) -> None:
        self.server.play(upgraded(showing(self.pair), self._take))

    def _take(self, peer: Peer) -> None:
        peer.read_until(STREAM)
        peer.send(header("1") + hostile_module.MECHANISMS)
        peer.read_until(b"</auth>")
        peer.send(SUCCESS)
        peer.read_until(STREAM)
        peer.send(header("2") + BIND)
        _confirm(peer, BOUND)
        while not (heard := peer.read_until(_NEXT)).endswith(FOOTER):
            if heard.endswith(b"</message>"):
                self.messages.append(heard.decode())
            else:
                _confirm(peer, b"<iq type='result' id='bind'/>", heard)
        peer.send(FOOTER)


@pytest.fixture
def abroad(authority: Authority) -> Iterator[Abroad]:
    with Hostile() as server:
        abroad = Abroad(server, authority.issue(ABROAD))
        abroad.play()
        yield abroad


def operated(
    directory: Path, hostile: Hostile, *policies: Mapping[str, object], **alerts: object
) -> Operated:
    kept = with_level("kept", hostile.port, level="keyring")
    return Operated(directory, [kept, *policies], tables={"alerts": alerts})


def test_a_command_is_given_an_event_once_however_often_it_is_met(
    tmp_path: Path, hostile: Hostile
) -> None:
    told = tmp_path / "told"
    command = ["/bin/sh", "-c", f"cat >> {told}"]
    domain = fresh("kept")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    with operated(tmp_path, hostile, command=command) as bascule:
        ids = {bascule.refused(hostile, domain).held_id for _ in range(10)}
        bascule.until(lambda: told.exists() and told.read_text().endswith("\n"))
        other = fresh("kept")
        hostile.play(upgraded(showing(alone(tmp_path, other))))
        bascule.refused(hostile, other)
        bascule.until(lambda: told.read_text().count("\n") == 2)
    first, second = map(json.loads, told.read_text().splitlines())
    assert [first["domain"], second["domain"]] == [domain, other]
    assert (first["kind"], first["severity"], first["stream"]) == ("unknown", "warning", "c2s")
    assert {first["fields"]["id"]} == ids
    assert first["fields"]["subject"] == f"CN={domain}"
    assert f"bascule keyring approve {first['fields']['id']}" in first["text"]


def messaging(directory: Path) -> dict[str, object]:
    password = directory / "password"
    password.write_text(f"{SECRET}\n")
    password.chmod(0o600)
    return {"to": [ADMIN], "account": ACCOUNT, "password_file": str(password)}


def test_a_message_goes_abroad_by_tls_as_the_policy_of_the_domain_demands(
    tmp_path: Path, hostile: Hostile, abroad: Abroad, authority: Authority
) -> None:
    domain = fresh("kept")
    policy: dict[str, object] = {
        "domain": ABROAD,
        "server": f"{HOST}:{abroad.server.port}",
        "ca_file": str(authority.ca_path),
    }
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    with operated(tmp_path, hostile, policy, **messaging(tmp_path)) as bascule:
        said = bascule.refused(hostile, domain)
        bascule.until(lambda: abroad.messages)
        [message] = abroad.messages
        assert f"to='{ADMIN}'" in message.replace('"', "'")
        assert f"bascule keyring approve {said.held_id}" in message.replace("&quot;", '"')
        [peer] = abroad.server.settle()
        assert peer.secured
        assert PLAIN.encode() in peer.sealed
        assert PLAIN.encode() not in peer.plain
        assert SECRET not in bascule.log()
        assert PLAIN not in bascule.log()


@pytest.mark.parametrize("level", ["secure", "encrypt"])
def test_attack_who_has_not_proved_the_domain_gets_no_password(
    tmp_path: Path, hostile: Hostile, abroad: Abroad, authority: Authority, level: str
) -> None:
    domain = fresh("kept")
    abroad.pair = alone(tmp_path, ABROAD)
    abroad.play()
    policy = {"domain": ABROAD, "level": level, "server": f"{HOST}:{abroad.server.port}"}
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    with operated(tmp_path, hostile, policy, **messaging(tmp_path)) as bascule:
        bascule.refused(hostile, domain)
        bascule.wait_for_log("alerts could not be sent")
        [peer] = abroad.server.settle()
        assert b"<auth" not in peer.sealed + peer.plain
        assert abroad.messages == []
        if level == "secure":
            told_nothing(peer, ABROAD)
            assert "self-signed" in bascule.log()
