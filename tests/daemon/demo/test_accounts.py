"""Who is believed."""

import pytest

from proxy.daemon.demo.accounts import Accounts, RefusedError


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
