"""Attack 24 between servers: nothing that they say forges a line of the log; no key is in it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.net.client import read_all
from tests.net.federation import (
    LEGACY,
    REMOTE,
    FederationFront,
    Grounds,
    believe,
    context_of,
    zone,
)
from tests.net.hostile import STREAM, Hostile, Peer
from tests.net.legacy import Connection, LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import (
    DIALBACK,
    KEY,
    Sender,
    answer,
    header,
    message,
    opened,
    result,
    script,
    taking,
    verify,
)
from tests.net.test_attack_24_logs import FORGED, LINE, NASTY, attribute
from tests.servers.stream import plaintext

BROKEN_KEYS = [
    result(REMOTE, LEGACY),
    result(REMOTE, LEGACY).replace("</db:result>", "</oops>"),
    result(REMOTE, LEGACY) + "<",
    result(REMOTE, "nobody.example"),
    result(LEGACY, LEGACY),
    result("a b", LEGACY),
    result(REMOTE, LEGACY).replace("db:result", "db:granted"),
    result(REMOTE, LEGACY, KEY * 100),
    f"<db:result {DIALBACK} from='{REMOTE}' to='{LEGACY}' type='{KEY}'/>",
    f"<db:result {DIALBACK} from='{KEY}' to='{LEGACY}' type='valid'>{KEY}</db:result>",
    verify(REMOTE, LEGACY, "x"),
    verify(REMOTE, "nobody.example", "x"),
    answer(REMOTE, LEGACY).replace("/>", f">{KEY}</db:result>"),
]


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("attack-24"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test; their log is judged line by line in any case."""
    _grounds.renew()
    return _grounds


def judged(grounds: Grounds, since: int) -> None:
    """Assert that each line is one that the daemon has written."""
    for line in grounds.service.lines(since):
        assert LINE.fullmatch(line), line
        assert "session=forged" not in line.partition('"')[0]


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("name", ["to", "from", "id", "version"])
def test_attack_24_headers_of_servers_forge_nothing(
    grounds: Grounds, nasty: str, name: str
) -> None:
    since = grounds.now()
    for listener in ("in", "out"):
        sender, to = (REMOTE, LEGACY) if listener == "in" else (LEGACY, REMOTE)
        said = {"to": to, "from": sender, "version": "1.0", name: nasty}
        written = "".join(f" {key}='{attribute(value)}'" for key, value in said.items())
        with grounds.connecting(grounds.service.ports[listener], sender, to) as stream:
            plain = stream.header().partition(" from=")[0]
            rest = stream.header().partition("version='1.0'")[2]
            stream.send(plain + written + rest + "</stream:stream>")
            read_all(stream.connection)
    judged(grounds, since)


@pytest.mark.parametrize("nasty", NASTY)
def test_attack_24_dialback_forges_nothing(grounds: Grounds, nasty: str) -> None:
    since = grounds.now()
    written = attribute(nasty)
    for element in (
        result(written, LEGACY),
        result(REMOTE, written),
        verify(REMOTE, LEGACY, written),
        answer(written, LEGACY),
        answer(REMOTE, LEGACY, "valid", written),
        f"<db:{FORGED.replace(' ', '_').replace(':', '_').replace('=', '_')} {DIALBACK}/>",
        message(written, LEGACY),
    ):
        with grounds.incoming() as stream:
            stream.open()
            stream.read_features()
            stream.send(element + "</stream:stream>")
            grounds.legacy.next().close()
            read_all(stream.connection)
    judged(grounds, since)


@pytest.mark.parametrize("nasty", NASTY)
def test_attack_24_the_other_server_forges_nothing(grounds: Grounds, nasty: str) -> None:
    since = grounds.now()
    strange = header("x").decode().replace("'x'", f"'{attribute(nasty)}'").encode()
    error = f"<stream:error><text>{attribute(nasty)}</text></stream:error></stream:stream>"

    def lying(peer: Peer) -> None:
        peer.read_until(STREAM)
        peer.send(strange + error.encode() + nasty.encode("utf-8", "replace"))

    grounds.remote.play(script(grounds.certificates[REMOTE], lying))
    with grounds.outgoing() as stream:
        stream.send(stream.header())
        read_all(stream.connection)
    judged(grounds, since)


def test_attack_24_no_key_is_logged_whatever_goes_wrong(grounds: Grounds) -> None:
    since = grounds.now()
    for element in BROKEN_KEYS:
        with grounds.incoming() as stream:
            stream.open()
            stream.read_features()
            stream.send(element)
            stream.send("</stream:stream>")
            grounds.legacy.next().close()
            read_all(stream.connection)
        with grounds.outgoing() as stream:
            stream.open()
            stream.read_features()
            stream.send(element.replace(REMOTE, "x").replace(LEGACY, REMOTE).replace("x", LEGACY))
            stream.send("</stream:stream>")
            grounds.remote.next().close()
            read_all(stream.connection)
    for line in grounds.service.lines(since):
        assert KEY not in line
        assert KEY[:16] not in line


def test_attack_24_no_key_of_ours_is_logged_either(grounds: Grounds) -> None:
    """`believe` tells what the log must not have in it."""
    with grounds.authenticated() as stream:
        stream.send(message(REMOTE, LEGACY))
        grounds.legacy.next()
        ours = grounds.legacy.next()
        before = len(grounds.service.secrets)
        believe(grounds, ours, "legacy-2")
        assert len(grounds.service.secrets) == before + 1
        ours.read_until(b"</message>")
    grounds.service.lines()


def refuse(connection: Connection) -> None:
    """Repeat what it got in an error."""
    try:
        taking()(connection)
        said = connection.read_until(b"</db:result>|</stream:stream>")
        connection.send(b"<stream:error><text>" + said + b"</text></stream:error></stream:stream>")
    finally:
        connection.close()


def test_attack_24_nor_when_everything_is_logged(tmp_path: Path, authority: Authority) -> None:
    with Hostile() as remote, LegacyServer() as legacy, NameServer() as names:
        zone(names, remote.port)
        remote.play(script(authority.issue(REMOTE), opened()))
        legacy.script = refuse
        front = FederationFront(
            tmp_path,
            authority,
            {LEGACY: legacy.port},
            names.port,
            environment={"BASCULE_DEBUG": "1", "PYTHONUNBUFFERED": "1"},
        )
        with front:
            for element in BROKEN_KEYS:
                with plaintext(front.named["in"], LEGACY) as bare:
                    stream = Sender(bare, REMOTE, LEGACY)
                    stream.ask_for_tls()
                    stream.secure(context_of(authority))
                    with stream.connection:
                        stream.open()
                        stream.send(element + "</stream:stream>")
                        read_all(stream.connection)
        log = front.log()
    assert log.count("session ended") >= len(BROKEN_KEYS)
    assert not re.search(KEY[:16], log)
