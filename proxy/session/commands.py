"""Commands: what a negotiation wants done. They come out in the order to be carried out."""

from collections.abc import Mapping
from enum import Enum

import attrs

from proxy.session.hooks import View
from proxy.session.table import Singletons
from proxy.trust.undecided import Decision
from proxy.xmpp.meter import Meter


class Side(Singletons):
    """The two legs of a session."""

    CLIENT = "client"
    SERVER = "server"


class Deadline(Singletons):
    """The waits that end a session when they end."""

    NEGOTIATION = "negotiation"
    """From accept until TLS is up."""
    AUTHENTICATION = "authentication"
    """From then until the client is authenticated."""
    CONNECT = "connect"
    """From the start of the server leg until its stream is open."""
    WAY = "way"
    """The same for one way to the server, where there is another one."""
    ENDING = "ending"
    """From the end of the client's stream until the end of the server's."""


class Severity(Enum):
    """How much an operator cares."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@attrs.frozen
class Send:
    """Write ``data`` on a leg."""

    side: Side
    data: bytes


@attrs.frozen
class AwaitTLS:
    """Read no more plaintext from the client leg; report its ClientHello without taking it.

    The bytes that `Session.unread` counts belong to TLS already.

    Attributes:
        direct: whether TLS began with the first byte of the connection.
    """

    direct: bool


@attrs.frozen
class StartTLS:
    """Answer the ClientHello with the certificate of ``domain``."""

    domain: str


@attrs.frozen
class Alert:
    """Refuse the ClientHello with a fatal TLS alert (RFC 8446, section 6.2) and end the leg."""

    description: int


@attrs.frozen
class Connect:
    """Open the server leg, to the server behind ``domain``."""

    domain: str


@attrs.frozen
class ConnectNext:
    """Open the server leg again, by the next way to the same domain."""


@attrs.frozen
class Reconnect:
    """Open the server leg again, by the way that was taken last."""


@attrs.frozen
class Redirect:
    """Open the server leg again, at another host that is to be asked for the same domain.

    Attributes:
        host: a host name or an IP address, as the server wrote it.
        port: the port; None for the usual one.
        proved: whether the server that says so has proved the domain. Else the ways that are left
            stay, for it must not take them away.
    """

    host: str
    port: int | None
    proved: bool


@attrs.frozen
class StartServerTLS:
    """Begin the handshake on the server leg, as the client, for ``domain``.

    Attributes:
        domain: whose server it is, as A-labels.
        direct: whether TLS begins with the first byte of the connection (XEP-0368).
        sender: the domain of ours as which its certificate is presented, as A-labels; empty for
            none.
    """

    domain: str
    direct: bool
    sender: str = ""


@attrs.frozen
class Close:
    """End a leg in good order, once everything written to it has been sent.

    Attributes:
        side: the leg.
        brief: whether the peer gets little time to take it in, for there may be many such.
    """

    side: Side
    brief: bool = False


@attrs.frozen
class Abort:
    """End a leg at once."""

    side: Side


@attrs.frozen
class Hold:
    """Read no more from the client leg until `Resume`."""


@attrs.frozen
class Resume:
    """Read from the client leg again."""


@attrs.frozen
class Arm:
    """Start a deadline."""

    deadline: Deadline


@attrs.frozen
class Disarm:
    """Forget a deadline."""

    deadline: Deadline


@attrs.frozen
class Await:
    """Wait for a decision about the server, and tell the session of it (`Session.decided`)."""

    decision: Decision


@attrs.frozen
class Join:
    """Negotiation is over: pass bytes both ways, as they are.

    Attributes:
        to_server: bytes that the client has sent already and the server has not got.
        to_client: the same, the other way.
        meter: counts what goes to the server, ``to_server`` included; None if nobody counts.
    """

    to_server: bytes
    to_client: bytes
    meter: Meter | None


@attrs.frozen
class Divide:
    """The client's stream is for several domains: give it up to a division.

    The session goes on there; nothing of it is left here.

    Attributes:
        header: the client's header, which has been answered.
        rest: what the client has sent behind it.
    """

    header: bytes
    rest: bytes


@attrs.frozen
class Report:
    """Something for the log."""

    severity: Severity
    message: str
    fields: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Finish:
    """The session is over, for this reason, its deadlines with it; only last bytes are left."""

    view: View
    reason: str
    severity: Severity = Severity.INFO


Command = (
    Send
    | AwaitTLS
    | StartTLS
    | Alert
    | Connect
    | ConnectNext
    | Reconnect
    | Redirect
    | StartServerTLS
    | Close
    | Abort
    | Hold
    | Resume
    | Arm
    | Disarm
    | Await
    | Join
    | Divide
    | Report
    | Finish
)
