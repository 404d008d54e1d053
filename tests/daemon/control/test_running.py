"""The control socket of a running daemon."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.net.client import SECRET, logged_in
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.stream import plaintext

BASCULE = Path(sys.executable).with_name("bascule")
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
RULES = {"c2s": "required", "second": "required"}


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, _legacy: LegacyServer
) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("control")
    tables: dict[str, dict[str, object]] = {
        "bascule": {"control_socket": str(directory / "control")},
        "deadlines": {"negotiation": 600},  # commands are run meanwhile
    }
    domains = [served(_legacy, [authority.issue(DOMAIN)])]
    with Front(directory, domains, listeners=RULES, tables=tables) as front:
        yield front
        assert front.alive()
    assert not (directory / "control").exists()


def command(front: Front, *words: str) -> list[str]:
    name, *rest = words
    return [str(BASCULE), name, "-c", str(front.configuration_path), *rest]


def asked(front: Front, *words: str) -> Any:
    done = subprocess.run(
        command(front, *words, "--json"), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_sessions_are_shown_and_can_be_ended(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(front.named["c2s"], authority.ca_path) as stream:
        server = legacy.next()
        stream.send("<presence/>")
        server.read_until(b"<presence/>")
        status = asked(front, "status")
        assert status["pid"] == front.process_id
        assert status["sessions"] == {"joined": 1}
        listeners = {each["name"]: each for each in status["listeners"]}
        assert listeners["c2s"]["sessions"] == 1
        assert listeners["second"]["sessions"] == 0
        assert listeners["second"]["address"].endswith(f":{front.named['second']}")
        (session,) = asked(front, "sessions", "--listener", "c2s")
        assert (session["state"], session["domain"]) == ("joined", DOMAIN)
        assert session["client_tls"]["version"] == "TLSv1.3"
        assert session["server"].endswith(f":{legacy.port}")
        assert session["from_client"] > len("<presence/>")
        subprocess.run(command(front, "kick", session["id"]), check=True, timeout=30)
        last_words = stream.read_to_end()
    assert "<policy-violation" in last_words
    assert "ended by an operator of the proxy" in last_words
    front.wait_for_log('reason="policy-violation: ended by an operator of the proxy"')
    assert asked(front, "sessions") == []


class Tracing:
    """``bascule trace``, which has begun to wait."""

    def __init__(self, front: Front, *words: str) -> None:
        self._process = subprocess.Popen(
            command(front, "trace", *words), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.first = self._process.stdout.readline()

    def lines(self) -> list[str]:
        """What else it printed until its end."""
        said, _ = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        return said.splitlines()


def test_a_trace_shows_the_negotiation_without_the_password(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    tracing = Tracing(front, "--next", "c2s", "--json")
    assert json.loads(tracing.first)["text"] == "waiting for a session to begin"
    with logged_in(front.named["c2s"], authority.ca_path):
        legacy.next()
        lines = tracing.lines()
    assert SECRET not in "".join(lines)
    told = [json.loads(line) for line in lines]
    texts = [(each["leg"], each["way"], each["text"]) for each in told]
    assert ("client", "received", '<starttls xmlns="urn:ietf:params:xml:ns:xmpp-tls"/>') in texts
    masked = [(leg, way) for leg, way, text in texts if text.endswith('="PLAIN">(masked)</auth>')]
    assert masked == [("client", "received"), ("server", "sent")]
    assert texts[-1] == ("", "", "negotiation is over; the legs are joined")


def test_a_session_under_way_is_traced(front: Front) -> None:
    with plaintext(front.named["second"], DOMAIN) as stream:
        stream.send_header()
        stream.read_until("</stream:features>")
        (session,) = asked(front, "sessions", "--listener", "second")
        assert session["state"] == "negotiating"
        tracing = Tracing(front, session["id"])
        assert "session on listener second" in tracing.first
        stream.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>c2VjcmV0</auth>")
        stream.read_until("</failure>")
    lines = tracing.lines()
    assert f'<- <auth xmlns="{SASL}" mechanism="PLAIN">(masked)</auth>' in lines[0]
    assert "c2VjcmV0" not in "".join(lines)
    assert any("<encryption-required/>" in line for line in lines)
    assert lines[-1].endswith("the session is over")
