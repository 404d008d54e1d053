"""SASLprep, by the examples of RFC 4013, section 3."""

import pytest

from proxy.xmpp.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("pa ss\\word", "pa ss\\word"),
        ("e\u0301", "é"),
        ("\u05d0\u05d1", "\u05d0\u05d1"),
    ],
)
def test_passwords_are_prepared(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    "text", ["\u0007", "\u0627\u0031", "a\u0627", "\u0627a\u0628", "\ud800", "\u0378", "\ue000"]
)
def test_what_may_not_be_in_a_password_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 4013"):
        saslprep(text)
