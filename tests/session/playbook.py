"""Drives a session with events and compares the commands that come out, all of them, in order.

A `Playbook` takes one event at a time; `Playbook.then` says what must have come of it. What came
out and was never asked for fails the next event, and the test's end (fixture ``play``).
"""

from collections.abc import Callable, Iterable
from difflib import ndiff
from typing import Any, Self
from unittest.mock import ANY

from plugins.features import Features, FeaturesConfig
from plugins.limits import Limits, LimitsConfig
from plugins.require_tls import RequireTLS, RequireTLSConfig
from proxy.session.chain import Chain
from proxy.session.commands import (
    Abort,
    Arm,
    AwaitTLS,
    Close,
    Command,
    Connect,
    Deadline,
    Disarm,
    Finish,
    Hold,
    Resume,
    Send,
    Side,
    StartTLS,
)
from proxy.session.hooks import Address, ClientHello, Condition, Plugin, TLSFacts, TLSRule
from proxy.session.ids import StreamIds
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED
from proxy.xmpp.features import STARTTLS_REQUIRED
from proxy.xmpp.headers import response

CLIENT, SERVER = Side.CLIENT, Side.SERVER
DOMAIN = "example.com"
OTHER_DOMAIN = "example.org"

STARTTLS = f"<starttls xmlns='{ns.TLS}'/>".encode()
AUTH = f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>".encode()
SUCCESS = f"<success xmlns='{ns.SASL}'/>".encode()
BIND = f"<iq type='set' id='bind'><bind xmlns='{ns.BIND}'/></iq>".encode()
BOUND = (
    f"<iq type='result' id='bind'><bind xmlns='{ns.BIND}'><jid>alice@example.com/x</jid>"
    "</bind></iq>"
).encode()
MECHANISMS = (
    f"<stream:features><mechanisms xmlns='{ns.SASL}'><mechanism>PLAIN</mechanism></mechanisms>"
    "</stream:features>"
).encode()
BIND_FEATURES = f"<stream:features><bind xmlns='{ns.BIND}'/></stream:features>".encode()
MESSAGE = b"<message to='bob@example.com'><body>hello</body></message>"
CLIENT_HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"


def header(
    to: str | None = DOMAIN,
    version: str | None = "1.0",
    *,
    content: str = ns.CLIENT,
    streams: str = ns.STREAMS,
    prefix: str = "stream",
    more: str = "",
) -> bytes:
    """A client's stream header."""
    said = f" to='{to}'" if to is not None else ""
    said += f" version='{version}'" if version is not None else ""
    return f"<{prefix}:stream xmlns='{content}' xmlns:{prefix}='{streams}'{said}{more}>".encode()


def answer(stream_id: str = "s1", version: str | None = "1.0") -> bytes:
    """A server's stream header."""
    said = f" version='{version}'" if version is not None else ""
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}' "
        f"id='{stream_id}' from='{DOMAIN}'{said}>"
    ).encode()


def own(
    number: int = 1, *, sender: str = DOMAIN, to: str | None = None, version: bool = True
) -> bytes:
    """The header of the proxy's own stream with this number, by `CountedIds`."""
    return response(stream_id=f"own-{number}", sender=sender, to=to, version=version)


def iq_auth(kind: str, inside: str = "<username>alice</username>") -> bytes:
    """An IQ of legacy authentication (XEP-0078)."""
    return f"<iq type='{kind}' id='a'><query xmlns='{ns.AUTH}'>{inside}</query></iq>".encode()


class _Refusal:
    """Equals the bytes of a stream error under ``before``, and the footer."""

    def __init__(self, condition: Condition, text: str, before: bytes) -> None:
        self.condition, self.text, self.before = condition, text, before

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, bytes):
            return NotImplemented
        start = (
            self.before
            + (f"<stream:error><{self.condition.value} xmlns='{ns.STREAM_ERRORS}'/><text ").encode()
        )
        return (
            other.startswith(start)
            and self.text.encode() in other.removeprefix(start)
            and other.endswith(b"</text></stream:error>" + FOOTER)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.before!r} + error {self.condition.value} (…{self.text}…) + footer"


