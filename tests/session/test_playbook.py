import pytest

from proxy.session.commands import Arm, Deadline, Send
from tests.session.playbook import CLIENT, STARTTLS, Playbook


def test_a_difference_is_shown_with_the_events_before_it() -> None:
    book = Playbook().connected()
    with pytest.raises(AssertionError) as failure:
        book.then(Arm(Deadline.CONNECT))
    shown = str(failure.value)
    assert "  connected\n" in shown
    assert "\n- Arm(deadline=<Deadline.CONNECT: 'connect'>)" in shown
    assert "\n+ Arm(deadline=<Deadline.NEGOTIATION: 'negotiation'>)" in shown


def test_a_command_too_few_is_a_difference() -> None:
    book = Playbook().connected()
    with pytest.raises(AssertionError, match=r"- Send"):
        book.then(Arm(Deadline.NEGOTIATION), Send(CLIENT, b"x"))


def test_commands_that_nobody_asked_for_fail_the_next_event() -> None:
    book = Playbook().connected()
    with pytest.raises(AssertionError, match=r"\+ Arm"):
        book.client(STARTTLS)
