"""Asking the web sites of domains which certificates their servers have (RFC 7711)."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from proxy.net.posh import Posh, PoshError
from proxy.trust.posh import Material, judge
from proxy.trust.proof import Case
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import UntrustedError, Verdict
from proxy.xmpp.text import printable


@attrs.frozen
class Asking:
    """What a domain's web site is going to say (a `proxy.trust.undecided.Decision`).

    Attributes:
        reactor: calls later.
        posh: what asks.
        domain: the domain, in A-labels.
        service: ``xmpp-client`` or ``xmpp-server``.
        known: what it has said before, which does not prove the certificate; None if nothing.
    """

    reactor: Any
    posh: Posh
    domain: str
    service: str
    known: Material | None

    def wait(self, told: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``told`` once: whether there is an answer that was not known before."""
        anew = self.known is not None
        asked = deferLater(self.reactor, 0, self.posh.fetch, self.domain, self.service, anew=anew)
        asked.addBoth(partial(self._answered, told))
        return asked.cancel

    def _answered(self, told: Callable[[bool], None], answer: Material | Failure) -> None:
        if isinstance(answer, Failure) and answer.check(CancelledError):  # type: ignore[no-untyped-call]
            return
        told(self.known is None or (isinstance(answer, Material) and answer != self.known))


class Sites:
    """What asks web sites, and judges by what they say.

    Args:
        reactor: calls later.
        posh: what asks.
    """

    def __init__(self, reactor: Any, posh: Posh) -> None:
        self._reactor = reactor
        self._posh = posh

    def ask(self, case: Case, now: datetime) -> Verdict:
        """Judge a certificate by what the domain's web site says.

        Servers that connect to us do not have it asked, or strangers could have us ask any site;
        for them counts what is known because we connect to the domain ourselves.

        Raises:
            UntrustedError: it does not prove the certificate.
            UndecidedError: it has to be asked, or asked anew.
        """
        service = case.service.removeprefix("_")
        known = self._posh.cached(case.domain, service, now)
        if isinstance(known, PoshError):
            raise UntrustedError(str(known))
        if known is None:
            problem = f"the web site of {printable(case.domain)} has not been asked"
            raise self._wait(case, problem, None)
        try:
            return judge(
                case.domain,
                known,
                case.policy,
                case.evidence,
                now,
                service=service,
                initiating=case.initiating,
            )
        except UntrustedError as error:
            # What is known may be older than the certificate.
            raise self._wait(case, str(error), known) from error

    def _wait(self, case: Case, problem: str, known: Material | None) -> Exception:
        if case.initiating:
            return UntrustedError(problem)
        service = case.service.removeprefix("_")
        return UndecidedError(
            problem, Asking(self._reactor, self._posh, case.domain, service, known)
        )
