"""What the transcript keeps, hides, and puts side by side."""

import io

import pytest
from rich.console import Console

from proxy.daemon.demo.client import Secured
from proxy.daemon.demo.server import Direction
from proxy.daemon.demo.transcript import MASK, Leg, Part, Transcript, aligned, masked

TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT
SECURED = Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", "CN=localhost")


@pytest.mark.parametrize(
    "text",
    [
        "<auth xmlns='urn:x' mechanism='PLAIN'>{}</auth>",
        "<response xmlns='urn:x'>{}</response>",
        "<challenge xmlns='urn:x'>{}</challenge>",
        "<success xmlns='urn:x'>{}</success>",
        "<iq><query><username>a</username><password>{}</password></query></iq>",
        "<iq><query><digest>{}</digest></query></iq>",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert masked(text.format("c2VjcmV0")) == text.format(MASK)


def test_what_is_no_secret_is_left_alone() -> None:
    text = "<message><body>my password</body></message><auth xmlns='a'/><success/>"
    assert masked(text) == text


def part(leg: Leg, direction: Direction, text: str) -> Part:
    return Part(leg, direction, text)


def test_the_same_part_on_both_legs_shares_a_row() -> None:
    client_header = part(Leg.CLIENT, TO_SERVER, "<?xml version='1.0'?><stream:stream>")
    server_header = part(Leg.SERVER, TO_SERVER, "<stream:stream id='1'>")
    client_answer = part(Leg.CLIENT, TO_CLIENT, "<iq type='result'/>")
    server_extra = part(Leg.SERVER, TO_CLIENT, "<presence/>")
    server_answer = part(Leg.SERVER, TO_CLIENT, "<iq/>")
    alone = part(Leg.CLIENT, TO_SERVER, "</stream:stream>")
    last = part(Leg.SERVER, TO_CLIENT, "</stream:stream>")
    parts = [client_header, server_header, server_extra, server_answer, client_answer, alone, last]
    assert aligned(parts) == [
        (client_header, server_header),
        (None, server_extra),
        (client_answer, server_answer),
        (alone, None),
        (None, last),
    ]


def test_both_legs_are_shown_with_tls_between_them() -> None:
    transcript = Transcript()
    transcript.client_leg(TO_SERVER, b"<starttls/>")
    transcript.secure(SECURED)
    transcript.client_leg(TO_SERVER, b"<auth xmlns='x'>c2VjcmV0</auth>")
    transcript.server_leg(TO_SERVER, b"<auth xmlns='x'>c2VjcmV0</auth>")
    transcript.server_leg(TO_CLIENT, b"<message>\x1b[31m</message>")
    output = io.StringIO()
    transcript.show(Console(file=output, width=120), "127.0.0.1:1", "127.0.0.1:2")
    shown = output.getvalue()
    before, bar, after = (shown.find(text) for text in ("<starttls/>", "X25519MLKEM768", "<auth"))
    assert 0 < before < bar < after
    assert shown.count(MASK) == 2
    assert "c2VjcmV0" not in shown
    assert "\x1b[31m" not in shown
    assert transcript.kept_apart


def test_bytes_on_the_server_leg_before_tls_are_noticed() -> None:
    transcript = Transcript()
    transcript.server_leg(TO_SERVER, b"<stream:stream>")
    transcript.secure(SECURED)
    assert not transcript.kept_apart


def test_without_tls_nothing_was_kept_apart() -> None:
    assert not Transcript().kept_apart
