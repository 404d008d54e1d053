"""Addresses, and who is believed."""

import pytest

from proxy.daemon.demo.accounts import Accounts, Jid, RefusedError


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("localhost", Jid("", "localhost")),
        ("Juliet@LOCALHOST", Jid("juliet", "localhost")),
        ("juliet@localhost/a/b@c", Jid("juliet", "localhost", "a/b@c")),
        ("faß.example/x", Jid("", "xn--fa-hia.example", "x")),
    ],
)
def test_addresses_are_read(text: str, jid: Jid) -> None:
    assert Jid.parse(text) == jid
    assert Jid.parse(str(jid)) == jid


@pytest.mark.parametrize("text", ["", "@localhost", "a@b@c", "a@localhost/", "a@", "/x", "a b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"domain|address"):
        Jid.parse(text)


def test_invented_passwords_differ() -> None:
    one, other = (Accounts.invented("localhost", "juliet", "romeo") for _ in range(2))
    assert len({*one.passwords.values(), *other.passwords.values()}) == 4


@pytest.mark.parametrize("fields", [{}, {"password": ""}, {"digest": ""}, {"digest": "é"}])
def test_an_unknown_user_has_no_secret(fields: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="not-authorized"):
        Accounts("localhost", {"juliet": "x"}).legacy("nobody", fields, "id")


def test_an_unknown_user_cannot_use_the_digest_of_nothing() -> None:
    digest = "da39a3ee5e6b4b0d3255bfef95601890afd80709"  # of no bytes at all
    with pytest.raises(RefusedError):
        Accounts("localhost", {}).legacy("nobody", {"digest": digest}, "")
