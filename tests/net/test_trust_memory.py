"""What a domain was once reached with, it is not reached without: the daemon, real handshakes."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.trust.certificate import Certificate
from tests.authority import Authority
from tests.net.hostile import (
    FAILURE,
    MECHANISMS,
    OFFER,
    Hostile,
    Script,
    header,
    login,
    saying,
    showing,
    upgraded,
)
from tests.net.name_server import NameServer, _key
from tests.net.trusting import Operated, alone, fresh, with_level
from tests.servers.program import HOST
from tests.trust.showing import chain_of

BREACH = "possible security breach"

Pair = tuple[Path, Path]

STRIPPED: dict[str, Script] = {
    "not offered": saying(header("1") + MECHANISMS),
    "refused": saying(header("1") + OFFER, FAILURE),
    "before 1.0": saying(header("1", version=False)),
}


def key_digest(pair: Pair) -> str:
    """Return the SHA-256 of a certificate's key."""
    return hashlib.sha256(Certificate.read(chain_of(pair[0])[0]).key).hexdigest()


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture(scope="module")
def _names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names


@pytest.fixture
def names(_names: NameServer) -> NameServer:
    _names.forget()
    _names.authenticated = True
    _names.minimum = 0
    return _names


@pytest.fixture(scope="module")
def bascule(
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    hostile: Hostile,
    _names: NameServer,
) -> Iterator[Operated]:
    found = {"private_addresses": True, "ca_file": str(authority.ca_path)}
    policies = [
        with_level("may", hostile.port, level="may"),
        {"domain": "*.dane.example", "level": "dane", **found},
    ]
    directory = tmp_path_factory.mktemp("memory")
    with Operated(directory, policies, names=_names.port) as bascule:
        yield bascule
        assert bascule.alive()


# TLS


@pytest.mark.parametrize("how", STRIPPED)
def test_attack_a_domain_that_had_tls_is_not_reached_in_plaintext(
    bascule: Operated, hostile: Hostile, tmp_path: Path, how: str
) -> None:
    """Unless the operator has it forgotten."""
    domain = fresh("may")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    bascule.login(hostile, domain)
    assert bascule.alerts(domain) == []
    hostile.play(STRIPPED[how])
    for _ in range(2):
        assert bascule.refused(hostile, domain).condition == "policy-violation"
    [alert] = bascule.alerts(domain)
    for told in (BREACH, " critical ", " alert=downgrade ", f"bascule keyring forget {domain}"):
        assert told in alert
    assert bascule.command("forget", domain) == f"forgotten: {domain}\n"
    hostile.play(login)
    bascule.login(hostile, domain)
    assert not hostile.peers[-1].secured


def test_a_listener_that_reports_goes_on_and_says_so(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("may")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    bascule.login(hostile, domain, "report")
    hostile.play(login)
    bascule.login(hostile, domain, "report")
    assert f"would be refused: {domain} was reached with TLS before" in bascule.log()
    assert BREACH in bascule.alerts(domain)[0]


def test_one_that_never_had_it_is(bascule: Operated, hostile: Hostile) -> None:
    domain = fresh("may")
    hostile.play(login)
    for _ in range(2):
        bascule.login(hostile, domain)
    assert bascule.alerts(domain) == []


def test_that_nobody_answers_is_no_less(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("may")
    script = upgraded(showing(alone(tmp_path, domain)))
    hostile.play(script)
    bascule.login(hostile, domain)
    hostile.play(saying(closing=True))
    assert bascule.refused(hostile, domain).condition == "remote-connection-failed"
    assert bascule.alerts(domain) == []
    hostile.play(script)
    bascule.login(hostile, domain)


# DANE

KEPT = 1.1
"""Seconds after which what DNS has said is asked anew."""


def zone(names: NameServer, domain: str, port: int, pair: Pair | None) -> None:
    """Let a domain lead to a server that has a TLSA record for a certificate, or none."""
    host = f"xmpp.{domain}"
    names.add(f"_xmpp-client._tcp.{domain}", "SRV", f"0 5 {port} {host}.", ttl=0)
    names.add(host, "A", HOST, ttl=0)
    owner = f"_{port}._tcp.{host}"
    names.add(owner, "TXT", "the name is there")
    names._records.pop(_key(owner, "TLSA"), None)
    if pair is not None:
        names.add(owner, "TLSA", f"3 1 1 {key_digest(pair)}", ttl=0)


def test_attack_a_domain_that_had_tlsa_records_is_not_reached_without(
    bascule: Operated, hostile: Hostile, names: NameServer, authority: Authority
) -> None:
    """Although an authority vouches for its certificate, which is enough for others."""
    pairs = {domain: authority.issue(domain) for domain in (fresh("dane") for _ in range(4))}
    for domain, pair in pairs.items():
        zone(names, domain, hostile.port, pair)
        hostile.play(upgraded(showing(pair)))
        bascule.login(hostile, domain)
        assert f'matched="DANE-EE 3 1 1 {key_digest(pair)[:16]}' in bascule.log()

    vanished, insecure, insecure_addresses, insecure_records = pairs
    zone(names, vanished, hostile.port, None)
    names.distrust(insecure)
    names.distrust(f"xmpp.{insecure_addresses}")
    names.distrust(f"_{hostile.port}._tcp.xmpp.{insecure_records}")
    time.sleep(KEPT)
    for domain, pair in pairs.items():
        hostile.play(upgraded(showing(pair)))
        said = bascule.refused(hostile, domain)
        assert said.condition == "policy-violation"
        assert said.text == (
            f"{domain} had TLSA records before, and has none now that DNSSEC vouches for"
        )
        [alert] = bascule.alerts(domain)
        for told in (BREACH, " critical ", " missing=DANE ", f"bascule keyring forget {domain}"):
            assert told in alert
    bascule.command("forget", vanished)
    hostile.play(upgraded(showing(pairs[vanished])))
    bascule.login(hostile, vanished)
    assert f'matched="DNS-ID {vanished}"' in bascule.log()
    hostile.play(upgraded(showing(pairs[insecure])))
    bascule.refused(hostile, insecure)


def test_records_that_cannot_be_known_are_not_none(
    bascule: Operated, hostile: Hostile, names: NameServer, authority: Authority
) -> None:
    domain = fresh("dane")
    pair = authority.issue(domain)
    zone(names, domain, hostile.port, pair)
    names.fail(f"_{hostile.port}._tcp.xmpp.{domain}", "TLSA")
    hostile.play(upgraded(showing(pair)))
    said = bascule.refused(hostile, domain)
    assert said.condition == "remote-connection-failed"
    assert "its TLSA records cannot be known" in said.text
    assert hostile.peers == []
    assert bascule.alerts(domain) == []
