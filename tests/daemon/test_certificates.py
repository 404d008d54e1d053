"""proxy.daemon.certificates, with real certificates."""

import base64
import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from proxy.daemon.certificates import Examination, examine
from proxy.daemon.conf import Claim, build
from proxy.daemon.files import Document
from proxy.daemon.served import CertificateFiles
from proxy.daemon.tables import Placed
from proxy.session.kinds import Kind
from tests.authority import CLIENT, SRV_NAME, XMPP_ADDR, Authority, srv_name, xmpp_addr

NAME = "example.com"
CONF = Path("/etc/bascule/bascule.toml")
NOW = dt.datetime.now(dt.UTC)
Pair = tuple[Path, Path]


def examined(
    *pairs: Pair,
    name: str = NAME,
    now: dt.datetime = NOW,
    shown_to: frozenset[Kind] = frozenset({Kind.C2S}),
) -> Examination:
    claim = Claim(name, tuple(CertificateFiles(*pair) for pair in pairs), shown_to)
    return examine([Placed(claim, CONF, f'domain "{name}"')], now)


def only_mistake(*pairs: Pair, name: str = NAME) -> str:
    found = examined(*pairs, name=name)
    [mistake] = found.mistakes
    return str(mistake).removeprefix(f'{CONF}: domain "{name}".')


def only_caution(*pairs: Pair) -> str:
    found = examined(*pairs)
    assert found.mistakes == ()
    [caution] = found.cautions
    return str(caution).removeprefix(f'{CONF}: domain "{NAME}".')


def raw_dns(text: bytes) -> x509.GeneralName:
    return x509.DNSName._init_without_validation(text.decode("latin-1"))


BROKEN_NAMES = [
    x509.OtherName(SRV_NAME, b"\x30\x03\x16\x01x"),
    x509.OtherName(SRV_NAME, b"\x16\x00"),
    x509.OtherName(SRV_NAME, b"\x0c\x03abc"),
    x509.OtherName(XMPP_ADDR, b"\x0c\x02\xff\xfe"),
    x509.OtherName(XMPP_ADDR, b"\x04\x01\x00"),
    srv_name("example.com"),
    x509.DNSName("*"),
    x509.DNSName("*.com"),
    x509.DNSName("*.*.example.com"),
    x509.DNSName("127.0.0.1"),
    x509.UniformResourceIdentifier("xmpp:a:b:c"),
]


@pytest.mark.parametrize(
    ("name", "identities"),
    [
        (NAME, {}),
        (NAME, {"dns": ["EXAMPLE.com"]}),
        (NAME, {"dns": ["a.invalid", "example.com"]}),
        ("chat.example.com", {"wildcard": True}),
        (NAME, {"dns": [], "srv": ["_xmpp-client.example.com"]}),
        (NAME, {"dns": [], "srv": ["_XMPP-Client.Example.com", "_xmpp-server.example.com"]}),
        (NAME, {"dns": [], "xmpp": ["example.com"]}),
        ("xn--fa-hia.example", {"dns": [], "xmpp": ["faß.example"]}),
        ("xn--fa-hia.example", {"dns": ["xn--fa-hia.example"]}),
        (NAME, {"dns": [], "names": [*BROKEN_NAMES, x509.DNSName("example.com")]}),
        (NAME, {"dns": [], "names": [*BROKEN_NAMES, xmpp_addr("example.com")]}),
    ],
)
def test_covering_certificates(middle: Authority, name: str, identities: dict[str, Any]) -> None:
    end = NOW + dt.timedelta(days=89)
    found = examined(middle.issue(NAME, not_after=end, **identities), name=name)
    assert (found.mistakes, found.cautions) == ((), ())
    [facts] = found.facts
    assert (name, "ECDSA P-256", 89) == (facts.name, facts.kind, facts.days_left)


