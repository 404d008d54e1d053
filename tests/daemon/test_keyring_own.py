"""bascule keyring export --own: what partners get of our certificates, and that it serves them."""

import base64
import hashlib
import json
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_pem_pkcs7_certificates

from proxy.daemon.cli import main
from proxy.daemon.keyring_cli import keyring as commands
from proxy.trust.certificate import Certificate
from proxy.trust.dane.records import TLSA
from proxy.trust.keyring.facts import facts_of
from proxy.trust.policy import Level, pin_of
from proxy.trust.verdict import Status
from tests.authority import Authority, self_signed
from tests.daemon.conf_fakes import conf_of, forwarding
from tests.trust.showing import believed, chain_of, judged

DOMAIN = "example.com"
OTHER = "xn--fa-hia.example"

CONF = """
[[domain]]
name = "{domain}"
certificate = ["{ec[0]}", "{rsa[0]}"]
private_key = ["{ec[1]}", "{rsa[1]}"]
c2s_server = "127.0.0.1:15222"
s2s_server = "127.0.0.1:15269"

[[domain]]
name = "{other}"
certificate = "{alone[0]}"
private_key = "{alone[1]}"
c2s_server = "127.0.0.1:15223"

[[listener]]
name = "c2s"
direction = "reverse"
stream = "c2s"
address = "[::]:5222"

[[listener]]
name = "direct"
direction = "reverse"
stream = "c2s"
tls = "direct"
address = "[::]:5223"

[[listener]]
name = "s2s"
direction = "reverse"
stream = "s2s"
address = "[::]:5269"
"""


class Ours:
    """A conf with two domains, one of them with two certificates, and the command on it."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.directory = directory
        self.pairs = [authority.issue(DOMAIN, key=key) for key in ("ec", "rsa")]
        self.alone = authority.issue(OTHER)
        self.conf = directory / "bascule.toml"
        ec, rsa = self.pairs
        self.conf.write_text(
            CONF.format(domain=DOMAIN, other=OTHER, ec=ec, rsa=rsa, alone=self.alone)
        )

    @property
    def leaves(self) -> list[bytes]:
        """The certificates of DOMAIN in DER."""
        return [chain_of(path)[0] for path, _ in self.pairs]

    def run(self, *words: str) -> Result:
        place = ["-c", str(self.conf), "--state-directory", "/nowhere"]
        return CliRunner().invoke(
            commands, ["export", "--own", *place, *words], standalone_mode=False
        )

    def text(self, *words: str) -> str:
        done = self.run(*words)
        assert (done.return_value, done.exception, done.stderr) == (0, None, ""), done.output
        assert "PRIVATE" not in done.stdout
        return done.stdout

    def usage_error(self, *words: str) -> str:
        done = self.run(*words)
        assert isinstance(done.exception, click.UsageError), done.output
        return done.exception.message

    def fault(self, *words: str) -> str:
        done = self.run(*words)
        assert (done.return_value, done.stdout) == (78, ""), done.output
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("bascule: ").strip()


@pytest.fixture
def ours(tmp_path: Path, middle: Authority) -> Ours:
    return Ours(tmp_path, middle)


def test_what_people_compare(ours: Ours) -> None:
    first, second, third = ours.text().split("\n\n")
    for card, key, der in zip(
        (first, second), ("ECDSA P-256", "RSA 2048"), ours.leaves, strict=True
    ):
        lines = dict(line.split(maxsplit=1) for line in card.splitlines())
        assert (lines["domain"], lines["key"]) == (DOMAIN, key)
        assert lines["SHA-256"] == facts_of(der).fingerprint
        assert lines["pin"] == pin_of(der)
    assert OTHER in third
    assert ours.text(OTHER) == third


def test_a_domain_as_people_write_it(ours: Ours) -> None:
    assert ours.text("Faß.Example") == ours.text(OTHER)


def test_pem_has_both_chains(ours: Ours) -> None:
    found = x509.load_pem_x509_certificates(ours.text(DOMAIN, "--format", "pem").encode())
    expected = [der for path, _ in ours.pairs for der in chain_of(path)]
    assert [each.public_bytes(Encoding.DER) for each in found] == expected
    assert len(expected) == 4


def test_pkcs7_has_every_certificate_once(ours: Ours) -> None:
    found = load_pem_pkcs7_certificates(ours.text(DOMAIN, "--format", "pkcs7").encode())
    expected = {der for path, _ in ours.pairs for der in chain_of(path)}
    assert {each.public_bytes(Encoding.DER) for each in found} == expected
    assert len(found) == len(expected) == 3


def test_pins_let_a_partner_in(ours: Ours, tmp_path: Path) -> None:
    """The policy is one for a conf, and believes both certificates, and no other."""
    (table,) = tomllib.loads(ours.text(DOMAIN, "--format", "pins"))["policy"]
    (policy,) = conf_of(forwarding(table)).policies
    assert (policy.domain.text, policy.level) == (DOMAIN, Level.PIN)
    for der in ours.leaves:
        assert judged(believed(der), Level.PIN, *policy.pins).status is Status.VERIFIED
    stranger = chain_of(self_signed(tmp_path, DOMAIN)[0])[0]
    assert pin_of(stranger) not in policy.pins


def records(text: str) -> list[tuple[str, TLSA]]:
    """The records of a zone file, by their names."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith(";"):
            name, _in, _tlsa, usage, selector, matching, data = line.split()
            assert (_in, _tlsa) == ("IN", "TLSA")
            found.append(
                (name, TLSA(int(usage), int(selector), int(matching), bytes.fromhex(data)))
            )
    return found


