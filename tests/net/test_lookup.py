"""One question, against name servers whose every octet the test decides."""

import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rrset
import pytest
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from proxy.net import lookup
from proxy.net.lookup import (
    LONGEST_MESSAGE,
    Answer,
    Lookup,
    Malformed,
    Problem,
    Refused,
    Silence,
    Unreachable,
)
from tests.net.steady import SteadyTurning, turning
from tests.servers.program import HOST, free_port

__all__ = ["turning"]

NAME = dns.name.from_text("a.example.net")
RIGHT, WRONG = "192.0.2.1", "192.0.2.66"


def answer(query: dns.message.Message, address: str = RIGHT) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    response.answer.append(dns.rrset.from_text(NAME, 300, "IN", "A", address))
    return response


class Place:
    """A UDP socket that is a name server, and a TCP one at the same port."""

    def __init__(self, host: str = HOST) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.udp.bind((host, 0))
            self.address: tuple[str, int] = (host, self.udp.getsockname()[1])
            with suppress(OSError):
                self.tcp = socket.create_server(self.address, family=family)
                break
            self.udp.close()
        self.udp.settimeout(10)
        self.tcp.settimeout(10)

    def query(self) -> tuple[dns.message.Message, tuple[str, int]]:
        wire, whence = self.udp.recvfrom(4096)
        return dns.message.from_wire(wire), whence

    def queries(self) -> int:
        """Return how many are waiting."""
        self.udp.settimeout(0)
        count = 0
        with suppress(BlockingIOError):
            while self.udp.recv(4096):
                count += 1
        return count

    def over_tcp(self, reply: Callable[[dns.message.Message], bytes]) -> None:
        """Say by UDP that the answer is too long; send by TCP what a function makes of it."""
        query, whence = self.query()
        short = dns.message.make_response(query)
        short.flags |= dns.flags.TC
        self.udp.sendto(short.to_wire(), whence)

        def serve() -> None:
            connection, _ = self.tcp.accept()
            with connection:
                length = int.from_bytes(connection.recv(2))
                again = dns.message.from_wire(connection.recv(length))
                assert again.question == query.question
                for octet in reply(again):
                    connection.send(bytes([octet]))

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


