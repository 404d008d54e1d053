"""The identities a certificate presents, and whether one of them proves an XMPP domain.

RFC 9525 and RFC 6120 section 13.7: DNS-ID, SRV-ID and XmppAddr in the subjectAltName; the common
name counts for nothing, and an entry that cannot be understood is passed over without harm to the
others. The extension is taken apart here, because parsers that take it whole refuse it whole.
"""

from collections.abc import Iterator
from typing import Final

import attrs
from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, SRV_ID, DNSPattern, SRVPattern

from proxy.xmpp.domains import domain

CLIENT_SERVICE: Final = "_xmpp-client"

# Object identifiers as their DER contents.
_SUBJECT_ALT_NAME: Final = bytes.fromhex("551d11")
_XMPP_ADDR: Final = bytes.fromhex("2b06010505070805")
_DNS_SRV: Final = bytes.fromhex("2b06010505070807")

_SEQUENCE: Final = 0x30
_OBJECT_IDENTIFIER: Final = 0x06
_BOOLEAN: Final = 0x01
_OCTET_STRING: Final = 0x04
_UTF8_STRING: Final = 0x0C
_IA5_STRING: Final = 0x16
_EXPLICIT_0: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_OTHER_NAME: Final = 0xA0
_DNS_NAME: Final = 0x82

_VISIBLE: Final = frozenset(range(0x21, 0x7F))
_LONG_FORM: Final = 0x80
_LONGEST_LENGTH: Final = 3
_MULTIBYTE_TAG: Final = 0x1F


@attrs.frozen
class Presented:
    """The identities of one certificate that could be understood.

    ``stated`` is false when it has no subjectAltName to state them in. ``str()`` gives a clause
    about the certificate: what it names.
    """

    dns: tuple[DNSPattern, ...]
    srv: tuple[SRVPattern, ...]
    xmpp: tuple[str, ...]
    stated: bool = True

    def covers(self, name: str, service: str = CLIENT_SERVICE) -> bool:
        """Whether any identity proves a domain.

        Args:
            name: The domain in A-labels.
            service: The SRV service name that counts, with its underscore.
        """
        if any(_names(address, name) for address in self.xmpp):
            return True
        try:
            dns_id, srv_id = DNS_ID(name), SRV_ID(f"{service}.{name}")
        except ValueError:
            # An IP address as a domain: neither kind can prove it.
            return False
        return any(map(dns_id.verify, self.dns)) or any(map(srv_id.verify, self.srv))

    def __str__(self) -> str:
        names = [pattern.pattern.decode("ascii", "backslashreplace") for pattern in self.dns]
        names += [
            f"{b'_' + srv.name_pattern + b'.' + srv.dns_pattern.pattern!r}"[2:-1]
            for srv in self.srv
        ]
        names += [f"xmpp:{address}" for address in self.xmpp]
        if names:
            return f"it names {', '.join(names)}"
        if not self.stated:
            return "it has no subjectAltName, and the common name does not count"
        return "its subjectAltName names no domain that can be understood"


def presented(tbs_certificate: bytes) -> Presented:
    """Read the identities of a certificate.

    Args:
        tbs_certificate: The DER of its ``TBSCertificate`` (RFC 5280 section 4.1).

    Returns:
        What could be understood; nothing when the structure itself is broken.
    """
    dns: list[DNSPattern] = []
    srv: list[SRVPattern] = []
    xmpp: list[str] = []
    stated = True
    try:
        names = list(_general_names(tbs_certificate))
        stated = bool(names)
    except ValueError:
        names = []
    for tag, content in names:
        try:
            if tag == _DNS_NAME:
                dns.append(DNSPattern.from_bytes(_host(content)))
            elif tag == _OTHER_NAME:
                kind, text = _other_name(content)
                if kind == _DNS_SRV:
                    srv.append(SRVPattern.from_bytes(_host(text.encode("ascii"))))
                elif kind == _XMPP_ADDR:
                    xmpp.append(text)
        except (ValueError, LookupError, CertificateError):
            continue
    return Presented(dns=tuple(dns), srv=tuple(srv), xmpp=tuple(xmpp), stated=stated)


def _names(address: str, name: str) -> bool:
    try:
        return domain(address) == name
    except ValueError:
        return False


def _host(content: bytes) -> bytes:
    # service_identity would strip white space and go on; such an entry is malformed.
    if not _VISIBLE.issuperset(content):
        raise ValueError("not a host name")
    return content


def _general_names(tbs_certificate: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, content in _elements(_only(tbs_certificate, _SEQUENCE)):
        if tag != _EXTENSIONS:
            continue
        for _, extension in _elements(_only(content, _SEQUENCE)):
            fields = [field for field in _elements(extension) if field[0] != _BOOLEAN]
            if fields[:1] == [(_OBJECT_IDENTIFIER, _SUBJECT_ALT_NAME)]:
                if [tag for tag, _ in fields[1:]] != [_OCTET_STRING]:
                    raise ValueError("not an extension")
                yield from _elements(_only(fields[1][1], _SEQUENCE))


def _other_name(content: bytes) -> tuple[bytes, str]:
    (id_tag, kind), (value_tag, value) = _elements(content)
    if (id_tag, value_tag) != (_OBJECT_IDENTIFIER, _EXPLICIT_0):
        raise ValueError("not an otherName")
    # RFC 6120 section 13.7.1.4 gives XmppAddr as UTF8String, RFC 4985 SRVName as IA5String. The
    # type is checked before the content is looked at.
    if kind == _XMPP_ADDR:
        return kind, _only(value, _UTF8_STRING).decode("utf-8")
    if kind == _DNS_SRV:
        return kind, _only(value, _IA5_STRING).decode("ascii")
    return kind, ""


def _only(data: bytes, tag: int) -> bytes:
    elements = list(_elements(data))
    if len(elements) != 1 or elements[0][0] != tag:
        raise ValueError("not the element that belongs here")
    return elements[0][1]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take DER apart into tags and contents; ``ValueError`` where it is not DER."""
    position = 0
    while position < len(data):
        header = data[position : position + 2]
        if len(header) < len("TL") or header[0] & _MULTIBYTE_TAG == _MULTIBYTE_TAG:
            raise ValueError("not DER")
        position += 2
        length = header[1]
        if length >= _LONG_FORM:
            octets = length - _LONG_FORM
            if not 1 <= octets <= _LONGEST_LENGTH:
                raise ValueError("not DER")
            length = int.from_bytes(data[position : position + octets], "big")
            position += octets
        if position + length > len(data):
            raise ValueError("not DER")
        yield header[0], data[position : position + length]
        position += length
