"""SASL as the demo server does it: PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677), no binding."""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final, Protocol

import attrs

from proxy.daemon.demo.accounts import Accounts, RefusedError

ITERATIONS: Final = 4096
_NO_BINDING: Final = ("n", "y")
"""What a client says that binds no channel; ``y``: it could, but we offer nothing for it."""


@attrs.frozen
class Challenge:
    """The exchange goes on with ``data``, in base64."""

    data: str


@attrs.frozen
class Success:
    """The exchange has proved ``user``, a local part; ``data`` is for the client, in base64."""

    user: str
    data: str = ""


class Exchange(Protocol):
    """One attempt to authenticate."""

    def step(self, data: str) -> Challenge | Success:
        """Take what the client sent, in base64 as it stands in the element.

        Raises:
            RefusedError: the attempt has failed.
        """


def begin(mechanism: str | None, accounts: Accounts) -> Exchange:
    """Return a new exchange for ``mechanism``.

    Raises:
        RefusedError: it is not one of `MECHANISMS`.
    """
    match mechanism:
        case "SCRAM-SHA-256":
            return Scram(accounts, "sha256")
        case "SCRAM-SHA-1":
            return Scram(accounts, "sha1")
        case "PLAIN":
            return Plain(accounts)
    raise RefusedError("invalid-mechanism")


MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
"""What `begin` knows, best first."""


class Plain:
    """PLAIN: the password itself."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def step(self, data: str) -> Challenge | Success:
        """Check name and password; a client that has not sent them yet is asked to."""
        if not data:
            return Challenge("")
        parts = _decoded(data).split("\0")
        if len(parts) != 3:  # noqa: PLR2004  # authorisation identity, name, password
            raise RefusedError("malformed-request")
        authorisation, name, password = parts
        if not self._accounts.proved(name, password):
            raise RefusedError("not-authorized")
        self._accounts.check_authorisation(name, authorisation)
        return Success(name)


class Scram:
    """SCRAM: each side proves that it knows the password, and nobody says it.

    Args:
        accounts: whose password may be proved.
        digest: the name of the hash, as ``hashlib`` has it.
    """

    def __init__(self, accounts: Accounts, digest: str) -> None:
        self._accounts = accounts
        self._digest = digest
        self._salt = secrets.token_bytes(16)
        self._name = ""
        self._header = ""  # how the client began: channel binding and authorisation identity
        self._said = ""  # the client's first message and ours, which both sides sign
        self._nonce = ""

    def step(self, data: str) -> Challenge | Success:
        """Answer the client's first message with salt and nonce, its last one with our proof."""
        if not data and not self._said:
            return Challenge("")
        message = _decoded(data)
        return self._last(message) if self._said else self._first(message)

    def _first(self, message: str) -> Challenge:
        binding, authorisation, bare = ([*message.split(",", 2), "", ""])[:3]
        fields = _fields(bare)
        if binding not in _NO_BINDING or "m" in fields or not fields.get("r"):
            raise RefusedError("malformed-request")
        self._name = fields.get("n", "").replace("=2C", ",").replace("=3D", "=")
        self._header = f"{binding},{authorisation},"
        self._accounts.check_authorisation(self._name, authorisation.removeprefix("a="))
        self._nonce = fields["r"] + secrets.token_urlsafe(18)
        answer = f"r={self._nonce},s={_encoded(self._salt)},i={ITERATIONS}"
        self._said = f"{bare},{answer}"
        return Challenge(_encoded(answer.encode()))

    def _last(self, message: str) -> Success:
        bare, _, proof = message.rpartition(",p=")
        fields = _fields(bare)
        signed = f"{self._said},{bare}".encode()
        if fields.get("c") != _encoded(self._header.encode()) or fields.get("r") != self._nonce:
            raise RefusedError("malformed-request")
        password = self._accounts.passwords.get(self._name)
        # Nobody can guess what an unknown user's password is taken to be.
        secret = secrets.token_bytes() if password is None else password.encode()
        salted = hashlib.pbkdf2_hmac(self._digest, secret, self._salt, ITERATIONS)
        key = self._keyed(salted, b"Client Key")
        signature = self._keyed(hashlib.new(self._digest, key).digest(), signed)
        expected = _encoded(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
        if password is None or not hmac.compare_digest(expected.encode(), proof.encode()):
            raise RefusedError("not-authorized")
        proved = self._keyed(self._keyed(salted, b"Server Key"), signed)
        return Success(self._name, _encoded(f"v={_encoded(proved)}".encode()))

    def _keyed(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self._digest)


def _decoded(data: str) -> str:
    try:
        return base64.b64decode("" if data == "=" else data, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise RefusedError("incorrect-encoding") from error


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _fields(message: str) -> dict[str, str]:
    """Return the value of each ``name=value`` of a SCRAM message."""
    return {field[:1]: field[2:] for field in message.split(",")}
