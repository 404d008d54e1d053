"""The judge of all sessions: what proves a domain, what the keyring says, and whom to tell."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import attrs

from proxy.daemon.trusting.approvals import Approval, Approvals
from proxy.net.dane_path import verify_path
from proxy.session.kinds import Kind
from proxy.trust.evidence import Evidence
from proxy.trust.keyring import alerts
from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.entry import How, State
from proxy.trust.keyring.judging import Accepted, Refused, Waiting, consult
from proxy.trust.keyring.store import Keyring
from proxy.trust.keyring.watch import downgrade
from proxy.trust.policy import Level
from proxy.trust.proof import AskSite, Case, Proof, prove
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import RevokedError, Status, UntrustedError, Verdict
from proxy.xmpp.text import printable

REMEMBERED: Final = timedelta(seconds=60)
"""How long a proof holds for the very same certificates."""

MOST_REMEMBERED: Final = 256

_KINDS: Final = {f"_{kind.service}": kind.value for kind in (Kind.C2S, Kind.S2S)}

Clock = Callable[[], datetime]
"""The present, with a time zone."""


def _now() -> datetime:
    return datetime.now(UTC)


class Judge:
    """Judges servers.

    Args:
        reactor: tells the time (``seconds``) and calls later.
        keyring: the keyring; ``None`` where no policy has a use for it.
        tell: gets what operators should know.
        ask_site: what asks the web site of a domain (RFC 7711).
        revocation: the revocation lists, those of all policies among them.
        clock: the present.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        keyring: Keyring | None,
        tell: Callable[[alerts.Alert], None],
        ask_site: AskSite,
        revocation: RevocationLists = NO_LISTS,
        clock: Clock = _now,
    ) -> None:
        self._keyring = keyring
        self._approvals = None if keyring is None else Approvals(keyring, reactor)
        self._tell = tell
        self._ask_site = ask_site
        self._revocation = revocation
        self._clock = clock
        self._proofs: dict[tuple[object, ...], tuple[datetime, Proof]] = {}

    def judge(self, case: Case) -> Verdict:
        """Judge a server by its policy.

        Raises:
            UntrustedError: it does not do.
            UndecidedError: somebody has to be asked first.
        """
        now = self._clock()
        case = attrs.evolve(case, revocation=self._revocation)
        try:
            proof: Proof | UntrustedError = self._proof(case, now)
        except RevokedError:
            raise  # whatever an operator has permitted: that was not known then
        except UntrustedError as error:
            if case.policy.level is not Level.KEYRING:
                raise
            proof = error
        if case.aside:
            return self._aside(case, self._weighed(case, proof), now)
        if isinstance(proof, Proof) and not case.initiating:
            self._compare(case, now)
        if case.policy.level is not Level.KEYRING:
            return _verdict(proof)
        verdict = self._by_keyring(case, self._weighed(case, proof), now)
        if not isinstance(proof, Proof) and not case.initiating:
            self._compare(case, now)  # an operator permits a certificate, not less than there was
        return verdict

    def lacks_tls(self, domain: str, kind: Kind) -> str:
        """Take note that a domain's server says that it has no TLS.

        Returns:
            Why the domain is not to be reached without it; empty if it never had it.
        """
        if self._keyring is None:
            return "no keyring is open, so it is not known whether the domain has had TLS"
        alert = downgrade(self._keyring, domain, kind.value, self._clock(), tls=False, dane=False)
        if alert is None:
            return ""
        self._tell(alert)
        return f"{printable(domain)} was reached with TLS before, and has none now"

    def renew(self, revocation: RevocationLists) -> None:
        """Prove everything anew from now on, for roots and revocation lists may be others.

        Args:
            revocation: the lists, those of all policies among them.
        """
        self._revocation = revocation
        self._proofs.clear()

    def close(self) -> None:
        """Have nobody wait any more."""
        if self._approvals is not None:
            self._approvals.close()

    def _proof(self, case: Case, now: datetime) -> Proof:
        """Return what proves a domain, unless the very same was proved a moment ago.

        That takes the same chain, of which OpenSSL, which looks at the dates each time, said the
        same. Of servers that connect to us it said so a while ago: they prove it each time.
        """
        if case.initiating:
            return prove(case, now, verify_path, self._ask_site)
        identity = (case.domain, case.service, case.policy, case.claims)
        key = (*identity, _digest(case.evidence))
        at, proof = self._proofs.get(key, (None, None))
        if at is not None and proof is not None and at <= now < at + REMEMBERED:
            return proof
        proof = prove(case, now, verify_path, self._ask_site)
        self._proofs.pop(key, None)
        while len(self._proofs) >= MOST_REMEMBERED:
            del self._proofs[next(iter(self._proofs))]
        self._proofs[key] = (now, proof)
        return proof

    def _compare(self, case: Case, now: datetime) -> None:
        """Compare with how the domain was reached before, where there is a memory of that.

        Raises:
            UntrustedError: that was with more.
        """
        if self._keyring is None:
            return
        place = case.domain, _KINDS[case.service]
        if case.claims is None or not case.policy.level.heeds_dane:
            try:
                self._keyring.note_seen(*place, now, tls=True)
            except KeyringError as error:
                # This session is no less secure for it.
                self._tell(alerts.fault(str(error), *place))
            return
        alert = downgrade(self._keyring, *place, now, tls=True, dane=case.claims.has_dane)
        if alert is not None:
            self._tell(alert)
            raise UntrustedError(
                f"{printable(case.domain)} had TLSA records before, and has none now that "
                "DNSSEC vouches for"
            )

    def _weighed(self, case: Case, proof: Proof | UntrustedError) -> Proof | UntrustedError:
        """Return what a proof is worth where DNS is not asked.

        Of a domain that had TLSA records it is worth nothing for a certificate that is new: those
        might say otherwise.
        """
        if (
            case.policy.level is not Level.KEYRING
            or case.claims is not None
            or not isinstance(proof, Proof)
            or proof.how not in {How.PKIX, How.POSH}
            or _is_led(case)
            or self._keyring is None
        ):
            return proof
        place = case.domain, _KINDS[case.service]
        try:
            had, entries = self._keyring.seen(*place).dane, self._keyring.find(*place)
        except KeyringError as error:
            return UntrustedError(str(error))
        shown = case.evidence.chain[0]
        if not had or any(entry.certificate == shown and not entry.revoked for entry in entries):
            return proof
        return UntrustedError(
            f"{printable(case.domain)} had TLSA records, which are asked for only on the way to "
            "its server"
        )

    def _aside(self, case: Case, proof: Proof | UntrustedError, now: datetime) -> Verdict:
        """Judge without a trace: what is proved, or was permitted, and that no operator forbids."""
        if case.policy.level is not Level.KEYRING:
            return _verdict(proof)
        refusal = _untrusted(proof, f"{printable(case.domain)} has other certificates")
        if self._keyring is None or not case.evidence.chain:
            raise refusal
        place, shown = (case.domain, _KINDS[case.service]), case.evidence.chain[0]
        try:
            entries = self._keyring.find(*place)
            held = self._keyring.held_for(*place, shown)
        except KeyringError as error:
            raise UntrustedError(str(error)) from error
        entry = next((each for each in entries if each.certificate == shown), None)
        if (held is not None and held.state is State.REJECTED) or (entry and entry.revoked):
            raise UntrustedError(
                f"an operator of this proxy does not permit {printable(case.domain)}"
            )
        known = entry is not None or not entries
        if isinstance(proof, Proof) and (known or proof.how is How.PIN):
            return proof.verdict
        if entry is not None and entry.authorised(now):
            return Verdict(Status.VERIFIED, f"keyring {entry.facts.fingerprint}", "")
        raise refusal

    def _by_keyring(self, case: Case, proof: Proof | UntrustedError, now: datetime) -> Verdict:
        shown = printable(case.domain)
        if self._keyring is None or self._approvals is None:
            raise UntrustedError(f"no keyring is open, which is to say whether {shown} is believed")
        verdict = proof if isinstance(proof, UntrustedError) else proof.verdict
        consulted = consult(
            self._keyring,
            case.domain,
            _KINDS[case.service],
            case.evidence,
            verdict,
            on_change=case.policy.on_change,
            now=now,
            how=None if isinstance(proof, UntrustedError) else proof.how,
            initiating=case.initiating,
        )
        if consulted.alert is not None:
            self._tell(consulted.alert)
        if isinstance(consulted, Accepted):
            if isinstance(proof, Proof):
                return proof.verdict
            entry = consulted.entry
            identity = f"keyring {entry.facts.fingerprint}, permitted by {entry.permitted_by}"
            return Verdict(Status.VERIFIED, printable(identity), "")
        held = consulted.held
        if held is None:
            raise _untrusted(verdict, f"the certificate of {shown} could not be looked up")
        problem = f"the certificate of {shown} {_standing(consulted)} ({held.id} in the keyring)"
        if isinstance(consulted, Waiting):
            problem = f"{problem}: {held.reason}"
            if case.policy.approval_timeout > 0 and not case.initiating:
                wait = Approval(self._approvals, held.id, case.policy.approval_timeout)
                raise UndecidedError(problem, wait)
        raise UntrustedError(problem, _status(verdict))


