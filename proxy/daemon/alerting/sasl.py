"""SASL as a client does it: SCRAM (RFC 5802, RFC 7677) and PLAIN (RFC 4616), no channel binding."""

import hmac
import secrets
from collections.abc import Collection
from typing import Final, Protocol

from proxy.xmpp import scram

LEAST_ITERATIONS: Final = 4_096
"""Of fewer a server that only pretends to be ours could make too much (RFC 5802, section 5.1)."""

MOST_ITERATIONS: Final = 1_000_000
"""More would take seconds."""

_PLAIN: Final = "PLAIN"


class SaslError(Exception):
    """The server cannot be authenticated to; the message says why."""


class Exchange(Protocol):
    """One attempt to authenticate.

    Attributes:
        mechanism: its mechanism.
        done: whether all that the mechanism has to prove, of the server too, has been proved.
    """

    mechanism: str
    done: bool

    def first(self) -> str:
        """Return what stands in ``<auth/>``, in base64."""

    def answer(self, data: str) -> str:
        """Return the answer to a challenge, both in base64; it may take a second.

        Raises:
            SaslError: the challenge is not one to be answered.
        """

    def finish(self, data: str) -> None:
        """Take in what stands in ``<success/>``, in base64, maybe nothing.

        Raises:
            SaslError: the server has not proved what it must.
        """


def begin(offered: Collection[str], name: str, password: str, *, plain: bool) -> Exchange:
    """Return a new exchange by the best of the mechanisms that are offered.

    Args:
        offered: the mechanisms.
        name: the local part of the account.
        password: its password, as SASLprep has it.
        plain: whether the password itself may be said.

    Raises:
        SaslError: there is none that may be used.
    """
    for mechanism in scram.MECHANISMS:
        if mechanism in offered:
            return Scram(mechanism, name, password)
    if _PLAIN in offered and plain:
        return Plain(name, password)
    wanted = ", ".join((*scram.MECHANISMS, *([_PLAIN] if plain else [])))
    listed = ", ".join(sorted(offered)[:8]) or "none"
    raise SaslError(f"the server offers no mechanism to log in by: {listed}; needed: {wanted}")


class Plain:
    """PLAIN: the password itself."""

    mechanism = _PLAIN
    done = True

    def __init__(self, name: str, password: str) -> None:
        self._message = scram.encoded(f"\0{name}\0{password}".encode())

    def first(self) -> str:
        """Say it."""
        return self._message

    def answer(self, data: str) -> str:  # noqa: ARG002
        """Refuse: there is nothing to be asked."""
        raise SaslError("the server asks for more than PLAIN has")

    def finish(self, data: str) -> None:
        """Be content: the server has nothing to prove by PLAIN."""


class Scram:
    """SCRAM: each side proves that it knows the password, and nobody says it.

    Args:
        mechanism: one of `proxy.xmpp.scram.MECHANISMS`.
        name: the local part of the account.
        password: its password, as SASLprep has it.
    """

    def __init__(self, mechanism: str, name: str, password: str) -> None:
        self.mechanism = mechanism
        self.done = False
        self._digest = scram.MECHANISMS[mechanism]
        self._password = password.encode()
        self._nonce = secrets.token_urlsafe(18)
        self._bare = f"n={scram.escaped(name)},r={self._nonce}"
        self._signature: bytes | None = None

    def first(self) -> str:
        """Say who asks."""
        return scram.encoded(f"n,,{self._bare}".encode())

    def answer(self, data: str) -> str:
        """Prove that we know the password; hear that the server does, if it says so this way."""
        if self._signature is not None:
            self._verify(data)
            return ""
        message = _read(data)
        fields = scram.fields(message)
        nonce, salt, iterations = (fields.get(name, "") for name in "rsi")
        if "m" in fields or not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise SaslError("the server breaks the rules of SCRAM")
        if not iterations.isdecimal() or len(iterations) > len(str(MOST_ITERATIONS)):
            raise SaslError("the server's iteration count is no number to work with")
        if not LEAST_ITERATIONS <= int(iterations) <= MOST_ITERATIONS:
            raise SaslError(
                f"the server's iteration count is {int(iterations)}; allowed: {LEAST_ITERATIONS} "
                f"to {MOST_ITERATIONS}"
            )
        salted = scram.salted(self._digest, self._password, _bytes(salt), int(iterations))
        last = f"c={scram.encoded(b'n,,')},r={nonce}"
        signed = f"{self._bare},{message},{last}".encode()
        self._signature = scram.server_signature(self._digest, salted, signed)
        proof = scram.client_proof(self._digest, salted, signed)
        return scram.encoded(f"{last},p={scram.encoded(proof)}".encode())

    def finish(self, data: str) -> None:
        """Hear that the server knows the password, unless it has said so already."""
        if not self.done:
            self._verify(data)

    def _verify(self, data: str) -> None:
        fields = scram.fields(_read(data))
        proved = self._signature is not None and hmac.compare_digest(
            _bytes(fields.get("v", "")), self._signature
        )
        if not proved:
            raise SaslError("the server does not prove that it knows the password")
        self.done = True


def _read(data: str) -> str:
    try:
        return scram.decoded(data)
    except ValueError as error:
        raise SaslError("the server breaks the rules of SASL") from error


def _bytes(data: str) -> bytes:
    try:
        return scram.decoded_bytes(data)
    except ValueError as error:
        raise SaslError("the server breaks the rules of SCRAM") from error
