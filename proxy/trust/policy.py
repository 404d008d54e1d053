"""How a domain must prove itself: levels, pins, and the ladder of policies."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final

import attrs

from proxy.trust.certificate import Certificate
from proxy.xmpp.domains import domain as a_labels


class Level(Enum):
    """What is demanded of a server, weakest first."""

    NONE = "none"
    """No TLS."""
    MAY = "may"
    """TLS if the server has it; whose it is does not matter."""
    ENCRYPT = "encrypt"
    """TLS; whose it is does not matter."""
    PIN = "pin"
    """TLS by a key that is known; who vouches for it does not matter."""
    DANE = "dane"
    """TLS, and proof by TLSA records where DNSSEC shows that there are any, else as `SECURE`."""
    DANE_ONLY = "dane-only"
    """TLS, and proof by TLSA records; a domain without them is not reached."""
    KEYRING = "keyring"
    """TLS, and a certificate that is proved as for `DANE` or that an operator has permitted; all
    are remembered, and every change is told of."""
    SECURE = "secure"
    """TLS, and a certificate that proves the domain; where there are pins, for such a key."""

    @property
    def demands_tls(self) -> bool:
        """Whether nothing may pass without TLS."""
        return self not in {Level.NONE, Level.MAY}

    @property
    def demands_proof(self) -> bool:
        """Whether the server must prove the domain."""
        return self not in {Level.NONE, Level.MAY, Level.ENCRYPT}

    @property
    def heeds_dane(self) -> bool:
        """Whether TLSA records are asked for."""
        return self in {Level.DANE, Level.DANE_ONLY, Level.KEYRING}


class Dialback(Enum):
    """Whether server dialback (XEP-0220) will do between servers, without SASL EXTERNAL.

    It asks the domain's own server whether it has opened the connection, which proves as much as
    DNS and that server can; TLS is demanded, or not, by the level all the same.
    """

    ALLOW = "allow"
    """It will do where SASL EXTERNAL does not come about."""
    NEVER = "never"
    """It will not: servers authenticate by SASL EXTERNAL, or not at all."""


class OnChange(Enum):
    """What becomes of a certificate that is proved, but is not the one in the keyring."""

    NOTIFY = "notify"
    """It is let in, and told of."""
    HOLD = "hold"
    """It waits for an operator."""


class Version(Enum):
    """Versions of TLS that a policy can set as the oldest."""

    TLS_1_2 = "TLSv1.2"
    TLS_1_3 = "TLSv1.3"


_PREFIX: Final = "sha256:"
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{43}=")


class Pin(str):
    """A public key by its hash: ``sha256:`` and the base64 of SHA-256 of SubjectPublicKeyInfo."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """Return the pin that ``text`` is.

        Args:
            text: ``sha256:`` and base64, or 64 hexadecimal digits with or without that prefix and
                with or without colons between the octets.

        Raises:
            ValueError: It is neither; the message says what is allowed.
        """
        digits = text.removeprefix(_PREFIX)
        if _HEXADECIMAL.fullmatch(digits):
            return cls._of_digest(bytes.fromhex(digits.replace(":", "")))
        if digits != text and _BASE64.fullmatch(digits):
            pin = cls._of_digest(binascii.a2b_base64(digits))
            if pin == text:
                return pin
        raise ValueError(
            f'a pin is "{_PREFIX}" and the base64 of 32 octets, or 64 hexadecimal digits'
        )

    @classmethod
    def _of_digest(cls, digest: bytes) -> "Pin":
        return cls(_PREFIX + base64.b64encode(digest).decode("ascii"))


def pin_of(certificate_der: bytes) -> Pin:
    """Return the pin of a certificate's key.

    Raises:
        ValueError: It is not made as certificates are.
    """
    return pin_of_key(Certificate.read(certificate_der).key)


def pin_of_key(key: bytes) -> Pin:
    """Return the pin of a key, given as the DER of its SubjectPublicKeyInfo."""
    return Pin.parse(hashlib.sha256(key).hexdigest())


_ANY: Final = "*"
_BELOW: Final = "*."


@attrs.frozen
class Pattern:
    """The domains that a policy is for: one, those below one, or all. ``str()`` gives its text."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Return the pattern that ``text`` is, in A-labels.

        Args:
            text: ``example.net``, ``*.example.org`` or ``*``.

        Raises:
            ValueError: It is none of these; the message says why.
        """
        if text == _ANY:
            return cls(text)
        if text.startswith(_BELOW):
            return cls(_BELOW + a_labels(text.removeprefix(_BELOW)))
        return cls(a_labels(text))

    def matches(self, domain: str) -> bool:
        """Whether it is for a domain in A-labels; a ``*.`` stands for one label or more."""
        if self.text == _ANY:
            return True
        if self.text.startswith(_BELOW):
            suffix = self.text.removeprefix(_ANY)
            return domain.endswith(suffix) and domain != suffix
        return domain == self.text

    def __str__(self) -> str:
        return self.text


@attrs.frozen
class Policy:
    """How the domains of a pattern must prove themselves, and where they are.

    Attributes:
        domain: The domains that it is for.
        level: What is demanded of them.
        server: Host or address and port where the server takes clients; ``None`` to ask DNS.
            For clients' streams only.
        direct_tls: Whether ``server`` expects TLS from the first byte.
        anchors: A file of roots in PEM to trust instead of the system's.
        pins: The keys that are known.
        min_version: The oldest version of TLS that is spoken.
        private_addresses: Whether DNS may lead to private addresses and those of this machine.
        dialback: Whether server dialback on TLS will do where SASL EXTERNAL does not come about.
        s2s_server: Host or address and port where the domain's server takes servers' connections;
            ``None`` to ask DNS. For servers' streams only.
        s2s_direct_tls: Whether ``s2s_server`` expects TLS from the first byte.
        on_change: With `Level.KEYRING`, what becomes of a proved certificate that is another one.
        approval_timeout: With `Level.KEYRING`, seconds for which a session waits for an operator to
            permit a certificate.
        posh: Whether the domain's web site may prove a certificate that does not name the domain
            (RFC 7711).
        crl_files: Files of revocation lists that the certificates are held against (RFC 5280).
    """

    domain: Pattern
    level: Level = Level.SECURE
    server: tuple[str, int] | None = None
    direct_tls: bool = False
    anchors: Path | None = None
    pins: frozenset[Pin] = frozenset()
    min_version: Version = Version.TLS_1_2
    private_addresses: bool = False
    dialback: Dialback = Dialback.ALLOW
    s2s_server: tuple[str, int] | None = None
    s2s_direct_tls: bool = False
    on_change: OnChange = OnChange.NOTIFY
    approval_timeout: float = 0.0
    posh: bool = False
    crl_files: tuple[Path, ...] = ()


class Ladder:
    """Policies, of which the most specific counts, whole, whatever their order.

    Args:
        policies: At most one for each pattern.

    Raises:
        ValueError: Two are for the same pattern.
    """

    __slots__ = ("_policies",)

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies: dict[str, Policy] = {}
        for policy in policies:
            if policy.domain.text in self._policies:
                raise ValueError(f'there are two policies for "{policy.domain}"')
            self._policies[policy.domain.text] = policy

    def find(self, domain: str) -> Policy:
        """Return the policy for a domain.

        The domain's own, else the one for the longest part of it (``*.example.org``), else the one
        for all (``*``), else one that demands a certificate that proves the domain.

        Raises:
            ValueError: It is not a domain.
        """
        name = a_labels(domain)
        found = self._policies.get(name)
        rest = name
        while found is None and rest:
            _, _, rest = rest.partition(".")
            found = self._policies.get(_BELOW + rest if rest else _ANY)
        return found or Policy(Pattern(_ANY))
