"""The way out of a forward listener: to the server of a domain, under TLS that its policy demands.

Each way to the server is tried in turn, none by a weaker policy than another. What fails is kept,
so that in the end the client can be told why.
"""

from collections.abc import Callable
from typing import Final, Protocol
from weakref import proxy

from proxy.session.commands import (
    Arm,
    Await,
    Command,
    Connect,
    ConnectNext,
    Deadline,
    Disarm,
    Reconnect,
    Redirect,
    Report,
    Severity,
    StartServerTLS,
)
from proxy.session.faults import located
from proxy.session.hooks import Condition, TLSFacts
from proxy.session.ids import StreamIds
from proxy.session.kinds import Kind
from proxy.session.securing import CircleError, RedirectedError, Securing, WayError
from proxy.session.ways import Reached, Rules, Trouble
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Policy
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp.errors import StreamError

MOST_REDIRECTIONS: Final = 3
"""How often ``<see-other-host/>`` is followed in one session."""

MOST_WAITS: Final = 4
"""How often one session waits for a verdict."""

_LONGEST: Final = 200
_WAIT: Final = (Deadline.CONNECT, Deadline.WAY, Deadline.AUTHENTICATION)
"""What does not count while a verdict is waited for."""

_CONDITIONS: Final = {
    Trouble.ABSENT: Condition.HOST_UNKNOWN,
    Trouble.UNREACHABLE: Condition.REMOTE_CONNECTION_FAILED,
    Trouble.FORBIDDEN: Condition.POLICY_VIOLATION,
}


class Surroundings(Protocol):
    """What the way out needs of the session it is part of."""

    ids: StreamIds
    kind: Kind

    def command(self, *commands: Command) -> None:
        """Have something done."""

    def send_server(self, data: bytes) -> None:
        """Write to the server."""

    def leave_way(self) -> None:
        """Give up the server leg; another one may follow."""

    def server_ready(self) -> None:
        """Go on: the server leg is connected and as secure as it has to be."""

    def server_secured_by(self, facts: TLSFacts, identity: str, evidence: Evidence) -> None:
        """Take note of what TLS on the server leg agreed on, and has shown."""

    def refuse(self, error: StreamError) -> None:
        """End the session with a stream error."""