class Asked:
    """A question under way, and what became of it."""

    def __init__(
        self, turning: SteadyTurning, *servers: tuple[str, int], seconds: float = 60
    ) -> None:
        self.turning = turning
        self.answers: list[str] = []
        self.problems: Sequence[Problem] | None = None
        self.server: tuple[str, int] | None = None
        self.lookup = Lookup(
            turning.reactor,
            servers,
            NAME,
            RdataType.A,
            answered=self._answered,
            failed=self._failed,
            seconds=seconds,
        )
        self.lookup.start()

    def _answered(self, answer: Answer) -> None:
        assert answer.response.answer
        assert answer.chain.answer is not None
        self.answers += [record.to_text() for record in answer.chain.answer]
        self.server = answer.server

    def _failed(self, problems: Sequence[Problem]) -> None:
        assert self.problems is None
        self.problems = list(problems)

    def wait(self) -> None:
        self.turning.until(lambda: self.answers or self.problems is not None)
        self.turning.turn(2)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a name server of these tests is not asked again."""
    monkeypatch.setattr(lookup, "_EACH_SERVER", 60.0)


@pytest.fixture
def _quick(_patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_EACH_SERVER", 0.1)
    monkeypatch.setattr(lookup, "_FIRST_PAUSE", 0.02)


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_a_question_is_answered(turning: SteadyTurning, host: str) -> None:
    place = Place(host)
    asked = Asked(turning, place.address)
    query, whence = place.query()
    assert query.question == [dns.rrset.RRset(NAME, RdataClass.IN, RdataType.A)]
    assert query.flags == dns.flags.RD | dns.flags.AD
    assert query.edns == 0
    assert query.ednsflags == 0  # DO would have name servers pass on others' AD bits
    place.udp.sendto(answer(query).to_wire(), whence)
    asked.wait()
    assert asked.answers == [RIGHT]
    place.close()


def other_id(query: dns.message.Message) -> bytes:
    response = answer(query, WRONG)
    response.id ^= 1
    return response.to_wire()


def other_question(query: dns.message.Message) -> bytes:
    return answer(query, WRONG).to_wire().replace(b"\1a", b"\1b", 1)


def other_type(query: dns.message.Message) -> bytes:
    response = answer(query, WRONG)
    response.question = [dns.rrset.RRset(NAME, RdataClass.IN, RdataType.AAAA)]
    return response.to_wire()


def no_question(query: dns.message.Message) -> bytes:
    response = answer(query, WRONG)
    response.question.clear()
    return response.to_wire()


def no_response(query: dns.message.Message) -> bytes:
    response = answer(query, WRONG)
    response.flags &= ~dns.flags.QR
    return response.to_wire()


def other_operation(query: dns.message.Message) -> bytes:
    response = answer(query, WRONG)
    response.set_opcode(dns.opcode.STATUS)
    return response.to_wire()


def truncated_other_id(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.id ^= 1
    response.flags |= dns.flags.TC
    return response.to_wire()


def cut(query: dns.message.Message) -> bytes:
    return answer(query, WRONG).to_wire()[:-5]


def empty(_query: dns.message.Message) -> bytes:
    return b""


def header(query: dns.message.Message) -> bytes:
    return query.to_wire()[:11]


@pytest.mark.parametrize(
    "forged",
    [
        other_id,
        other_question,
        other_type,
        no_question,
        no_response,
        other_operation,
        truncated_other_id,
        cut,
        empty,
        header,
    ],
)
def test_attack_what_does_not_answer_the_question_is_ignored(
    turning: SteadyTurning, place: Place, forged: Callable[[dns.message.Message], bytes]
) -> None:
    asked = Asked(turning, place.address)
    query, whence = place.query()
    for _ in range(50):
        place.udp.sendto(forged(query), whence)
    turning.turn()
    assert (asked.answers, asked.problems) == ([], None)
    place.udp.sendto(answer(query).to_wire(), whence)
    asked.wait()
    assert asked.answers == [RIGHT]


def test_attack_an_answer_from_elsewhere_is_ignored(turning: SteadyTurning, place: Place) -> None:
    asked = Asked(turning, place.address)
    query, whence = place.query()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(answer(query, WRONG).to_wire(), whence)
        turning.turn()
        place.udp.sendto(answer(query).to_wire(), whence)
        asked.wait()
    assert asked.answers == [RIGHT]


@pytest.mark.usefixtures("_quick")
def test_every_try_has_an_id_and_a_port_of_its_own(turning: SteadyTurning, place: Place) -> None:
    asked = Asked(turning, place.address)
    tries = set()
    for _ in range(4):
        turning.until(lambda: _readable(place.udp))
        query, whence = place.query()
        tries.add((query.id, whence[1]))
    assert len(tries) == 4
    asked.lookup.stop()


@pytest.mark.usefixtures("_quick")
def test_who_is_silent_is_asked_again(turning: SteadyTurning, place: Place) -> None:
    other = Place()
    asked = Asked(turning, place.address, other.address)
    for name_server in (place, other, place, other):
        turning.until(partial(_readable, name_server.udp))
        query, whence = name_server.query()
    other.udp.sendto(answer(query).to_wire(), whence)

    def come() -> bool:
        if _readable(other.udp):  # it has gone on meanwhile, and asks once more
            query, whence = other.query()
            other.udp.sendto(answer(query).to_wire(), whence)
        return bool(asked.answers)

    turning.until(come)
    assert asked.answers == [RIGHT]
    assert asked.server == other.address
    other.close()


@pytest.mark.usefixtures("_quick")
def test_silence_ends_in_time(turning: SteadyTurning, place: Place) -> None:
    asked = Asked(turning, place.address, seconds=0.5)
    asked.wait()
    assert turning.reactor.seconds() > 0.49
    assert asked.problems
    assert set(asked.problems) == {Silence()}


def test_who_refuses_is_not_asked_again(turning: SteadyTurning, place: Place) -> None:
    asked = Asked(turning, place.address)
    query, whence = place.query()
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.REFUSED)
    response.question.clear()
    place.udp.sendto(response.to_wire(), whence)
    asked.wait()
    assert asked.problems is not None
    [problem] = asked.problems
    assert isinstance(problem, Refused)
    assert problem.response.rcode() is dns.rcode.REFUSED
    assert place.queries() == 0


@pytest.mark.usefixtures("_quick")
def test_a_name_server_that_restarts_is_asked_again(turning: SteadyTurning) -> None:
    port = free_port()
    asked = Asked(turning, (HOST, port))
    turning.turn(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind((HOST, port))
        turning.until(lambda: _readable(back))
        wire, whence = back.recvfrom(4096)
        back.sendto(answer(dns.message.from_wire(wire)).to_wire(), whence)
        asked.wait()
    assert asked.answers == [RIGHT]


@pytest.mark.usefixtures("_quick")
def test_a_name_server_that_is_not_there_is_told(turning: SteadyTurning) -> None:
    asked = Asked(turning, (HOST, free_port()), seconds=0.2)
    asked.wait()
    assert asked.problems
    assert set(asked.problems) == {Unreachable("Connection refused", lasting=False)}


def test_one_without_a_way_to_it_is_not_asked_again(turning: SteadyTurning, place: Place) -> None:
    """Anybody may not send to a broadcast address."""
    asked = Asked(turning, ("255.255.255.255", 53), place.address)
    query, whence = place.query()
    place.udp.sendto(answer(query).to_wire(), whence)
    asked.wait()
    assert asked.answers == [RIGHT]
    asked = Asked(turning, ("255.255.255.255", 53))
    assert asked.problems is not None
    [problem] = asked.problems
    assert isinstance(problem, Unreachable)
    assert problem.lasting
    assert not problem.ours


def test_a_truncated_answer_comes_by_tcp_octet_for_octet(
    turning: SteadyTurning, place: Place
) -> None:
    asked = Asked(turning, place.address)
    place.over_tcp(lambda query: _framed(answer(query).to_wire()))
    asked.wait()
    assert asked.answers == [RIGHT]


@pytest.mark.parametrize(
    "reply",
    [
        lambda _query: b"",
        lambda _query: b"\0",
        lambda query: _framed(answer(query).to_wire())[:-1],
        lambda _query: _framed(b""),
        lambda _query: _framed(b"x" * 40),
        lambda _query: (LONGEST_MESSAGE + 1).to_bytes(2),
        lambda query: _framed(other_id(query)),
        lambda query: _framed(other_question(query)),
    ],
)
def test_attack_what_is_no_answer_over_tcp_is_malformed(
    turning: SteadyTurning, place: Place, reply: Callable[[dns.message.Message], bytes]
) -> None:
    asked = Asked(turning, place.address)
    place.over_tcp(reply)
    asked.wait()
    assert asked.problems is not None
    assert list(asked.problems) == [Malformed()]
    place.thread.join()


def test_a_name_server_without_tcp_is_told(turning: SteadyTurning, place: Place) -> None:
    place.tcp.close()
    asked = Asked(turning, place.address)
    query, whence = place.query()
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    place.udp.sendto(response.to_wire(), whence)
    asked.wait()
    assert asked.problems == [Unreachable("Connection refused")]


@pytest.mark.parametrize("tcp", [False, True])
def test_what_is_stopped_says_nothing_and_leaves_nothing_open(
    turning: SteadyTurning, place: Place, tcp: bool
) -> None:
    readers, calls = len(turning.reactor._selectables), len(turning.reactor.getDelayedCalls())
    asked = Asked(turning, place.address)
    query, whence = place.query()
    if tcp:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.TC
        place.udp.sendto(response.to_wire(), whence)
        turning.until(lambda: _readable(place.tcp))
        turning.turn(3)
    else:
        place.udp.sendto(answer(query).to_wire(), whence)
    asked.lookup.stop()
    asked.lookup.stop()
    turning.turn(3)
    assert (asked.answers, asked.problems) == ([], None)
    assert len(turning.reactor._selectables) == readers
    assert len(turning.reactor.getDelayedCalls()) == calls


def test_the_end_of_the_reactor_ends_an_attempt(turning: SteadyTurning, place: Place) -> None:
    asked = Asked(turning, place.address, seconds=0.5)
    place.query()
    turning.reactor.disconnectAll()
    asked.lookup.stop()
    assert asked.answers == []


def _framed(wire: bytes) -> bytes:
    return len(wire).to_bytes(2) + wire


def _readable(place: socket.socket) -> bool:
    return bool(select.select([place], [], [], 0)[0])
