"""Whether the certificates of a configuration can do their work.

A certificate that cannot be read, does not match its key or does not cover its domain keeps Bascule
from starting. One that has expired does not: whoever verifies it refuses it, and the log says so.
"""

import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.daemon.conf import Claim
from proxy.daemon.model import Caution, Finding, Mistake
from proxy.daemon.pem import read_chain, read_key
from proxy.daemon.served import CertificateFiles
from proxy.daemon.tables import Placed
from proxy.session.kinds import Kind
from proxy.session.options import shown
from proxy.trust.certificate import SUBJECT_ALT_NAME, Certificate
from proxy.trust.identities import CLIENT_SERVICE, SERVER_SERVICE, Presented, presented

SOON = timedelta(days=21)
"""How long before its end a certificate is called to mind."""

LEAST_RSA_BITS = 2048
"""RFC 9325 section 4.5."""

_SERVICES = {Kind.C2S: CLIENT_SERVICE, Kind.S2S: SERVER_SERVICE}
"""The services of SRV-IDs; components have none of their own, and either one does."""

_Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@attrs.frozen
class CertificateFacts:
    """What `bascule check` tells about one certificate.

    ``days_left`` counts days of the calendar (UTC): 0 on the last one, ``None`` once it is past.
    """

    name: str
    file: Path
    kind: str
    not_after: datetime
    days_left: int | None


@attrs.frozen
class Examination:
    """What came of examining certificates: the findings, and facts of those that can be used."""

    mistakes: tuple[Mistake, ...]
    cautions: tuple[Caution, ...]
    facts: tuple[CertificateFacts, ...]


@attrs.define
class _Notes:
    """Findings about one domain, as they are made."""

    claim: Placed[Claim]
    findings: list[Finding] = attrs.field(factory=list)

    def mistake(self, option: str, text: str) -> None:
        self.findings.append(Mistake(self.claim.file, f"{self.claim.key}.{option}", text))

    def caution(self, option: str, text: str) -> None:
        self.findings.append(Caution(self.claim.file, f"{self.claim.key}.{option}", text))


def examine(claims: Sequence[Placed[Claim]], now: datetime) -> Examination:
    """Examine the certificates of every domain.

    Args:
        claims: The domains and their files.
        now: The time to judge validity by, with a time zone.
    """
    findings: list[Finding] = []
    facts: list[CertificateFacts] = []
    for claim in claims:
        notes = _Notes(claim)
        kinds: dict[str, Path] = {}
        for files in claim.value.certificates:
            try:
                found = _examine_pair(files, notes, now)
            except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
                text = f"{files.certificate} cannot be understood: {error}"
                notes.mistake("certificate", text)
                continue
            if found is None:
                continue
            facts.append(found)
            family = found.kind.partition(" ")[0]
            first = kinds.setdefault(family, files.certificate)
            if first is not files.certificate:
                notes.mistake(
                    "certificate",
                    f"{files.certificate} and {first} both have {family} keys; "
                    "allowed: one certificate of each key type",
                )
        findings += notes.findings
    return Examination(
        mistakes=tuple(finding for finding in findings if isinstance(finding, Mistake)),
        cautions=tuple(finding for finding in findings if isinstance(finding, Caution)),
        facts=tuple(facts),
    )


def examine_anchors(
    anchors: Sequence[Placed[Path]], now: datetime
) -> tuple[list[Mistake], list[Caution]]:
    """Examine the files of trust anchors that policies name.

    Args:
        anchors: The files.
        now: The time to judge validity by, with a time zone.
    """
    mistakes: list[Mistake] = []
    cautions: list[Caution] = []
    for anchor in anchors:
        path, key = anchor.value, f"{anchor.key}.ca_file"
        try:
            certificates = read_chain(path)
            ends = [certificate.not_valid_after_utc for certificate in certificates]
        except ValueError as error:
            # What follows a semicolon is advice about a domain's own certificate.
            problem = str(error).removeprefix(f"{path} ").partition(";")[0]
            text = f"{path} {problem}; allowed: certificates of authorities in PEM"
            mistakes.append(Mistake(anchor.file, key, text))
            continue
        if max(ends) < now:
            text = f"{path} holds only what EXPIRED, at last on {max(ends):%Y-%m-%d}"
            cautions.append(Caution(anchor.file, key, f"{text}: no server will be believed"))
    return mistakes, cautions


def _examine_pair(files: CertificateFiles, notes: _Notes, now: datetime) -> CertificateFacts | None:
    chain, key = _read_pair(files, notes)
    if chain is None or (key is not None and not _matches(key, chain, files, notes)):
        return None
    leaf = chain[0]
    kind = _kind(leaf, files.certificate, notes)
    if kind is None:
        return None
    extensions = Certificate.read(leaf.public_bytes(Encoding.DER)).extensions()
    names = presented(extensions.get(SUBJECT_ALT_NAME))
    lacking = _lacking(names, notes.claim.value)
    if lacking:
        notes.mistake("certificate", f"{files.certificate} does not cover {lacking}; {names}")
    _examine_validity(chain, files.certificate, notes, now)
    try:
        _examine_chain(chain, files.certificate, notes)
    except Exception:  # noqa: BLE001 - parsed as it is looked at, by versions that raise anything
        notes.mistake("certificate", f"{files.certificate} holds a certificate that is malformed")
    end = leaf.not_valid_after_utc
    return CertificateFacts(
        name=notes.claim.value.name,
        file=files.certificate,
        kind=kind,
        not_after=end,
        days_left=None if now > end else _days(now, end),
    )


