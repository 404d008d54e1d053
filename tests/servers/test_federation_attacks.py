"""Attack 16 on a real server: Eve has a domain of her own, and wants to speak for somebody else's.

jabberd2 reads an attribute whatever its namespace is, and of two that are called ``from`` the last;
and it reads domains as IDNA 2003 has them. What Eve's server says of Eve must not reach it in words
that it takes for something else.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from tests.authority import Authority
from tests.servers.bascule import ServerBascule
from tests.servers.client import Client
from tests.servers.dns.zones import srv
from tests.servers.federation import AT_HOME, JABBERD2, TARGET, certificate, name_server
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import HOST
from tests.servers.stream import SECONDS, STARTTLS, Stream, plaintext

pytestmark = pytest.mark.server("jabberd2", "unbound")

EVE, EVE_2, EVE_3, EVE_4 = "eve.test", "eve-2.test", "eve-3.test", "eve-4.test"
"""Eve's domains; a new one for each test, for jabberd2 keeps its streams."""

EVE_IDN = "\u5f53.test"
"""Another one of hers."""

VICTIM = "victim.test"
"""A domain that server dialback would do for; its server says nothing."""

STRICT_VICTIM = "strict-victim.test"
"""A domain whose policy demands SASL EXTERNAL."""

VICTIM_IDN = "\u5f33.test"
"""Somebody else's domain again."""

EVE_OR_VICTIM = "\U0002f874.test"
"""`EVE_IDN`, and by IDNA 2003 `VICTIM_IDN`: Unicode 4 has changed what that is normalised to."""

EVES = (EVE, EVE_2, EVE_3, EVE_4, EVE_IDN)
VICTIMS = (VICTIM, STRICT_VICTIM, VICTIM_IDN)

DIALBACK = "jabber:server:dialback"
PAY = "Pay Eve."


def result(sender: str, more: str = "") -> str:
    """Return a request for a pair of domains; ``more`` are further attributes, as below."""
    return f"<db:result from='{sender}' to='{JABBERD2}'{more}>whatever</db:result>"


def valid(sender: str, stream_id: str, more: str = "") -> str:
    """Return the answer that a key is good."""
    return f"<db:verify from='{sender}' to='{JABBERD2}' id='{stream_id}' type='valid'{more}/>"


def message(sender: str, more: str = "") -> str:
    """Return a message to Bob."""
    start = f"<message from='ceo@{sender}/office' to='bob@{JABBERD2}' type='chat'{more}>"
    return f"{start}<body>{PAY}</body></message>"


def smuggled(sender: str) -> str:
    """Return an attribute that says nothing, but to who overlooks its namespace."""
    return f" xmlns:z='urn:z' z:from='{sender}'"


