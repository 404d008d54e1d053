"""What a daemon tells of itself and its sessions: values that go over the control socket."""

from enum import Enum
from typing import Self

import attrs

from proxy.daemon.model import FORWARD, REVERSE
from proxy.session.hooks import Address, TLSFacts, View
from proxy.session.kinds import Kind


class State(Enum):
    """How far a session has come."""

    NEGOTIATING = "negotiating"
    """Who opened it is not authenticated yet."""
    WAITING = "waiting"
    """It waits to be told whether its server's certificate is believed, perhaps by an operator."""
    AUTHENTICATED = "authenticated"
    """The server has let it in; of a stream between servers, a pair of domains is proved."""
    JOINED = "joined"
    """Negotiation is over, and bytes pass from one leg to the other."""
    DIVIDED = "divided"
    """A stream of a server of ours for several domains, each of which has a session of its own."""
    ENDING = "ending"
    """It is over, but for last bytes."""


@attrs.frozen
class TLS:
    """What TLS on one leg agreed on.

    Attributes:
        version: such as ``TLSv1.3``.
        cipher: OpenSSL's name of the cipher suite.
        group: of the key exchange; empty if unknown.
        start: ``direct`` or ``starttls``.
        resumed: whether an earlier session was taken up again.
    """

    version: str
    cipher: str
    group: str
    start: str
    resumed: bool

    @classmethod
    def of(cls, facts: TLSFacts | None) -> Self | None:
        """Return what a handshake agreed on; None for a leg in plaintext."""
        if facts is None:
            return None
        start = "direct" if facts.direct else "starttls"
        return cls(facts.version, facts.cipher, facts.group, start, facts.resumed)


@attrs.frozen
class SessionFacts:
    """One session, as it stands. What is not known yet is None, or empty.

    Attributes:
        id: as in the log.
        listener: the name of the listener that accepted it.
        direction: that listener's: ``reverse`` or ``forward``.
        stream: its kind of stream: ``c2s``, ``s2s`` or ``component``.
        state: how far it has come, one of the words of `State`.
        client: the address and port of who opened it.
        server: the address and port of the server leg.
        domain: the domain that it speaks to, as A-labels.
        origin: of a stream between servers, the domain that opened it.
        client_tls: TLS of the client leg; None while it is plaintext.
        server_tls: TLS of the server leg; likewise.
        client_identity: which identity of the client's certificate has proved ``origin``.
        server_identity: which identity of the server's certificate has proved ``domain``.
        proof: of a stream between servers, ``external`` or ``dialback``.
        seconds: how long it has lasted.
        from_client: bytes that came from the client, those of TLS not counted.
        from_server: bytes that came from the server, likewise.
    """

    id: str
    listener: str
    direction: str
    stream: str
    state: str
    client: str
    server: str | None
    domain: str | None
    origin: str | None
    client_tls: TLS | None
    server_tls: TLS | None
    client_identity: str
    server_identity: str
    proof: str
    seconds: float
    from_client: int
    from_server: int

    @classmethod
    def of(
        cls,
        view: View,
        state: State,
        server: Address | None,
        seconds: float,
        passed: tuple[int, int],
    ) -> Self:
        """Return the facts of a session.

        Args:
            view: the session as plugins see it.
            state: how far it has come.
            server: where its server leg leads; None if it has none yet.
            seconds: how long it has lasted.
            passed: how many bytes came from the client and from the server.
        """
        return cls(
            id=view.id,
            listener=view.listener,
            direction=FORWARD if view.outward else REVERSE,
            stream=view.kind.value,
            state=state.value,
            client=str(view.client),
            server=None if server is None else str(server),
            domain=view.domain,
            origin=view.origin,
            client_tls=TLS.of(view.tls),
            server_tls=TLS.of(view.server_tls),
            client_identity=view.client_identity,
            server_identity=view.server_identity,
            proof=view.proof,
            seconds=round(seconds, 3),
            from_client=passed[0],
            from_server=passed[1],
        )


def state_of(view: View, *, joined: bool, over: bool, waiting: bool = False) -> State:
    """Return how far a session has come that is not divided.

    Args:
        view: the session as plugins see it.
        joined: whether its legs are joined.
        over: whether only last bytes are left of it.
        waiting: whether it waits to be told whether its server is believed.
    """
    if joined:
        return State.JOINED
    if over:
        return State.ENDING
    if waiting:
        return State.WAITING
    let_in = bool(view.proof) if view.kind is Kind.S2S else view.authenticated
    return State.AUTHENTICATED if let_in else State.NEGOTIATING