def test_tlsa_records_match_the_certificates(ours: Ours) -> None:
    text = ours.text(DOMAIN, "--format", "tlsa")
    found = records(text)
    names = [f"_{port}._tcp.{DOMAIN}." for port in (5222, 5223, 5269)]
    assert [name for name, _ in found] == names * 2
    for der, record in zip(ours.leaves, (found[0][1], found[3][1]), strict=True):
        assert (record.usage, record.selector, record.matching) == (3, 1, 1)
        assert record.usable
        assert record.matches(Certificate.read(der))
    assert "Before a key changes" in text


def test_tlsa_records_of_the_host_and_port_of_srv(ours: Ours) -> None:
    words = ("--format", "tlsa", "--host", "XMPP.example.net", "--port", "443", "--port", "5269")
    assert [name for name, _ in records(ours.text(OTHER, *words))] == [
        "_443._tcp.xmpp.example.net.",
        "_5269._tcp.xmpp.example.net.",
    ]
    assert [name for name, _ in records(ours.text(OTHER, "--format", "tlsa"))] == [
        f"_{port}._tcp.{OTHER}." for port in (5222, 5223)
    ], "there are no streams of servers to that domain"


def test_ports_that_nobody_knows(ours: Ours) -> None:
    text = ours.conf.read_text()
    for port in (5222, 5223, 5269):
        text = text.replace(f"[::]:{port}", "127.0.0.1:0")
    ours.conf.write_text(text)
    assert "name them by --port" in ours.usage_error("--format", "tlsa")
    assert records(ours.text(DOMAIN, "--format", "tlsa", "--port", "5222"))


def test_posh_document(ours: Ours) -> None:
    """RFC 7711, section 3.1."""
    found = json.loads(ours.text(DOMAIN, "--format", "posh"))
    assert set(found) == {"fingerprints", "expires"}
    assert isinstance(found["expires"], int)
    assert 0 < found["expires"] <= 7 * 86400
    for der, each in zip(ours.leaves, found["fingerprints"], strict=True):
        assert base64.b64decode(each["sha-256"], validate=True) == hashlib.sha256(der).digest()
        assert base64.b64decode(each["sha-512"], validate=True) == hashlib.sha512(der).digest()


def test_posh_is_of_one_domain(ours: Ours) -> None:
    assert "name one" in ours.usage_error("--format", "posh")
    assert "name one" in ours.usage_error("--format", "posh", "--output", "posh.json")


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("text", {f"{DOMAIN}.txt", f"{OTHER}.txt"}),
        ("pem", {f"{DOMAIN}.pem", f"{OTHER}.pem"}),
        ("pkcs7", {f"{DOMAIN}.p7b", f"{OTHER}.p7b"}),
        ("pins", {f"{DOMAIN}.toml", f"{OTHER}.toml"}),
        ("tlsa", {f"{DOMAIN}.zone", f"{OTHER}.zone"}),
        (
            "posh",
            {
                f"{DOMAIN}.xmpp-client.json",
                f"{DOMAIN}.xmpp-server.json",
                f"{OTHER}.xmpp-client.json",
            },
        ),
    ],
)
def test_into_a_directory(ours: Ours, tmp_path: Path, form: str, names: set[str]) -> None:
    where = tmp_path / "out"
    where.mkdir()
    assert ours.text("--format", form, "--output", str(where)) == ""
    assert {each.name for each in where.iterdir()} == names
    for each in where.iterdir():
        assert each.read_text() == ours.text(
            DOMAIN if each.name.startswith(DOMAIN) else OTHER, "--format", form
        )


