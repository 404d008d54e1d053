"""Messages, sent to the demo server and to servers that are not what they should be."""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from proxy.daemon.alerting import messenger as under_test
from proxy.daemon.alerting.conversation import log_in
from proxy.daemon.alerting.messenger import MOST_WAITING, Messenger
from proxy.daemon.alerting.stream import Stream
from proxy.daemon.alerting.ways import Direct, Way, directly
from proxy.daemon.demo import connection as demo_connection
from proxy.daemon.demo.accounts import Accounts
from proxy.daemon.demo.server import LOOPBACK, Direction, LegacyServer
from proxy.daemon.endpoints import Endpoint
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element
from tests.daemon.alerting.made import (
    ACCOUNT,
    ADMIN,
    DOMAIN,
    PASSWORD,
    Reports,
    nowhere,
    run,
    told,
    until,
)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "DELAYS", (0.05, 0.1))


class Setting:
    """A demo server and a messenger that is led to it, on one reactor."""

    def __init__(self, reactor: Any, password_file: Path, *, plain: bool = True) -> None:
        self.reactor = reactor
        self.seen: list[bytes] = []
        accounts = Accounts(DOMAIN, {"bascule": PASSWORD, "admin": "x"})
        self.server = LegacyServer(accounts, reactor)
        self.server.observer = self._see
        self.port = self.server.listen(reactor)
        self.reports = Reports()
        self.messenger = self.speaking(self.way, password_file, plain=plain)

    def speaking(
        self, way: Callable[[str], "Deferred[Way]"], password_file: Path, *, plain: bool = True
    ) -> Messenger:
        def connect(domain: str) -> "Deferred[Way]":
            return way(domain).addCallback(lambda found: attrs.evolve(found, plain=plain))

        return Messenger(
            ACCOUNT,
            (ADMIN,),
            password_file=password_file,
            connect=connect,
            reactor=self.reactor,
            report=self.reports,
        )

    def way(self, domain: str) -> "Deferred[Way]":
        assert domain == DOMAIN
        server = Direct(Endpoint(LOOPBACK, self.port), plain=True, preface=False)
        return directly(server, self.reactor)

    async def admin(self) -> Stream:
        """Log the administrator in."""
        endpoint = TCP4ClientEndpoint(self.reactor, LOOPBACK, self.port)
        stream = Stream()
        await endpoint.connect(Factory.forProtocol(lambda: stream))
        await log_in(stream, attrs.evolve(ADMIN, resource="x"), "x", _at_once, plain=True)
        stream.send(b"<presence/>")
        await next_message(stream, ns.PRESENCE)
        return stream

    def _see(self, direction: Direction, data: bytes) -> None:
        if direction is Direction.TO_SERVER:
            self.seen.append(data)


async def _at_once(function: Callable[[str], str], data: str) -> str:
    return function(data)


async def next_message(stream: Stream, name: str = ns.MESSAGE) -> Element:
    while True:
        element = await stream.next()
        assert element is not None
        if element.name == name:
            return element


def body(element: Element) -> str:
    return element.tree.findtext(ns.qualified(ns.CLIENT, "body")) or ""


def in_setting(
    scenario: Callable[[Setting], Awaitable[None]], password_file: Path, *, plain: bool = True
) -> Setting:
    async def on(reactor: Any) -> Setting:
        setting = Setting(reactor, password_file, plain=plain)
        await scenario(setting)
        return setting

    return run(on)


def idle(setting: Setting) -> Callable[[], bool]:
    return lambda: setting.messenger._attempt is None