@attrs.frozen
class ListenerFacts:
    """One listener.

    Attributes:
        name: its name in the conf.
        direction: ``reverse`` or ``forward``.
        stream: the kind of stream that it accepts.
        address: where it listens, with the port that it really has.
        tls: its rule.
        sessions: how many sessions it has now.
    """

    name: str
    direction: str
    stream: str
    address: str
    tls: str
    sessions: int


@attrs.frozen
class CertificateRow:
    """A certificate that the daemon presents.

    Attributes:
        domain: whose it is.
        file: where it was read from.
        kind: of its key, such as ``ECDSA P-256``.
        not_after: its end, as ISO 8601 has it, in UTC.
        days_left: days of the calendar until then; None if it is past.
    """

    domain: str
    file: str
    kind: str
    not_after: str
    days_left: int | None


@attrs.frozen
class AlertRow:
    """An alert of late.

    Attributes:
        time: when it was last met, as ISO 8601 has it, in UTC.
        severity: ``notice``, ``warning`` or ``critical``.
        text: what has happened and what to do, on one line.
        count: how often it was met.
    """

    time: str
    severity: str
    text: str
    count: int


@attrs.frozen
class ServerFacts:
    """A legacy server, and what came of asking it for a stream.

    Attributes:
        domain: whom the stream was to, as A-labels.
        stream: the kind of stream: ``c2s``, ``s2s`` or ``component``.
        server: where it is: its address or host name, and port.
        reached: whether the connection was taken.
        answered: whether all is well.
        seconds: how long the answer took; None if there was none.
        version: of XMPP, as its header says; ``0.9`` if it says none, None if there was no header.
        features: whether the header was followed by features.
        problem: what is wrong, as a clause about the server; empty if all is well.
    """

    domain: str
    stream: str
    server: str
    reached: bool
    answered: bool
    seconds: float | None
    version: str | None
    features: bool
    problem: str


class WorkerState(Enum):
    """How one of several processes is."""

    STARTING = "starting"
    """It is being started, and serves nobody yet."""
    RUNNING = "running"
    """It serves sessions."""
    SILENT = "silent"
    """It is there, but has not answered when it was asked."""
    WAITING = "waiting"
    """It has ended, and will be started again."""
    ENDING = "ending"
    """It ends, and will not be started again."""


@attrs.frozen
class WorkerFacts:
    """One of several processes that serve sessions.

    Attributes:
        number: from 1; one that is started again keeps it.
        state: how it is, one of the words of `WorkerState`.
        pid: the process; None while there is none.
        started: when the process was started, as ISO 8601 has it, in UTC; likewise.
        restarts: how often it was started again.
        seconds: of one that waits, until it is started again; None of others.
        sessions: how many sessions it has; None if it has not said.
    """

    number: int
    state: str
    pid: int | None = None
    started: str | None = None
    restarts: int = 0
    seconds: float | None = None
    sessions: int | None = None


@attrs.frozen
class Status:
    """A daemon, as it stands.

    Attributes:
        version: Bascule's.
        pid: the process.
        started: when it started, as ISO 8601 has it, in UTC.
        seconds: how long ago that is.
        sessions: how many sessions there are, by the words of `State`.
        listeners: the listeners, in the order of the conf.
        certificates: the certificates that are presented.
        pending: how many certificates wait in the keyring for a decision; None without a keyring.
        alerts: the alerts of late, newest first.
        workers: the processes that serve sessions, where there are several.
    """

    version: str
    pid: int
    started: str
    seconds: float
    sessions: dict[str, int]
    listeners: tuple[ListenerFacts, ...]
    certificates: tuple[CertificateRow, ...] = ()
    pending: int | None = None
    alerts: tuple[AlertRow, ...] = ()
    workers: tuple[WorkerFacts, ...] = ()


@attrs.frozen
class Reloaded:
    """What came of a reload.

    Attributes:
        mistakes: what was wrong, a line for each; then everything stays as it was.
        warnings: what may be wrong, likewise.
        changes: what is otherwise than before, by what it is: names of listeners, domains, tables.
    """

    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Drained:
    """What is being drained.

    Attributes:
        sessions: how many sessions end.
        seconds: within how many seconds.
    """

    sessions: int
    seconds: float


@attrs.frozen
class Traced:
    """One thing that happened in the negotiation of a session that is traced.

    Attributes:
        time: when, as ISO 8601 has it, in UTC.
        session: the session's id.
        leg: ``client`` or ``server``; empty if it is about both.
        way: ``received`` or ``sent`` for what went over that leg; empty for what is told of it.
        text: what it was, on one line, credentials masked.
        last: whether nothing more is told of the session.
    """

    time: str
    session: str
    leg: str
    way: str
    text: str
    last: bool = False