@pytest.mark.parametrize(
    ("name", "identities"),
    [
        (NAME, {"dns": ["example.org"]}),
        (NAME, {"dns": [], "common_name": "example.com"}),
        (NAME, {"dns": ["example.org"], "common_name": "example.com"}),
        (NAME, {"dns": ["*.example.com"]}),
        ("a.b.example.com", {"dns": ["*.example.com"]}),
        ("foo.example.com", {"dns": ["f*.example.com"]}),
        ("chat.example.com", {"dns": [], "srv": ["_xmpp-client.example.com"]}),
        (NAME, {"dns": [], "srv": ["_imap.example.com"]}),
        (NAME, {"dns": [], "xmpp": ["user@example.com"]}),
        (NAME, {"dns": [], "xmpp": ["example.com/resource"]}),
        (NAME, {"dns": [], "names": BROKEN_NAMES}),
        (NAME, {"dns": [], "names": [raw_dns(b"example.com\0.org")]}),
        (NAME, {"dns": [], "names": [raw_dns(b"example.com ")]}),
        (NAME, {"dns": [], "names": [x509.OtherName(XMPP_ADDR, b"\x16\x0bexample.com")]}),
        (NAME, {"dns": [], "names": [x509.UniformResourceIdentifier("xmpp:example.com")]}),
        ("192.0.2.1", {"dns": ["192.0.2.1"]}),
    ],
)
def test_certificates_that_do_not_cover(
    middle: Authority,
    name: str,
    identities: dict[str, Any],
) -> None:
    text = only_mistake(middle.issue(NAME, **identities), name=name)
    assert f"does not cover {name}; it" in text


@pytest.mark.parametrize(
    ("shown_to", "lacking", "service"),
    [
        ({Kind.C2S}, None, "_xmpp-client"),
        ({Kind.C2S}, "clients, only towards servers", "_xmpp-server"),
        ({Kind.S2S}, None, "_xmpp-server"),
        ({Kind.S2S}, "servers, only towards clients", "_xmpp-client"),
        ({Kind.C2S, Kind.S2S}, "clients, only towards servers", "_xmpp-server"),
        ({Kind.C2S, Kind.S2S}, "servers, only towards clients", "_xmpp-client"),
        ({Kind.COMPONENT}, None, "_xmpp-client"),
        ({Kind.COMPONENT}, None, "_xmpp-server"),
        ({Kind.COMPONENT, Kind.S2S}, "servers, only towards clients", "_xmpp-client"),
        (set(), None, "_xmpp-server"),
    ],
)
def test_an_srv_id_counts_for_its_own_service(
    middle: Authority, shown_to: set[Kind], lacking: str | None, service: str
) -> None:
    pair = middle.issue(NAME, dns=[], srv=[f"{service}.{NAME}"])
    texts = [each.text for each in examined(pair, shown_to=frozenset(shown_to)).mistakes]
    if lacking is None:
        assert texts == []
        return
    other = "_xmpp-client" if service == "_xmpp-server" else "_xmpp-server"
    needed = f"an SRV-ID {other}.{NAME} or a DNS-ID {NAME} is needed"
    named = f"it names {service}.{NAME}"
    assert texts == [f"{pair[0]} does not cover {NAME} towards {lacking}: {needed}; {named}"]


@pytest.mark.parametrize("kind", Kind)
def test_other_identities_count_for_every_service(middle: Authority, kind: Kind) -> None:
    both = [f"_xmpp-client.{NAME}", f"_xmpp-server.{NAME}"]
    for pair in (
        middle.issue(NAME),
        middle.issue(NAME, dns=[], xmpp=[NAME]),
        middle.issue(NAME, dns=[], srv=both),
    ):
        assert examined(pair, shown_to=frozenset({kind})).mistakes == ()


def test_to_whom_certificates_are_shown() -> None:
    def claimed(listener: dict[str, Any] | None = None, **servers: str) -> frozenset[Kind]:
        files = {"certificate": "example.com.crt", "private_key": "example.com.key"}
        content = {
            "domain": [{"name": NAME, **files, **servers}],
            "listener": [] if listener is None else [listener],
        }
        [claim] = build([Document(CONF, content)], {}, main=CONF).claims
        return claim.value.shown_to

    out = {"name": "out", "direction": "forward", "stream": "s2s", "address": "127.0.0.1:15270"}
    assert claimed() == frozenset()
    assert claimed(c2s_server="127.0.0.1:15222") == {Kind.C2S}
    assert claimed(s2s_server="127.0.0.1:15269", c2s_server="none") == {Kind.S2S}
    assert claimed(component_server="127.0.0.1:15347") == {Kind.COMPONENT}
    assert claimed(out, c2s_server="127.0.0.1:15222") == {Kind.C2S, Kind.S2S}
    assert claimed(out) == {Kind.S2S}
    assert claimed({**out, "stream": "c2s"}) == frozenset()


def test_what_is_named_instead(middle: Authority) -> None:
    text = only_mistake(middle.issue(NAME, dns=["a.invalid"], xmpp=["b.invalid"]))
    assert text.endswith("; it names a.invalid, xmpp:b.invalid")
    text = only_mistake(middle.issue(NAME, dns=[], common_name=NAME))
    assert text.endswith("; it has no subjectAltName, and the common name does not count")
    text = only_mistake(middle.issue(NAME, dns=[], names=BROKEN_NAMES[:1]))
    assert text.endswith("; its subjectAltName names no domain that can be understood")


