"""Zones with DNSSEC: keys and signatures are made when a zone is written, never kept.

Every zone is signed by one key of its own (RFC 4035 section 2); a parent vouches for it by a DS
record.
"""

import enum
import time
from collections.abc import Iterable

import attrs
import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

TTL = 60

_LIFETIME = 7 * 24 * 3600

_SEP_ZONE_KEY = 257
"""The flags of a DNSKEY that signs everything and to which the parent's DS points."""


class State(enum.Enum):
    """What a validating resolver has to make of a zone (RFC 4033 section 5)."""

    SIGNED = "secure"
    UNSIGNED = "insecure"
    BOGUS = "bogus"
    EXPIRED = "expired"
    """Bogus as well: the signatures were good until last week."""


@attrs.frozen
class Zone:
    """A zone as a file, and what its parent says of it.

    Attributes:
        name: the zone's name, absolute, ``.`` for the root.
        text: the master file (RFC 1035 section 5), names absolute.
        key: its DNSKEY as a record, which can be a trust anchor; None if it is not signed.
        delegation: the records for its parent: NS, and DS if it is signed.
    """

    name: str
    text: str
    key: str | None
    delegation: tuple[str, ...]


def srv(service: str, port: int, *, priority: int = 5, target: str = "xmpp") -> str:
    """Return an SRV record (RFC 2782) of a service such as ``_xmpp-client``.

    The target is a name relative to the zone, or absolute with a dot at its end.
    """
    return f"{service}._tcp IN SRV {priority} 0 {port} {target}"


def make_zone(name: str, records: Iterable[str], state: State, *, name_server: str) -> Zone:
    """Return a zone with the given records beside its SOA and NS.

    Args:
        name: the zone's name, with or without its last dot.
        records: lines of a master file, names relative to the zone; no SOA, no NS.
        state: how it is to look to a validating resolver. A bogus zone is signed in full and its
            signatures are broken after that, but for those of its key.
        name_server: the absolute name of its name server.
    """
    origin = dns.name.from_text(name)
    head = [
        f"$TTL {TTL}",
        f"@ IN SOA {name_server} root.{name_server} 1 600 60 86400 {TTL}",
        f"@ IN NS {name_server}",
    ]
    zone = dns.zone.from_text("\n".join([*head, *records]), origin, relativize=False)
    delegation = [f"{origin} IN NS {name_server}"]
    key = None
    if state is not State.UNSIGNED:
        public = _sign(zone, expired=state is State.EXPIRED)
        key = f"{origin} IN DNSKEY {public}"
        digest = dns.dnssec.make_ds(origin, public, dns.dnssectypes.DSDigest.SHA256)
        delegation.append(f"{origin} IN DS {digest}")
    if state is State.BOGUS:
        _break_signatures(zone)
    return Zone(str(origin), zone.to_text(want_origin=False), key, tuple(delegation))


def _sign(zone: dns.zone.Zone, *, expired: bool) -> dns.rdtypes.ANY.DNSKEY.DNSKEY:
    private = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(
        private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=_SEP_ZONE_KEY
    )
    end = int(time.time()) + (-_LIFETIME if expired else _LIFETIME)
    begin = end - 2 * _LIFETIME
    dns.dnssec.sign_zone(zone, keys=[(private, public)], inception=begin, expiration=end)
    return public


def _break_signatures(zone: dns.zone.Zone) -> None:
    """Change one bit in every signature but the one over the zone's key."""
    for name, rdataset in list(zone.iterate_rdatasets()):
        if rdataset.rdtype != dns.rdatatype.RRSIG or rdataset.covers == dns.rdatatype.DNSKEY:
            continue
        broken = [
            each.replace(signature=bytes([each.signature[0] ^ 1]) + each.signature[1:])
            for each in rdataset
        ]
        zone.replace_rdataset(name, dns.rdataset.from_rdata_list(rdataset.ttl, broken))
