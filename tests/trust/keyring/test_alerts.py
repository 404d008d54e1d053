"""proxy.trust.keyring.alerts: what operators read, word for word where it matters."""

import re

import attrs
import pytest

from proxy.trust.keyring import alerts
from proxy.trust.keyring.alerts import KNOWN_IN_FIELDS, Alert, Kind, Severity
from proxy.trust.keyring.entry import Entry, Held, How, Revocation, Seen, State
from proxy.trust.keyring.facts import LONGEST_NAME, facts_of
from proxy.trust.keyring.store import Keyring
from tests.authority import Authority
from tests.trust.keyring.made import LATER, PROVED, SELF_SIGNED, UNPROVED, certificate, shown
from tests.trust.showing import DAY, NAME, NOW, issued

OLD, NEW = certificate(1), certificate(2)
DAY_SHOWN = f"{NOW:%Y-%m-%d}"


def alert(keyring: Keyring, der: bytes = NEW, **how: object) -> Alert:
    came = shown(keyring, der, **how)  # type: ignore[arg-type]
    assert came.alert is not None
    return came.alert


def entry(number: int = 1, days: float = 30) -> Entry:
    facts = attrs.evolve(facts_of(certificate(number)), not_after=NOW + days * DAY)
    return Entry(
        NAME, "s2s", certificate(number), facts, How.PKIX, "policy", NOW, NOW, NOW + number * DAY
    )


def held(**parts: object) -> Held:
    facts = facts_of(NEW)
    whole = Held(
        "abcd1234", NAME, "s2s", NEW, facts, "why", False, NOW, NOW, 1, State.PENDING, NOW, ""
    )
    return attrs.evolve(whole, **parts)  # type: ignore[arg-type]


def test_what_nothing_vouches_for(keyring: Keyring) -> None:
    told = alert(keyring, verdict=UNPROVED)
    facts = facts_of(NEW)
    held_id = keyring.pending()[0].id
    assert told.text == (
        f"the server of {NAME} (s2s) shows a certificate that is not believed. "
        f"SHA-256: {facts.fingerprint}; id: {held_id}. "
        "Compare the fingerprint with what the domain's operator says by another way, then "
        f'"bascule keyring approve {held_id}", or "bascule keyring reject {held_id}". '
        f"Valid from {facts.not_before:%Y-%m-%d} to {facts.not_after:%Y-%m-%d}; "
        f'subject: "CN={NAME}"; issuer: "CN={NAME}"; names: "{NAME}". Why: "{SELF_SIGNED}"'
    )
    assert told.fields == {
        "id": held_id,
        "reason": SELF_SIGNED,
        "domain": NAME,
        "stream": "s2s",
        "subject": f"CN={NAME}",
        "issuer": f"CN={NAME}",
        "fingerprint": facts.fingerprint,
        "pin": facts.pin,
        "names": NAME,
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
    }


