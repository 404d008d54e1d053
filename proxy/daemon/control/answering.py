"""What is answered to the commands that have an end."""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Final

from proxy.daemon.control.controlled import NO_SESSION, Controlled, Wanted, awaited
from proxy.daemon.control.protocol import Arguments, Code, RefusedError, Request
from proxy.session.commands import Severity

TRACE: Final = "trace"
"""The command whose answer goes on until somebody ends it."""

SERVERS: Final = "servers"
"""The command that has the legacy servers asked, for whoever has asked them."""

MOST_TRACED: Final = 100
"""Sessions that one trace waits for."""

Items = Iterator[Any]
"""The items of an answer, drawn one by one in many turns of the reactor.

None stands for no item, and a Deferred for the one that it will have; nothing is drawn until then.
"""

Answer = Callable[[Arguments], Items]
"""Gives the items of an answer to a command with these arguments.

Raises:
    RefusedError, NotControllableError: it is not fulfilled; the items may raise the same.
"""


class Answering:
    """Answers what a daemon is asked.

    Args:
        controlled: the daemon.
        more: what is answered to other commands than those that anybody may give, by their names.
    """

    def __init__(self, controlled: Controlled, more: Mapping[str, Answer] | None = None) -> None:
        self.controlled: Final = controlled
        self._commands: Final[Mapping[str, Answer]] = {
            "status": self._status,
            "sessions": self._sessions,
            "kick": self._kick,
            "log-level": self._log_level,
            "reload": self._reload,
            "drain": self._drain,
            **(more or {}),
        }

    def answer(self, request: Request) -> Items:
        """Return the items that answer a request.

        Raises:
            RefusedError, NotControllableError: it is not fulfilled.
        """
        command = self._commands.get(request.command)
        if command is None:
            names = ", ".join((*self._commands, TRACE))
            raise RefusedError(Code.BAD_REQUEST, f"there is no such command; there are {names}")
        return command(Arguments(request.arguments))

    def _status(self, arguments: Arguments) -> Items:
        arguments.end()
        return iter((self.controlled.status(),))

    def _sessions(self, arguments: Arguments) -> Items:
        listener, domain = arguments.text("listener"), arguments.text("domain")
        arguments.end()
        return self.controlled.sessions(listener, domain)

    def _kick(self, arguments: Arguments) -> Items:
        session = arguments.text("session")
        arguments.end()
        if not session:
            raise RefusedError(Code.BAD_REQUEST, "no session is named")

        def kicked(there: bool) -> Any:
            if not there:
                raise RefusedError(Code.NOT_FOUND, NO_SESSION)
            return {"session": session}

        return iter((awaited(self.controlled.kick(session)).addCallback(kicked),))

    def _log_level(self, arguments: Arguments) -> Items:
        named = arguments.text("level")
        arguments.end()
        try:
            level = Severity(named) if named else None
        except ValueError as error:
            text = f"there are the levels {', '.join(each.value for each in Severity)}"
            raise RefusedError(Code.BAD_REQUEST, text) from error
        found = awaited(self.controlled.log_level(level))
        return iter((found.addCallback(lambda least: {"level": least.value}),))

    def _reload(self, arguments: Arguments) -> Items:
        arguments.end()
        return iter((self.controlled.reload(),))

    def _drain(self, arguments: Arguments) -> Items:
        older_than = arguments.text("older_than")
        arguments.end()
        try:
            drained = self.controlled.drain(older_than)
        except ValueError as error:
            raise RefusedError(Code.BAD_REQUEST, f"older_than: {error}") from error
        return iter((drained,))


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
