"""Attacks 19 and 20: every kind of certificate, on every way to a server, in real handshakes."""

import re
from collections.abc import Callable, Iterator

import attrs
import pytest
from OpenSSL import SSL

from proxy.trust.policy import pin_of
from tests.authority import Authority
from tests.net import hostile
from tests.net.certificates import BAD, GOOD, Authorities, Bad, Good, Pair
from tests.net.forward import HOSTING, Forward
from tests.net.hostile import Hostile, Script, Secure, pointing, saying, showing, upgraded
from tests.net.name_server import NameServer
from tests.servers.program import HOST, free_port
from tests.trust.showing import chain_of

Scripts = Callable[[Secure, int], list[Script]]
"""What the hostile server does on each connection, given how it turns to TLS and its port."""


@attrs.frozen
class Way:
    """A way to the hostile server, which domain goes it, and what happens there."""

    domain: str
    scripts: Scripts
    start: str = "starttls"


WAYS = (
    Way("starttls.example.net", lambda secure, _: [upgraded(secure)]),
    Way("direct.example.net", lambda secure, _: [hostile.direct(secure)], "direct"),
    Way("fixed.example.net", lambda secure, _: [upgraded(secure)]),
    Way("fixed-direct.example.net", lambda secure, _: [hostile.direct(secure)], "direct"),
    Way("after-dead.example.net", lambda secure, _: [upgraded(secure)]),
    Way(
        "after-closed.example.net",
        lambda secure, _: [saying(hostile.header("1"), closing=True), upgraded(secure)],
    ),
    Way(
        "redirected.example.net",
        lambda secure, port: [pointing(f"{HOSTING}:{port}"), upgraded(secure)],
    ),
    Way("two.labels.example.net", lambda secure, _: [upgraded(secure)]),
)
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.domain)
each_good = pytest.mark.parametrize("good", GOOD, ids=lambda good: good.name)
each_bad = pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)

VERSIONS = (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION)
PINNED = ("pin.example.net", "pin-secure.example.net")


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authorities:
    return Authorities(tmp_path_factory.mktemp("authorities"), authority)


@pytest.fixture(scope="module")
def known(authority: Authority) -> dict[str, Pair]:
    """For each domain with pins a certificate whose key is known."""
    return {
        "pin.example.net": authority.issue("other.example"),
        "pin-secure.example.net": authority.issue("pin-secure.example.net"),
    }


@pytest.fixture(scope="module")
def _forward(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, known: dict[str, Pair]
) -> Iterator[Forward]:
    with Hostile() as server, NameServer() as names:
        place = f"{HOST}:{server.port}"
        pins = {name: [str(pin_of(chain_of(pair[0])[0]))] for name, pair in known.items()}
        policies: list[dict[str, object]] = [
            {"domain": "fixed.example.net", "server": place},
            {"domain": "fixed-direct.example.net", "server": place, "direct_tls": True},
            {"domain": "xn--fa-hia.example.net", "server": place},
            {"domain": "may.example.net", "level": "may", "server": place},
            {"domain": "encrypt.example.net", "level": "encrypt", "server": place},
            {
                "domain": "pin.example.net",
                "level": "pin",
                "server": place,
                "pins": pins["pin.example.net"],
            },
            {
                "domain": "pin-secure.example.net",
                "server": place,
                "pins": pins["pin-secure.example.net"],
            },
        ]
        target = f"{server.port} {HOSTING}."
        for domain in ("starttls", "after-closed", "redirected", "two.labels"):
            names.add(f"_xmpp-client._tcp.{domain}.example.net", "SRV", f"0 5 {target}")
        names.add("_xmpps-client._tcp.direct.example.net", "SRV", f"0 5 {target}")
        for domain, first in (("after-dead", free_port()), ("after-closed", server.port)):
            names.add(
                f"_xmpp-client._tcp.{domain}.example.net",
                "SRV",
                f"0 5 {first} {HOSTING}.",
                f"1 5 {server.port} xmpp2.hosting.example.",
            )
        names.add("xmpp2.hosting.example", "A", HOST)
        directory = tmp_path_factory.mktemp("forward")
        with pytest.MonkeyPatch.context() as patch:
            # The system's roots, which count where a policy may not name any.
            patch.setenv("SSL_CERT_FILE", str(authority.ca_path))
            forward = Forward(directory, authority, server, names, policies=policies)
        with forward:
            yield forward