def test_a_change_is_a_possible_breach(keyring: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    told = alert(keyring, verdict=UNPROVED)
    held_id = keyring.pending()[0].id
    old, new = facts_of(OLD), facts_of(NEW)
    assert told.text.startswith(
        f"possible security breach: the server of {NAME} (s2s) shows another certificate than "
        f"those in the keyring, which may be an attacker's. New: SHA-256: {new.fingerprint}; "
        f"id: {held_id}. "
    )
    assert (
        f"In the keyring: SHA-256 {old.fingerprint}, last seen on {DAY_SHOWN}, "
        f'issued by "CN={NAME}". New: Valid from ' in told.text
    )
    assert told.text.endswith(f'names: "{NAME}". Why: "{SELF_SIGNED}"')
    assert (
        f'"bascule keyring approve {held_id}", or "bascule keyring reject {held_id}"' in told.text
    )
    assert told.fields["known"] == old.fingerprint


def test_a_renewal_says_how_to_undo_it(keyring: Keyring) -> None:
    shown(keyring, OLD, PROVED)
    told = alert(keyring, verdict=PROVED)
    assert "It is proved (pkix) and was let in" in told.text
    assert "security breach" in told.text
    assert f'"bascule keyring revoke {facts_of(NEW).fingerprint}"' in told.text
    assert facts_of(OLD).fingerprint in told.text


@pytest.mark.parametrize("revoked", [True, False])
def test_refused(*, revoked: bool) -> None:
    told = alerts.refused(held(state=State.REJECTED, by="bob", since=LATER), revoked=revoked)
    assert told.kind is (Kind.REVOKED if revoked else Kind.REJECTED)
    done = "revoked" if revoked else "rejected"
    assert f"that was {done} by bob on {LATER:%Y-%m-%d}, and was refused" in told.text
    assert '"bascule keyring approve abcd1234" lets this one in, if that was a mista' in told.text


def test_ended() -> None:
    permitted = attrs.evolve(entry(2, days=1), how=How.OPERATOR, permitted_by="alice")
    told = alerts.ended(held(), permitted)
    assert (told.kind, told.severity) == (Kind.EXPIRY, Severity.WARNING)
    assert "the certificate that alice permitted, but it expired on" in told.text


@pytest.mark.parametrize(
    ("days", "words"), [(0.5, "in less than a day"), (1.5, "in 1 day"), (6.5, "in 6 days")]
)
def test_ending(days: float, words: str) -> None:
    told = alerts.ending(entry(days=days), 7, NOW)
    assert f"ends {words}, on " in told.text
    assert told.fields["days"] == "7"
    assert told.key != alerts.ending(entry(days=days), 1, NOW).key


def test_many_known_ones_are_not_all_told_but_all_there() -> None:
    known = [entry(number) for number in range(1, 6)]
    known[4] = attrs.evolve(known[4], revocation=Revocation(NOW, "bob"))
    told = alerts.change(held(), known)
    assert "(and 2 more)" in told.text
    assert "(and 9 more)" in alerts.change(held(), known, 7).text
    many = alerts.change(held(), [entry(number) for number in range(KNOWN_IN_FIELDS + 5)])
    assert many.fields["known"].count(",") == KNOWN_IN_FIELDS - 1
    assert told.text.index(known[4].facts.fingerprint) < told.text.index(
        known[3].facts.fingerprint
    ), "the latest comes first"
    assert f"last seen on {known[4].last_seen:%Y-%m-%d}, revoked, issued by " in told.text
    assert told.fields["known"].count(",") == 4


def test_many_names_likewise(authority: Authority) -> None:
    der = issued(authority, dns=[f"d{number}.example" for number in range(9)])[0]
    told = alerts.unknown(held(certificate=der, facts=facts_of(der)))
    assert (
        'names: "d0.example", "d1.example", "d2.example", "d3.example", "d4.example" (and 4 more).'
        in told.text
    )
    assert told.fields["names"].count(",") == 8


def test_a_certificate_that_names_nothing(authority: Authority) -> None:
    der = issued(authority, dns=[])[0]
    assert "names: none." in alerts.unknown(held(certificate=der, facts=facts_of(der))).text


def test_no_certificate() -> None:
    told = alerts.without_certificate(NAME, "s2s", [entry()])
    assert told.text.startswith("possible security breach: ")
    assert "shows no certificate" in told.text
    assert told.key != alerts.without_certificate(NAME, "s2s", []).key


@pytest.mark.parametrize("missing", ["TLS", "DANE"])
def test_downgrade(missing: str) -> None:
    told = alerts.downgrade(NAME, "s2s", Seen(NOW, NOW), missing)
    assert told.severity is Severity.CRITICAL
    assert f"was reached with {missing} on {DAY_SHOWN} and has none now" in told.text
    assert told.text.endswith(f'"bascule keyring forget {NAME}"')
    assert told.fields["missing"] == missing


def test_held_anew_is_a_new_event() -> None:
    first, again = held(), held(since=LATER)
    assert alerts.unknown(first).key == alerts.unknown(held(count=5, last_seen=LATER)).key
    assert alerts.unknown(first).key != alerts.unknown(again).key
    assert alerts.unknown(first).key != alerts.change(first, [entry()]).key


def named(subject: str, issuer: str, names: tuple[str, ...]) -> Held:
    """A certificate whose names a stranger has chosen."""
    return held(facts=attrs.evolve(facts_of(NEW), subject=subject, issuer=issuer, names=names))


def test_names_cannot_pass_for_a_fingerprint() -> None:
    forged = f'CN=x"; SHA-256: {":".join(["AB"] * 32)}; id: 00000000'
    stranger = named(forged, forged, (forged,))
    reason = f'it is for x". {forged}'
    known = [attrs.evolve(entry(), facts=stranger.facts)]
    for told in (
        alerts.unknown(attrs.evolve(stranger, reason=reason)),
        alerts.change(attrs.evolve(stranger, reason=reason), known),
        alerts.refused(stranger, revoked=True),
        alerts.ended(stranger, known[0]),
        alerts.renewal(known[0], known),
        alerts.ending(known[0], 7, NOW),
    ):
        unquoted = re.sub(r'"([^"\\]|\\.)*"', "", told.text)
        assert "AB:AB" not in unquoted
        assert '"' not in unquoted
        genuine = told.text.index(stranger.facts.fingerprint)
        assert told.text.find("AB:AB") > genuine


def test_names_push_nothing_out_of_the_text(authority: Authority) -> None:
    long = "\U000e0001" * 190
    der = issued(authority, xmpp=[f"{long}{number}" for number in range(9)])[0]
    facts = facts_of(der)
    assert max(map(len, facts.names)) == LONGEST_NAME
    facts = attrs.evolve(facts, subject=facts.names[0], issuer=facts.names[1])
    stranger = held(certificate=der, facts=facts, reason='"' * 400)
    known = [attrs.evolve(entry(number), facts=facts) for number in range(1, 9)]
    for told in (alerts.unknown(stranger), alerts.change(stranger, known)):
        assert len(told.text) < 3000
        assert f"SHA-256: {facts.fingerprint}; id: abcd1234" in told.text[:400]


def test_everything_is_fit_to_be_shown(authority: Authority) -> None:
    der = issued(authority, xmpp=["a\nb\u202e\x1b[2J"], common_name="x\r\ny\x9b")[0]
    hostile = held(certificate=der, facts=facts_of(der), by="bo\nb", state=State.REJECTED)
    known = [attrs.evolve(entry(), facts=facts_of(der), permitted_by="al\x1bice")]
    for told in (
        alerts.unknown(hostile),
        alerts.change(hostile, known),
        alerts.renewal(known[0], known),
        alerts.refused(hostile, revoked=True),
        alerts.ended(hostile, known[0]),
        alerts.ending(known[0], 7, NOW),
        alerts.without_certificate("a\nb", "s2s", known),
        alerts.fault("words", "a\nb", "s\n"),
    ):
        assert told.text.isprintable(), told.text
