"""Reading the files of revocation lists that policies name, with words for what is wrong there."""

import re
import stat
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.daemon.model import Caution, Mistake
from proxy.daemon.tables import Placed
from proxy.trust.policy import Policy
from proxy.trust.revocation import RevocationList, RevocationLists

LONGEST_FILE: Final = 32 << 20
"""Octets; room for half a million certificates."""

_LABEL: Final = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----", re.MULTILINE)
_CRL: Final = b"X509 CRL"
_BLOCK: Final = re.compile(
    rb"^-----BEGIN X509 CRL-----\s.*?^-----END X509 CRL-----", re.MULTILINE | re.DOTALL
)
_SEQUENCE: Final = b"\x30"


def read_revocation(policies: Iterable[Policy]) -> RevocationLists:
    """Read all revocation lists that policies name, each file once.

    It takes about a second for 500,000 certificates.

    Raises:
        ValueError: a file cannot be used; the message names it and says why.
    """
    paths = dict.fromkeys(path for policy in policies for path in policy.crl_files)
    return RevocationLists(MappingProxyType({path: read_lists(path) for path in paths}))


def read_lists(path: Path) -> tuple[RevocationList, ...]:
    """Read the lists in a file, of which there is at least one: any number in PEM, or one in DER.

    Raises:
        ValueError: any of them cannot be used, or there is none; the message names the file and
            says why.
    """
    found = _der_of(path, _read(path))
    lists = []
    for number, each in enumerate(found, start=1):
        try:
            lists.append(RevocationList(each))
        except ValueError as error:
            which = f"list {number} of {path}" if len(found) > 1 else f"{path}"
            raise ValueError(f"{which} {error}") from error
    return tuple(lists)


def examine_lists(
    files: Sequence[Placed[Path]], now: datetime
) -> tuple[list[Mistake], list[Caution]]:
    """Examine the files of revocation lists that policies name.

    A list that is out of date keeps nobody from starting: it refuses whom it is about.

    Args:
        files: the files; their keys are those of the policies.
        now: the time to judge by, with a time zone.
    """
    mistakes: list[Mistake] = []
    cautions: list[Caution] = []
    for file in files:
        key = f"{file.key}.crl_files"
        try:
            lists = read_lists(file.value)
        except ValueError as error:
            mistakes.append(Mistake(file.file, key, str(error)))
            continue
        for each in lists:
            if now > each.end:
                text = f"{file.value}: the list of {each.name} ENDED on {each.end:%Y-%m-%d}"
            elif now < each.begin:
                text = f"{file.value}: the list of {each.name} BEGINS on {each.begin:%Y-%m-%d}"
            else:
                continue
            text += ": no server with a certificate by that authority will be believed"
            cautions.append(Caution(file.file, key, text))
    return mistakes, cautions


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a regular file")
        if status.st_size > LONGEST_FILE:
            raise ValueError(f"{path} is too long; allowed: {LONGEST_FILE >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _der_of(path: Path, content: bytes) -> list[bytes]:
    """Return the lists in a file in DER."""
    if content.startswith(_SEQUENCE):
        return [content]
    labels = _LABEL.findall(content)
    for label in labels:
        if label != _CRL:
            raise ValueError(f"{path} holds a {label.decode()}, not only revocation lists")
    blocks = _BLOCK.findall(content)
    if not blocks:
        raise ValueError(f"{path} holds no revocation list, neither in PEM nor in DER")
    damaged = f"{path} holds a revocation list in PEM that is damaged"
    if len(labels) != len(blocks):
        raise ValueError(damaged)
    try:
        return [x509.load_pem_x509_crl(block).public_bytes(Encoding.DER) for block in blocks]
    except ValueError as error:
        raise ValueError(damaged) from error
