"""proxy.daemon.probe: what TLSA records and web sites make of what was found."""

import base64
import hashlib
import re
from typing import Any

import attrs
import pytest

from proxy.daemon.probe.judging import BELIEVE
from proxy.daemon.probe.outcome import Carried
from proxy.daemon.probe.printing import WIDTH, print_report
from proxy.daemon.probe.structure import structure
from proxy.daemon.probe.vouching import RECORDS_SHOWN
from proxy.net.posh import PoshError
from proxy.net.probed import Probed, Vouched
from proxy.trust.certificate import Certificate
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level
from proxy.trust.posh import Document, Fingerprint, Material
from proxy.trust.verdict import Status
from tests.authority import now
from tests.daemon.probe_fakes import (
    DEAD,
    DOMAIN,
    FORBIDDEN,
    OTHER,
    REDIRECTING,
    TARGET,
    decide,
    report,
    shaken,
    under,
)

SIGNED = attrs.evolve(TARGET, secure=True)
ALIEN = TLSA(3, 1, 1, bytes(32))
UNUSABLE = TLSA(9, 1, 1, bytes(32))
LAYOUT = re.compile(r"[() ]")
UNKNOWN = Vouched(problem="the lookup of a failed: SERVFAIL")


def of_key(shown: Evidence) -> TLSA:
    """The record of the key that a server shows."""
    return TLSA(3, 1, 1, hashlib.sha256(Certificate.read(shown.chain[0]).key).digest())


def vouched(*records: TLSA, host: str = TARGET.host) -> Vouched:
    return Vouched(Claims(References(DOMAIN, "_xmpp-client", host), records), secure=True)


def probed(shown: Evidence, *records: TLSA) -> Probed:
    return Probed(SIGNED, (shaken(shown),), vouched=vouched(*records))


# DANE


@pytest.mark.parametrize("level", [Level.DANE, Level.DANE_ONLY])
def test_a_record_proves_whatever_the_certificate_names(wrong: Evidence, level: Level) -> None:
    record = of_key(wrong)
    (target,), result = decide(under(level), probed(wrong, record))
    verdict = target.addresses[0].verdict
    assert verdict is not None
    assert (verdict.status, verdict.identity) == (Status.VERIFIED, str(record))
    assert result.carried is Carried.BY_TLS
    assert result.text.endswith(f"proved by {record}")


@pytest.mark.parametrize(
    ("level", "carried"),
    [
        (Level.DANE, Carried.NOT),
        (Level.DANE_ONLY, Carried.NOT),
        (Level.SECURE, Carried.BY_TLS),
        (Level.ENCRYPT, Carried.BY_TLS),
    ],
)
def test_a_record_of_another_key_counts_where_dane_does(
    good: Evidence, level: Level, carried: Carried, capsys: Any
) -> None:
    made = report(under(level), probed(good, ALIEN))
    assert made.outcome.carried is carried
    problem = f"the certificate of {DOMAIN} does not match its TLSA record"
    (address,) = structure(made)["targets"][0]["addresses"]
    told = {"proved": False, "matched": None, "problem": problem}
    assert address["tls"]["by_tlsa"] == told, "whether it counts or not"
    print_report(made)
    assert f"TLSA {problem}" in " ".join(capsys.readouterr().out.split())


def test_without_records_an_authority_does_for_dane_but_not_for_dane_only(good: Evidence) -> None:
    _, result = decide(under(Level.DANE), probed(good))
    assert (result.carried, result.text.endswith("DNS-ID example.net")) == (Carried.BY_TLS, True)
    _, result = decide(under(Level.DANE_ONLY), probed(good))
    assert result.carried is Carried.NOT
    assert "has no TLSA records that DNSSEC vouches for" in result.text
    assert BELIEVE not in result.text
    _, result = decide(under(Level.DANE_ONLY), probed(good), believed=False)
    assert BELIEVE in result.text
    _, result = decide(under(Level.DANE_ONLY), probed(good, ALIEN), believed=False)
    assert BELIEVE not in result.text, "there are some, which came from somebody"


