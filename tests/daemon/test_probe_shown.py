"""proxy.daemon.probe: how what was found is told, to people and in JSON."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon.probe.certificates import LONGEST_NAME, MOST_NAMES, read
from proxy.daemon.probe.outcome import (
    Carried,
    Report,
    Serving,
    Wanted,
)
from proxy.daemon.probe.printing import NAMES_SHOWN, WIDTH, print_report
from proxy.daemon.probe.structure import structure
from proxy.net.posh import PoshError
from proxy.net.probed import Attempt, Probed, Vouched
from proxy.net.targets import Target
from proxy.session.rules import TLSRule
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Pin, pin_of
from proxy.trust.verdict import LONGEST_CHAIN
from tests.authority import Authority, now
from tests.daemon.probe_fakes import (
    DEAD,
    DOMAIN,
    FORBIDDEN,
    HUNG_UP,
    NO_KEYRING,
    OTHER,
    PLAIN,
    SECURE,
    TARGET,
    believed_in,
    report,
    report_to_servers,
    shaken,
    under,
)

CONF = Path("/etc/bascule/bascule.toml")


def test_what_was_judged_by(good: Evidence, capsys: Any) -> None:
    probed = Probed(TARGET, (shaken(good),))

    def shown(made: Report) -> list[str]:
        print_report(made)
        printed: str = capsys.readouterr().out
        return printed.splitlines()[1:4]

    made = report(SECURE, probed, wanted=Wanted(DOMAIN, SECURE, default=True))
    assert shown(made)[:2] == [
        "judged by    the defaults, as there is no configuration",
        "policy       default: secure, TLSv1.2 or later",
    ]
    assert structure(made)["configuration"] is None
    assert structure(made)["policy"]["default"] is True
    made = report(under(Level.NONE), probed, conf=CONF)
    assert shown(made) == [
        f"judged by    {CONF}",
        'policy       "*": none',
        "listener     no forward listener for clients allows this domain",
    ]
    assert structure(made)["configuration"] == str(CONF)
    assert structure(made)["policy"]["default"] is False
    assert structure(made)["policy"]["min_version"] is None


def test_listeners(good: Evidence, capsys: Any) -> None:
    listeners = (
        Serving("strict", TLSRule.REQUIRED, Carried.NOT),
        Serving("lax", TLSRule.REPORT, Carried.BY_TLS),
    )
    made = report(SECURE, Probed(TARGET, (shaken(good),)), conf=CONF, listeners=listeners)
    assert structure(made)["listeners"] == [
        {"name": "strict", "tls": "required", "carried": False},
        {"name": "lax", "tls": "report", "carried": True},
    ]
    print_report(made)
    assert capsys.readouterr().out.splitlines()[3:5] == [
        'listener     strict, tls = "required": enforces the policy',
        '             lax, tls = "report": enforces nothing',
    ]


def test_what_a_certificate_says(authority: Authority) -> None:
    end = now() + dt.timedelta(days=3, hours=1)
    files = authority.issue(
        DOMAIN,
        srv=["_xmpp-client.example.net"],
        xmpp=["exämple.net"],
        common_name="somebody",
        not_after=end,
    )
    shown = read(believed_in(files[0]), now())
    (link,) = shown.chain
    assert (link.subject, link.issuer) == ("CN=somebody", "CN=Bascule test root")
    assert (link.not_after, link.days_left) == (end, 3)
    assert shown.identities.dns == (DOMAIN,)
    assert shown.identities.srv == ("_xmpp-client.example.net",)
    assert shown.identities.xmpp == ("exämple.net",)
    assert (shown.identities.count, shown.length) == (3, 1)
    assert shown.pin == pin_of(believed_in(files[0]).chain[0])


def test_an_expired_certificate_has_no_days_left(authority: Authority) -> None:
    moment = now() - dt.timedelta(hours=1)
    files = authority.issue(DOMAIN, not_after=moment)
    (link,) = read(believed_in(files[0]), now()).chain
    assert (link.days_left, link.days_until_valid) == (-1, 0)


def test_a_certificate_that_is_not_yet_valid(authority: Authority, capsys: Any) -> None:
    begin = now() + dt.timedelta(days=2, hours=1)
    files = authority.issue(DOMAIN, not_before=begin)
    shown = believed_in(files[0])
    (link,) = read(shown, now()).chain
    assert link.days_until_valid == 3
    print_report(report(SECURE, Probed(TARGET, (shaken(shown),))))
    assert "not yet valid: 3 days to go" in capsys.readouterr().out


@pytest.mark.parametrize("rubbish", [b"", b"\x30\x03\x02\x01\x01", b"\xff" * 100, b"0" * 100_000])
def test_what_cannot_be_read_harms_nobody(rubbish: bytes, capsys: Any) -> None:
    shown = Evidence((rubbish,) * (LONGEST_CHAIN + 5), 1, "error")
    found = read(shown, now())
    assert found.pin is None
    assert found.identities.problem
    assert found.length == LONGEST_CHAIN + 5
    assert len(found.chain) <= LONGEST_CHAIN
    made = report(SECURE, Probed(TARGET, (shaken(shown),)))
    print_report(made)
    assert json.loads(json.dumps(structure(made)))["outcome"]["carried"] is False
    assert "15 certificates" in capsys.readouterr().out


def test_names_are_capped_and_counted(authority: Authority, capsys: Any) -> None:
    names = [f"{number}.example.org" for number in range(MOST_NAMES + 50)]
    shown = believed_in(authority.issue(DOMAIN, dns=names)[0])
    made = report(SECURE, Probed(TARGET, (shaken(shown),)))
    identities = structure(made)["targets"][0]["addresses"][0]["tls"]["identities"]
    assert (len(identities["dns"]), identities["count"]) == (MOST_NAMES, MOST_NAMES + 50)
    print_report(made)
    printed = capsys.readouterr().out
    assert f"and {MOST_NAMES + 50 - NAMES_SHOWN} more" in printed
    assert f"DNS-ID {NAMES_SHOWN - 1}.example.org" in printed
    assert f"DNS-ID {NAMES_SHOWN}.example.org" not in printed


STRANGE = "\x1b[2J[red]x[/red]\u202e\n:smile:\\"


def test_text_of_peers_is_escaped_and_capped(authority: Authority, capsys: Any) -> None:
    shown = believed_in(
        authority.issue(DOMAIN, xmpp=[STRANGE, "y" * 1000], common_name=STRANGE.replace("\n", ""))[
            0
        ]
    )
    attempts = (
        shaken(attrs.evolve(shown, error=1, error_text=STRANGE)),
        Attempt("192.0.2.5", connected=0.1, problem="failed", detail=STRANGE),
        Attempt("192.0.2.6", connected=0.1, redirection=STRANGE),
        Attempt("192.0.2.7", forbidden=STRANGE),
    )
    made = report(
        SECURE,
        *(Probed(TARGET, (attempt,)) for attempt in attempts),
        Probed(TARGET, (), STRANGE),
    )
    print_report(made)
    printed = capsys.readouterr().out
    dumped = json.dumps(structure(made), ensure_ascii=False)
    for text in (printed, dumped):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[red]x[/red]" in text  # no markup of rich's
        assert ":smile:" in text
        assert "y" * (LONGEST_NAME + 1) not in text.replace("\n", "").replace(" ", "")
    assert "\\x1b[2J" in printed
    last = printed.splitlines()[-1]
    assert last.startswith("A client would not be carried to example.net")


def test_it_fits_eighty_columns_without_colour(
    authority: Authority, good: Evidence, wrong: Evidence, capsys: Any
) -> None:
    made = report(
        under(Level.SECURE, pins=frozenset({Pin.parse("0" * 64)}), private_addresses=True),
        Probed(TARGET, (shaken(good), shaken(wrong), PLAIN, HUNG_UP, DEAD, FORBIDDEN)),
        Probed(OTHER, (), "the name two.example.net does not exist"),
    )
    listeners = [Serving("x" * 64, TLSRule.REPORT, Carried.NOT)]
    print_report(attrs.evolve(made, conf=Path("/x" * 50), listeners=tuple(listeners)))
    printed = capsys.readouterr().out
    *body, last = printed.splitlines()
    assert all(len(line) <= WIDTH for line in body)
    assert not any(line.endswith(" ") for line in body)
    assert "\x1b" not in printed
    assert pin_of(good.chain[0]) in printed  # whole, to be pasted
    assert last.startswith("A client would not be carried")


def test_sources_of_targets(good: Evidence, capsys: Any) -> None:
    fallback = Target(DOMAIN, 5222, direct=False, fallback=True)
    made = report(SECURE, Probed(OTHER, (shaken(good),)), Probed(fallback, ()))
    srv, itself = structure(made)["targets"]
    assert (srv["source"], srv["priority"], srv["weight"]) == ("srv", 1, 0)
    assert (itself["source"], itself["priority"]) == ("fallback", None)
    server = under(Level.SECURE, server=(TARGET.host, TARGET.port))
    made = report(server, Probed(TARGET, (shaken(good),)))
    assert structure(made)["targets"][0]["source"] == "policy"
    assert structure(made)["policy"]["server"] == {"host": TARGET.host, "port": TARGET.port}
    print_report(made)
    assert "set by the policy" in capsys.readouterr().out


def keys(value: Any) -> Iterator[str]:
    """All keys of all objects in what JSON knows."""
    if isinstance(value, dict):
        yield from value
    for inside in value.values() if isinstance(value, dict) else value:
        if isinstance(inside, dict | list):
            yield from keys(inside)


def test_the_manual_page_names_every_key(good: Evidence) -> None:
    page = (Path(__file__).parents[2] / "docs/bascule.8").read_text()
    section = page.partition(".SH JSON OF PROBE\n")[2].partition("\n.SH ")[0]
    words = set(re.findall(r"\w+", section))
    policy = under(Level.SECURE, server=(TARGET.host, TARGET.port))
    listeners = (Serving("a", TLSRule.REQUIRED, Carried.BY_TLS),)
    probed = Probed(TARGET, (shaken(good),))
    record = TLSA(3, 1, 1, bytes(32))
    claims = Claims(References(DOMAIN, "_xmpp-client", TARGET.host), (record,))
    vouched = Vouched(claims, secure=True)
    reports = (
        report(policy, probed, listeners=listeners),
        report_to_servers(policy, probed),
        report(under(Level.ENCRYPT), attrs.evolve(probed, vouched=vouched)),
        report(under(Level.KEYRING), probed, memory=NO_KEYRING, site=PoshError("silent")),
    )
    found = {key for made in reports for key in keys(structure(made))}
    assert {"usable", "tls_since", "fingerprints", "standing"} <= found
    assert found <= words
