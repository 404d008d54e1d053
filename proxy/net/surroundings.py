"""What bridges share with others, and what they leave to them."""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
from OpenSSL import SSL

from proxy.net.deadlines import Deadlines
from proxy.net.hub import Hub
from proxy.net.reach import Connected, Failed, Reach
from proxy.net.summary import Summary
from proxy.session.chain import Chain
from proxy.session.commands import Report, Side
from proxy.session.hooks import Address, TLSFacts, View

if TYPE_CHECKING:
    from proxy.net.bridge import Bridge

ENDING: Final = 5.0
"""Seconds that a server gets to end its stream after the client has ended its own."""


class Measured(Protocol):
    """Takes what is measured of sessions while they are negotiated."""

    def handshake(self, leg: Side, facts: TLSFacts) -> None:
        """Take a TLS handshake that has succeeded."""

    def handshake_failed(self, leg: Side) -> None:
        """Take note of one that has failed."""


@attrs.frozen
class Parted:
    """A client that goes on without its bridge.

    Attributes:
        connection: its socket.
        waiting: what is still to be written to it.
        header: its stream's header.
        rest: what it has sent behind that.
        view: the session as it stands.
        started: when it began, by the monotonic clock.
        original: where it wanted to go, if its connection was redirected.
    """

    connection: socket.socket
    waiting: bytes
    header: bytes
    rest: bytes
    view: View
    started: float
    original: Address | None


@attrs.frozen
class Surroundings:
    """What all bridges of a listener share.

    Attributes:
        reactor: the reactor.
        hub: watches the sockets.
        contexts: the TLS context for each domain.
        reach: finds the ways to the server of a domain, for a client that may have wanted to go
            to the place that is given.
        server_context: gives the TLS context in which the server of a domain is spoken to, as the
            domain of ours that is given; empty for none.
        deadlines: runs the deadlines.
        chain: the plugins, which are told of the end.
        report: takes what goes to the log: session id, and what the negotiation reports.
        closed: takes the summary of each session.
        preface: writes what the server gets before anything else, from what is known of the
            session, where the client has connected to, and the certificates that it has shown;
            None if it gets nothing.
        divided: takes over a client whose stream is for several domains; None if there is none.
        measured: takes what is measured; None if nothing is.
    """

    reactor: Any
    hub: Hub
    contexts: Mapping[str, SSL.Context]
    reach: Callable[[str, Address | None, Connected, Failed], Reach]
    server_context: Callable[[str, str], SSL.Context]
    deadlines: Deadlines
    chain: Chain
    report: Callable[[str, Report], None]
    closed: Callable[["Bridge", Summary], None]
    preface: Callable[[View, Address, Sequence[bytes]], bytes] | None = None
    divided: Callable[["Bridge", Parted], None] | None = None
    measured: Measured | None = None
