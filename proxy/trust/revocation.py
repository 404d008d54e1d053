"""Certificates that were revoked before their time, by the lists of their issuers (RFC 5280).

Lists are known by their issuer, and are no matter of certificates that anybody else has issued.
Those that are about only some of an issuer's certificates say which (section 5.2.5). Lists that
speak for other issuers, that only tell what has changed, or that only know some reasons are not
taken at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from proxy.trust import der
from proxy.trust.certificate import BASIC_CONSTRAINTS, KEY_USAGE, Certificate, is_authority
from proxy.trust.policy import Policy
from proxy.trust.strength import signature_weakness
from proxy.xmpp.text import printable

CRL_DISTRIBUTION_POINTS: Final = bytes.fromhex("551d1f")
"""An extension, by the contents of its object identifier."""

_CRL_SIGN: Final = 0x02
_DISTRIBUTION_POINT: Final = 0xA0
_FULL_NAME: Final = 0xA0
_URI: Final = 0x86
_LONGEST_NAME: Final = 120
_MOST_KEYS: Final = 16

_UNDERSTOOD: Final = (
    x509.AuthorityInformationAccess,
    x509.AuthorityKeyIdentifier,
    x509.CRLNumber,
    x509.FreshestCRL,
    x509.IssuerAlternativeName,
)
"""Extensions that change nothing of what a list says, critical or not."""


class _UnfitError(ValueError):
    """A list says, by an extension, that it is of a kind that is not taken; why, as a clause."""


@attrs.frozen
class _Scope:
    """Which of its issuer's certificates a list is about.

    ``places`` are URIs of which the certificate must name one as the place of its list; ``None``
    if it need not.
    """

    servers: bool = True
    authorities: bool = True
    places: frozenset[bytes] | None = None

    def covers(self, certificate: Certificate) -> bool:
        extensions = certificate.extensions()
        basic = extensions.get(BASIC_CONSTRAINTS)
        of_authority = basic is not None and is_authority(basic)
        if not (self.authorities if of_authority else self.servers):
            return False
        if self.places is None:
            return True
        value = extensions.get(CRL_DISTRIBUTION_POINTS)
        return value is not None and not self.places.isdisjoint(_uris(value))


class RevocationList:
    """A list of the certificates that an authority has revoked (RFC 5280, section 5).

    Args:
        whole: The list in DER.

    Attributes:
        name: The authority's name, in quotation marks and fit to be shown.
        begin: Since when it holds, in UTC.
        end: Until when, at the latest, there is to be a newer one.

    Raises:
        ValueError: It cannot be used; the message is a clause that says why.
    """

    __slots__ = ("_entries", "_issuer", "_list", "_scope", "_signed_by", "begin", "end", "name")

    def __init__(self, whole: bytes) -> None:
        try:
            self._read(whole)
        except _UnfitError:
            raise
        except Exception as error:
            # Each part is parsed only when it is asked for, and has its own way to fail.
            raise ValueError("is no revocation list that can be read") from error

    def _read(self, whole: bytes) -> None:
        self._list = x509.load_der_x509_crl(whole)
        text = self._list.issuer.rfc4514_string()
        self.name: str = f'"{printable(text, _LONGEST_NAME)}"'
        self._issuer = _comparable(self._list.issuer)
        end = self._list.next_update_utc
        if end is None:
            raise _UnfitError("does not say when the next one is due (nextUpdate)")
        self.begin: datetime = self._list.last_update_utc
        self.end: datetime = end
        _, (_, algorithm), _ = der.elements(der.only(whole, der.SEQUENCE))
        if weakness := signature_weakness(algorithm):
            raise _UnfitError(f"is signed too weakly ({weakness})")
        self._scope = _scope(self._list.extensions)
        self._entries = dict(_entries(self._list))
        self._signed_by: dict[bytes, bool] = {}

    def is_of(self, issuer: x509.Name) -> bool:
        """Whether it is by an authority of that name, or one that says so."""
        return self._issuer == _comparable(issuer)

    def is_signed_by(self, key: bytes) -> bool:
        """Whether the holder of a key, given as SubjectPublicKeyInfo in DER, has signed it.

        The answer is remembered: that takes as long as the list is.

        Raises:
            ValueError: The key is malformed, or of a kind that signs nothing.
        """
        found = self._signed_by.get(key)
        if found is None:
            try:
                found = self._list.is_signature_valid(
                    load_der_public_key(key)  # type: ignore[arg-type]
                )
            except TypeError as error:
                raise ValueError("a key above it is of a kind that signs no lists") from error
            if len(self._signed_by) >= _MOST_KEYS:
                self._signed_by.clear()
            self._signed_by[key] = found
        return found

    def covers(self, certificate: Certificate) -> bool:
        """Whether it would name the certificate, issued by its authority, had that been revoked.

        Raises:
            ValueError: An extension of the certificate is malformed.
        """
        return self._scope.covers(certificate)

    def revoked(self, serial: int) -> tuple[datetime, x509.ReasonFlags | None] | None:
        """Return when, and if it says so why, the certificate of that number was revoked."""
        entry = self._entries.get(serial)
        return None if entry is None else (entry.revocation_date_utc, _reason(entry))


@attrs.frozen
class RevocationLists:
    """The revocation lists that policies name, by the files that they are in."""

    files: Mapping[Path, tuple[RevocationList, ...]] = MappingProxyType({})

    def lists(self, policy: Policy) -> tuple[RevocationList, ...]:
        """Return the lists of a policy.

        Raises:
            ValueError: One of its files was not read.
        """
        if not self.files.keys() >= set(policy.crl_files):
            raise ValueError("the revocation lists of its policy were not read")
        return tuple(each for file in policy.crl_files for each in self.files[file])

    def updated(self, newer: "RevocationLists") -> "RevocationLists":
        """Return the lists of the same files, as they were read last."""
        files = {path: newer.files.get(path, lists) for path, lists in self.files.items()}
        return RevocationLists(MappingProxyType(files))


NO_LISTS: Final = RevocationLists()
"""For policies that name none; any other policy refuses everybody with it."""


def listed_problem(
    whose: str,
    certificate: Certificate,
    issuer: Certificate,
    lists: Iterable[RevocationList],
    now: datetime,
) -> str:
    """Return what lists have against a certificate; "" if nothing.

    It is nothing where no list is by its issuer. Where there is one, what the issuer says counts:
    there must be a list that is signed by the issuer's own key and is about such certificates, and
    each of these must hold now. A certificate that is on a list is revoked, however old that is.

    Args:
        whose: The certificate in words.
        certificate: It.
        issuer: The one of the authority that has issued it, as verified.
        lists: The lists.
        now: The time to judge by, with a time zone.

    Raises:
        ValueError: A certificate is malformed.
    """
    certified = x509.load_der_x509_certificate(certificate.whole).issuer
    about = [each for each in lists if each.is_of(certified)]
    if not about:
        return ""
    name = about[0].name
    # Lists by another key may be by another authority of the same name.
    signed = [each for each in about if each.is_signed_by(issuer.key)]
    if not signed or not _may_sign_lists(issuer):
        return f"no revocation list of {name} is signed by the authority that issued {whose}"
    serial = serial_number(certificate)
    for each in signed:
        if (found := each.revoked(serial)) is not None:
            return revoked_problem(whose, *found)
    return _covering_problem(
        whose, [each for each in signed if each.covers(certificate)], name, now
    )


def named_problem(whose: str, certificate: Certificate, lists: Iterable[RevocationList]) -> str:
    """Return what lists have against a certificate whose issuer cannot be verified; "" if nothing.

    They are those that a policy names: one by an authority of the issuer's name that has its number
    on it is enough, whoever has signed that.

    Raises:
        ValueError: The certificate is malformed.
    """
    issuer = x509.load_der_x509_certificate(certificate.whole).issuer
    serial = serial_number(certificate)
    for each in lists:
        if each.is_of(issuer) and (found := each.revoked(serial)) is not None:
            return revoked_problem(whose, *found)
    return ""


def revoked_problem(whose: str, moment: datetime, reason: x509.ReasonFlags | None) -> str:
    """Return the words for a certificate that was revoked."""
    why = "" if reason is None else f" ({reason.value})"
    return f"{whose} was revoked on {moment:%Y-%m-%d}{why}"


def _covering_problem(
    whose: str, covering: Sequence[RevocationList], name: str, now: datetime
) -> str:
    """Return why lists that do not name a certificate do not speak for it; "" if they do."""
    if not covering:
        return f"no revocation list of {name} is about certificates such as {whose}"
    begin, end = max(each.begin for each in covering), min(each.end for each in covering)
    if now > end:
        return f"the revocation list of {name}, which must not name {whose}, ended on {end:%F}"
    if now < begin:
        return f"the revocation list of {name}, which must not name {whose}, begins on {begin:%F}"
    return ""


def serial_number(certificate: Certificate) -> int:
    """Return the number of a certificate among those of its issuer.

    Raises:
        ValueError: It is malformed.
    """
    inside = next(der.elements(der.only(certificate.whole, der.SEQUENCE)))[1]
    # Before it there is only the version, which has a tag of its own.
    for tag, content in der.elements(inside):
        if tag == der.INTEGER:
            return int.from_bytes(content, "big", signed=True)
    raise ValueError("it is not made as certificates are")


def _comparable(name: x509.Name) -> tuple[frozenset[tuple[str, str | bytes]], ...]:
    """Return what names have in common that differ only in case, spaces and kinds of strings."""
    return tuple(
        frozenset(
            (
                each.oid.dotted_string,
                " ".join(each.value.casefold().split())
                if isinstance(each.value, str)
                else each.value,
            )
            for each in part
        )
        for part in name.rdns
    )


def _may_sign_lists(issuer: Certificate) -> bool:
    usage = issuer.extensions().get(KEY_USAGE)
    return usage is None or bool(
        int.from_bytes(der.only(usage, der.BIT_STRING)[1:2], "big") & _CRL_SIGN
    )


def _scope(extensions: x509.Extensions) -> _Scope:
    """Return which certificates a list is about.

    Raises:
        _UnfitError: It is of a kind that is not taken.
    """
    scope = _Scope()
    for extension in extensions:
        match extension.value:
            case x509.DeltaCRLIndicator():
                raise _UnfitError("only tells what has changed (a delta); the complete one counts")
            case x509.IssuingDistributionPoint() as point:
                scope = _scope_of(point)
            case value if extension.critical and not isinstance(value, _UNDERSTOOD):
                oid = extension.oid.dotted_string
                raise _UnfitError(f"has a critical extension that is unknown here ({oid})")
    return scope


def _scope_of(point: x509.IssuingDistributionPoint) -> _Scope:
    if point.indirect_crl:
        raise _UnfitError("speaks for other issuers, too (an indirect one)")
    if point.only_contains_attribute_certs:
        raise _UnfitError("is about attribute certificates")
    if point.only_some_reasons:
        raise _UnfitError("is about some reasons only")
    places = None
    if point.full_name is not None or point.relative_name is not None:
        named = point.full_name or ()
        places = frozenset(
            each.value.encode()
            for each in named
            if isinstance(each, x509.UniformResourceIdentifier)
        )
        if not places:
            raise _UnfitError("names no URI as the place where it is distributed")
    return _Scope(
        servers=not point.only_contains_ca_certs,
        authorities=not point.only_contains_user_certs,
        places=places,
    )


def _entries(
    revocation_list: x509.CertificateRevocationList,
) -> Iterable[tuple[int, x509.RevokedCertificate]]:
    """Give the entries of a list by their serial numbers, but for those that were taken back.

    Raises:
        _UnfitError: One says what is not understood, on which the others may depend.
    """
    for entry in revocation_list:
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CertificateIssuer):
                raise _UnfitError("speaks for other issuers, too (an indirect one)")
            if extension.critical and not isinstance(
                extension.value, x509.CRLReason | x509.InvalidityDate
            ):
                oid = extension.oid.dotted_string
                raise _UnfitError(f"has a critical extension that is unknown here ({oid})")
        if _reason(entry) is not x509.ReasonFlags.remove_from_crl:
            yield entry.serial_number, entry


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags | None:
    with suppress(x509.ExtensionNotFound):
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    return None


def _uris(points: bytes) -> set[bytes]:
    """Return the URIs of the lists, by its issuer and for all reasons, that a certificate names."""
    found: set[bytes] = set()
    for _, point in der.elements(der.only(points, der.SEQUENCE)):
        fields = list(der.elements(point))
        if [tag for tag, _ in fields] == [_DISTRIBUTION_POINT]:
            for kind, names in der.elements(fields[0][1]):
                if kind == _FULL_NAME:
                    found |= {name for tag, name in der.elements(names) if tag == _URI}
    return found
