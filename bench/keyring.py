"""How long the keyring takes to answer, with many certificates in it."""

import datetime as dt
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.errors import BenchError
from proxy.trust.evidence import Evidence
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.judging import Accepted, Consulted, Waiting, consult
from proxy.trust.keyring.store import TOUCHED_AFTER, Keyring
from proxy.trust.policy import OnChange
from proxy.trust.verdict import Status, UntrustedError, Verdict

NAME = "keyring"
"""What it is called on the command line, as rows are."""

ENTRIES = 100_000
QUESTIONS = 2_000
BOUND = 1_000.0
"""Microseconds within which the keyring has to answer."""

_SEED = 5
_STREAM = "s2s"


@attrs.frozen
class Answers:
    """How long one kind of question took.

    Attributes:
        title: What was asked.
        median: In microseconds.
        tail: The 99th percentile, likewise.
        bound: What both must be within; None where nothing is required.
    """

    title: str
    median: float
    tail: float
    bound: float | None

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.bound is None or max(self.median, self.tail) <= self.bound


@attrs.frozen
class _Question:
    title: str
    ask: Callable[[int], Consulted]
    answer: type[Accepted | Waiting]
    bound: float | None = None


def measure(echo: Callable[[str], None]) -> list[Answers]:
    """Fills a keyring with `ENTRIES` certificates, each of a domain of its own, and asks it.

    Every answer is compared with what is due.

    Args:
        echo: Tells of progress.

    Raises:
        BenchError: An answer is wrong.
    """
    echo(f"{NAME}: {ENTRIES:,} certificates")
    with (
        tempfile.TemporaryDirectory(prefix="bascule-bench-") as directory,
        closing(Keyring(Path(directory) / FILE_NAME)) as keyring,
    ):
        made = _Certificates()
        began = dt.datetime.now(dt.UTC)
        with keyring.changing():
            for number in range(ENTRIES):
                keyring.remember(
                    _domain(number), _STREAM, made.certificate(number), began, how=How.PKIX
                )
        return [_asked(question) for question in _questions(keyring, made, began)]


def _questions(keyring: Keyring, made: "_Certificates", began: dt.datetime) -> Sequence[_Question]:
    later = began + 2 * TOUCHED_AFTER
    proved = Verdict(Status.VERIFIED, "DNS-ID", "")
    unproved = UntrustedError("the certificate is self-signed")

    def shown(
        domain: int, certificate: int, verdict: Verdict | UntrustedError, now: dt.datetime
    ) -> Consulted:
        return consult(
            keyring,
            _domain(domain),
            _STREAM,
            Evidence((made.certificate(certificate),), 0, "ok"),
            verdict,
            on_change=OnChange.NOTIFY,
            now=now,
        )

    shown(0, ENTRIES, unproved, began)  # is held from now on
    return (
        _Question(
            "one that it has",
            lambda number: shown(number, number, proved, began),
            Accepted,
            BOUND,
        ),
        _Question(
            "one that it has, and whose time is written anew",
            lambda number: shown(number, number, proved, later),
            Accepted,
        ),
        _Question(
            "one that is held, and counted",
            lambda _: shown(0, ENTRIES, unproved, later),
            Waiting,
        ),
        _Question(
            "one that is new, written through to the disk",
            lambda number: shown(ENTRIES + number, ENTRIES + number, proved, later),
            Accepted,
        ),
    )


def _asked(question: _Question) -> Answers:
    numbers = random.Random(_SEED).sample(range(1, ENTRIES), QUESTIONS)
    taken = []
    for number in numbers:
        began = time.perf_counter()
        answer = question.ask(number)
        taken.append((time.perf_counter() - began) * 1e6)
        if not isinstance(answer, question.answer):
            raise BenchError(f"{NAME}: {question.title}: {answer}")
    return Answers(
        title=question.title,
        median=statistics.median(taken),
        tail=statistics.quantiles(taken, n=100, method="inclusive")[-1],
        bound=question.bound,
    )


def markdown(answers: Sequence[Answers]) -> list[str]:
    """The lines of the table as they are published."""
    introduction = (
        f"The keyring, with {ENTRIES:,} certificates of as many domains: how long the question "
        f"takes whether a certificate is let in, {QUESTIONS:,} times for each kind of "
        "certificate. Nothing else is done meanwhile."
    )
    lines = [
        introduction,
        "",
        "| certificate | target | p50, µs | p99, µs | |",
        "|---|---|---|---|---|",
    ]
    for each in answers:
        target, word = "", ""
        if each.bound is not None:
            target, word = f"≤ {each.bound:,.0f}", "met" if each.met else "**missed**"
        lines.append(
            f"| {each.title} | {target} | {each.median:,.0f} | {each.tail:,.0f} | {word} |"
        )
    return [*lines, ""]


class _Certificates:
    """Certificates that differ in their signatures only, which the keyring does not check."""

    def __init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench.example")])
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        signed = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("bench.example")]), False)
            .sign(key, hashes.SHA256())
        )
        self._original = signed.public_bytes(serialization.Encoding.DER)

    def certificate(self, number: int) -> bytes:
        """One of them, in DER."""
        return self._original[:-4] + number.to_bytes(4, "big")


def _domain(number: int) -> str:
    return f"d{number}.bench.example"