def test_into_a_file(ours: Ours, tmp_path: Path) -> None:
    where = tmp_path / "ours.pem"
    assert ours.text("--format", "pem", "--output", str(where)) == ""
    assert where.read_text() == ours.text("--format", "pem")


@pytest.mark.parametrize("where", ["no/file", "bascule.toml/file"])
def test_what_cannot_be_written(ours: Ours, tmp_path: Path, where: str) -> None:
    done = ours.run("--output", str(tmp_path / where))
    assert done.return_value == 74
    assert done.stderr.startswith(f"bascule: {tmp_path / where}: cannot be written: ")


def test_a_directory_that_is_not_there(ours: Ours, tmp_path: Path) -> None:
    where = tmp_path / "gone"
    told = ours.usage_error("--format", "pem", "--output", f"{where}/")
    assert told == f"there is no directory {where}/"
    assert not where.exists()
    where.mkdir()
    assert ours.text("--format", "pem", "--output", f"{where}/") == ""
    assert sorted(each.name for each in where.iterdir()) == [f"{DOMAIN}.pem", f"{OTHER}.pem"]


def test_no_private_key_even_from_the_same_file(ours: Ours, tmp_path: Path) -> None:
    certificate, key = ours.alone
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    ours.conf.write_text(
        ours.conf.read_text().replace(str(certificate), str(both)).replace(str(key), str(both))
    )
    expected = x509.load_pem_x509_certificates(certificate.read_bytes())
    text = ours.text(OTHER, "--format", "pem")
    assert x509.load_pem_x509_certificates(text.encode()) == expected


def test_keys_need_not_be_readable(ours: Ours) -> None:
    ours.alone[1].unlink()
    assert OTHER in ours.text(OTHER)


def test_a_certificate_that_cannot_be_read(ours: Ours) -> None:
    path = ours.alone[0]
    path.write_text("nothing")
    assert ours.fault() == (
        f"{path} holds no certificate in PEM that can be read (see bascule check)"
    )
    assert ours.text(DOMAIN), "another domain's is no matter"


def test_a_conf_with_mistakes(ours: Ours) -> None:
    ours.conf.write_text(ours.conf.read_text() + "\n[colours]\n")
    assert ours.fault().startswith(f"{ours.conf}: colours: is not known")


def test_a_conf_without_domains(ours: Ours) -> None:
    ours.conf.write_text(
        '[[listener]]\nname = "out"\ndirection = "forward"\nstream = "c2s"\n'
        'address = "127.0.0.1:0"\ndomains = ["*"]\n'
    )
    assert ours.usage_error() == "the configuration has no [[domain]]"


def test_domains_of_others(ours: Ours) -> None:
    assert ours.usage_error(DOMAIN, "example.net") == (
        "there is no [[domain]] with the name example.net"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--own", "--host", "a.b"),
        ("--own", "--format", "pem", "--port", "1"),
        ("--format", "pem"),
        ("--port", "5222"),
        ("--host", "a.b"),
        ("--own", "--format", "der"),
        ("--own", "--port", "0", "--format", "tlsa"),
        ("--own", "--host", "a/b", "--format", "tlsa"),
    ],
)
def test_options_that_would_do_nothing(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keyring", "export", *words]) == 64
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.endswith(" (see bascule keyring export --help)\n")


def test_the_help_has_its_table_and_nothing_else() -> None:
    told = CliRunner().invoke(commands, ["export", "--help"]).stdout
    assert all(line.isprintable() for line in told.splitlines())
    assert "\\" not in told
    assert "\n  pem    the certificates with their chains\n  pkcs7 " in told


def test_the_keyring_itself_into_a_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        commands,
        ["export", "--state-directory", str(tmp_path), "--output", str(tmp_path / "x")],
        standalone_mode=False,
    )
    assert done.return_value == 69
    assert not (tmp_path / "x").exists()
