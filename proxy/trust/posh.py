"""What a domain's web site says of its server's certificates (RFC 7711, RFC 7712 section 5.2).

A domain that is hosted elsewhere need not give its host a certificate in its name: over HTTPS it
publishes the fingerprints of the host's. Whoever fetches them sees to it that they are the domain's
own word; what they are worth is decided here.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from proxy.trust.certificate import (
    CLIENT_AUTH,
    EXTENDED_KEY_USAGE,
    SERVER_AUTH,
    Certificate,
    purposes,
)
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Policy, pin_of_key
from proxy.trust.reasons import dates_problem
from proxy.trust.strength import key_weakness
from proxy.trust.verdict import LARGEST_CERTIFICATE, Status, UntrustedError, Verdict
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

LARGEST_DOCUMENT: Final = 64 * 1024
"""How many octets a document may have."""

MOST_FINGERPRINTS: Final = 32
"""How many certificates a document may describe."""

LONGEST_LIFE: Final = 86_400
"""Seconds for which a document counts, whatever it says itself."""

_LONGEST_URL: Final = 2048
_DEEPEST: Final = 16
_MOST_DIGITS: Final = 20
_LAST_PORT: Final = 65535
_SHOWN: Final = 16

_SHA_256: Final = "sha-256"
_SHA_512: Final = "sha-512"
_DIGESTS: Final[dict[str, Callable[..., Any]]] = {
    _SHA_512: hashlib.sha512,
    _SHA_256: hashlib.sha256,
}
"""The hashes that count, the strongest first, by their names at IANA."""


@attrs.frozen
class Fingerprint:
    """One certificate, by the hashes of its DER: a fingerprint descriptor (section 3.1).

    ``str()`` gives the strongest: ``sha-512 0123456789abcdef…``.

    Attributes:
        digests: Names of hashes that count, the strongest first, and their values; at least one.
    """

    digests: tuple[tuple[str, bytes], ...]

    def matches(self, certificate: bytes) -> bool:
        """Whether it is that of a certificate, given in DER.

        All hashes have to agree. One that does not is no fingerprint of this certificate, and to go
        by the others would make the weakest of them the one that counts.
        """
        return bool(self.digests) and all(
            _DIGESTS[name](certificate).digest() == value for name, value in self.digests
        )

    def __str__(self) -> str:
        name, value = self.digests[0]
        return f"{name} {value.hex()[:_SHOWN]}…"


@attrs.frozen
class Document:
    """A fingerprints document: the certificates that a domain's server may show.

    Attributes:
        fingerprints: Those of the certificates, in the document's order; at least one.
        seconds: For how long they count, from being fetched; more than 0.
    """

    fingerprints: tuple[Fingerprint, ...]
    seconds: int

    def find(self, certificate: bytes) -> Fingerprint | None:
        """Return the fingerprint of a certificate, given in DER; ``None`` if it is not there."""
        return next((each for each in self.fingerprints if each.matches(certificate)), None)


@attrs.frozen
class Location:
    """Where a document is, by HTTPS. ``str()`` gives the URL.

    Attributes:
        host: The host name, as A-labels; never an IP address.
        path: The path and the query, beginning with a slash.
        port: The TCP port; ``None`` for that of HTTPS.
    """

    host: str
    path: str
    port: int | None = None

    @classmethod
    def parse(cls, url: str) -> "Location":
        """Return the location that a URL names.

        Raises:
            ValueError: It is none of HTTPS with a host name, or has user information or a fragment.
        """
        if len(url) > _LONGEST_URL:
            raise ValueError(f"it is longer than {_LONGEST_URL} characters")
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ValueError('it is not "https://", a host name, and perhaps a port and a path')
        host = a_labels(parts["host"])
        if host.rpartition(".")[2].isdigit():
            raise ValueError("an IP address is not a host name")
        port = None if parts["port"] is None else int(parts["port"])
        if port is not None and not 0 < port <= _LAST_PORT:
            raise ValueError(f"there is no port {port}")
        path = parts["path"]
        return cls(host, path if path.startswith("/") else f"/{path}", port)

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"https://{self.host}{port}{self.path}"


_URL: Final = re.compile(
    r"(?i:https)://(?P<host>[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>([/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)"
)


@attrs.frozen
class Reference:
    """A reference document: it says where the fingerprints document is (section 3.2).

    Attributes:
        location: Where.
        seconds: For how long that counts, from being fetched; more than 0.
    """

    location: Location
    seconds: int


def parse(data: bytes) -> Document | Reference:
    """Return the document that a web server gave.

    Members that RFC 7711 does not know are passed over, and so are other hashes. Of base64 the
    padding may be missing, as in the RFC's own example.

    Raises:
        ValueError: It is no document, or says that it does not count; the message says why, with
            the document as its subject.
    """
    members = _members(data)
    seconds = _seconds(members)
    if "url" in members and "fingerprints" in members:
        raise ValueError('it has both "url" and "fingerprints"')
    if "url" in members:
        return Reference(_location(members["url"]), seconds)
    if "fingerprints" in members:
        return Document(_fingerprints(members["fingerprints"]), seconds)
    raise ValueError('it has neither "fingerprints" nor "url"')


def _members(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST_DOCUMENT:
        raise ValueError(f"it is larger than {LARGEST_DOCUMENT} octets")
    _check_depth(data)
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_constant=_not_a_number,
        )
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("it is not JSON in UTF-8") from error
    if type(found) is not dict:
        raise ValueError("it is not a JSON object")
    return found


def _check_depth(data: bytes) -> None:
    """Check that not very many arrays and objects are in each other, strings left aside."""
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")


# A string without an end takes all the rest, and nothing is looked at twice.
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[{}\]]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object of it has a member twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number of it has too many digits")
    return int(digits)


def _not_a_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _seconds(members: dict[str, Any]) -> int:
    seconds = members.get("expires")
    if type(seconds) is not int or seconds < 0:
        raise ValueError('its "expires" is not a whole number of seconds')
    if seconds == 0:
        raise ValueError('it is withdrawn ("expires" is 0)')
    return seconds


def _location(url: object) -> Location:
    if type(url) is not str:
        raise ValueError('its "url" is not a string')
    try:
        return Location.parse(url)
    except ValueError as error:
        raise ValueError(f'its "url" cannot be used: {printable(str(error))}') from error


def _fingerprints(descriptors: object) -> tuple[Fingerprint, ...]:
    if type(descriptors) is not list or not descriptors:
        raise ValueError('its "fingerprints" are not an array of some')
    if len(descriptors) > MOST_FINGERPRINTS:
        raise ValueError(f"it has more than {MOST_FINGERPRINTS} fingerprints")
    found = [Fingerprint(digests) for each in descriptors if (digests := _digests(each))]
    if not found:
        raise ValueError(f"it has no fingerprint by {_SHA_256} or {_SHA_512}")
    return tuple(found)


def _digests(descriptor: object) -> tuple[tuple[str, bytes], ...]:
    if type(descriptor) is not dict:
        raise ValueError("a fingerprint of it is not an object")
    return tuple((name, _digest(name, descriptor[name])) for name in _DIGESTS if name in descriptor)


def _digest(name: str, text: object) -> bytes:
    """Return a hash given in base64 (RFC 4648, section 4), whose padding bits are zero."""
    size = _DIGESTS[name]().digest_size
    digest = b""
    if isinstance(text, str):
        bare = text.rstrip("=")
        try:
            digest = binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
        except ValueError:  # a character that is not ASCII, as well
            digest = b""
        padded = base64.b64encode(digest).decode("ascii")
        if text not in {padded, padded.rstrip("=")}:
            digest = b""
    if len(digest) != size:
        raise ValueError(f"a {name} fingerprint of it is not the base64 of {size} octets")
    return digest


@attrs.frozen
class Material:
    """What a domain's web site has said: its verification material, and since when it is known.

    Attributes:
        domain: The domain, in A-labels.
        service: ``xmpp-client`` or ``xmpp-server``.
        document: The fingerprints.
        since: When they were fetched, with a time zone.
    """

    domain: str
    service: str
    document: Document
    since: datetime

    def counts(self, now: datetime) -> bool:
        """Whether it counts at a time: not before it was fetched, as clocks are put back."""
        life = timedelta(seconds=min(self.document.seconds, LONGEST_LIFE))
        return self.since <= now < self.since + life


def judge(
    domain: str,
    material: Material,
    policy: Policy,
    evidence: Evidence,
    now: datetime,
    *,
    service: str,
    initiating: bool = False,
) -> Verdict:
    """Judge what a server showed of itself by what the domain's web site says.

    It is the server's own certificate that must have one of the fingerprints. Who has issued it,
    and whom it names, does not matter: the fingerprint stands for both (section 4). It must be
    within its dates (section 6) and for servers, and its key strong; pins hold all the same.

    Args:
        domain: The domain that is to be proved, in A-labels: never the name of an SRV target.
        material: What its web site has said.
        policy: Whose pins hold besides. Its level does not matter.
        evidence: What the handshake showed.
        now: The present, with a time zone.
        service: The service that counts: ``xmpp-client`` or ``xmpp-server``.
        initiating: Whether the server has connected to us, not we to it.

    Returns:
        That it is verified, by ``POSH`` and a fingerprint.

    Raises:
        UntrustedError: It is not, or something went wrong while it was judged.
    """
    try:
        _check_material(domain, service, material, now)
        leaf = _own(domain, evidence)
        _check_pins(domain, policy, leaf)
        fingerprint = material.document.find(leaf.whole)
        if fingerprint is not None:
            _check_use(domain, leaf, now, initiating=initiating)
            return Verdict(Status.VERIFIED, f"POSH {fingerprint}", "")
        count = len(material.document.fingerprints)
    except (KeyboardInterrupt, SystemExit, UntrustedError):
        raise
    except BaseException as error:
        problem = f"it could not be checked ({type(error).__name__})"
        raise UntrustedError(problem) from error
    which = "the fingerprint" if count == 1 else f"any of the {count} fingerprints"
    raise UntrustedError(
        f"the certificate of {printable(domain)} does not match {which} in its POSH document"
    )


def _check_material(domain: str, service: str, material: Material, now: datetime) -> None:
    shown = printable(domain)
    if (material.domain, material.service) != (domain, service):
        raise UntrustedError(f"the POSH document is not that of {shown} for this service")
    if not material.counts(now):
        raise UntrustedError(f"the POSH document of {shown} is out of date")


def _own(domain: str, evidence: Evidence) -> Certificate:
    """Return the server's own certificate."""
    shown = printable(domain)
    if not evidence.chain:
        raise UntrustedError(f"{shown} showed no certificate", Status.ANONYMOUS)
    if len(evidence.chain[0]) > LARGEST_CERTIFICATE:
        raise UntrustedError(f"the certificate of {shown} is too large")
    return Certificate.read(evidence.chain[0])


def _check_pins(domain: str, policy: Policy, leaf: Certificate) -> None:
    if policy.pins and (pin := pin_of_key(leaf.key)) not in policy.pins:
        raise UntrustedError(f"the key of {printable(domain)}, {pin}, is not one of its pins")


def _check_use(domain: str, leaf: Certificate, now: datetime, *, initiating: bool) -> None:
    """Check what a fingerprint does not stand for."""
    who = f"the certificate of {printable(domain)}"
    usage = leaf.extensions().get(EXTENDED_KEY_USAGE)
    allowed = {SERVER_AUTH, CLIENT_AUTH} if initiating else {SERVER_AUTH}
    if problem := dates_problem(who, leaf, now):
        raise UntrustedError(problem)
    if usage is not None and allowed.isdisjoint(purposes(usage)):
        raise UntrustedError(f"{who} is meant for other uses (extended key usage)")
    if weakness := key_weakness(leaf.key):
        raise UntrustedError(f"{who} has a key that is too weak ({weakness})")
