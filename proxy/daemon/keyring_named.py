"""What somebody seems to have meant who has named a certificate by what is no name of it."""

import re
from typing import Final

from proxy.trust.keyring.facts import fingerprint_octets
from proxy.trust.keyring.reading import NotFoundError, Reading
from proxy.trust.keyring.rows import ID_LENGTH

NO_ID: Final = 'approve and reject take an id: "bascule keyring pending" has them'
"""What is said of anything that is as long as no id."""

AN_ID: Final = "this is an id; revoke takes a fingerprint or a domain"
"""What is said of an id where certificates are meant that were believed."""

CUT: Final = (
    'not a whole SHA-256 fingerprint (64 hexadecimal digits); "bascule keyring show DOMAIN" has it'
)
"""What is said of some digits of a fingerprint."""

_OCTETS: Final = re.compile(r"([0-9A-Fa-f]{2}:)+[0-9A-Fa-f]{0,2}(…|\.\.\.)?")
_DIGITS: Final = re.compile(r"[0-9A-Fa-f]{16,}")


def instead_of_id(named: str) -> str:
    """Say what is wrong with what is to be an id; empty if it may be one."""
    return "" if len(named.strip()) == ID_LENGTH else NO_ID


def instead_of_certificate(keyring: Reading, named: str) -> str:
    """Say what is wrong with what is to be a fingerprint or a domain; empty if that is not known.

    Raises:
        KeyringError: The keyring cannot be read.
    """
    if fingerprint_octets(named) is not None:
        return ""
    if _OCTETS.fullmatch(named) or _DIGITS.fullmatch(named):
        return CUT
    try:
        keyring.held(named)
    except NotFoundError:
        return ""
    return AN_ID
