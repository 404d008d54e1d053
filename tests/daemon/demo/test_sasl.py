"""The SASL exchanges, against the RFCs' own examples and against liars."""

import base64
import secrets

import pytest

from proxy.daemon.demo import sasl
from proxy.daemon.demo.accounts import Accounts, RefusedError

ACCOUNTS = Accounts("localhost", {"user": "pencil"})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decoded(data: str) -> str:
    return base64.b64decode(data).decode()


@pytest.mark.parametrize(
    ("digest", "salt", "nonces", "proof", "signature"),
    [
        (  # RFC 5802, section 5
            "sha1",
            "QSXCR+Q6sek8bf92",
            ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"),
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (  # RFC 7677, section 3
            "sha256",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
)
def test_the_examples_of_the_rfcs(  # noqa: PLR0917  # one for each value of the example
    monkeypatch: pytest.MonkeyPatch,
    digest: str,
    salt: str,
    nonces: tuple[str, str],
    proof: str,
    signature: str,
) -> None:
    client_nonce, server_nonce = nonces
    monkeypatch.setattr(secrets, "token_bytes", lambda _length: base64.b64decode(salt))
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _length: server_nonce)
    exchange = sasl.Scram(ACCOUNTS, digest)
    challenge = exchange.step(encoded(f"n,,n=user,r={client_nonce}"))
    assert isinstance(challenge, sasl.Challenge)
    assert decoded(challenge.data) == f"r={client_nonce}{server_nonce},s={salt},i=4096"
    last = f"c=biws,r={client_nonce}{server_nonce},p={proof}"
    assert exchange.step(encoded(last)) == sasl.Success("user", encoded(f"v={signature}"))


@pytest.mark.parametrize(
    ("first", "condition"),
    [
        ("p=tls-unique,,n=user,r=x", "malformed-request"),
        ("n,,n=user", "malformed-request"),
        ("n,,m=ext,n=user,r=x", "malformed-request"),
        ("n", "malformed-request"),
        ("n,a=other@localhost,n=user,r=x", "invalid-authzid"),
    ],
)
def test_a_first_message_that_is_refused(first: str, condition: str) -> None:
    with pytest.raises(RefusedError, match=condition):
        sasl.Scram(ACCOUNTS, "sha1").step(encoded(first))


@pytest.mark.parametrize(
    ("name", "last", "condition"),
    [
        ("user", "c=biws,r={nonce},p=AAAA", "not-authorized"),
        ("nobody", "c=biws,r={nonce},p=AAAA", "not-authorized"),
        ("user", "c=biws,r={nonce}", "malformed-request"),
        ("user", "c=biws,r=other,p=AAAA", "malformed-request"),
        ("user", "c=eSws,r={nonce},p=AAAA", "malformed-request"),
        ("user", "", "malformed-request"),
    ],
)
def test_a_last_message_that_is_refused(name: str, last: str, condition: str) -> None:
    exchange = sasl.Scram(ACCOUNTS, "sha256")
    challenge = exchange.step(encoded(f"n,,n={name},r=x"))
    assert isinstance(challenge, sasl.Challenge)
    nonce = decoded(challenge.data).partition(",")[0].removeprefix("r=")
    with pytest.raises(RefusedError, match=condition):
        exchange.step(encoded(last.format(nonce=nonce)))


def test_an_exchange_without_an_initial_response_begins_with_an_empty_challenge() -> None:
    for mechanism in sasl.MECHANISMS:
        assert sasl.begin(mechanism, ACCOUNTS).step("") == sasl.Challenge("")
    assert sasl.Plain(ACCOUNTS).step(encoded("\0user\0pencil")) == sasl.Success("user")


def test_other_mechanisms_are_refused() -> None:
    with pytest.raises(RefusedError, match="invalid-mechanism"):
        sasl.begin("SCRAM-SHA-256-PLUS", ACCOUNTS)
