"""Reading certificates and private keys from PEM files, with words for what else is found there."""

import re
import stat
import warnings
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

_LONGEST_FILE: Final = 1 << 20
_LABEL: Final = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----", re.MULTILINE)
_SWAPPED: Final = "are certificate and private_key swapped?"


@attrs.frozen
class PrivateKeyFile:
    """What is told of a private key: its public half (SubjectPublicKeyInfo in DER), its mode."""

    public: bytes
    mode: int


def read_chain(path: Path) -> list[x509.Certificate]:
    """Read the certificates in a file, of which there is at least one.

    Raises:
        ValueError: there is none that can be read; the message names the file and says why.
    """
    content, _ = _read(path)
    try:
        with warnings.catch_warnings():
            # What cryptography may refuse one day still serves today, and clients decide.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion) as error:
        labels = _labels(content)
        text = "holds no certificate in PEM that can be read"
        if any(label.endswith("PRIVATE KEY") for label in labels):
            text = f"is a private key; {_SWAPPED}"
        elif any(label.endswith("CERTIFICATE REQUEST") for label in labels):
            text = "is a certificate request; what the authority issued for it is needed"
        elif _is_der_certificate(content):
            text = "is a certificate in DER; PEM is needed (openssl x509 converts it)"
        raise ValueError(f"{path} {text}") from error


def read_key(path: Path) -> PrivateKeyFile:
    """Read the private key in a file.

    Raises:
        ValueError: there is none that can be used; the message names the file and says why.
    """
    content, mode = _read(path)
    try:
        key = load_pem_private_key(content, password=None)
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return PrivateKeyFile(public=public, mode=stat.S_IMODE(mode))
    except TypeError as error:
        text = "has a passphrase; allowed: a private key without one"
        raise ValueError(f"{path} {text}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        labels = _labels(content)
        text = "holds no private key in PEM that can be read"
        if any(label.endswith("PRIVATE KEY") for label in labels):
            pass
        elif "CERTIFICATE" in labels:
            text = f"is a certificate; {_SWAPPED}"
        elif _is_der_key(content):
            text = "is a private key in DER; PEM is needed (openssl pkey converts it)"
        raise ValueError(f"{path} {text}") from error


def _read(path: Path) -> tuple[bytes, int]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a regular file; a PEM file is needed")
        if status.st_size > _LONGEST_FILE:
            raise ValueError(f"{path} is too long; a PEM file is needed")
        return path.read_bytes(), status.st_mode
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _labels(content: bytes) -> list[str]:
    """The labels of what a PEM file holds (RFC 7468 section 2)."""
    return [label.decode("ascii") for label in _LABEL.findall(content)]


def _is_der_certificate(content: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(content)
    except (ValueError, x509.InvalidVersion):
        return False
    return True


def _is_der_key(content: bytes) -> bool:
    try:
        load_der_private_key(content, password=None)
    except TypeError:
        return True  # one with a passphrase
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True
