"""RFC 3261 section 23.2, clause by clause, as far as it is about keyrings.

`CLAUSES` has what each asks for, in the terms of TLS and domains; each is a test of its own. What
the section says of messages (the bodies they are in, and responses) has no counterpart here.
docs/keyring.md has the section sentence by sentence, with these tests and others.
"""

from collections.abc import Callable
from typing import Final

import attrs
import pytest

from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.judging import Accepted, Consulted, Refused, Waiting, consult
from proxy.trust.keyring.store import Keyring
from proxy.trust.keyring.watch import downgrade
from proxy.trust.policy import OnChange
from proxy.trust.verdict import UntrustedError, judge
from tests.authority import Authority
from tests.trust.keyring.made import LATER, PROVED, UNPROVED, certificate, shown
from tests.trust.showing import NAME, NOW, evidence, issued, policy

OLD, NEW = certificate(1), certificate(2)


@attrs.frozen
class Case:
    """What the clauses are tried with."""

    keyring: Keyring
    authority: Authority
    stranger: Authority

    def meets(self, by: Authority, domain: str = NAME) -> Consulted:
        """A server shows a certificate that is judged as in a session."""
        met = evidence(
            issued(by, domain, common_name=f"{domain} by {by.ca_path}"), [self.authority]
        )
        try:
            verdict = judge(NAME, CLIENT_SERVICE, policy(), met, NOW)
        except UntrustedError as error:
            return consult(
                self.keyring, NAME, "c2s", met, error, on_change=OnChange.NOTIFY, now=NOW
            )
        return consult(self.keyring, NAME, "c2s", met, verdict, on_change=OnChange.NOTIFY, now=NOW)


def told(came: Consulted) -> Alert:
    assert came.alert is not None
    return came.alert


def validated_by_roots(case: Case) -> None:
    assert isinstance(case.meets(case.authority), Accepted)
    assert isinstance(case.meets(case.stranger), Waiting)


def subject_compared(case: Case) -> None:
    came = case.meets(case.authority, "example.org")
    assert isinstance(came, Waiting)
    assert "is for example.org, not for example.net" in told(came).text


def unverified_is_told_of(case: Case) -> None:
    came = case.meets(case.stranger)
    assert isinstance(came, Waiting)
    facts = came.held.facts
    for part in (facts.subject, facts.issuer, facts.fingerprint):
        assert part in told(came).text
    assert told(came).kind is Kind.UNKNOWN


def permission_is_asked_for(case: Case) -> None:
    came = shown(case.keyring, NEW, UNPROVED)
    assert isinstance(came, Waiting)
    assert f"bascule keyring approve {came.held.id}" in told(came).text
    assert isinstance(shown(case.keyring, NEW, UNPROVED), Waiting), "asking again is no permission"
    case.keyring.approve(came.held.id, "alice", NOW)
    assert isinstance(shown(case.keyring, NEW, UNPROVED), Accepted)


def permission_is_refused(case: Case) -> None:
    came = shown(case.keyring, NEW, UNPROVED)
    assert isinstance(came, Waiting)
    case.keyring.reject(came.held.id, "alice", NOW)
    assert isinstance(shown(case.keyring, NEW, UNPROVED), Refused)


def verified_is_added(case: Case) -> None:
    came = case.meets(case.authority)
    assert isinstance(came, Accepted)
    assert case.keyring.find(NAME, "c2s") == (came.entry,)
    assert came.entry.how is How.PKIX


def authorised_is_added(case: Case) -> None:
    came = shown(case.keyring, NEW, UNPROVED)
    assert isinstance(came, Waiting)
    case.keyring.approve(came.held.id, "alice", NOW)
    (entry,) = case.keyring.find(NAME, "s2s")
    assert (entry.certificate, entry.how, entry.permitted_by) == (NEW, How.OPERATOR, "alice")


def unauthorised_is_not_added(case: Case) -> None:
    shown(case.keyring, NEW, UNPROVED)
    assert case.keyring.find(NAME, "s2s") == ()


