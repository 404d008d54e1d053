"""Decides about servers as the daemon would, and changes nothing by that.

It is the daemon's own judge that decides, before a copy of what the keyring says of the domain;
what it writes there is undone each time.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs

from proxy.daemon.probe.memory import Kept, Memory, kept
from proxy.daemon.trusting.judge import Judge
from proxy.net.posh import PoshError
from proxy.session.kinds import Kind
from proxy.trust import posh
from proxy.trust.dane.matching import Outcome
from proxy.trust.keyring import alerts
from proxy.trust.keyring.alerts import Alert
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from proxy.trust.keyring.entry import Held, State
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level
from proxy.trust.posh import Material
from proxy.trust.proof import Case
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import Status, UntrustedError, Verdict

Site = Material | PoshError
"""What a domain's web site says of certificates (RFC 7711), or why it says nothing."""

_IN_KEYRING: Final = "{} in the keyring"


@attrs.frozen
class Decision:
    """What would become of a server.

    Attributes:
        verdict: the verdict on what it showed.
        refusal: why it would be refused, as one clause; empty if it would not.
        kept: what the keyring has to say of its certificate; None if it is not asked.
        remedy: what might help; empty if that is not known.
        records: what the server's TLSA records say of it, whether they count or not; None if it
            has none that DNSSEC vouches for.
        site: what the domain's web site says of it, likewise; None if that was not asked.
    """

    verdict: Verdict
    refusal: str = ""
    kept: Kept | None = None
    remedy: str = ""
    records: Outcome | None = None
    site: Verdict | UntrustedError | None = None


class _UndoneError(Exception):
    """What was written is to be undone."""


class Rehearsal:
    """Decides about the servers of one domain. `rehearsing` makes it.

    Args:
        judge: who decides.
        copy: the keyring that it goes by; None if it goes by none.
        told: where it tells of alerts.
        memory: what the keyring itself says; None if that does not matter.
        site: what the domain's web site says; None if it was not asked.
        revocation: the revocation lists, those of the domain's policy among them.
        now: the time to judge validity by, with a time zone.
    """

    def __init__(
        self,
        judge: Judge,
        copy: Keyring | None,
        told: list[Alert],
        *,
        memory: Memory | None,
        site: Site | None,
        revocation: RevocationLists,
        now: datetime,
    ) -> None:
        self.memory = memory
        self.site = site
        self.revocation = revocation
        self.now = now
        self._judge = judge
        self._copy = copy
        self._told = told

    def decide(self, case: Case) -> Decision:
        """Decide about a server."""
        with self._undoing():
            try:
                decision = Decision(self._judge.judge(case))
            except UntrustedError as error:
                decision = _refused(str(error), error.status)
            except UndecidedError as error:
                decision = _refused(str(error), Status.UNTRUSTED)
            return self._completed(case, decision)

    def plaintext(self, domain: str, kind: Kind) -> tuple[str, str]:
        """Return why the domain may not be reached without TLS, and what might help.

        Both are empty if nothing is against it.
        """
        if self.memory is not None and self.memory.problem:
            return self.memory.problem, ""
        with self._undoing():
            reason = self._judge.lacks_tls(domain, kind)
            return reason, self._confirmed_loss() if reason else ""

    def by_site(self, case: Case) -> Verdict | UntrustedError | None:
        """Return what the domain's web site makes of a server; None if it was not asked."""
        if self.site is None:
            return None
        try:
            return ask_site(self.site, case, self.now)
        except UntrustedError as error:
            return error

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        """Undo what is written to the copy meanwhile."""
        self._told.clear()
        if self._copy is None:
            yield
            return
        with suppress(_UndoneError), self._copy.changing(durable=False):
            yield
            raise _UndoneError

    def _completed(self, case: Case, decision: Decision) -> Decision:
        """Say more of a decision that the copy has just been asked for."""
        memory, copy = self.memory, self._copy
        if memory is None or copy is None:
            return decision
        by_keyring = case.policy.level is Level.KEYRING and bool(case.evidence.chain)
        held = None
        if by_keyring:
            held = copy.held_for(memory.domain, memory.stream, case.evidence.chain[0])
        if memory.problem:
            return _doubted(case, _renamed(decision, held, "the keyring cannot be read"), memory)
        remedy = self._confirmed_loss()
        if not by_keyring:
            return attrs.evolve(decision, remedy=remedy)
        found = kept(
            memory,
            case.policy,
            case.evidence.chain[0],
            accepted=not decision.refusal,
            holds=held is not None and held.state is State.PENDING,
        )
        known = "" if found is None else found.id
        named = _IN_KEYRING.format(known) if known else "the keyring would hold it"
        remedy = remedy or ("" if found is None else found.remedy)
        return attrs.evolve(_renamed(decision, held, named), kept=found, remedy=remedy)

    def _confirmed_loss(self) -> str:
        """Return what helps where a domain has really given up what it was reached with before."""
        for alert in self._told:
            if alert.kind is alerts.Kind.DOWNGRADE and "missing" in alert.fields:
                lost = "TLS" if alert.fields["missing"] == "TLS" else "its TLSA records"
                return (
                    f"bascule keyring forget {alert.domain} lets it be reached so, once its "
                    f"operator has confirmed that it has given up {lost}"
                )
        return ""


