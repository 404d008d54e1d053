"""XMPP addresses."""

import pytest

from proxy.xmpp.jids import Jid


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


@pytest.mark.parametrize(
    "text",
    [
        *["", "@localhost", "a@b@c", "a@localhost/", "a@", "/x", "a b"],
        *["a b@localhost", "a'b@localhost", "<a>@localhost", "a:b@localhost"],
        *["a@localhost/\0", "a\ud800@localhost", "a@localhost/\x85", "a@localhost/\uffff"],
        *[f"{'é' * 512}@localhost", f"a@localhost/{'é' * 512}"],
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"domain|address"):
        Jid.parse(text)