def indexed_by_holder(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    assert len(case.keyring.find(NAME, "s2s")) == 1
    assert case.keyring.find("example.org", "s2s") == ()


def compared_later(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    same = shown(case.keyring, OLD, PROVED, now=LATER)
    assert isinstance(same, Accepted)
    assert same.alert is None
    assert told(shown(case.keyring, NEW, PROVED, now=LATER)).kind is Kind.RENEWAL


def change_is_told_of_as_a_breach(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    came = told(shown(case.keyring, NEW, UNPROVED))
    assert came.text.startswith("possible security breach: ")
    assert came.severity is Severity.CRITICAL
    (old,) = case.keyring.find(NAME, "s2s")
    assert old.facts.fingerprint in came.text
    assert came.fields["fingerprint"] in came.text


def change_needs_permission(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    assert isinstance(shown(case.keyring, NEW, UNPROVED), Waiting)
    assert isinstance(shown(case.keyring, NEW, PROVED, on_change=OnChange.HOLD), Waiting)


def change_stands_beside(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    came = shown(case.keyring, NEW, UNPROVED)
    assert isinstance(came, Waiting)
    case.keyring.approve(came.held.id, "alice", NOW)
    assert {each.certificate for each in case.keyring.find(NAME, "s2s")} == {OLD, NEW}
    assert isinstance(shown(case.keyring, OLD, PROVED), Accepted)


def downgrade_is_told_of_and_not_followed(case: Case) -> None:
    assert downgrade(case.keyring, NAME, "s2s", NOW, tls=True, dane=False) is None
    came = downgrade(case.keyring, NAME, "s2s", NOW, tls=False, dane=False)
    assert came is not None
    assert came.kind is Kind.DOWNGRADE


def missing_certificate_of_a_known_one(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    nothing = Evidence((), 0, "ok")
    came = consult(case.keyring, NAME, "s2s", nothing, UNPROVED, on_change=OnChange.NOTIFY, now=NOW)
    assert isinstance(came, Refused)
    assert told(came).kind is Kind.DOWNGRADE
    assert told(came).severity is Severity.CRITICAL


def new_key_after_a_compromise(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    (held,) = case.keyring.revoke(NAME, "alice", NOW)
    assert isinstance(shown(case.keyring, OLD, PROVED), Refused)
    came = shown(case.keyring, NEW, PROVED)
    assert isinstance(came, Accepted)
    assert told(came).kind is Kind.RENEWAL
    assert held.facts.fingerprint in told(came).text


def another_way_is_advised(case: Case) -> None:
    shown(case.keyring, OLD, PROVED)
    for came in (
        shown(case.keyring, NEW, UNPROVED),
        shown(case.keyring, NEW, domain="example.org"),
    ):
        assert "with what the domain's operator says by another way" in told(came).text


def change_between_reconnects(case: Case) -> None:
    for der, kind in ((OLD, None), (OLD, None), (NEW, Kind.CHANGE), (OLD, None)):
        came = shown(case.keyring, der, PROVED if der == OLD else UNPROVED, now=LATER)
        assert (came.alert and came.alert.kind) is kind


CLAUSES: Final[tuple[tuple[str, Callable[[Case], None]], ...]] = (
    ("validate a certificate by the roots there are", validated_by_roots),
    ("compare what it is for with the domain", subject_compared),
    ("tell of what cannot be verified, with subject, signer, fingerprint", unverified_is_told_of),
    ("ask for permission, and go on only with it", permission_is_asked_for),
    ("do not go on without it", permission_is_refused),
    ("add what is verified and corresponds to the keyring", verified_is_added),
    ("add what an operator permits", authorised_is_added),
    ("add nothing else", unauthorised_is_not_added),
    ("keep it by the address of its holder", indexed_by_holder),
    ("compare later certificates with those in the keyring", compared_later),
    ("tell of a change as of a possible breach", change_is_told_of_as_a_breach),
    ("ask for permission of a change as well", change_needs_permission),
    ("keep a changed one beside those before", change_stands_beside),
    ("take the lack of security for a downgrade", downgrade_is_told_of_and_not_followed),
    ("tell of no certificate where one is known", missing_certificate_of_a_known_one),
    ("advise another way to ask the other side", another_way_is_advised),
    ("let a new key take the place of a compromised one", new_key_after_a_compromise),
    ("tell of a change in the middle as well", change_between_reconnects),
)
"""What the section asks for, in its order, and what shows that it is so."""


@pytest.mark.parametrize(("clause", "check"), CLAUSES, ids=[clause for clause, _ in CLAUSES])
def test_clause(
    clause: str,
    check: Callable[[Case], None],
    keyring: Keyring,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), name="stranger")
    check(Case(keyring, authority, stranger))