class Outward:
    """The way of one session to the server of its domain.

    Args:
        around: the session.
        rules: the listener's.
    """

    __slots__ = (
        "__weakref__",
        "_around",
        "_awaited",
        "_detours",
        "_domain",
        "_plaintext",
        "_policy",
        "_problems",
        "_reached",
        "_rules",
        "_securing",
        "_sender",
        "_undecided",
        "_waits",
        "arrived",
        "ids",
        "kind",
    )

    def __init__(self, around: Surroundings, rules: Rules) -> None:
        # The session owns this; a reference back would keep both alive.
        self._around: Surroundings = proxy(around)
        self._rules = rules
        self.ids = around.ids
        self.kind = around.kind
        self._awaited = False  # whether a connection has been asked for
        self._domain = ""
        self._sender = ""
        self._policy: Policy | None = None
        self._reached: Reached | None = None
        self._securing: Securing | None = None
        self._plaintext = False  # whether the next connection is to stay in plaintext
        self._detours = 0
        self._problems: list[tuple[Condition, str]] = []
        self._waits = 0
        self._undecided = ""  # why not, while a verdict is waited for
        self.arrived = False
        """Whether a server has answered the client's own header: no other one is tried then."""

    @property
    def sought(self) -> bool:
        """Whether a server is being looked for, and none has answered yet."""
        return self._policy is not None and not self.arrived

    @property
    def under_way(self) -> bool:
        """Whether the server leg is still to be secured, so that its bytes belong here."""
        return self._securing is not None

    def connect(self, domain: str, sender: str = "") -> None:
        """Begin: look for the server of ``domain``, for the domain ``sender`` of ours if any.

        Both are in A-labels.
        """
        self._domain = domain
        self._sender = sender
        self._policy = self._rules.policy(domain)
        self._ask_for(Connect(domain))

    def connected(self, reached: Reached) -> None:
        """Take a connection that has been made."""
        if not self._awaited:
            raise RuntimeError("a server was reached that nobody asked for")
        self._awaited = False
        self._reached = reached
        if reached.more:
            self._around.command(Arm(Deadline.WAY))
        if self._level is Level.NONE and reached.direct:
            self._fail("speaks TLS only, which the policy rules out", Condition.POLICY_VIOLATION)
        elif self._level is Level.NONE or self._plaintext:
            self._plaintext = False
            self._go_on()
        else:
            self._securing = Securing(
                self, self._domain, optional=self._optional, sender=self._sender
            )
            self._try(lambda securing: securing.begin(direct=reached.direct))

    def received(self, data: bytes) -> None:
        """Take bytes that the server sends before TLS."""
        self._try(lambda securing: securing.feed(data))

    def secured(self, facts: TLSFacts, evidence: Evidence) -> None:
        """Judge the server now that TLS is up; no byte of the client's has left before."""
        securing, policy = self._securing, self._policy
        if securing is None or policy is None:
            raise RuntimeError("TLS came up out of turn")
        securing.secured()
        try:
            verdict = self._judged(policy, evidence)
        except UntrustedError as error:
            verdict = Verdict(error.status, "", str(error))
            if not self._rules.report:
                self._tell(facts, verdict)
                self._fail(str(error), Condition.POLICY_VIOLATION, clause=False)
                return
            self._would_be_refused(str(error))
        except UndecidedError as error:
            verdict = Verdict(Status.UNTRUSTED, "", str(error))
            if not self._rules.report:
                self._tell(facts, verdict)
                self._wait(error)
                return
            self._would_be_refused(str(error))
        except BaseException as error:  # noqa: BLE001 - whatever it was, nothing is proved
            fields = {"error": located(error), "domain": self._domain}
            self._around.command(Report(Severity.ERROR, "fault in a certificate check", fields))
            text = f"the certificate of {self._domain} could not be checked"
            self._fail(text, Condition.POLICY_VIOLATION, clause=False)
            return
        self._securing = None
        self._tell(facts, verdict)
        self._around.server_secured_by(facts, verdict.identity, evidence)
        self._go_on()

    def decided(self, in_time: bool) -> None:
        """Take note that what was waited for has come, or has not come in time."""
        problem, self._undecided = self._undecided, ""
        if not problem:
            raise RuntimeError("a verdict came that nobody waited for")
        self._around.command(Arm(Deadline.CONNECT), Arm(Deadline.AUTHENTICATION))
        if in_time:
            # The server is to show its certificate anew: it is that which is judged.
            self._ask_for(Reconnect())
        else:
            self._fail(problem, Condition.POLICY_VIOLATION, clause=False)

    def tls_failed(self, reason: str, no_tls: bool) -> None:
        """Take note that TLS has failed, or was not agreed on at all (``no_tls``)."""
        if no_tls:
            self._stumble(WayError("failed to establish TLS", no_tls=True, detail=reason))
        else:
            text = "showed a certificate that cannot be read"
            self._fail(text, Condition.POLICY_VIOLATION, detail=reason)

    def lost(self) -> None:
        """Take note that the server has closed the connection."""
        if self._securing is None:
            self._stumble(WayError("closed the connection without an answer"))
        else:
            self._stumble(WayError("closed the connection before TLS was up"))

    def expired(self) -> None:
        """Take note that the server takes too long, while there are others."""
        self._fail("did not answer in time", Condition.REMOTE_CONNECTION_FAILED)

    def again(self, why: str) -> None:
        """Begin a new connection where this one leads to, for the last one cannot go on."""
        fields = {"domain": self._domain, "detail": why}
        self._around.command(Report(Severity.INFO, "the server is connected to again", fields))
        self._leave()
        self._ask_for(Reconnect())

    def redirect(self, host: str, port: int | None) -> bool:
        """Go where the server points; whether that is still allowed."""
        if self._detours == MOST_REDIRECTIONS or self._is_bound:
            return False
        self._detours += 1
        demanded = self._level.demands_proof and not self._rules.report
        proved = demanded and self._securing is None
        self._leave()
        fields = {"domain": self._domain, "host": host, "port": port}
        self._around.command(Report(Severity.INFO, "the server redirects", fields))
        self._ask_for(Redirect(host, port, proved))
        return True

    def unreachable(self, trouble: Trouble, text: str) -> None:
        """Take note that no way is left, and tell the client what matters most.

        Args:
            trouble: why.
            text: the same in words; empty where every way led somewhere, but none far enough.
        """
        self._leave()
        problems = [*self._problems]
        if text or not problems:
            problems.append((_CONDITIONS[trouble], text))
        condition, text = next(
            (each for each in problems if each[0] is Condition.POLICY_VIOLATION), problems[0]
        )
        if condition is Condition.REMOTE_CONNECTION_FAILED:
            reasons = dict.fromkeys(text for kind, text in problems if kind is condition)
            joined = "; ".join(reason for reason in reasons if reason)
            text = f"{self._domain} cannot be reached: {joined}"
        self._around.refuse(StreamError(condition, text))

    def _judged(self, policy: Policy, evidence: Evidence) -> Verdict:
        claims = None if self._reached is None else self._reached.claims
        verdict = self._rules.judge(self._domain, policy, evidence, claims)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"no verdict: {verdict!r}")
        if policy.level.demands_proof and verdict.status is not Status.VERIFIED:
            raise ValueError(f"proof is demanded, and the verdict is {verdict.status.value}")
        return verdict

    # What securing asks for

    def send_server(self, data: bytes) -> None:
        """Write to the server."""
        self._around.send_server(data)

    def start_server_tls(self) -> None:
        """Begin the handshake."""
        direct = self._reached is not None and self._reached.direct
        self._around.command(StartServerTLS(self._domain, direct, self._sender))

    # Inside

    def _wait(self, error: UndecidedError) -> None:
        """Wait for a verdict, without the server: it would lose its patience."""
        self._waits += 1
        if self._waits > MOST_WAITS:
            self._fail(str(error), Condition.POLICY_VIOLATION, clause=False)
            return
        self._undecided = str(error)
        self._leave()
        fields = {"domain": self._domain}
        self._around.command(
            Report(Severity.INFO, f"the session waits: {error}", fields),
            *map(Disarm, _WAIT),
            Await(error.decision),
        )

    @property
    def _level(self) -> Level:
        # Without a policy nothing is allowed that any would forbid.
        return Level.SECURE if self._policy is None else self._policy.level

    @property
    def _optional(self) -> bool:
        """Whether a server without TLS is good enough."""
        return self._level is Level.MAY or (self._rules.report and self._level is not Level.NONE)

    @property
    def _is_bound(self) -> bool:
        """Whether only the domain's own records may say where its server is."""
        if self._policy is None or not self._level.heeds_dane or self._rules.report:
            return False
        led = self._policy.s2s_server if self.kind is Kind.S2S else self._policy.server
        return led is None

    def _try(self, action: Callable[[Securing], None]) -> None:
        if self._securing is None:
            raise RuntimeError("nothing is to be secured")
        try:
            action(self._securing)
        except CircleError as error:
            self._around.refuse(StreamError(Condition.REMOTE_CONNECTION_FAILED, str(error)))
        except WayError as error:
            self._stumble(error)
        except RedirectedError as error:
            if self._is_bound:
                text = "redirects, which is not followed where TLSA records count"
                self._fail(text, Condition.POLICY_VIOLATION)
            elif not self.redirect(error.host, error.port):
                self._fail("redirects too often", Condition.REMOTE_CONNECTION_FAILED)

    def _stumble(self, error: WayError) -> None:
        """This way does not lead to TLS: go back to plaintext if that will do, or give it up."""
        direct = self._reached is not None and self._reached.direct
        optional = self._optional and not direct
        # One that once had TLS has an attacker before it, or something else that is to be told.
        objection = self._objection() if error.certain or (error.no_tls and optional) else ""
        if error.no_tls and optional:
            if objection and self._level is Level.MAY and not self._rules.report:
                self._fail(objection, Condition.POLICY_VIOLATION, clause=False)
                return
            if self._level is not Level.MAY:
                self._would_be_refused(f"the server of {self._domain} {error}")
            elif objection:
                self._would_be_refused(objection)
            self._leave()
            self._plaintext = True
            self._ask_for(Reconnect())
            return
        condition = Condition.REMOTE_CONNECTION_FAILED
        if error.no_tls:
            condition = Condition.POLICY_VIOLATION
        self._fail(str(error), condition, detail=error.detail)

    def _objection(self) -> str:
        """Say why a server that has no TLS will not do, whatever the policy says."""
        try:
            return self._rules.lacks_tls(self._domain)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is no permission
            fields = {"error": located(error), "domain": self._domain}
            self._around.command(Report(Severity.ERROR, "fault in a check", fields))
            return f"whether {self._domain} has had TLS could not be checked"

    def _fail(
        self, text: str, condition: Condition, *, clause: bool = True, detail: str = ""
    ) -> None:
        """Give this way up and take the next.

        Args:
            text: what is wrong.
            condition: what the client is told if nothing worse happens.
            clause: whether ``text`` is about the server, and needs its name before it.
            detail: more, for the log.
        """
        reached = self._reached
        where = self._domain if reached is None else f"{reached.host}:{reached.address.port}"
        text = f"{where} {text}" if clause else text
        self._problems.append((condition, _cut(text)))
        fields = {
            "domain": self._domain,
            "server": None if reached is None else reached.address,
            "detail": detail,
        }
        severity = Severity.INFO
        if condition is Condition.POLICY_VIOLATION:
            severity = Severity.WARNING  # what is not secure may be an attack
        self._around.command(Report(severity, f"server given up: {text}", fields))
        self._leave()
        self._ask_for(ConnectNext())

    def _ask_for(self, connection: Connect | ConnectNext | Reconnect | Redirect) -> None:
        self._awaited = True
        self._around.command(connection)

    def _leave(self) -> None:
        self._securing = None
        self._around.leave_way()

    def _go_on(self) -> None:
        self._securing = None
        self._around.server_ready()

    def _would_be_refused(self, text: str) -> None:
        fields = {"domain": self._domain, "policy": self._level.value}
        self._around.command(Report(Severity.WARNING, f"would be refused: {text}", fields))

    def _tell(self, facts: TLSFacts, verdict: Verdict) -> None:
        """Write the line that Postfix would write."""
        reached = self._reached
        place = f"{self._domain}[?]"
        if reached is not None:
            place = f"{self._domain}[{reached.address.host}]:{reached.address.port}"
        text = (
            f"{verdict.status.value} TLS connection established to {place}: "
            f"{facts.version} with cipher {facts.cipher} key-exchange {facts.group or 'unknown'}"
        )
        fields = {
            "policy": self._level.value,
            "matched": verdict.identity,
            "problem": verdict.problem,
            "host": None if reached is None else reached.host,
            "start": "direct" if facts.direct else "starttls",
        }
        self._around.command(Report(Severity.INFO, text, fields))


def _cut(text: str) -> str:
    """Return what a client is told, which is not to take it for the whole where it is not."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