@pytest.fixture
def forward(_forward: Forward) -> Iterator[Forward]:
    yield _forward
    _forward.hostile.play(hostile.login)


def filled(text: str, domain: str) -> str:
    return text.replace("{}", domain).replace("{parent}", domain.partition(".")[2])


def established(lines: list[str]) -> str:
    (line,) = [line for line in lines if "TLS connection established" in line]
    return line


@each_way
@each_good
def test_what_proves_the_domain_is_accepted(
    forward: Forward, authorities: Authorities, way: Way, good: Good
) -> None:
    # By turns, for either version shows the certificate in a way of its own.
    newest = VERSIONS[(WAYS.index(way) + GOOD.index(good)) % 2]
    secure = showing(good.issue(authorities, way.domain), newest)
    forward.hostile.play(*way.scripts(secure, forward.hostile.port))
    line = established(forward.login(way.domain))
    version = "TLSv1.3" if newest == SSL.TLS1_3_VERSION else "TLSv1.2"
    place = f"{way.domain}[{HOST}]:{forward.hostile.port}"
    assert f" Verified TLS connection established to {place}: {version} with cipher " in line
    assert f'matched="{filled(good.identity, way.domain)}"' in line
    assert "policy=secure" in line
    assert f"start={way.start}" in line
    assert forward.hostile.peers[-1].server_name == way.domain.encode()


@each_way
@each_bad
def test_attack_19_and_20_what_does_not_is_refused_on_every_way(
    forward: Forward, authorities: Authorities, way: Way, bad: Bad
) -> None:
    secure = showing(bad.issue(authorities, way.domain))
    forward.hostile.play(*way.scripts(secure, forward.hostile.port))
    refusal = forward.refusal(way.domain)
    assert refusal.condition == "policy-violation"
    assert re.fullmatch(filled(bad.text, way.domain), refusal.text), refusal.text
    assert [peer.secured for peer in refusal.peers][-1:] == [True]
    given_up = [line for line in refusal.lines if "server given up: " in line]
    assert bad.name == "forged" or refusal.text[:150] in given_up[-1]


@each_bad
def test_attack_20_tls_1_2_shows_no_more(
    forward: Forward, authorities: Authorities, bad: Bad
) -> None:
    pair = bad.issue(authorities, "fixed.example.net")
    forward.hostile.play(upgraded(showing(pair, SSL.TLS1_2_VERSION)))
    refusal = forward.refusal("fixed.example.net")
    assert re.fullmatch(filled(bad.text, "fixed.example.net"), refusal.text), refusal.text


def test_attack_20_a_certificate_that_was_accepted_is_good_for_its_domain_alone(
    forward: Forward, authority: Authority
) -> None:
    secure = showing(authority.issue("fixed.example.net"))
    for _ in range(2):
        forward.hostile.play(upgraded(secure))
        forward.login("fixed.example.net")
        forward.hostile.play(upgraded(secure))
        assert "not for starttls.example.net" in forward.refusal("starttls.example.net").text
        forward.hostile.play(hostile.direct(secure))
        assert "not for direct.example.net" in forward.refusal("direct.example.net").text


def test_attack_20_clients_from_before_1_0_are_told(
    forward: Forward, authorities: Authorities
) -> None:
    forward.hostile.play(upgraded(showing(BAD[0].issue(authorities, "fixed.example.net"))))
    assert forward.refusal("fixed.example.net", version=None).condition == "policy-violation"


