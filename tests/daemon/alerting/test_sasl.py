"""SASL as a client does it, against the RFCs' own examples, our own server, and liars."""

import base64
import secrets
from collections.abc import Callable

import pytest

from proxy.daemon.alerting import sasl
from proxy.daemon.alerting.sasl import MOST_ITERATIONS, Plain, SaslError, Scram
from proxy.daemon.demo.accounts import Accounts
from proxy.daemon.demo.sasl import Challenge, Success
from proxy.daemon.demo.sasl import begin as answering

ALL = ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "DIGEST-MD5")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decoded(data: str) -> str:
    return base64.b64decode(data).decode()


@pytest.mark.parametrize(
    ("mechanism", "salt", "nonces", "proof", "signature"),
    [
        (  # RFC 5802, section 5
            "SCRAM-SHA-1",
            "QSXCR+Q6sek8bf92",
            ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"),
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (  # RFC 7677, section 3
            "SCRAM-SHA-256",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
)
def test_the_examples_of_the_rfcs(  # noqa: PLR0917  # one for each value of the example
    monkeypatch: pytest.MonkeyPatch,
    mechanism: str,
    salt: str,
    nonces: tuple[str, str],
    proof: str,
    signature: str,
) -> None:
    ours, theirs = nonces
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _length: ours)
    exchange = Scram(mechanism, "user", "pencil")
    assert decoded(exchange.first()) == f"n,,n=user,r={ours}"
    answer = exchange.answer(encoded(f"r={ours}{theirs},s={salt},i=4096"))
    assert decoded(answer) == f"c=biws,r={ours}{theirs},p={proof}"
    assert not exchange.done
    exchange.finish(encoded(f"v={signature}"))
    assert exchange.done


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
@pytest.mark.parametrize("name", ["user", "a=b,c", "水"])
def test_our_own_server_lets_us_in(mechanism: str, name: str) -> None:
    exchange = sasl.begin([mechanism], name, "pässwort, =", plain=True)
    server = answering(exchange.mechanism, Accounts("localhost", {name: "pässwort, ="}))
    outcome = server.step(exchange.first())
    if isinstance(outcome, Challenge):
        outcome = server.step(exchange.answer(outcome.data))
    assert isinstance(outcome, Success)
    assert outcome.user == name
    exchange.finish(outcome.data)
    assert exchange.done


def test_the_best_mechanism_is_chosen_and_plain_comes_last() -> None:
    chosen = sasl.begin(ALL, "user", "pencil", plain=True)
    assert chosen.mechanism == "SCRAM-SHA-256"
    assert sasl.begin(ALL[:2], "user", "pencil", plain=True).mechanism == "SCRAM-SHA-1"
    assert isinstance(sasl.begin(["PLAIN"], "user", "pencil", plain=True), Plain)


@pytest.mark.parametrize(
    ("offered", "plain"), [(["PLAIN"], False), ([], True), (["SCRAM-SHA-1-PLUS"], True)]
)
def test_what_may_not_be_used_is_not(offered: list[str], *, plain: bool) -> None:
    with pytest.raises(SaslError, match="offers no mechanism to log in by"):
        sasl.begin(offered, "user", "pencil", plain=plain)


def first_of(change: Callable[[str], str]) -> Callable[[Scram], None]:
    def say(exchange: Scram) -> None:
        nonce = decoded(exchange.first()).rpartition("r=")[2]
        exchange.answer(encoded(change(f"r={nonce}server,s={encoded('salt')},i=4096")))

    return say


@pytest.mark.parametrize(
    ("say", "complaint"),
    [
        (first_of(lambda said: f"m=x,{said}"), "rules of SCRAM"),
        (first_of(lambda said: said.replace("server", "")), "rules of SCRAM"),
        (first_of(lambda said: f"r=x{said[2:]}"), "rules of SCRAM"),
        (first_of(lambda said: said.replace("s=c2FsdA==", "s=!")), "rules of SCRAM"),
        (first_of(lambda said: said.replace("4096", "4095")), "count is 4095; allowed: 4096 to"),
        (first_of(lambda said: said.replace("4096", "1")), "count is 1; allowed"),
        (first_of(lambda said: said.replace("4096", "-1")), "no number"),
        (first_of(lambda said: said.replace("4096", "")), "no number"),
        (first_of(lambda said: said.replace("4096", "²")), "no number"),
        (first_of(lambda said: said.replace("4096", "9" * 5000)), "no number"),
        (first_of(lambda said: said.replace("4096", str(MOST_ITERATIONS + 1))), "allowed"),
        (first_of(lambda _said: ""), "rules of SCRAM"),
        (lambda exchange: exchange.answer("*"), "rules of SASL"),
        (lambda exchange: exchange.answer(base64.b64encode(b"\xff").decode()), "rules of SASL"),
        (lambda exchange: exchange.finish(""), "does not prove"),
        (lambda exchange: exchange.finish(encoded("v=")), "does not prove"),
    ],
)
def test_a_server_that_lies_is_not_answered(say: Callable[[Scram], None], complaint: str) -> None:
    exchange = Scram("SCRAM-SHA-256", "user", "pencil")
    with pytest.raises(SaslError, match=complaint):
        say(exchange)
    assert not exchange.done


@pytest.mark.parametrize("last", ["", "v=", "v=AAAA", "e=other-error", "x"])
@pytest.mark.parametrize("way", ["finish", "answer"])
def test_a_server_that_does_not_know_the_password_is_found_out(last: str, way: str) -> None:
    exchange = Scram("SCRAM-SHA-256", "user", "pencil")
    first_of(str)(exchange)
    with pytest.raises(SaslError, match="does not prove that it knows the password"):
        getattr(exchange, way)(encoded(last))
    assert not exchange.done


def test_a_server_may_prove_itself_in_a_challenge_before_the_success() -> None:
    accounts = Accounts("localhost", {"user": "pencil"})
    exchange = Scram("SCRAM-SHA-256", "user", "pencil")
    server = answering("SCRAM-SHA-256", accounts)
    challenge = server.step(exchange.first())
    assert isinstance(challenge, Challenge)
    success = server.step(exchange.answer(challenge.data))
    assert exchange.answer(success.data) == ""
    exchange.finish("")
    assert exchange.done


def test_plain_is_asked_nothing() -> None:
    with pytest.raises(SaslError, match="more than PLAIN has"):
        Plain("user", "pencil").answer("")