def test_an_alert_arrives_as_a_message(password_file: Path) -> None:
    async def scenario(setting: Setting) -> None:
        admin = await setting.admin()
        setting.messenger.tell(told(3, text="compare <it> & decide"))
        arrived = await next_message(admin)
        assert arrived.attributes["type"] == "normal"
        assert arrived.attributes["from"].startswith(f"{ACCOUNT}/")
        subject = arrived.tree.findtext(ns.qualified(ns.CLIENT, "subject"))
        assert subject == "Bascule, warning: unknown example.net s2s"
        assert body(arrived) == ("compare <it> & decide\n\nTime: 2023-11-14 22:13:20 UTC\nCount: 3")
        await until(setting.reactor, idle(setting))
        admin.abort()

    setting = in_setting(scenario, password_file)
    assert setting.reports.lines == []
    said = b"".join(setting.seen)
    assert b"mechanism='SCRAM-SHA-256'" in said
    assert setting.seen[-1] == b"</stream:stream>" or b"</stream:stream>" in setting.seen
    assert not setting.messenger._waiting


def test_the_alerts_of_a_burst_are_sent_together(password_file: Path) -> None:
    async def scenario(setting: Setting) -> None:
        admin = await setting.admin()
        for number in range(40):
            setting.messenger.tell(told(text=f"alert {number}"))
        arrived = [body(await next_message(admin)).partition("\n")[0] for _ in range(40)]
        assert arrived == [f"alert {number}" for number in range(40)]
        await until(setting.reactor, idle(setting))
        admin.abort()

    setting = in_setting(scenario, password_file)
    logins = sum(b"<auth" in part for part in setting.seen) - 1
    assert logins == 3
    assert setting.reports.lines == []


def test_messages_that_come_back_are_told_of(password_file: Path) -> None:
    async def scenario(setting: Setting) -> None:
        setting.messenger.tell(told())
        await until(setting.reactor, lambda: setting.reports.lines)
        await until(setting.reactor, idle(setting))

    setting = in_setting(scenario, password_file)
    [(_, text, fields)] = setting.reports.lines
    assert text == "alerts were sent back"
    assert fields == {"account": ACCOUNT, "reason": "service-unavailable", "to": ADMIN}
    assert not setting.messenger._waiting


def test_a_wrong_password_is_told_of_a_few_times_and_the_alert_is_then_lost(
    password_file: Path,
) -> None:
    password_file.write_text("wrong")

    async def scenario(setting: Setting) -> None:
        setting.messenger.tell(told())
        await until(setting.reactor, lambda: len(setting.reports.lines) == 3)
        await until(setting.reactor, lambda: not setting.server._connections)
        assert setting.messenger._timer is None

    setting = in_setting(scenario, password_file)
    lines = [fields for _, _, fields in setting.reports.lines]
    assert [line["lost"] for line in lines] == [0, 0, 1]
    assert [line["again_in"] for line in lines] == ["0.05s", "0.1s", None]
    assert setting.reports.reasons[0].startswith("the server refuses the login: not-authorized")
    assert not any(b"wrong" in part for part in setting.seen)
    assert not setting.messenger._waiting


def test_an_open_password_file_is_not_used(password_file: Path) -> None:
    password_file.chmod(0o644)

    def close_to_others() -> None:
        password_file.chmod(0o600)

    async def scenario(setting: Setting) -> None:
        setting.messenger.tell(told())
        await until(setting.reactor, lambda: setting.reports.lines)
        close_to_others()
        admin = await setting.admin()
        await next_message(admin)
        await until(setting.reactor, idle(setting))
        admin.abort()

    setting = in_setting(scenario, password_file)
    [reason] = setting.reports.reasons
    assert "open to every user of the machine" in reason


def test_an_alert_survives_a_server_that_is_away_for_a_while(password_file: Path) -> None:
    async def scenario(setting: Setting) -> None:
        admin = await setting.admin()
        away = 0

        def way(domain: str) -> "Deferred[Way]":
            nonlocal away
            away += 1
            return nowhere(domain) if away < 3 else setting.way(domain)

        messenger = setting.speaking(way, password_file)
        messenger.tell(told(text="first"))
        messenger.tell(told(text="second"))
        assert [body(await next_message(admin))[:6] for _ in range(2)] == ["first\n", "second"]
        await until(setting.reactor, lambda: messenger._attempt is None)
        admin.abort()

    setting = in_setting(scenario, password_file)
    assert setting.reports.reasons == ["no way", "no way"]
    assert [fields["alerts"] for _, _, fields in setting.reports.lines] == [1, 2]


