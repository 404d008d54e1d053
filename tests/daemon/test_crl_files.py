"""The files of revocation lists: what is read from them, and what is told of those that are not."""

from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.daemon.crl_files import LONGEST_FILE, examine_lists, read_lists, read_revocation
from proxy.daemon.tables import Placed
from proxy.trust.policy import Pattern, Policy
from tests.authority import Authority
from tests.trust.revoking import crl, entry
from tests.trust.showing import DAY, NOW


def pem(whole: bytes) -> bytes:
    return x509.load_der_x509_crl(whole).public_bytes(Encoding.PEM)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lists"


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other", name="other")


def problem(file: Path, content: bytes) -> str:
    """What is told of a file."""
    file.write_bytes(content)
    with pytest.raises(ValueError, match=str(file)) as told:
        read_lists(file)
    text = str(told.value)
    assert text.isprintable()
    return text.replace(str(file), "FILE")


def test_one_in_der(authority: Authority, file: Path) -> None:
    file.write_bytes(crl(authority, entry(7)))
    (found,) = read_lists(file)
    assert found.revoked(7) == (NOW - DAY, None)
    assert found.revoked(8) is None
    assert found.name == '"CN=Bascule test root"'
    assert (found.begin, found.end) == (NOW - DAY, NOW + DAY)


@pytest.mark.parametrize("between", [b"", b"\n\n", b"# a comment\n"])
def test_several_in_pem(authority: Authority, other: Authority, file: Path, between: bytes) -> None:
    both = [pem(crl(authority, entry(1))), pem(crl(other, entry(2)))]
    for content in (between.join(both), between + between.join(both).replace(b"\n", b"\r\n")):
        file.write_bytes(content)
        first, second = read_lists(file)
        assert (first.revoked(1) is None, second.revoked(1) is None) == (False, True)
        assert (first.revoked(2) is None, second.revoked(2) is None) == (True, False)


def test_what_is_no_list(authority: Authority, file: Path) -> None:
    whole = crl(authority)
    armour = pem(whole)
    nothing = "FILE holds no revocation list, neither in PEM nor in DER"
    damaged = "FILE holds a revocation list in PEM that is damaged"
    assert problem(file, b"") == nothing
    assert problem(file, b"hello") == nothing
    assert problem(file, whole[:-1]) == "FILE is no revocation list that can be read"
    assert problem(file, armour.replace(b"-----END", b"-----FIN")) == nothing
    assert problem(file, armour + armour.partition(b"-----END")[0]) == damaged
    assert problem(file, armour[:40] + b"!" + armour[41:]) == damaged
    certificate = authority.ca_path.read_bytes()
    only = "FILE holds a CERTIFICATE, not only revocation lists"
    assert problem(file, certificate) == only
    assert problem(file, armour + certificate) == only


def test_which_of_several_is_not_taken(authority: Authority, file: Path) -> None:
    delta = crl(authority, extensions=[(x509.DeltaCRLIndicator(1), True)])
    why = "only tells what has changed (a delta); the complete one counts"
    assert problem(file, delta) == f"FILE {why}"
    assert problem(file, pem(crl(authority)) + pem(delta)) == f"list 2 of FILE {why}"


def test_what_is_no_file(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ValueError, match="is not a regular file"):
        read_lists(tmp_path)
    with pytest.raises(ValueError, match="cannot be read: No such file or directory"):
        read_lists(file)
    with file.open("wb") as opened:
        opened.truncate(LONGEST_FILE + 1)
    with pytest.raises(ValueError, match="is too long; allowed: 32 MiB"):
        read_lists(file)


def test_each_file_is_read_once(
    authority: Authority, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(crl(authority, entry(7)))
    calls: list[Path] = []

    def read(path: Path) -> object:
        calls.append(path)
        return read_lists(path)

    monkeypatch.setattr("proxy.daemon.crl_files.read_lists", read)
    plain = Policy(Pattern.parse("*"))
    policies = [
        attrs.evolve(plain, domain=Pattern.parse(name), crl_files=(file,))
        for name in ("example.net", "example.org")
    ]
    found = read_revocation([plain, *policies])
    assert calls == [file]
    assert found.lists(plain) == ()
    assert [each.revoked(7) is None for each in found.lists(policies[1])] == [False]


def test_one_bad_file_is_an_error(authority: Authority, file: Path, tmp_path: Path) -> None:
    file.write_bytes(crl(authority))
    policy = Policy(Pattern.parse("*"), crl_files=(file, tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere cannot be read"):
        read_revocation([policy])


def test_what_is_told_before_the_start(
    authority: Authority, other: Authority, file: Path, tmp_path: Path
) -> None:
    past = crl(authority, life=(NOW - 9 * DAY, NOW - DAY))
    future = crl(other, life=(NOW + DAY, NOW + 2 * DAY))
    file.write_bytes(pem(past) + pem(future) + pem(crl(other)))
    conf, key = Path("bascule.toml"), "policy[1]"
    files = [Placed(file, conf, key), Placed(tmp_path / "nowhere", conf, key)]
    (mistake,), cautions = examine_lists(files, NOW)
    assert (mistake.file, mistake.key) == (conf, "policy[1].crl_files")
    assert mistake.text == f"{tmp_path}/nowhere cannot be read: No such file or directory"
    for caution, what in zip(cautions, ("ENDED", "BEGINS"), strict=True):
        assert (caution.file, caution.key) == (conf, "policy[1].crl_files")
        assert what in caution.text
        assert caution.text.endswith(
            ": no server with a certificate by that authority will be believed"
        )