def test_records_that_cannot_be_used_are_none(good: Evidence, capsys: Any) -> None:
    made = report(under(Level.DANE), probed(good, UNUSABLE))
    assert made.outcome.carried is Carried.BY_TLS
    print_report(made)
    printed = capsys.readouterr().out
    assert "(cannot be used)" in printed
    assert "no record can be used" in printed


def test_a_target_of_unknown_records_is_passed_over(good: Evidence, capsys: Any) -> None:
    """It is looked at all the same, and a session goes to the next."""
    unknown = Probed(SIGNED, (DEAD, shaken(good), REDIRECTING), vouched=UNKNOWN)
    other = attrs.evolve(OTHER, secure=True)
    second = Probed(other, (shaken(good),), vouched=vouched(host=OTHER.host))
    made = report(under(Level.DANE), unknown, second)
    assert (made.outcome.carried, made.outcome.target) == (Carried.BY_TLS, other)
    made = report(under(Level.DANE), unknown)
    reason = f"its TLSA records cannot be known: {UNKNOWN.problem}"
    assert made.outcome.carried is Carried.NOT
    assert made.outcome.text.count(f"{SIGNED}: {reason}") == 1
    found = structure(made)["targets"][0]
    assert (found["tlsa"], found["passed_over"]) == (None, True)
    assert found["tlsa_problem"] == UNKNOWN.problem
    assert found["addresses"][1]["tls"]["status"] == "Untrusted"
    assert found["addresses"][1]["tls"]["matched"] is None
    print_report(made)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"problem {reason}; sessions do not connect to it" in printed
    assert "identities DNS-ID example.net" in printed
    _, result = decide(under(Level.SECURE), unknown)
    assert result.carried is Carried.BY_TLS


def test_what_is_forbidden_is_told_before_what_is_unknown() -> None:
    """In a session's order: no record is asked for on the way to nowhere."""
    _, result = decide(under(Level.DANE), Probed(SIGNED, (FORBIDDEN,), vouched=UNKNOWN))
    assert "10.0.0.1 is a private address" in result.text
    assert "TLSA" not in result.text


def test_listeners_that_report_do_not_go_there_either(good: Evidence) -> None:
    (target,), _ = decide(under(Level.DANE_ONLY), Probed(SIGNED, (shaken(good),), vouched=UNKNOWN))
    assert target.addresses[0].by_report is Carried.NOT
    (target,), _ = decide(under(Level.DANE_ONLY), probed(good))
    assert target.addresses[0].by_report is Carried.BY_TLS


def test_what_dnssec_says_is_shown(good: Evidence, capsys: Any) -> None:
    def lines(*shown: Probed) -> tuple[str, Any]:
        made = report(under(Level.SECURE), *shown)
        print_report(made)
        return " ".join(capsys.readouterr().out.split()), structure(made)["targets"][0]

    record = of_key(good)
    printed, found = lines(probed(good, record))
    assert f"DNSSEC vouches for the SRV record TLSA {record} " in printed
    assert f"TLSA proves it, by {record}" in printed
    assert found["dnssec"] is True
    told = {"usage": 3, "selector": 1, "matching": 1, "data": record.data.hex(), "usable": True}
    assert found["tlsa"] == [told]
    printed, found = lines(probed(good))
    assert "TLSA none 192" in printed
    assert (found["dnssec"], found["tlsa"]) == (True, [])
    nothing = Vouched(Claims(References(DOMAIN, "_xmpp-client")))
    printed, found = lines(Probed(TARGET, (shaken(good),), vouched=nothing))
    assert "does not vouch for the SRV record TLSA none that DNSSEC vouches for" in printed
    assert (found["dnssec"], found["tlsa"]) == (False, None)
    fallback = attrs.evolve(SIGNED, fallback=True)
    printed, _ = lines(Probed(fallback, (shaken(good),), vouched=nothing))
    assert "DNSSEC vouches for that there are no SRV records" in printed
    printed, found = lines(Probed(TARGET, (shaken(good),)))
    assert "DNSSEC" not in printed, "of a server that the policy sets nobody is asked"
    assert (found["dnssec"], found["tlsa"]) == (None, None)
    many = [TLSA(3, 1, 1, bytes([number]) * 32) for number in range(RECORDS_SHOWN + 2)]
    printed, _ = lines(probed(good, *many))
    assert "TLSA" in printed
    assert "and 2 more" in printed