def test_a_port_where_nobody_listens_is_told_of(password_file: Path) -> None:
    async def scenario(setting: Setting) -> None:
        with socket.create_server((LOOPBACK, 0)) as unused:
            setting.port = unused.getsockname()[1]
        setting.messenger.tell(told())
        await until(setting.reactor, lambda: setting.reports.lines)
        setting.messenger.stop()

    setting = in_setting(scenario, password_file)
    assert setting.reports.reasons[0].startswith(f"127.0.0.1:{setting.port}: ")
    assert setting.reports.reasons[1:] == ["Bascule stops"]


def test_a_password_is_not_said_where_it_may_not_be(
    password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        demo_connection,
        "MECHANISMS",
        f"<stream:features><mechanisms xmlns='{ns.SASL}'><mechanism>PLAIN</mechanism>"
        "</mechanisms></stream:features>".encode(),
    )

    async def scenario(setting: Setting) -> None:
        setting.messenger.tell(told())
        await until(setting.reactor, lambda: setting.reports.lines)
        setting.messenger.stop()

    refused = in_setting(scenario, password_file, plain=False)
    assert "offers no mechanism to log in by: PLAIN; needed: SCRAM" in refused.reports.reasons[0]
    assert not any(b"<auth" in part for part in refused.seen)
    allowed = in_setting(scenario, password_file)
    assert allowed.reports.reasons == ["service-unavailable"]
    assert any(b"mechanism='PLAIN'" in part for part in allowed.seen)


def test_a_socket_pair_will_do(password_file: Path) -> None:
    """What speaks at its other end may be anything, such as a session of a forward listener."""

    async def scenario(setting: Setting) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        server = LegacyServer(Accounts(DOMAIN, {"bascule": PASSWORD}), setting.reactor)
        server.observer = setting._see
        factory = Factory.forProtocol(lambda: Unix(server.buildProtocol(None)))
        with theirs:
            setting.reactor.adoptStreamConnection(theirs.fileno(), theirs.family, factory)
        messenger = setting.speaking(lambda _: succeed(Way(ours, plain=False)), password_file)
        messenger.tell(told())
        await until(setting.reactor, lambda: setting.reports.lines)
        assert ours.fileno() == -1
        await until(setting.reactor, lambda: messenger._attempt is None)

    setting = in_setting(scenario, password_file)
    assert setting.reports.reasons == ["service-unavailable"]


class Unix(Protocol):
    """Gives a protocol made for TCP a transport of another kind."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.setTcpNoDelay = lambda _enabled: None  # type: ignore[attr-defined]
        self._inner.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._inner.dataReceived(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._inner.connectionLost(reason)


def test_a_way_that_is_not_found_in_time_is_given_up(
    password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "SECONDS", 0.2)
    cancelled: list[Deferred[Way]] = []

    async def scenario(setting: Setting) -> None:
        messenger = setting.speaking(lambda _: Deferred(cancelled.append), password_file)
        messenger.tell(told())
        await until(setting.reactor, lambda: setting.reports.lines)
        messenger.stop()

    setting = in_setting(scenario, password_file)
    assert setting.reports.reasons[0] == "the server took longer than 0.2 seconds"
    assert len(cancelled) == 1


def test_alerts_beyond_those_that_may_wait_are_told_of(password_file: Path) -> None:
    async def scenario(setting: Setting) -> None:
        cancelled: list[Deferred[Way]] = []
        messenger = setting.speaking(lambda _: Deferred(cancelled.append), password_file)
        for _ in range(MOST_WAITING + 2):
            messenger.tell(told())
        messenger.stop()
        assert len(cancelled) == 1
        messenger.tell(told())

    reports = in_setting(scenario, password_file).reports
    stops = "Bascule stops"
    assert reports.reasons == [*["too many wait to be sent already"] * 2, stops, stops]
    assert [fields["alerts"] for _, _, fields in reports.lines] == [1, 1, MOST_WAITING, 1]