def test_names_in_the_message_cannot_break_the_line(middle: Authority) -> None:
    text = only_mistake(middle.issue(NAME, dns=[], xmpp=["a\n\x1b[31m\u202e"]))
    assert text.isprintable()


def test_wrong_key(middle: Authority) -> None:
    (certificate, _), (_, key) = middle.issue(NAME), middle.issue(NAME)
    text = only_mistake((certificate, key))
    assert f"private_key: {key} is not the key of {certificate}" in text


def test_ecdsa_and_rsa_side_by_side(middle: Authority) -> None:
    found = examined(middle.issue(NAME), middle.issue(NAME, key="rsa"))
    assert (found.mistakes, found.cautions) == ((), ())
    assert [facts.kind for facts in found.facts] == ["ECDSA P-256", "RSA 2048"]


def test_two_of_one_key_type(middle: Authority) -> None:
    text = only_mistake(middle.issue(NAME), middle.issue(NAME))
    assert "both have ECDSA keys; allowed: one certificate of each key type" in text


def test_expired_and_not_yet_valid_are_loud_but_no_mistake(middle: Authority) -> None:
    day = dt.timedelta(days=1)
    pair = middle.issue(NAME, not_before=NOW - 9 * day, not_after=NOW - day)
    assert "warning: " in only_caution(pair)
    assert f"EXPIRED on {NOW - day:%Y-%m-%d}" in only_caution(pair)
    assert examined(pair).facts[0].days_left is None
    pair = middle.issue(NAME, not_before=NOW + day, not_after=NOW + 90 * day)
    assert f"IS NOT VALID BEFORE {NOW + day:%Y-%m-%d}" in only_caution(pair)


def test_last_three_weeks_are_called_to_mind(middle: Authority) -> None:
    day = dt.timedelta(days=1)
    end = NOW + 20 * day
    assert only_caution(middle.issue(NAME, not_after=end)).endswith(
        f"expires on {end:%Y-%m-%d}, in 20 days"
    )
    assert examined(middle.issue(NAME, not_after=NOW + 22 * day)).cautions == ()


@pytest.mark.parametrize(
    ("now", "days", "text"),
    [
        ("2026-11-22T23:59", 10, "in 10 days"),
        ("2026-11-23T00:00", 9, "in 9 days"),
        ("2026-12-01T00:00", 1, "tomorrow"),
        ("2026-12-02T11:59", 0, "today"),
    ],
)
def test_days_agree_with_the_calendar(middle: Authority, now: str, days: int, text: str) -> None:
    end = dt.datetime(2026, 12, 2, 12, tzinfo=dt.UTC)
    begin = end - dt.timedelta(days=90)
    pair = middle.issue(NAME, not_before=begin, not_after=end)
    ahead = dt.timezone(dt.timedelta(hours=14))
    found = examined(pair, now=dt.datetime.fromisoformat(f"{now}+00:00").astimezone(ahead))
    assert [days] == [facts.days_left for facts in found.facts]
    assert any(str(each).endswith(f"expires on 2026-12-02, {text}") for each in found.cautions)


def test_a_certificate_without_those_in_between(middle: Authority) -> None:
    certificate, key = middle.issue(NAME)
    leaf, end, _ = certificate.read_text().partition("-----END CERTIFICATE-----\n")
    certificate.write_text(leaf + end)
    assert only_caution((certificate, key)) == (
        f"certificate: warning: {certificate} holds the domain's certificate alone, issued by "
        '"CN=middle": those who do not know that issuer also need the certificates in between '
        "(Certbot: fullchain.pem)"
    )


