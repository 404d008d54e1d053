"""Messages through real servers, in plaintext, as they stand behind Bascule."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from proxy.daemon.alerting.alerting import Alerting
from proxy.daemon.alerting.conversation import log_in
from proxy.daemon.alerting.stream import Stream
from proxy.daemon.alerting.table import AlertsTable
from proxy.daemon.alerting.ways import connecting
from proxy.xmpp import namespaces as ns
from proxy.xmpp.jids import Jid
from tests.daemon.alerting.made import alert, memory_log, nowhere, run, until
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import HOST
from tests.servers.prosody import Prosody


@pytest.fixture(
    params=[
        pytest.param(Prosody, marks=pytest.mark.server("prosody"), id="prosody"),
        pytest.param(Jabberd2, marks=pytest.mark.server("jabberd2"), id="jabberd2"),
    ]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with request.param(tmp_path / "server") as running:
        yield running


async def _at_once(function: Callable[[str], str], data: str) -> str:
    return function(data)


def test_an_alert_reaches_an_administrator_who_comes_later(server: Any, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pw-bob\n")
    password.chmod(0o600)
    admin = Jid("alice", server.domain, "desk")
    table = AlertsTable(
        to=(admin.bare,),
        account=f"bob@{server.domain}",
        password_file=password,
        server=f"{HOST}:{server.port}",
    )
    log, written = memory_log()

    async def scenario(reactor: Any) -> str:
        connect = connecting(table, (), reactor, nowhere)
        alerting = Alerting(table, log, reactor, connect)
        alerting.tell(alert(text="compare <it> & decide"))
        [messenger] = alerting._hooks
        await until(reactor, lambda: messenger._attempt is None)  # type: ignore[union-attr]
        stream = Stream()
        endpoint = TCP4ClientEndpoint(reactor, HOST, server.port)
        await endpoint.connect(Factory.forProtocol(lambda: stream))
        await log_in(stream, admin, "pw-alice", _at_once, plain=True)
        stream.send(b"<presence/>")
        while True:
            element = await stream.next()
            assert element is not None
            if element.name == ns.MESSAGE:
                stream.abort()
                return element.tree.findtext(ns.qualified(ns.CLIENT, "body")) or ""

    assert run(scenario).startswith("compare <it> & decide\n\nTime: ")
    assert written.getvalue().count("\n") == 1  # the alert itself, and no trouble
