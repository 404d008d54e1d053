"""What a negotiation has done, in words for people."""

from proxy.daemon.control.masking import LONGEST
from proxy.session.commands import (
    Abort,
    Alert,
    AwaitTLS,
    Close,
    Command,
    Connect,
    ConnectNext,
    Finish,
    Reconnect,
    Redirect,
    Report,
    Side,
    StartServerTLS,
    StartTLS,
)
from proxy.session.hooks import ClientHello, TLSFacts
from proxy.xmpp.text import printable


def leg(command: Command) -> Side | None:
    """Return the leg that a command is about; None for both."""
    match command:
        case Close(side=side) | Abort(side=side):
            return side
        case AwaitTLS() | StartTLS() | Alert():
            return Side.CLIENT
        case Connect() | ConnectNext() | Reconnect() | Redirect() | StartServerTLS():
            return Side.SERVER
        case _:
            return None


def described(command: Command) -> str:
    """Return what a command does, on one line; empty for what the proxy keeps to itself."""
    match command:
        case AwaitTLS() | StartTLS() | StartServerTLS() | Alert():
            text = _of_tls(command)
        case Connect() | ConnectNext() | Reconnect() | Redirect():
            text = _of_ways(command)
        case Close():
            text = "closed"
        case Abort():
            text = "given up"
        case Report(message=message, fields=fields):
            told = [f"{name}={value}" for name, value in fields.items() if value not in (None, "")]
            text = f"log: {' '.join((message, *told))}"
        case Finish(reason=reason):
            text = f"ended: {reason}"
        case _:
            text = ""
    return printable(text, LONGEST)


def _of_tls(command: AwaitTLS | StartTLS | StartServerTLS | Alert) -> str:
    match command:
        case AwaitTLS(direct=direct):
            return f"TLS is awaited, {_start(direct=direct)}"
        case StartTLS(domain):
            return f"TLS goes on with the certificate of {domain}"
        case StartServerTLS(domain=domain, direct=direct):
            return f"TLS begins, {_start(direct=direct)}, for {domain}"
        case Alert(description):
            return f"refused by TLS alert {description}"


def _of_ways(command: Connect | ConnectNext | Reconnect | Redirect) -> str:
    match command:
        case Connect(domain):
            return f"to be connected to the server of {domain}"
        case ConnectNext():
            return "to be connected by the next way"
        case Reconnect():
            return "to be connected again"
        case Redirect(host=host, port=port):
            return f"redirected to {host}" + ("" if port is None else f", port {port}")


def _start(*, direct: bool) -> str:
    return "direct" if direct else "after STARTTLS"


def asked(hello: ClientHello) -> str:
    """Return what a ClientHello asks for, on one line."""
    name = "no server name" if hello.server_name is None else f"for {hello.server_name}"
    protocols = ", ".join(each.decode("ascii", "backslashreplace") for each in hello.protocols)
    return printable(f"ClientHello, {name}, ALPN {protocols or 'none'}")


def agreed(facts: TLSFacts) -> str:
    """Return what TLS has agreed on, on one line."""
    group = facts.group or "group unknown"
    resumed = ", resumed" if facts.resumed else ""
    return f"TLS is up: {facts.version}, {facts.cipher}, {group}{resumed}"
