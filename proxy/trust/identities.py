"""The identities a certificate presents, and which of them proves an XMPP domain.

RFC 9525 and RFC 6120 section 13.7: DNS-ID, SRV-ID and XmppAddr in the subjectAltName; the common
name counts for nothing, and an entry that cannot be understood is passed over without harm to the
others.
"""

import unicodedata
from typing import Final

import attrs
import idna
from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, SRV_ID, DNSPattern, SRVPattern

from proxy.trust import der
from proxy.xmpp.domains import domain

CLIENT_SERVICE: Final = "_xmpp-client"
SERVER_SERVICE: Final = "_xmpp-server"
"""The services of SRV-IDs: where a domain takes clients, and where other servers."""

MOST_NAMES: Final = 1000
"""How many names of a certificate are read."""

_XMPP_ADDR: Final = bytes.fromhex("2b06010505070805")
_DNS_SRV: Final = bytes.fromhex("2b06010505070807")

_EXPLICIT_0: Final = 0xA0
_OTHER_NAME: Final = 0xA0
_DNS_NAME: Final = 0x82

_VISIBLE: Final = frozenset(range(0x21, 0x7F))


@attrs.frozen
class Match:
    """The identity that proved a domain: its kind and its text, as the certificate has it.

    ``str()`` gives both: ``DNS-ID *.example.net``.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


DNS_NAME: Final = "DNS-ID"
"""The kind of `Match` whose names OpenSSL knows: it has held name constraints against them."""


@attrs.frozen
class Presented:
    """The identities of one certificate that could be read, as they stand there.

    ``stated`` is false when it has no subjectAltName to state them in. ``str()`` gives a clause
    about the certificate: what it names.
    """

    dns: tuple[str, ...]
    srv: tuple[str, ...]
    xmpp: tuple[str, ...]
    stated: bool = True

    def match(self, name: str, service: str = CLIENT_SERVICE) -> Match | None:
        """Return an identity that proves a domain, ``None`` if there is none.

        A wildcard is the whole left-most label, stands for one label, and never for an A-label.

        Args:
            name: The domain in A-labels, in lower case.
            service: The SRV service name that counts, with its underscore.

        Raises:
            ValueError: The domain or the service is not in that form.
        """
        if domain(name) != name or not service.startswith("_"):
            raise ValueError("the name to compare with is not in its canonical form")
        return self._host(name) or self._service(name, service) or self._address(name)

    def covers(self, name: str, service: str = CLIENT_SERVICE) -> bool:
        """Whether any identity proves a domain; arguments and errors as for `match`."""
        return self.match(name, service) is not None

    def names(self) -> list[str]:
        """Return all that it names, an XmppAddr as ``xmpp:`` and its text."""
        return [*self.dns, *self.srv, *(f"xmpp:{address}" for address in self.xmpp)]

    def _host(self, name: str) -> Match | None:
        reference = _dns_id(name)
        parent = name.partition(".")[2]
        for text in self.dns:
            # Most names of a long list are told apart by their ends, which costs next to nothing.
            if reference is None or not text.lower().endswith(parent):
                continue
            try:
                matches = reference.verify(DNSPattern.from_bytes(text.encode("ascii")))
            except CertificateError:
                continue
            if matches:
                return Match(DNS_NAME, text)
        return None

    def _service(self, name: str, service: str) -> Match | None:
        if _dns_id(name) is None:
            return None
        reference = SRV_ID(f"{service}.{name}")
        for text in self.srv:
            if not text.lower().endswith(name):
                continue
            try:
                matches = reference.verify(SRVPattern.from_bytes(text.encode("ascii")))
            except CertificateError:
                continue
            if matches:
                return Match("SRV-ID", text)
        return None

    def _address(self, name: str) -> Match | None:
        # RFC 6120 section 13.7.1.4 has U-labels here, where others write A-labels.
        forms = {name}
        if "xn--" in name:
            forms.add(idna.decode(name))
        for text in self.xmpp:
            folded = unicodedata.normalize("NFC", text.removesuffix(".").lower())
            if folded in forms and domain(text) == name:
                return Match("XmppAddr", text)
        return None

    def __str__(self) -> str:
        names = self.names()
        if names:
            return f"it names {', '.join(names)}"
        if not self.stated:
            return "it has no subjectAltName, and the common name does not count"
        return "its subjectAltName names no domain that can be understood"


def presented(subject_alt_name: bytes | None) -> Presented:
    """Read the identities of a certificate.

    Args:
        subject_alt_name: The value of that extension (RFC 5280 section 4.2.1.6); ``None`` if the
            certificate has none.

    Raises:
        ValueError: The list itself is broken, or has more than `MOST_NAMES`.
    """
    if subject_alt_name is None:
        return Presented((), (), (), stated=False)
    dns: list[str] = []
    srv: list[str] = []
    xmpp: list[str] = []
    names = der.elements(der.only(subject_alt_name, der.SEQUENCE))
    for number, (tag, content) in enumerate(names, start=1):
        if number > MOST_NAMES:
            raise ValueError(f"it has more than {MOST_NAMES:,} names")
        try:
            if tag == _DNS_NAME:
                dns.append(_visible(content))
            elif tag == _OTHER_NAME:
                _sort_other_name(content, srv, xmpp)
        except ValueError:
            continue
    return Presented(dns=tuple(dns), srv=tuple(srv), xmpp=tuple(xmpp))


def _dns_id(name: str) -> DNS_ID | None:
    try:
        return DNS_ID(name)
    except ValueError:
        # An IP address as a domain: only an XmppAddr can prove it.
        return None


def _visible(content: bytes) -> str:
    # service_identity would strip white space and go on; such an entry is malformed.
    if not content or not _VISIBLE.issuperset(content):
        raise ValueError("not a host name")
    return content.decode("ascii")


def _sort_other_name(content: bytes, srv: list[str], xmpp: list[str]) -> None:
    (id_tag, kind), (value_tag, value) = der.elements(content)
    if (id_tag, value_tag) != (der.OBJECT_IDENTIFIER, _EXPLICIT_0):
        raise ValueError("not an otherName")
    # RFC 6120 section 13.7.1.4 gives XmppAddr as UTF8String, RFC 4985 SRVName as IA5String. The
    # type is checked before the content is looked at.
    if kind == _XMPP_ADDR:
        xmpp.append(der.only(value, der.UTF8_STRING).decode("utf-8"))
    elif kind == _DNS_SRV:
        srv.append(_visible(der.only(value, der.IA5_STRING)))