def test_a_self_signed_certificate(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    text = "is self-signed: whoever was not told to trust it will refuse it"
    assert text in only_caution(pair)


def test_chain_out_of_order(middle: Authority, authority: Authority) -> None:
    certificate, key = middle.issue(NAME)
    assert (
        examined((certificate, key)).mistakes,
        examined((certificate, key)).cautions,
    ) == ((), ())
    blocks = certificate.read_text().split("-----END CERTIFICATE-----\n")[:2]
    end = "-----END CERTIFICATE-----\n"
    certificate.write_text(blocks[1] + end + blocks[0] + end)
    assert f"belongs to certificate 2 of {certificate}" in only_mistake((certificate, key))
    certificate.write_text(blocks[0] + end + authority.ca_path.read_text())
    assert "did not issue certificate 1" in only_caution((certificate, key))


def test_certificate_that_is_not_for_servers(middle: Authority) -> None:
    assert "is not meant for servers" in only_caution(middle.issue(NAME, usages=[CLIENT]))


def test_key_that_others_can_read(middle: Authority) -> None:
    certificate, key = middle.issue(NAME)
    key.chmod(0o644)
    assert "is open to every user of the machine (mode 0644)" in only_caution((certificate, key))
    key.chmod(0o640)
    assert examined((certificate, key)).cautions == ()


def test_files_of_another_kind(middle: Authority, tmp_path: Path) -> None:
    certificate, key = middle.issue(NAME)
    key.chmod(0o644)
    swapped = examined((key, certificate))
    assert [each.text for each in swapped.mistakes] == [
        f"{key} is a private key; are certificate and private_key swapped?",
        f"{certificate} is a certificate; are certificate and private_key swapped?",
    ]
    assert swapped.cautions == ()
    key.chmod(0o600)
    binary = tmp_path / "binary"
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    binary.write_bytes(leaf.public_bytes(Encoding.DER))
    assert "is a certificate in DER; PEM is needed" in only_mistake((binary, key))
    secret = ec.generate_private_key(ec.SECP256R1())
    encodings = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    binary.write_bytes(secret.private_bytes(*encodings))
    assert "is a private key in DER; PEM is needed" in only_mistake((certificate, binary))
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(secret, hashes.SHA256())
    binary.write_bytes(request.public_bytes(Encoding.PEM))
    assert "is a certificate request; what the authority" in only_mistake((binary, key))


def test_files_that_cannot_be_used(middle: Authority, tmp_path: Path) -> None:
    certificate, key = middle.issue(NAME)
    missing, junk, long = (tmp_path / name for name in ("missing", "junk", "long"))
    junk.write_bytes(b"\xff\0junk")
    junk.chmod(0o600)
    long.write_bytes(b"x" * ((1 << 20) + 1))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert f"certificate: {missing} cannot be read: No such file" in only_mistake((missing, key))
    assert f"private_key: {missing} cannot be read" in only_mistake((certificate, missing))
    assert "holds no certificate in PEM" in only_mistake((junk, key))
    assert "holds no private key in PEM" in only_mistake((certificate, junk))
    assert "is not a regular file" in only_mistake((tmp_path, key))
    assert "is not a regular file" in only_mistake((certificate, fifo))
    assert "is too long" in only_mistake((long, key))
    assert len(examined((missing, missing)).mistakes) == 2
    assert len(examined((certificate, missing), name="example.org").mistakes) == 2


@pytest.mark.parametrize("flip", [0x01, 0x0B, 0x80])
def test_a_damaged_certificate_is_a_mistake_or_harmless(middle: Authority, flip: int) -> None:
    certificate, key = middle.issue(NAME, srv=["_xmpp-client.example.com"])
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    for position in range(300):
        damaged = der[:position] + bytes([der[position] ^ flip]) + der[position + 1 :]
        body = base64.encodebytes(damaged).decode()
        certificate.write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
        found = examined((certificate, key))
        assert all(str(each).isprintable() for each in found.mistakes + found.cautions)
        assert found.mistakes or found.facts


def test_key_with_a_passphrase(middle: Authority) -> None:
    certificate, key = middle.issue(NAME)
    secret = ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(b"secret")
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    assert "has a passphrase; allowed: a private key without one" in only_mistake(
        (certificate, key)
    )


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (rsa.generate_private_key(65537, 1024), "has an RSA key of 1024 bits; allowed: at least"),
        (
            ec.generate_private_key(ec.SECP256K1()),
            "has a key on the curve secp256k1; allowed: P-256",
        ),
        (dsa.generate_private_key(1024), "has a key that is neither RSA nor ECDSA nor Ed25519"),
    ],
)
def test_keys_that_are_too_weak_or_unusual(tmp_path: Path, key: Key, expected: str) -> None:
    assert expected in only_mistake(self_signed(tmp_path, key))


def test_ed25519_is_taken(tmp_path: Path) -> None:
    found = examined(self_signed(tmp_path, ed25519.Ed25519PrivateKey.generate()))
    assert [facts.kind for facts in found.facts] == ["Ed25519"]


def self_signed(directory: Path, key: Key) -> Pair:
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=True)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    pair = directory / "self.crt", directory / "self.key"
    pair[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    pair[1].touch(mode=0o600)
    pair[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair
