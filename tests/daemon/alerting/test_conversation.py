"""What a messenger makes of whatever a server says."""

import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from proxy.daemon.alerting import messenger as under_test
from proxy.daemon.alerting.conversation import message
from proxy.daemon.alerting.messenger import Messenger
from proxy.daemon.alerting.stream import MOST, Stream
from proxy.daemon.alerting.ways import Direct, directly
from proxy.daemon.demo.server import LOOPBACK
from proxy.daemon.endpoints import Endpoint
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import parse
from proxy.xmpp.jids import Jid
from tests.daemon.alerting.made import ACCOUNT, ADMIN, Reports, run, told, until


class Scripted(Protocol):
    """A server that says one thing after another, one for each time that it hears something."""

    transport: ITCPTransport

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def dataReceived(self, data: bytes) -> None:
        if self._lines:
            line = self._lines.pop(0)
            if line == b"CLOSE":
                self.transport.loseConnection()
            else:
                self.transport.write(line)


HEADER = (
    f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}' id='x' version='1.0'>"
).encode()


def features(inner: str) -> bytes:
    return HEADER + f"<stream:features>{inner}</stream:features>".encode()


OFFER = features(f"<mechanisms xmlns='{ns.SASL}'><mechanism>PLAIN</mechanism></mechanisms>")
SUCCESS = f"<success xmlns='{ns.SASL}'/>".encode()
BIND = features(f"<bind xmlns='{ns.BIND}'/>")
BOUND = b"<iq type='result' id='bind'/>"
TAKEN_IN = b"<iq type='result' id='taken-in'/>"
SESSION = features(f"<bind xmlns='{ns.BIND}'/><session xmlns='{ns.SESSION}'/>")