class _Containing:
    """Equals text that contains this."""

    def __init__(self, part: str) -> None:
        self.part = part

    def __eq__(self, other: object) -> bool:
        return self.part in other if isinstance(other, str) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"…{self.part}…"


def containing(part: str) -> Any:
    """Equal to every text that contains ``part``."""
    return _Containing(part)


def finished(reason: str = "", *, close: Iterable[Side] = (), abort: Iterable[Side] = ()) -> Any:
    """The commands that end a session."""
    return (
        *map(Close, close),
        *map(Abort, abort),
        Finish(ANY, containing(reason), ANY),
    )


def refused(condition: Condition, text: str = "", *, before: bytes = b"") -> Any:
    """The commands that end a session with a stream error, ``before`` sent in front of it."""
    error: Any = _Refusal(condition, text, before)
    return (
        Send(CLIENT, error),
        *finished(condition.value, close=[CLIENT], abort=[SERVER]),
    )


class CountedIds(StreamIds):
    """Ids that tests can foresee."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return f"own-{self.count}"

    def issued(self, stream_id: str) -> bool:
        return stream_id.startswith("own-")


class TwoDomains:
    """Serves example.com and example.org; shows example.com to those who name none."""

    def serves(self, domain: str) -> bool:
        return domain in (DOMAIN, OTHER_DOMAIN)

    def default(self) -> str:
        return DOMAIN


def all_plugins() -> list[Plugin]:
    """The plugins of the default chain."""
    return [
        RequireTLS(RequireTLSConfig()),
        Features(FeaturesConfig()),
        Limits(LimitsConfig(), clock=lambda: 0.0),
    ]


def new_session(
    rule: TLSRule = TLSRule.REQUIRED,
    plugins: Iterable[Plugin] = (),
    ids: StreamIds | None = None,
) -> Session:
    return Session(
        session_id="session",
        listener="c2s",
        rule=rule,
        client=Address("192.0.2.1", 5000),
        domains=TwoDomains(),
        chain=Chain(plugins),
        ids=ids or CountedIds(),
    )


def client_hello(
    name: str | None = DOMAIN, protocols: tuple[bytes, ...] = (), *, direct: bool = False
) -> ClientHello:
    return ClientHello(server_name=name, protocols=protocols, direct=direct)


def facts(*, direct: bool = False) -> TLSFacts:
    return TLSFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "", DOMAIN, False, direct)


class Playbook:
    """One session, the events it has had and the commands that came of the last."""

    def __init__(self, rule: TLSRule = TLSRule.REQUIRED, plugins: Iterable[Plugin] = ()) -> None:
        self.session = new_session(rule, plugins)
        self.history: list[str] = []
        self.commands: list[Command] = []
        """Every command so far."""
        self._pending: list[Command] = []

    # Events

    def _event(self, told: str, event: Callable[[], list[Command]]) -> Self:
        self.done()
        self.history.append(told)
        self._pending = event()
        self.commands += self._pending
        return self

    def connected(self) -> Self:
        return self._event("connected", self.session.connected)

    def client(self, data: bytes) -> Self:
        return self._event(f"client: {data!r}", lambda: self.session.received(CLIENT, data))

    def server(self, data: bytes) -> Self:
        return self._event(f"server: {data!r}", lambda: self.session.received(SERVER, data))

    def hello(self, hello: ClientHello | None = None) -> Self:
        said = hello or client_hello()
        return self._event(f"hello: {said}", lambda: self.session.hello(said))

    def secured(self, *, direct: bool = False) -> Self:
        return self._event("secured", lambda: self.session.secured(facts(direct=direct)))

    def tls_failed(self, reason: str = "bad record") -> Self:
        return self._event(f"TLS failed: {reason}", lambda: self.session.tls_failed(reason))

    def server_connected(self) -> Self:
        return self._event("server connected", self.session.server_connected)

    def server_unreachable(self, reason: str = "connection refused") -> Self:
        return self._event("unreachable", lambda: self.session.server_unreachable(reason))

    def lost(self, side: Side, reason: str = "connection reset") -> Self:
        return self._event(f"lost: {side.value}", lambda: self.session.lost(side, reason))

    def expired(self, deadline: Deadline) -> Self:
        return self._event(f"expired: {deadline.value}", lambda: self.session.expired(deadline))

    def shut_down(self) -> Self:
        return self._event("shut down", self.session.shut_down)

    # Expectations

    def then(self, *expected: Command) -> Self:
        """Demand that exactly these commands came of the last event."""
        pending, self._pending = self._pending, []
        if list(expected) != pending:
            # A matcher that holds is shown as what it matched, so that only faults differ.
            shown = [
                repr(pending[place] if place < len(pending) and pending[place] == one else one)
                for place, one in enumerate(expected)
            ]
            raise AssertionError(self._story(ndiff(shown, list(map(repr, pending)))))
        return self

    def ending(self, *expected: Command) -> Self:
        """Demand that the commands of the last event end in these."""
        self._pending, before = self._pending[-len(expected) :], self._pending[: -len(expected)]
        self.history.append(f"  and it began with {before}")
        return self.then(*expected)

    def done(self) -> None:
        """Demand that nothing came out that `then` has not been asked about."""
        if self._pending:
            pending, self._pending = self._pending, []
            raise AssertionError(self._story(f"+ {command!r}" for command in pending))

    def _story(self, difference: Iterable[str]) -> str:
        events = "\n".join(f"  {event}" for event in self.history)
        commands = "\n".join(line.rstrip("\n") for line in difference)
        return f"after\n{events}\nexpected (-) and real (+) commands:\n{commands}"

    # The way to where a test begins, every command checked

    def to_offer(self) -> Self:
        self.connected().then(Arm(Deadline.NEGOTIATION))
        return self.client(header()).then(Send(CLIENT, own() + STARTTLS_REQUIRED))

    def to_hello(self) -> Self:
        return self.to_offer().client(STARTTLS).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))

    def to_handshake(self) -> Self:
        return self.to_hello().hello().then(StartTLS(DOMAIN))

    def to_secured(self) -> Self:
        return self.to_handshake().secured().then(*TLS_UP)

    def to_direct_secured(self) -> Self:
        self.connected().then(Arm(Deadline.NEGOTIATION))
        self.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
        self.hello(client_hello(direct=True)).then(StartTLS(DOMAIN))
        return self.secured(direct=True).then(*TLS_UP)

    def to_connecting(self) -> Self:
        return self.to_secured().client(header()).then(*CONNECTING)

    def to_open(self, features: bytes = MECHANISMS) -> Self:
        """Both streams open, the client having seen the server's features."""
        return self.to_connecting().to_features(features)

    def to_features(self, features: bytes = MECHANISMS, opening: bytes = b"") -> Self:
        """From `CONNECTING` to the server's features."""
        self.server_connected().then(Send(SERVER, opening or header()))
        return self.server(answer() + features).then(
            Disarm(Deadline.CONNECT), Send(CLIENT, answer()), Send(CLIENT, features), Resume()
        )

    def to_success(self) -> Self:
        self.to_open().client(AUTH).then(Send(SERVER, AUTH), Hold())
        return self.server(SUCCESS).then(
            Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume()
        )

    def to_restarted(self) -> Self:
        """Authenticated, both streams begun anew."""
        self.to_success().client(header()).then(
            Arm(Deadline.CONNECT), Send(SERVER, header()), Hold()
        )
        return self.server(answer("s2") + BIND_FEATURES).then(
            Disarm(Deadline.CONNECT),
            Send(CLIENT, answer("s2")),
            Send(CLIENT, BIND_FEATURES),
            Resume(),
        )


TLS_UP = (Disarm(Deadline.NEGOTIATION), Arm(Deadline.AUTHENTICATION))
CONNECTING = (Arm(Deadline.CONNECT), Connect(DOMAIN), Hold())
PLAINTEXT_CONNECTING = (*TLS_UP, *CONNECTING)