@attrs.frozen
class Place:
    """jabberd2 behind its Bascule, and Eve.

    Attributes:
        server: the legacy server.
        bascule: what is before it.
        eves: where Eve's servers listen, by their domains.
        certificate: that of all of them, and its key.
    """

    server: Jabberd2
    bascule: ServerBascule
    eves: Mapping[str, socket.socket]
    certificate: tuple[Path, Path]

    @contextlib.contextmanager
    def stream(self, domain: str) -> Iterator[tuple[Stream, str]]:
        """Open a stream from one of Eve's domains, without a certificate.

        It comes with the id that it has at the legacy server.
        """
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["xmpp-server"])
        with plaintext(self.bascule.port, JABBERD2) as stream:
            stream.secure(context)
            stream.send(_header(f"from='{a_label(domain)}' to='{JABBERD2}'"))
            said = stream.read_until("<stream:features/>|</stream:features>")
            found = re.search("<stream:stream[^>]* id=['\"]([^'\"]+)", said)
            assert found, said
            yield stream, found[1]

    @contextlib.contextmanager
    def asked(self, domain: str) -> Iterator[Stream]:
        """Take the stream on which the legacy server asks Eve whether a key of hers is good.

        Her server believes all that jabberd2 says of itself, and has been asked.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.certificate)
        connection, _ = self.eves[domain].accept()
        stream = Stream(connection, JABBERD2)
        header = _header(f"from='{a_label(domain)}' id='eve'")
        stream.read_until("<stream:stream[^>]*>")
        stream.send(f"{header}<stream:features>{STARTTLS.decode()}</stream:features>")
        stream.read_until("<starttls[^>]*>")
        stream.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        stream.connection = context.wrap_socket(connection, server_side=True)
        with stream.connection:
            stream.read_until("<stream:stream[^>]*>")
            stream.send(f"{header}<stream:features/>")
            stream.read_until("</db:result>")
            stream.send(f"<db:result from='{domain}' to='{JABBERD2}' type='valid'/>")
            stream.read_until("</db:verify>")
            yield stream

    def bob_reads(self, act: Callable[[], None], messages: int = 0) -> list[str]:
        """Return what Bob has read in the end, and wait for so many messages before that.

        Args:
            act: what happens meanwhile.
            messages: how many there have to be.
        """

        async def run() -> list[str]:
            bob, alice = (
                Client(name, JABBERD2, self.server.port, "plaintext") for name in ("bob", "alice")
            )
            async with bob, alice:
                for each in (bob, alice):
                    assert await each.login() == "session started"
                act()
                found = [await bob.read() for _ in range(messages)]
                alice.write(bob.jid, "That is all.")
                while (said := await bob.read()) != (alice.jid, "That is all."):
                    found.append(said)
                return [f"{sender}: {body}" for sender, body in found]

        return asyncio.run(run())

    def wait_for_request(self, domain: str) -> None:
        """Wait until jabberd2 has been asked to let a domain in."""
        asked = f"received dialback auth request for route '{JABBERD2}/{domain}'"
        self.server.wait_for_log(asked)

    def valid_routes(self) -> set[str]:
        """Return for which domains jabberd2 has ever let stanzas in."""
        pattern = f"incoming route '{re.escape(JABBERD2)}/([^']+)' is now valid"
        return set(re.findall(pattern, self.server.whole_log()))


def a_label(domain: str) -> str:
    """Return a domain as DNS has it."""
    return domain.encode("idna").decode()


def _header(addresses: str) -> str:
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='{DIALBACK}'"
        f" xmlns:stream='http://etherx.jabber.org/streams' {addresses} version='1.0'>"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Place]:
    """All of it, running."""
    directory = tmp_path_factory.mktemp("attacks")
    with contextlib.ExitStack() as stack:
        listening = {
            domain: stack.enter_context(socket.create_server((HOST, 0)))
            for domain in (*EVES, *VICTIMS)
        }
        for each in listening.values():
            each.settimeout(SECONDS)
        server = Jabberd2(directory / "jabberd2")
        server.certificate = certificate(authority, JABBERD2)
        outside: dict[str, list[str]] = {"localhost": [AT_HOME]}
        names = name_server(directory / "outside", outside)
        bascule = ServerBascule(
            directory / "bascule",
            JABBERD2,
            certificate(authority, JABBERD2),
            server.s2s_port,
            names=names.address,
            authority=authority.ca_path,
            no_dialback=[STRICT_VICTIM],
        )
        for domain, at in listening.items():
            outside[a_label(domain)] = [srv("_xmpp-server", at.getsockname()[1], target=TARGET)]
        out = srv("_xmpp-server", bascule.out_port, target=TARGET)
        inside = {**{a_label(domain): [out] for domain in listening}, "localhost": [AT_HOME]}
        led = name_server(directory / "inside", inside)
        server.federate(led)
        for program in (names, led, server, bascule):
            stack.enter_context(program)
        hers = authority.issue(EVE, dns=[a_label(domain) for domain in EVES])
        yield Place(server, bascule, listening, hers)


def test_eve_may_speak_for_herself(place: Place) -> None:
    """So that what is refused below is refused for what is wrong with it."""
    with place.stream(EVE) as (stream, stream_id):

        def act() -> None:
            stream.send(result(EVE))
            with place.asked(EVE) as asked:
                asked.send(valid(EVE, stream_id))
                assert "valid" in stream.read_until("<db:result[^>]*>")
            stream.send(message(EVE))

        assert place.bob_reads(act, messages=1) == [f"ceo@{EVE}: {PAY}"]
    assert EVE in place.valid_routes()


@attrs.frozen
class Words:
    """How Eve and the victim are called, and what she says that is heard as his.

    Attributes:
        eve: her domain.
        victim: his.
        sender: as whom she answers.
        more: what else is in her answer.
        problem: what Bascule has against that.
    """

    eve: str
    victim: str
    sender: str
    more: str
    problem: str


@pytest.mark.parametrize(
    "words",
    [
        Words(EVE_2, VICTIM, EVE_2, smuggled(VICTIM), "bad-format: the attribute 'from' is"),
        Words(EVE_IDN, VICTIM_IDN, EVE_OR_VICTIM, "", "improper-addressing: 'from' and 'to' of"),
    ],
    ids=["namespace", "IDNA 2003"],
)
def test_attack_16_an_answer_that_is_heard_as_another_ones(place: Place, words: Words) -> None:
    """Eve's server says of a key of hers that it is good; jabberd2 waits for what his says."""
    with place.stream(words.eve) as (stream, stream_id):

        def act() -> None:
            stream.send(result(words.eve))
            with place.asked(words.eve) as asked:
                stream.send(result(words.victim))
                place.wait_for_request(words.victim)
                asked.send(valid(words.sender, stream_id, words.more))
                asked.read_to_end()
            place.bascule.wait_for_log(words.problem)
            stream.send(message(words.victim))
            assert "<not-authorized " in stream.read_to_end()

        assert place.bob_reads(act) == []
    assert place.valid_routes() <= {EVE}


def test_attack_16_a_request_that_is_heard_as_another_ones(place: Place) -> None:
    """She asks for herself; jabberd2 would ask for him, whom dialback must not let in."""
    with place.stream(EVE_3) as (stream, stream_id):

        def act() -> None:
            stream.send(result(EVE_3))
            with place.asked(EVE_3) as asked:
                stream.send(result(EVE_3, smuggled(STRICT_VICTIM)))
                assert "<bad-format " in stream.read_to_end()
                asked.send(valid(EVE_3, stream_id, smuggled(STRICT_VICTIM)))
                asked.read_to_end()

        assert place.bob_reads(act) == []
    assert place.valid_routes() <= {EVE}
    assert STRICT_VICTIM not in place.server.whole_log()


def test_attack_16_a_stanza_that_is_heard_as_another_ones(place: Place) -> None:
    """She is let in, and sends a message of hers."""
    with place.stream(EVE_4) as (stream, stream_id):

        def act() -> None:
            stream.send(result(EVE_4))
            with place.asked(EVE_4) as asked:
                asked.send(valid(EVE_4, stream_id))
                assert "valid" in stream.read_until("<db:result[^>]*>")
            stream.send(message(EVE_4, smuggled(VICTIM)))
            assert "<bad-format " in stream.read_to_end()

        assert place.bob_reads(act) == []
    assert place.valid_routes() <= {EVE, EVE_4}
