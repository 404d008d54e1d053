"""Two long streams between servers at once, in and out, byte for byte."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import attrs
import pytest

from tests.authority import Authority
from tests.net.federation import LEGACY, REMOTE, FederationFront, context_of, zone
from tests.net.hostile import FAULTS, Hostile
from tests.net.legacy import LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import END, Sender, script, taking
from tests.servers.stream import plaintext

STANZAS = 100_000
SEED = 20_241_118
LARGEST = 60_000
PATIENCE = 300
"""Seconds that all of it may take on a busy machine."""


def stanzas(sender: str, to: str, chance: random.Random) -> Iterator[bytes]:
    """Give stanzas of every shape, and the white space between them."""
    names = {"from": f"a@{sender}", "to": f"b@{to}"}
    addresses = f"from='{names['from']}' to='{names['to']}'"
    turned = f'to="{names["to"]}/x y" id="i" from="{names["from"]}/é"'
    deep = "<d>" * 20 + "x" + "</d>" * 20
    shapes: list[Callable[[int], str]] = [
        lambda n: f"<message {addresses} id='{n}'><body>{'x' * (n % 300)}</body></message>",
        lambda n: f"<presence {addresses} id='{n}'/>",
        lambda _: f"<iq {turned} type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        lambda n: f"<message {addresses}><body>&lt;{n}&#x1F600;&amp;&quot;</body></message>",
        lambda n: f"<message {addresses}><body><![CDATA[<a>{n}</b> &amp;]]></body></message>",
        lambda n: f"<message {addresses}>{deep}<y xmlns='urn:y' z='{n}'>é日本𝄞</y></message>",
        lambda _: f"<presence\n\t{addresses}  ><status >\n</status\n></presence >",
        lambda n: f"<iq {addresses} type='set' id='{n}'><a:b xmlns:a='urn:a' a:c='{n}'/></iq>",
        lambda n: (
            f"<message {addresses} xml:lang='de'><body>{'ü&#10;' * (n % 50)}</body></message>"
        ),
    ]
    for number in range(STANZAS):
        shape = chance.choice(shapes)(number)
        if number % 400 == 0:
            filling = chance.choice(["é", "x", "&lt;", "<e/>"])
            size = chance.randrange(LARGEST - 200) // len(filling.encode())
            shape = f"<message {addresses}><body>{filling * size}</body></message>"
        yield shape.encode()
        if number % 7 == 0:
            yield chance.choice([b" ", b"\n", b" \n\t "])


@attrs.define
class Way:
    """One direction: what goes in at one end, and comes out at the other.

    Attributes:
        data: all of it.
        stream: where it goes in.
        out: where it comes out.
        problem: what is wrong with what came out.
    """

    data: bytes
    stream: Sender
    out: Callable[[int], bytes]
    problem: str = "nothing came"

    def write(self, seed: int) -> None:
        """Write it in pieces of any size."""
        chance = random.Random(seed)
        at = 0
        while at < len(self.data):
            size = chance.choice((1, 17, 300, 1_000, 4_096, 16_384, 65_536, 65_536))
            with contextlib.suppress(OSError):
                self.stream.connection.sendall(self.data[at : at + size])
            at += size

    def read(self) -> None:
        """Read it, and compare."""
        at = 0
        while at < len(self.data):
            part = b""
            with contextlib.suppress(*FAULTS):
                part = self.out(65_536)
            if not part:
                self.problem = f"it ended at {at} of {len(self.data)}"
                return
            if part != self.data[at : at + len(part)]:
                self.problem = f"it differs between {at} and {at + len(part)}"
                return
            at += len(part)
        self.problem = ""


@pytest.fixture
def ends(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[Way, Way]]:
    """Two streams whose pairs are proved: one that comes in, and one that goes out."""
    with contextlib.ExitStack() as stack:
        remote = stack.enter_context(Hostile())
        legacy = stack.enter_context(LegacyServer())
        legacy.script = taking()
        names = stack.enter_context(NameServer())
        zone(names, remote.port)
        remote.play(script(authority.issue(REMOTE)))
        front = FederationFront(
            tmp_path_factory.mktemp("long"), authority, {LEGACY: legacy.port}, names.port
        )
        stack.enter_context(front)
        bare = stack.enter_context(plaintext(front.named["in"], LEGACY))
        inward = Sender(bare, REMOTE, LEGACY)
        inward.ask_for_tls()
        inward.secure(context_of(authority))
        stack.enter_context(inward.connection)
        inward.open()
        inward.read_features()
        ours = legacy.next()
        inward.let_pass(ours)
        bare = stack.enter_context(plaintext(front.named["out"], REMOTE))
        outward = Sender(bare, LEGACY, REMOTE)
        outward.open()
        outward.read_features()
        theirs = remote.next()
        outward.let_pass(theirs)
        chance = random.Random(SEED)
        yield (
            Way(b"".join(stanzas(REMOTE, LEGACY, chance)), inward, ours.socket.recv),
            Way(b"".join(stanzas(LEGACY, REMOTE, chance)), outward, theirs.socket.recv),
        )
        inward.send(END)
        outward.send(END)
        assert ours.socket.recv(100) == theirs.socket.recv(100) == END.encode()
        for end in (ours, theirs):
            end.send(END.encode())
        assert inward.read_to_end() == outward.read_to_end() == END


@pytest.mark.timeout(PATIENCE)
def test_long_streams_of_both_directions_stay_byte_for_byte(ends: tuple[Way, Way]) -> None:
    threads = [
        threading.Thread(target=action, args=arguments, daemon=True)
        for number, way in enumerate(ends)
        for action, arguments in ((way.write, (number,)), (way.read, ()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [way.problem for way in ends] == ["", ""]