def _standing(consulted: Waiting | Refused) -> str:
    """Return what the keyring says of a certificate that is not let in."""
    kind = None if consulted.alert is None else consulted.alert.kind
    if kind is alerts.Kind.REVOKED:
        return "was revoked by an operator of this proxy"
    if kind is alerts.Kind.REJECTED:
        return "was rejected by an operator of this proxy"
    if kind is alerts.Kind.CHANGE:
        return "is not one of those in the keyring"
    return "is not permitted"


def _verdict(proof: Proof | UntrustedError) -> Verdict:
    if isinstance(proof, UntrustedError):
        raise proof
    return proof.verdict


def _untrusted(found: Verdict | Proof | UntrustedError, otherwise: str) -> UntrustedError:
    """Return why a certificate is refused that is not held: what is wrong with it, if anything."""
    return found if isinstance(found, UntrustedError) else UntrustedError(otherwise)


def _is_led(case: Case) -> bool:
    """Whether the policy itself says where the server is, and no DNS is asked."""
    server = case.policy.server
    if _KINDS[case.service] == Kind.S2S.value:
        server = case.policy.s2s_server
    return server is not None and not case.initiating


def _status(verdict: Verdict | UntrustedError) -> Status:
    """Return how far a server has come that is refused all the same."""
    if isinstance(verdict, UntrustedError):
        return verdict.status
    return Status.TRUSTED


def _digest(evidence: Evidence) -> bytes:
    """Return what no other evidence has."""
    digest = sha256(repr((evidence.error, evidence.error_text)).encode())
    for chain in (evidence.chain, evidence.verified, (evidence.staple,)):
        digest.update(len(chain).to_bytes(4))
        for certificate in chain:
            digest.update(sha256(certificate).digest())
    return digest.digest()
