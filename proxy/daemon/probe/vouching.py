"""The lines of a report about all that vouches for certificates but authorities.

That is DNSSEC with its TLSA records, the domain's web site, and the keyring.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich.text import Text

from proxy.daemon.probe.certificates import Shown
from proxy.daemon.probe.memory import Memory, Standing
from proxy.daemon.probe.outcome import LONGEST_REASON, JudgedTarget, Report
from proxy.daemon.probe.rehearsal import Decision, Site
from proxy.net.posh import PoshError
from proxy.trust.dane.matching import Failed, Proved, Unusable
from proxy.trust.policy import Level, Policy
from proxy.trust.verdict import Verdict
from proxy.xmpp.text import printable

GOOD: Final = "green"
BAD: Final = "red"
FAIR: Final = "yellow"

RECORDS_SHOWN: Final = 8
"""How many TLSA records are listed."""

_DIGITS: Final = 32  # of a hash, on one line
_STANDINGS: Final = {
    Standing.KNOWN: GOOD,
    Standing.NEW: GOOD,
    Standing.HELD: FAIR,
    Standing.UNSEEN: FAIR,
    Standing.REJECTED: BAD,
    Standing.REVOKED: BAD,
}

Line = tuple[str, Text]
"""A label, and what it is about."""


def of_policy(policy: Policy) -> str:
    """Return what a policy says of these, to be added to what else it says; empty if nothing."""
    text = ""
    if policy.level is Level.KEYRING:
        text += f', on_change = "{policy.on_change.value}"'
        if policy.approval_timeout:
            text += f", approval_timeout = {policy.approval_timeout:g}"
    if policy.posh:
        text += ", posh = true"
    if policy.crl_files:
        text += f", {_count(len(policy.crl_files), 'file')} of revocation lists"
    return text


def of_report(report: Report) -> Iterator[Line]:
    """Say what holds for all servers of the domain."""
    wanted = report.wanted
    if wanted.policy.level.heeds_dane and wanted.server is None and not wanted.believed:
        style = BAD if wanted.policy.level is Level.DANE_ONLY else FAIR
        yield "DNSSEC", Text("no DNS server is believed about it: see validating in [dns]", style)
    if report.site is not None:
        yield "POSH", _site(report.site)
    if report.memory is not None:
        yield from _memory(report.memory)


def _site(site: Site) -> Text:
    if isinstance(site, PoshError):
        return Text(str(site), FAIR)
    document = site.document
    return Text(
        f"{_count(len(document.fingerprints), 'fingerprint')}, for {document.seconds} seconds"
    )


def _memory(memory: Memory) -> Iterator[Line]:
    file = printable(str(memory.file))
    if memory.problem:
        yield "keyring", Text(memory.problem, BAD)
        return
    if not memory.exists:
        yield "keyring", Text(f"{file}, which is not there yet")
        return
    yield "keyring", Text(f"{file}: {_count(len(memory.entries), 'certificate')} of the domain")
    for what, since in (("TLS", memory.seen.tls_since), ("TLSA records", memory.seen.dane_since)):
        if since is not None:
            yield "keyring", Text(f"reached with {what} since {_date(since)}")


def of_target(judged: JudgedTarget) -> Iterator[Line]:
    """Say what DNSSEC vouches for about a target; nothing of one that the policy sets."""
    vouched, target = judged.vouched, judged.target
    if judged.barred:
        text = f"{judged.barred}; sessions do not connect to it"
        yield "problem", Text(printable(text, LONGEST_REASON), BAD)
    elif vouched.problem:
        text = f"cannot be known: {vouched.problem}"
        yield "TLSA", Text(printable(text, LONGEST_REASON), FAIR)
    if vouched.claims is None:
        return
    named = "that there are no SRV records" if target.fallback else "the SRV record"
    yield "DNSSEC", Text(f"{'vouches' if target.secure else 'does not vouch'} for {named}")
    records = vouched.claims.records
    for record in records[:RECORDS_SHOWN]:
        usable = "" if record.usable else " (cannot be used)"
        yield "TLSA", Text(f"{record}{usable}", "" if record.usable else FAIR)
    if len(records) > RECORDS_SHOWN:
        yield "TLSA", Text(f"and {len(records) - RECORDS_SHOWN} more")
    if not records:
        yield "TLSA", Text("none" if vouched.secure else "none that DNSSEC vouches for")


def of_key(shown: Shown) -> Iterator[Line]:
    """Say how the server's key may be published."""
    if shown.tlsa is not None:
        *parameters, digest = shown.tlsa.split()
        yield "as TLSA", Text(f"{' '.join(parameters)} ( {digest[:_DIGITS]}")
        yield "as TLSA", Text(f"{digest[_DIGITS:]} )")


def of_decision(shown: Shown, decision: Decision, *, heeded: bool) -> Iterator[Line]:
    """Say what TLSA records, web site and keyring have to say of what a server showed.

    Args:
        shown: what that is.
        decision: what would become of it.
        heeded: whether TLSA records count.
    """
    bad = BAD if heeded else FAIR
    match decision.records:
        case Proved(identity=identity):
            yield "TLSA", Text(f"proves it, by {identity}", GOOD)
        case Failed(problem=problem):
            yield "TLSA", Text(problem, bad)
        case Unusable():
            yield "TLSA", Text("no record can be used", FAIR)
    if isinstance(decision.site, Verdict):
        yield "POSH", Text(f"proves it, by {decision.site.identity}", GOOD)
    elif decision.site is not None:
        yield "POSH", Text(str(decision.site), FAIR)
    if decision.kept is not None:
        yield "SHA-256", Text(shown.fingerprint or "none")
        style = BAD if decision.kept.alarming else _STANDINGS[decision.kept.standing]
        yield "keyring", Text(decision.kept.text, style)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
