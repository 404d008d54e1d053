"""SASL as the demo server does it: PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677), no binding."""

import hmac
import secrets
from typing import Final, Protocol

import attrs

from proxy.daemon.demo.accounts import Accounts, RefusedError
from proxy.xmpp import scram

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
    if mechanism in scram.MECHANISMS:
        return Scram(accounts, scram.MECHANISMS[mechanism])
    if mechanism == "PLAIN":
        return Plain(accounts)
    raise RefusedError("invalid-mechanism")


MECHANISMS: Final = (*scram.MECHANISMS, "PLAIN")
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
        fields = scram.fields(bare)
        if binding not in _NO_BINDING or "m" in fields or not fields.get("r"):
            raise RefusedError("malformed-request")
        self._name = scram.unescaped(fields.get("n", ""))
        self._header = f"{binding},{authorisation},"
        self._accounts.check_authorisation(self._name, authorisation.removeprefix("a="))
        self._nonce = fields["r"] + secrets.token_urlsafe(18)
        answer = f"r={self._nonce},s={scram.encoded(self._salt)},i={ITERATIONS}"
        self._said = f"{bare},{answer}"
        return Challenge(scram.encoded(answer.encode()))

    def _last(self, message: str) -> Success:
        bare, _, proof = message.rpartition(",p=")
        fields = scram.fields(bare)
        signed = f"{self._said},{bare}".encode()
        binding = scram.encoded(self._header.encode())
        if fields.get("c") != binding or fields.get("r") != self._nonce:
            raise RefusedError("malformed-request")
        password = self._accounts.passwords.get(self._name)
        # Nobody can guess what an unknown user's password is taken to be.
        secret = secrets.token_bytes() if password is None else password.encode()
        salted = scram.salted(self._digest, secret, self._salt, ITERATIONS)
        expected = scram.encoded(scram.client_proof(self._digest, salted, signed))
        if password is None or not hmac.compare_digest(expected.encode(), proof.encode()):
            raise RefusedError("not-authorized")
        proved = scram.server_signature(self._digest, salted, signed)
        return Success(self._name, scram.encoded(f"v={scram.encoded(proved)}".encode()))


def _decoded(data: str) -> str:
    try:
        return scram.decoded(data)
    except ValueError as error:
        raise RefusedError("incorrect-encoding") from error