def _refused(problem: str, status: Status) -> Decision:
    return Decision(Verdict(status, "", problem), problem)


def _renamed(decision: Decision, held: Held | None, name: str) -> Decision:
    """Call what the copy holds what it is called elsewhere: ids are each keyring's own."""
    if held is None:
        return decision
    old = _IN_KEYRING.format(held.id)
    verdict = attrs.evolve(decision.verdict, problem=decision.verdict.problem.replace(old, name))
    return attrs.evolve(decision, verdict=verdict, refusal=decision.refusal.replace(old, name))


def _doubted(case: Case, decision: Decision, memory: Memory) -> Decision:
    """Refuse what depends on a keyring that cannot be read."""
    proved = case.claims is not None and case.claims.has_dane
    if case.policy.level is Level.KEYRING:
        return attrs.evolve(decision, refusal=memory.problem)
    if case.policy.level is Level.DANE and not proved and not decision.refusal:
        return attrs.evolve(decision, refusal=memory.problem)
    return decision


def ask_site(site: Site | None, case: Case, now: datetime) -> Verdict:
    """Judge a server by what the domain's web site has said.

    Raises:
        UntrustedError: that does not prove it, or the site was not asked.
    """
    if site is None:
        raise UntrustedError("it was not asked")
    if isinstance(site, PoshError):
        raise UntrustedError(str(site))
    service = case.service.removeprefix("_")
    return posh.judge(case.domain, site, case.policy, case.evidence, now, service=service)


@contextmanager
def rehearsing(
    reactor: Any,
    memory: Memory | None,
    site: Site | None,
    now: datetime,
    revocation: RevocationLists = NO_LISTS,
) -> Iterator[Rehearsal]:
    """Make what decides about servers, for as long as the context lasts.

    Args:
        reactor: the reactor.
        memory: what the keyring says of the domain; None if that does not matter.
        site: what the domain's web site says; None if it was not asked.
        now: the time to judge by, with a time zone.
        revocation: the revocation lists, those of the domain's policy among them.

    Raises:
        KeyringError: there is no place for a copy of what the keyring says.
    """
    told: list[Alert] = []
    with ExitStack() as stack:
        copy = None
        if memory is not None:
            copy = _copied(memory, stack, now)
            stack.callback(copy.close)
        judge = Judge(
            reactor,
            keyring=copy,
            tell=told.append,
            ask_site=lambda case, moment: ask_site(site, case, moment),
            revocation=revocation,
            clock=lambda: now,
        )
        stack.callback(judge.close)
        yield Rehearsal(judge, copy, told, memory=memory, site=site, revocation=revocation, now=now)


def _copied(memory: Memory, stack: ExitStack, now: datetime) -> Keyring:
    try:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="bascule-probe-")))
    except OSError as error:
        text = f"there is no place to copy the keyring to: {error.strerror or error}"
        raise KeyringError(text) from error
    copy = Keyring(directory / FILE_NAME)
    with copy.changing(durable=False):
        for entry in memory.entries:
            copy.merge(entry, now)
        for held in memory.held:
            if held.state is State.REJECTED:
                copy.merge_rejected(held)
        copy.note_seen(
            memory.domain, memory.stream, now, tls=memory.seen.tls, dane=memory.seen.dane
        )
    return copy