def test_that_nobody_is_believed_is_told_where_it_matters(good: Evidence, capsys: Any) -> None:
    for level, matters in ((Level.DANE, True), (Level.SECURE, False)):
        made = report(under(level), probed(good))
        print_report(attrs.evolve(made, wanted=attrs.evolve(made.wanted, believed=False)))
        printed = capsys.readouterr().out
        assert ("no DNS server is believed" in printed) is matters


def test_the_record_to_paste_is_one_that_matches(good: Evidence, capsys: Any) -> None:
    made = report(under(Level.SECURE), probed(good))
    record = structure(made)["targets"][0]["addresses"][0]["tls"]["tlsa_record"]
    assert record == f"3 1 1 {of_key(good).data.hex()}"
    print_report(made)
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if "( " in line]
    second = lines[lines.index(first) + 1]
    written = f"{first.partition('as TLSA')[2]} {second}"
    assert LAYOUT.sub("", written) == record.replace(" ", "")


# POSH


def site(*texts: bytes, domain: str = DOMAIN) -> Material:
    prints = tuple(Fingerprint((("sha-256", hashlib.sha256(text).digest()),)) for text in texts)
    return Material(domain, "xmpp-client", Document(prints, 3600), now())


POSH = under(Level.SECURE, posh=True)


def test_a_web_site_proves_what_no_authority_does(wrong: Evidence, capsys: Any) -> None:
    made = report(POSH, Probed(TARGET, (shaken(wrong),)), site=site(b"other", wrong.chain[0]))
    assert made.outcome.carried is Carried.BY_TLS
    assert "proved by POSH sha-256" in made.outcome.text
    found = structure(made)
    assert found["posh"] == {"fingerprints": 2, "seconds": 3600, "problem": None}
    by_posh = found["targets"][0]["addresses"][0]["tls"]["by_posh"]
    assert (by_posh["proved"], by_posh["problem"]) == (True, None)
    assert by_posh["matched"].startswith("POSH sha-256 ")
    print_report(made)
    printed = capsys.readouterr().out
    assert "POSH         2 fingerprints, for 3600 seconds" in printed
    assert "POSH         proves it, by POSH sha-256 " in printed
    assert "posh = true" in printed


def test_a_web_site_that_says_otherwise(good: Evidence, wrong: Evidence) -> None:
    made = report(POSH, Probed(TARGET, (shaken(wrong),)), site=site(b"other"))
    assert made.outcome.carried is Carried.NOT
    assert "does not match the fingerprint in its POSH document" in made.outcome.text
    made = report(POSH, Probed(TARGET, (shaken(good),)), site=site(b"other"))
    assert made.outcome.carried is Carried.BY_TLS, "an authority's word will do"
    assert structure(made)["targets"][0]["addresses"][0]["tls"]["by_posh"]["proved"] is False


def test_a_web_site_that_says_nothing(wrong: Evidence, capsys: Any) -> None:
    problem = "https://example.net/x cannot be fetched: it is silent"
    made = report(POSH, Probed(TARGET, (shaken(wrong),)), site=PoshError(problem))
    assert made.outcome.carried is Carried.NOT
    assert "nor does its web site prove it (POSH)" in made.outcome.text
    assert structure(made)["posh"]["fingerprints"] is None
    print_report(made)
    assert f"POSH {problem}" in " ".join(capsys.readouterr().out.split())


def test_it_fits_eighty_columns(good: Evidence, capsys: Any) -> None:
    """However long the words of others are, and the record to paste is whole."""
    texts = [base64.b64encode(bytes(90)).decode() * 3 for _ in range(3)]
    policy = under(Level.DANE, posh=True)
    shown = Probed(SIGNED, (shaken(good),), vouched=vouched(ALIEN, UNUSABLE))
    unknown = Probed(SIGNED, (shaken(good),), vouched=Vouched(problem=texts[0]))
    print_report(report(policy, shown, unknown, site=PoshError(texts[1])))
    *body, _ = capsys.readouterr().out.splitlines()
    assert all(len(line) <= WIDTH for line in body)