def _lacking(names: Presented, claim: Claim) -> str:
    """Say what a certificate ought to cover and does not; nothing if it covers all."""
    covered = {
        kind: names.covers(claim.name, service)  # an SRV-ID is for one service, others for any
        for kind, service in _SERVICES.items()
    }
    if not any(covered.values()):
        return claim.name
    for kind, other in ((Kind.C2S, Kind.S2S), (Kind.S2S, Kind.C2S)):
        if kind in claim.shown_to and not covered[kind]:
            needed = f"an SRV-ID {_SERVICES[kind]}.{claim.name} or a DNS-ID {claim.name}"
            return (
                f"{claim.name} towards {kind.peers}, only towards {other.peers}: {needed} is needed"
            )
    return ""


def _matches(
    key: bytes, chain: list[x509.Certificate], files: CertificateFiles, notes: _Notes
) -> bool:
    matching = [n for n, certificate in enumerate(chain, start=1) if _spki(certificate) == key]
    if 1 in matching:
        return True
    text = f"is not the key of {files.certificate}; allowed: the key of its first certificate"
    if matching:
        text = (
            f"belongs to certificate {matching[0]} of {files.certificate}; "
            "the domain's own certificate must come first there"
        )
    notes.mistake("private_key", f"{files.private_key} {text}")
    return False


def _read_pair(
    files: CertificateFiles, notes: _Notes
) -> tuple[list[x509.Certificate] | None, bytes | None]:
    """Read a certificate's chain and the public half of its key, each where that can be done."""
    chain: list[x509.Certificate] | None = None
    public: bytes | None = None
    try:
        chain = read_chain(files.certificate)
    except ValueError as error:
        notes.mistake("certificate", str(error))
    try:
        key = read_key(files.private_key)
    except ValueError as error:
        notes.mistake("private_key", str(error))
    else:
        public = key.public
        if key.mode & stat.S_IRWXO:
            text = f"is open to every user of the machine (mode {key.mode:04o})"
            text = f"{files.private_key} {text}; take the others' rights away"
            notes.caution("private_key", text)
    return chain, public


def _spki(certificate: x509.Certificate) -> bytes | None:
    try:
        key = certificate.public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _kind(leaf: x509.Certificate, path: Path, notes: _Notes) -> str | None:
    key = leaf.public_key()
    name = key_name(leaf)
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size >= LEAST_RSA_BITS:
            return name
        text = f"has an RSA key of {key.key_size} bits; allowed: at least {LEAST_RSA_BITS}"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)):
            return name
        text = f"has a key on the curve {key.curve.name}; allowed: P-256, P-384, P-521"
    elif isinstance(key, ed25519.Ed25519PublicKey):
        return name
    else:
        text = "has a key that is neither RSA nor ECDSA nor Ed25519"
    notes.mistake("certificate", f"{path} {text}")
    return None


def key_name(certificate: x509.Certificate) -> str:
    """Name the kind of a certificate's key, as ``ECDSA P-256``.

    Raises:
        ValueError: The key cannot be understood.
        UnsupportedAlgorithm: Likewise.
    """
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA P-{key.curve.key_size}"
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "another kind of key"


def _examine_validity(
    chain: list[x509.Certificate], path: Path, notes: _Notes, now: datetime
) -> None:
    for number, certificate in enumerate(chain, start=1):
        which = place_in_chain(path, number)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now < begin and now <= end:
            text = f"IS NOT VALID BEFORE {begin:%Y-%m-%d}: it will be refused until then"
        elif end - now < SOON:
            text = end_of_life(end, now)
        else:
            continue
        notes.caution("certificate", f"{which} {text}")


def end_of_life(end: datetime, now: datetime) -> str:
    """Say of a certificate that its life has ended, or when it ends; times have a time zone."""
    if now > end:
        return f"EXPIRED on {end:%Y-%m-%d}: whoever verifies it will refuse it"
    days = _days(now, end)
    left = {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")
    return f"expires on {end:%Y-%m-%d}, {left}"


def place_in_chain(path: Path, number: int) -> str:
    """Name a certificate of a file, by its place from 1; the first one goes by the file's name."""
    return f"{path}" if number == 1 else f"certificate {number} of {path}"


def _days(now: datetime, end: datetime) -> int:
    """Count days as the calendar does, so that they agree with the date beside them."""
    return (end.astimezone(UTC).date() - now.astimezone(UTC).date()).days


def _examine_chain(chain: list[x509.Certificate], path: Path, notes: _Notes) -> None:
    leaf = chain[0]
    if leaf.issuer == leaf.subject:
        text = "is self-signed: whoever was not told to trust it will refuse it"
        notes.caution("certificate", f"{path} {text}")
    elif len(chain) == 1:
        notes.caution(
            "certificate",
            f"{path} holds the domain's certificate alone, issued by "
            f"{shown(leaf.issuer.rfc4514_string())}: those who do not know that issuer "
            "also need the certificates in between (Certbot: fullchain.pem)",
        )
    for number, (lower, upper) in enumerate(pairwise(chain), start=1):
        if lower.issuer != upper.subject:
            notes.caution(
                "certificate",
                f"certificate {number + 1} of {path} did not issue certificate {number}: "
                "others may not find their way to a root they trust",
            )
    try:
        usage = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {*usage}:
        notes.caution("certificate", f"{path} is not meant for servers (extended key usage)")
