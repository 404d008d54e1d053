"""Certificates, keys, roots and revocation lists that are replaced are taken up unasked."""

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.daemon.draining import EACH
from tests.authority import Authority
from tests.daemon.reloaded import LOOKS, Changing
from tests.net.client import logged_in, proceeding, secure
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST
from tests.servers.stream import plaintext
from tests.trust.revoking import crl

KEPT = "certificates stay as they were"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the certificate and the key are."""
    place = tmp_path / "tls"
    place.mkdir()
    return place


@pytest.fixture
def daemon(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    place: Path,
    legacy: LegacyServer,
    authority: Authority,
) -> Iterator[Changing]:
    """It looks at its files very often; a parameter is the number of seconds from look to look."""
    looks = getattr(request, "param", LOOKS)
    by_copy(place, authority.issue(DOMAIN))
    domains = [
        served(legacy, [(place / "crt", place / "key")]),
        served(legacy, [authority.issue(OTHER_DOMAIN)], OTHER_DOMAIN),
    ]
    front = Front(tmp_path, domains, tables={"deadlines": {"negotiation": 600}})
    front.write()
    written = front.configuration_path.read_text()
    with Changing(front.configuration_path, written, looks) as daemon:
        yield daemon


def by_copy(place: Path, pair: tuple[Path, Path]) -> None:
    for path, name in zip(pair, ("crt", "key"), strict=True):
        shutil.copyfile(path, place / name)


def by_rename(place: Path, pair: tuple[Path, Path]) -> None:
    for path, name in zip(pair, ("crt", "key"), strict=True):
        shutil.copyfile(path, place / "new")
        (place / "new").rename(place / name)


def by_symlink(place: Path, pair: tuple[Path, Path]) -> None:
    for path, name in zip(pair, ("crt", "key"), strict=True):
        (place / "new").symlink_to(path)
        (place / "new").rename(place / name)


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificates(path.read_bytes())[0].serial_number


def presented(daemon: Changing, authority: Authority) -> int:
    """Return the serial number of the certificate that a new client is shown."""
    with plaintext(daemon.ports["c2s"], DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        assert isinstance(stream.connection, ssl.SSLSocket)
        shown = stream.connection.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number


@pytest.mark.parametrize("replace", [by_copy, by_rename, by_symlink])
def test_a_certificate_is_taken_up_unasked(
    daemon: Changing,
    place: Path,
    legacy: LegacyServer,
    authority: Authority,
    replace: Callable[[Path, tuple[Path, Path]], None],
) -> None:
    with logged_in(daemon.ports["c2s"], authority.ca_path) as stream:
        before = presented(daemon, authority)
        pair = authority.issue(DOMAIN)
        daemon.call(replace, place, pair)  # it does not look in between
        line = daemon.wait_for_line("certificate taken up")
        assert presented(daemon, authority) == serial(pair[0]) != before
        stream.send("<presence/>")
        legacy.connections[0].read_until(b"<presence/>")
    leaf = x509.load_pem_x509_certificates(pair[0].read_bytes())[0]
    assert f" info certificate taken up domain={DOMAIN} file={place}/crt fingerprint=" in line
    assert leaf.fingerprint(SHA256()).hex(":").upper() in line.upper()
    assert f"serial={leaf.serial_number:x} days_left=" in line
    assert " pin=" in line
    daemon.look()
    assert sum("taken up" in each for each in daemon.lines()) == 1
    assert not any(KEPT in each for each in daemon.lines())


def test_a_key_that_does_not_fit_yet_is_waited_for(
    daemon: Changing, place: Path, authority: Authority
) -> None:
    before = presented(daemon, authority)
    pair = authority.issue(DOMAIN)
    shutil.copyfile(pair[0], place / "crt")
    line = daemon.wait_for_line(KEPT)
    assert f"warning {KEPT}: {place}/key is not the key of {place}/crt" in line
    assert presented(daemon, authority) == before
    daemon.look()
    assert sum(KEPT in each for each in daemon.lines()) == 1
    shutil.copyfile(pair[1], place / "key")
    daemon.wait_for_line("certificate taken up")
    assert presented(daemon, authority) == serial(pair[0])


@pytest.mark.parametrize("fault", ["gone", "not one", "another domain's"])
def test_what_cannot_serve_is_not_taken_up(
    daemon: Changing, place: Path, authority: Authority, fault: str
) -> None:
    before = presented(daemon, authority)
    if fault == "gone":
        (place / "crt").unlink()
    elif fault == "not one":
        (place / "crt").write_text("no certificate")
    else:
        by_copy(place, authority.issue(OTHER_DOMAIN))
    daemon.wait_for_line(KEPT)
    assert presented(daemon, authority) == before
    pair = authority.issue(DOMAIN)
    by_copy(place, pair)
    daemon.wait_for_line("certificate taken up")
    assert presented(daemon, authority) == serial(pair[0])


@pytest.mark.parametrize("daemon", [600.0], indirect=True)
def test_a_reload_takes_up_certificates_and_says_so(
    daemon: Changing, place: Path, authority: Authority
) -> None:
    pair = authority.issue(DOMAIN)
    by_copy(place, pair)
    assert daemon.reload().changes["certificates"] == DOMAIN
    assert presented(daemon, authority) == serial(pair[0])
    daemon.look()
    # It has been taken up once.
    assert not any("taken up" in line for line in daemon.lines())
    daemon.wait_for_line(f"reloaded changed=nothing certificates={DOMAIN}")


def test_the_files_of_the_new_conf_are_looked_at(
    daemon: Changing, place: Path, tmp_path: Path, authority: Authority
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    by_copy(other, authority.issue(DOMAIN))
    daemon.reload((f'"{place}/crt"', f'"{other}/crt"'), (f'"{place}/key"', f'"{other}/key"'))
    pair = authority.issue(DOMAIN)
    by_copy(other, pair)
    assert str(other) in daemon.wait_for_line("certificate taken up")
    assert presented(daemon, authority) == serial(pair[0])


def test_sessions_under_an_old_certificate_can_be_ended(
    daemon: Changing, place: Path, legacy: LegacyServer, authority: Authority
) -> None:
    port = daemon.ports["c2s"]
    with (
        logged_in(port, authority.ca_path) as old,
        logged_in(port, authority.ca_path, domain=OTHER_DOMAIN) as other,
        plaintext(port, DOMAIN) as bare,
    ):
        assert daemon.call(daemon.service.drain, "certificate").sessions == 0
        by_rename(place, authority.issue(DOMAIN))
        daemon.wait_for_line("certificate taken up")
        with logged_in(port, authority.ca_path) as new:
            drained = daemon.call(daemon.service.drain, "certificate")
            assert (drained.sessions, drained.seconds) == (1, EACH)
            answer = old.read_to_end()
            assert "<stream:error><reset " in answer
            assert answer.endswith("</stream:stream>")
            assert daemon.call(daemon.service.drain, "1h").sessions == 0
            assert daemon.call(daemon.service.drain, "0s").sessions == 3
            for stream in (other, new, bare):
                assert "<reset " in stream.read_to_end()
    line = daemon.wait_for_line("old sessions are ended")
    assert "older_than=certificate sessions=0 seconds=0" in line


REMOTE = """
[[listener]]
name = "legacy"
direction = "forward"
stream = "c2s"
address = "{host}:0"
domains = ["*"]
[[policy]]
domain = "*"
ca_file = "{roots}"
crl_files = ["{lists}"]
"""


def test_roots_and_revocation_lists_are_taken_up(
    tmp_path: Path, legacy: LegacyServer, authority: Authority
) -> None:
    roots, lists = tmp_path / "roots.pem", tmp_path / "lists.pem"
    roots.write_bytes(authority.ca_path.read_bytes())
    lists.write_bytes(crl(authority))
    domains = [served(legacy, [authority.issue(DOMAIN)])]
    front = Front(tmp_path, domains, tables={"deadlines": {"connect": 10}})
    front.write()
    written = front.configuration_path.read_text()
    written += REMOTE.format(host=HOST, roots=roots, lists=lists)
    with Changing(front.configuration_path, written) as daemon:
        service = daemon.service
        remote = service._current.trust.remote
        assert remote is not None
        before = remote.context("example.net"), service._current.trust.judge._revocation
        roots.write_text("no roots")
        lists.write_text("no lists")
        line = daemon.wait_for_line(f"{KEPT}: {roots}")
        assert "warning" in line
        daemon.wait_for_line(f"{KEPT}: {lists}")
        now = remote.context("example.net"), service._current.trust.judge._revocation
        assert now == before
        roots.write_bytes(authority.ca_path.read_bytes())
        lists.write_bytes(crl(authority))
        daemon.wait_for_line(f"info roots taken up file={roots}")
        daemon.wait_for_line(f"info revocation lists taken up file={lists}")
        assert remote.context("example.net") is not before[0]
        assert service._current.trust.judge._revocation is not before[1]
        assert set(service._current.trust.judge._revocation.files) == {lists}
        first = service._current
        daemon.reload(("connect = 10", "connect = 11"))
        # Our own connections are known as such, under whatever conf they were made.
        assert service._current is not first
        other = service._current.trust.remote
        assert other is not None
        assert other is not remote
        assert other.outgoing is remote.outgoing
        assert service._current.accepting._marks is first.accepting._marks
        assert sum(KEPT in each for each in daemon.lines()) == 2
