"""The demo's users and how they prove who they are."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping


class RefusedError(Exception):
    """A login that failed; the message is a SASL condition (RFC 6120, section 6.5)."""


class Accounts:
    """The users of one domain, each with a password.

    Args:
        domain: the domain, as an A-label.
        passwords: password by local part.
    """

    def __init__(self, domain: str, passwords: Mapping[str, str]) -> None:
        self.domain = domain
        self.passwords = dict(passwords)

    @classmethod
    def invented(cls, domain: str, *names: str) -> "Accounts":
        """Return accounts for ``names`` with passwords that nobody has used before."""
        return cls(domain, {name: secrets.token_hex(5) for name in names})

    def contacts(self, name: str) -> list[str]:
        """Return the local parts on the roster of ``name``: everyone else."""
        return [other for other in self.passwords if other != name]

    def proved(self, name: str, password: str) -> bool:
        """Whether ``name`` is a user here and ``password`` that user's."""
        right = hmac.compare_digest(self.passwords.get(name, "").encode(), password.encode())
        return right and name in self.passwords

    def check_authorisation(self, name: str, identity: str) -> None:
        """Refuse an authorisation identity other than the user's own; empty means that.

        Raises:
            RefusedError: it is somebody else's.
        """
        if identity and identity != f"{name}@{self.domain}":
            raise RefusedError("invalid-authzid")

    def legacy(self, name: str, fields: Mapping[str, str], stream_id: str) -> str:
        """Return the local part of the user whom ``jabber:iq:auth`` (XEP-0078) proves.

        Args:
            name: the text of ``<username/>``.
            fields: the other children's text by local name; ``password`` or ``digest`` counts.
            stream_id: the id of the stream, which the digest covers.

        Raises:
            RefusedError: the user is not known or the secret is wrong.
        """
        if "digest" in fields:
            expected = hashlib.sha1((stream_id + self.passwords.get(name, "")).encode())  # noqa: S324  # XEP-0078 fixes SHA-1
            right = hmac.compare_digest(expected.hexdigest().encode(), fields["digest"].encode())
            proved = right and name in self.passwords
        else:
            proved = self.proved(name, fields.get("password", ""))
        if not proved:
            raise RefusedError("not-authorized")
        return name