def reason_for(lines: list[bytes], password_file: Path, *, leaving: bool = False) -> str:
    """Return what is said of a server that says ``lines``; empty if it got the alert.

    Waits for the end of the stream too if ``leaving``.
    """

    async def scenario(reactor: Any) -> str:
        factory = Factory.forProtocol(lambda: Scripted(lines))
        port = reactor.listenTCP(0, factory, interface=LOOPBACK)
        reports = Reports()
        server = Direct(Endpoint(LOOPBACK, port.getHost().port), plain=True, preface=False)
        messenger = Messenger(
            ACCOUNT,
            (ADMIN,),
            password_file=password_file,
            connect=lambda _: directly(server, reactor),
            reactor=reactor,
            report=reports,
        )
        messenger.tell(told())
        await until(reactor, lambda: reports.lines or not messenger._waiting)
        if leaving:
            await until(reactor, lambda: messenger._attempt is None)
        messenger.stop()
        return reports.reasons[0] if reports.lines else ""

    return run(scenario)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([b"CLOSE"], "the server closed the connection"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "the server breaks the rules: not-well-formed"),
        ([HEADER.replace(b" version='1.0'", b"")], "older than XMPP 1.0"),
        ([HEADER + b"<stream:features/>"], "offers no mechanism to log in by: none"),
        ([features(f"<starttls xmlns='{ns.TLS}'/>")], "the server demands TLS"),
        ([HEADER + b"<message/>"], "sends <message/> where <features/> is due"),
        ([HEADER + b"</stream:stream>"], "the server ended the stream"),
        (
            [
                HEADER
                + f"<stream:error><host-gone xmlns='{ns.STREAM_ERRORS}'/></stream:error>".encode()
            ],
            "the server ended the stream: host-gone",
        ),
        ([OFFER + b" " * 5000], "too much white space"),
        ([OFFER + b"<x/>"], "the server breaks the rules of SASL"),
        ([OFFER, SUCCESS + HEADER], "the server speaks out of turn"),
        ([OFFER, SUCCESS, BIND, b"<iq type='error' id='bind'/>"], "refuses the request to bind"),
        ([OFFER, SUCCESS, BIND, b"<iq type='result' id='other'/>"], "refuses the request to bind"),
        ([OFFER, SUCCESS, BIND, BOUND, TAKEN_IN, b"</stream:stream>"], ""),
        ([OFFER, SUCCESS, BIND, BOUND, TAKEN_IN + b"</stream:stream>"], ""),
        ([OFFER, SUCCESS, BIND, BOUND, TAKEN_IN, b"CLOSE"], ""),
        ([OFFER, SUCCESS, BIND, BOUND, TAKEN_IN, b"<"], ""),
        ([OFFER, SUCCESS, BIND, BOUND, TAKEN_IN.replace(b"result", b"error")], ""),
        (
            [OFFER, SUCCESS, BIND, BOUND, b"<iq type='result' id='x'/></stream:stream>"],
            "the server ended the stream",
        ),
        ([OFFER, SUCCESS, BIND, BOUND, b"CLOSE"], "the server closed the connection"),
        ([OFFER, SUCCESS, BIND, BOUND, b"</stream:stream>"], "the server ended the stream"),
        ([OFFER, SUCCESS, BIND, BOUND + b"</stream:stream>"], "the server ended the stream"),
        (
            [OFFER, SUCCESS, SESSION, BOUND, b"<iq type='result' id='session'/>", TAKEN_IN],
            "",
        ),
        ([OFFER, SUCCESS, SESSION, BOUND, b"<iq type='error' id='session'/>"], "to session"),
        (
            [
                OFFER,
                SUCCESS,
                BIND,
                BOUND,
                f"<stream:error><conflict xmlns='{ns.STREAM_ERRORS}'/></stream:error>".encode(),
            ],
            "the server ended the stream: conflict",
        ),
        ([HEADER + b"<presence/>" * (MOST // 10)], "sends <presence/> where <features/> is due"),
        ([OFFER, SUCCESS, BIND, BOUND, b"<presence/>" * (MOST // 10)], "the server sends too much"),
        ([HEADER + b"<a>" + b"x" * 70_000], "a stanza is larger than 65536 bytes"),
        ([HEADER + b"<a>" * 200], "the server breaks the rules"),
    ],
)
def test_of_whatever_a_server_says_there_is_one_reason(
    lines: list[bytes], reason: str, password_file: Path
) -> None:
    said = reason_for(lines, password_file)
    assert reason in said
    assert bool(reason) == bool(said)
    assert said.isprintable()


@pytest.mark.parametrize("lines", [[], [OFFER], [OFFER, SUCCESS, BIND, BOUND]])
def test_a_server_that_falls_silent_is_given_up(
    lines: list[bytes], password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "SECONDS", 0.3)
    assert reason_for(lines, password_file) == "the server took longer than 0.3 seconds"


def test_a_server_gets_a_moment_to_end_its_stream(
    password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "FAREWELL", 0.3)
    lines = [OFFER, SUCCESS, BIND, BOUND, TAKEN_IN]
    began = time.monotonic()
    assert reason_for(lines, password_file, leaving=True) == ""
    assert time.monotonic() - began >= 0.3


def test_what_has_gone_wrong_is_told_to_who_asks_later() -> None:
    stream = Stream()
    stream.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    stream.dataReceived(b"x" * (MOST + 1))
    failures: list[Failure] = []
    stream.next().addErrback(failures.append)
    assert str(failures[0].value) == "the server sends too much"


def test_whatever_an_alert_says_the_message_is_one_element() -> None:
    hostile = "</body></message><presence/>\x00\x1b\ud800\ufffe" + "x" * 10_000
    written = message(told(text=hostile, domain="'\"<&>"), Jid("a", "b", "'<&"), "id")
    tree = parse(written, {"": ns.CLIENT})
    said = tree.findtext(ns.qualified(ns.CLIENT, "body")) or ""
    assert said.startswith("</body></message><presence/>\ufffd\ufffd\ufffd\ufffdx")
    assert said.endswith("x…")
    assert tree.get("to") == "a@b/'<&"
