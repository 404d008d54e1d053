"""Sessions brought to where an attack begins, and what came of them."""

from collections.abc import Callable, Iterable

import pytest

from proxy.session.commands import (
    Command,
    Finish,
    Join,
    Send,
)
from proxy.session.hooks import Condition, Plugin
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.playbook import (
    AUTH,
    BIND_FEATURES,
    CLIENT,
    MECHANISMS,
    SERVER,
    STARTTLS,
    all_plugins,
    answer,
    client_hello,
    facts,
    header,
    new_session,
)


def nothing() -> list[Plugin]:
    return []


PLUGINS: list[Callable[[], list[Plugin]]] = [nothing, all_plugins]
chains = pytest.mark.parametrize("plugins", PLUGINS, ids=["core alone", "default chain"])


def to_server(commands: Iterable[Command]) -> bytes:
    """What commands send to the server."""
    return b"".join(
        command.data if isinstance(command, Send) else command.to_server
        for command in commands
        if (isinstance(command, Send) and command.side is SERVER) or isinstance(command, Join)
    )


def to_client(commands: Iterable[Command]) -> bytes:
    """What commands send to the client."""
    return b"".join(
        command.data for command in commands if isinstance(command, Send) and command.side is CLIENT
    )


def is_over(commands: Iterable[Command]) -> bool:
    return any(isinstance(command, Finish) for command in commands)


def ends_with_error(commands: Iterable[Command], condition: Condition) -> bool:
    sent = to_client(commands)
    error = f"<stream:error><{condition.value} xmlns='{ns.STREAM_ERRORS}'/>".encode()
    return b"<stream:stream " in sent and error in sent and sent.endswith(FOOTER)


def opened(plugins: Callable[[], list[Plugin]]) -> Session:
    """A session under TLS whose streams are open."""
    session = new_session(plugins=plugins())
    session.connected()
    session.received(CLIENT, header() + STARTTLS)
    session.hello(client_hello())
    session.secured(facts())
    session.received(CLIENT, header())
    session.server_connected()
    session.received(SERVER, answer() + MECHANISMS)
    return session


def authenticated(plugins: Callable[[], list[Plugin]]) -> Session:
    session = opened(plugins)
    session.received(CLIENT, AUTH)
    session.received(SERVER, f"<success xmlns='{ns.SASL}'/>".encode())
    session.received(CLIENT, header())
    session.received(SERVER, answer("s2") + BIND_FEATURES)
    return session
