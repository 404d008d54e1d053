"""What the judge of servers needs of others, and what servers show it."""

import datetime as dt
from collections.abc import Sequence

import attrs
from twisted.internet.task import Clock

from proxy.daemon.trusting.judge import Judge
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE, SERVER_SERVICE
from proxy.trust.keyring.alerts import Alert
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.proof import AskSite, Case
from proxy.trust.verdict import UntrustedError, Verdict
from tests.trust.showing import NAME, NOW

NO_SITE = "there is no such site"


def tell(_alert: Alert) -> None:
    """Let operators be."""


def ask_site(_case: Case, _now: dt.datetime) -> Verdict:
    """A web site that proves nothing."""
    raise UntrustedError(NO_SITE)


@attrs.define
class Court:
    """A judge, the time it goes by, and what it has told operators."""

    keyring: Keyring | None
    ask_site: AskSite = ask_site
    now: dt.datetime = NOW
    clock: Clock = attrs.field(factory=Clock)
    alerts: list[Alert] = attrs.field(factory=list)
    judge: Judge = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.judge = Judge(
            self.clock,
            keyring=self.keyring,
            tell=self.alerts.append,
            ask_site=self.ask_site,
            clock=lambda: self.now,
        )

    def kinds(self) -> list[str]:
        """Take what operators were told of."""
        told, self.alerts[:] = [alert.kind.value for alert in self.alerts], []
        return told


def claims(*records: TLSA, target: str = "") -> Claims:
    """What DNSSEC vouches for."""
    return Claims(References(NAME, CLIENT_SERVICE, target), records)


def case(
    shown: Evidence,
    level: Level = Level.SECURE,
    *,
    domain: str = NAME,
    claims: Claims | None = None,
    initiating: bool = False,
    aside: bool = False,
    **more: object,
) -> Case:
    """A server that shows something."""
    policy = Policy(Pattern("*"), level, **more)  # type: ignore[arg-type]
    service = SERVER_SERVICE if initiating else CLIENT_SERVICE
    return Case(domain, service, policy, shown, claims, initiating, aside)


def texts(alerts: Sequence[Alert]) -> list[str]:
    """What operators are told."""
    return [alert.text for alert in alerts]
