"""What is answered to the commands that have an end."""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Final

from twisted.internet.defer import Deferred

from proxy.daemon.control.controlled import NO_LISTENER, Controlled, Wanted
from proxy.daemon.control.facts import SessionFacts
from proxy.daemon.control.protocol import Arguments, Code, RefusedError, Request
from proxy.session.commands import Severity

TRACE: Final = "trace"
"""The command whose answer goes on until somebody ends it."""

MOST_TRACED: Final = 100
"""Sessions that one trace waits for."""

Items = Iterator[Any]
"""The items of an answer, drawn one by one in many turns of the reactor."""

Answer = Callable[[Controlled, Arguments], "Items | Deferred[Items]"]
"""Gives the items of an answer, or will do so."""


def answer(controlled: Controlled, request: Request) -> "Items | Deferred[Items]":
    """Return the items that answer a request, or will do so.

    Raises:
        RefusedError: it is not fulfilled.
    """
    command = _COMMANDS.get(request.command)
    if command is None:
        names = ", ".join((*_COMMANDS, TRACE))
        raise RefusedError(Code.BAD_REQUEST, f"there is no such command; there are {names}")
    return command(controlled, Arguments(request.arguments))


def wanted(request: Request) -> Wanted:
    """Return which sessions a request for a trace is about.

    Raises:
        RefusedError: it cannot be understood.
    """
    arguments = Arguments(request.arguments)
    session, listener = arguments.text("session"), arguments.text("listener")
    client, count = arguments.text("client"), arguments.whole("count", MOST_TRACED)
    arguments.end()
    if session and (listener or client or count != 1):
        text = "a trace is of one session, or of those that begin at a listener or by a client"
        raise RefusedError(Code.BAD_REQUEST, text)
    try:
        network = ip_network(client, strict=False) if client else None
    except ValueError as error:
        text = "client is neither an IP address nor a network"
        raise RefusedError(Code.BAD_REQUEST, text) from error
    return Wanted(session, listener, network, count)


def _status(controlled: Controlled, arguments: Arguments) -> Iterator[Any]:
    arguments.end()
    return iter((controlled.status(),))


def _sessions(controlled: Controlled, arguments: Arguments) -> Iterator[Any]:
    listener, domain = arguments.text("listener"), arguments.text("domain")
    arguments.end()
    if listener and not controlled.has_listener(listener):
        raise RefusedError(Code.NOT_FOUND, NO_LISTENER)

    def is_meant(session: SessionFacts) -> bool:
        if listener and session.listener != listener:
            return False
        return not domain or domain in (session.domain, session.origin)

    # None stands for a session that is passed over, which takes its time too.
    return (session if is_meant(session) else None for session in controlled.sessions())


def _kick(controlled: Controlled, arguments: Arguments) -> Iterator[Any]:
    session = arguments.text("session")
    arguments.end()
    if not session:
        raise RefusedError(Code.BAD_REQUEST, "no session is named")
    if not controlled.kick(session):
        raise RefusedError(Code.NOT_FOUND, "there is no session with this id")
    return iter(({"session": session},))


def _log_level(controlled: Controlled, arguments: Arguments) -> Iterator[Any]:
    named = arguments.text("level")
    arguments.end()
    try:
        level = Severity(named) if named else None
    except ValueError as error:
        text = f"there are the levels {', '.join(each.value for each in Severity)}"
        raise RefusedError(Code.BAD_REQUEST, text) from error
    return iter(({"level": controlled.log_level(level).value},))


def _reload(controlled: Controlled, arguments: Arguments) -> "Deferred[Items]":
    arguments.end()
    return controlled.reload().addCallback(lambda reloaded: iter((reloaded,)))


def _drain(controlled: Controlled, arguments: Arguments) -> Iterator[Any]:
    older_than = arguments.text("older_than")
    arguments.end()
    try:
        drained = controlled.drain(older_than)
    except ValueError as error:
        raise RefusedError(Code.BAD_REQUEST, f"older_than: {error}") from error
    return iter((drained,))


_COMMANDS: Final[Mapping[str, Answer]] = {
    "status": _status,
    "sessions": _sessions,
    "kick": _kick,
    "log-level": _log_level,
    "reload": _reload,
    "drain": _drain,
}