@each_bad
@pytest.mark.parametrize("domain", ["may.example.net", "encrypt.example.net"])
def test_where_no_proof_is_demanded_the_log_tells_what_is_missing(
    forward: Forward, authorities: Authorities, bad: Bad, domain: str
) -> None:
    forward.hostile.play(upgraded(showing(bad.issue(authorities, domain))))
    line = established(forward.login(domain))
    status = "Trusted" if bad.trusted else "Untrusted"
    assert f" {status} TLS connection established to {domain}[" in line
    assert " matched=" not in line
    assert f"policy={domain.partition('.')[0]}" in line
    assert "problem=" in line


@pytest.mark.parametrize("domain", ["may.example.net", "encrypt.example.net"])
def test_where_no_proof_is_demanded_it_is_told_all_the_same(
    forward: Forward, authority: Authority, domain: str
) -> None:
    forward.hostile.play(upgraded(showing(authority.issue(domain))))
    assert " Verified TLS " in established(forward.login(domain))


@pytest.mark.parametrize("way", [WAYS[1], WAYS[-2]], ids=lambda way: way.domain)
@each_bad
def test_a_listener_that_reports_lets_everybody_through_and_names_whom_it_would_not(
    forward: Forward, authorities: Authorities, way: Way, bad: Bad
) -> None:
    secure = showing(bad.issue(authorities, way.domain))
    forward.hostile.play(*way.scripts(secure, forward.hostile.port))
    lines = forward.login(way.domain, "report")
    said = [line for line in lines if "would be refused: the certificate" in line]
    assert len(said) == 1
    assert " warning would be refused: " in said[0]
    status = "Trusted" if bad.trusted else "Untrusted"
    assert f" {status} TLS connection established" in established(lines)


def test_a_key_that_is_known_needs_no_more(forward: Forward, known: dict[str, Pair]) -> None:
    forward.hostile.play(upgraded(showing(known["pin.example.net"])))
    assert 'matched="pin sha256:' in established(forward.login("pin.example.net"))


@each_bad
@pytest.mark.parametrize("domain", PINNED)
def test_attack_20_a_key_that_is_not_known_is_refused(
    forward: Forward, authorities: Authorities, domain: str, bad: Bad
) -> None:
    forward.hostile.play(upgraded(showing(bad.issue(authorities, domain))))
    assert forward.refusal(domain).condition == "policy-violation"


@pytest.mark.parametrize("domain", PINNED)
def test_attack_20_a_good_certificate_with_another_key_is_refused(
    forward: Forward, authority: Authority, domain: str
) -> None:
    forward.hostile.play(upgraded(showing(authority.issue(domain))))
    refusal = forward.refusal(domain)
    assert re.fullmatch(
        rf"the key of {domain}, sha256:\S{{44}}, is not one of its pins", refusal.text
    )


def test_a_known_key_besides_a_good_certificate(forward: Forward, known: dict[str, Pair]) -> None:
    forward.hostile.play(upgraded(showing(known["pin-secure.example.net"])))
    line = established(forward.login("pin-secure.example.net"))
    assert 'matched="DNS-ID pin-secure.example.net"' in line


@pytest.mark.parametrize("names", ["dns", "srv", "xmpp"])
def test_a_domain_beyond_ascii_is_compared_in_one_form(
    forward: Forward, authority: Authority, names: str
) -> None:
    label, text = "xn--fa-hia.example.net", "faß.example.net"
    pair = {
        "dns": lambda: authority.issue(label),
        "srv": lambda: authority.issue(label, dns=[], srv=[f"_xmpp-client.{label}"]),
        "xmpp": lambda: authority.issue(label, dns=[], xmpp=[text]),
    }[names]()
    forward.hostile.play(upgraded(showing(pair)))
    line = established(forward.login(text))
    assert f" Verified TLS connection established to {label}[" in line
