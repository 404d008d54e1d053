"""Decides about servers as the daemon would, and changes nothing by that.

It is the daemon's own judge that decides, before a copy of what the keyring says of the domain; what
it writes there is undone each time.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from proxy.daemon.probe.memory import Kept, Memory, kept
from proxy.daemon.trusting.judge import Judge
from proxy.net.posh import PoshError
from proxy.session.kinds import Kind
from proxy.trust import posh
from proxy.trust.keyring.alerts import Alert
from proxy.trust.keyring.alerts import Kind as AlertKind
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from proxy.trust.keyring.entry import State
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level
from proxy.trust.posh import Material
from proxy.trust.proof import Case
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import Status, UntrustedError, Verdict

Site = Material | PoshError
"""What a domain's web site says of certificates (RFC 7711), or why it says nothing."""


@attrs.frozen
class Decision:
    """What would become of a server.

    Attributes:
        verdict: the verdict on what it showed.
        refusal: why it would be refused, as one clause; empty if it would not.
        kept: what the keyring has to say of its certificate; None if it is not asked.
        remedy: what might help; empty if that is not known.
    """

    verdict: Verdict
    refusal: str = ""
    kept: Kept | None = None
    remedy: str = ""


class _UndoneError(Exception):
    """What was written is to be undone."""


class Rehearsal:
    """Decides about the servers of one domain. `rehearsing` makes it.

    Args:
        judge: who decides.
        keyring: the copy that it goes by; None if it goes by none.
        told: where it tells of alerts.
        memory: what the keyring itself says; None if that does not matter.
        site: what the domain's web site says; None if it was not asked.
        now: the time to judge validity by, with a time zone.
    """

    def __init__(
        self,
        judge: Judge,
        keyring: Keyring | None,
        told: list[Alert],
        *,
        memory: Memory | None,
        site: Site | None,
        now: datetime,
    ) -> None:
        self.memory = memory
        self.site = site
        self.now = now
        self._judge = judge
        self._keyring = keyring
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
            return self._by_memory(case, decision)
        raise AssertionError("what is decided is returned")

    def plaintext(self, domain: str, kind: Kind) -> tuple[str, str]:
        """Return why the domain may not be reached without TLS, and what might help.

        Both are empty if nothing is against it.
        """
        if self.memory is not None and self.memory.problem:
            return self.memory.problem, ""
        with self._undoing():
            reason = self._judge.forbids_plaintext(domain, kind)
            return reason, self._remedy(domain) if reason else ""
        raise AssertionError("what is decided is returned")

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        """Undo what is written meanwhile to the copy, and forget what was told."""
        self._told.clear()
        if self._keyring is None:
            yield
            return
        with suppress(_UndoneError), self._keyring.changing(durable=False):
            yield
            raise _UndoneError

    def _by_memory(self, case: Case, decision: Decision) -> Decision:
        """Complete a decision that was made by the copy."""
        memory = self.memory
        if memory is None or self._keyring is None:
            return decision
        if memory.problem:
            return self._without_memory(case, decision)
        if case.policy.level is not Level.KEYRING or not case.evidence.chain:
            return attrs.evolve(decision, remedy=self._remedy(case.domain))
        certificate = case.evidence.chain[0]
        held = self._held(case)
        found = kept(
            memory,
            case.policy,
            certificate,
            accepted=not decision.refusal,
            holds=held is not None and held.state is State.PENDING,
        )
        remedy = self._remedy(case.domain) or ("" if found is None else found.remedy)
        if held is not None:
            known = "" if found is None else found.id
            named = f"{known} in the keyring" if known else "the keyring would hold it"
            decision = _renamed(decision, f"{held.id} in the keyring", named)
        return attrs.evolve(decision, kept=found, remedy=remedy)
