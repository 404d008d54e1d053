"""What servers say to each other in sessions that go well, or anyhow, or are disturbed."""

from collections.abc import Sequence

from hypothesis import strategies as st

from proxy.session.commands import (
    Deadline,
    Side,
)
from proxy.session.securing import STARTTLS
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED
from tests.session.federation import UNADDRESSED
from tests.session.federation_observers import ADDRESSES, Event
from tests.session.federation_words import (
    FAILURE,
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    SUCCESS,
    VICTIM,
    WITH_EXTERNAL,
    answer,
    answered,
    auth,
    evidence,
    message,
    opened,
    proves,
    result,
    verify,
)
from tests.session.forward import OFFER
from tests.session.playbook import client_hello
from tests.xmpp.streams import cut_at

THERE, HERE = (REMOTE, REMOTE, REMOTE_2, VICTIM), (LOCAL, LOCAL, LOCAL_2)
IDS = ("L1", "L2", "r2", "r3")
KINDS = ("valid", "valid", "invalid", "error")


# What the servers say


def requests(senders: Sequence[str], to: Sequence[str]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(result, st.sampled_from(senders), st.sampled_from(to)),
        st.builds(verify, st.sampled_from(senders), st.sampled_from(to), st.sampled_from(IDS)),
    )


def answers(senders: Sequence[str], to: Sequence[str]) -> st.SearchStrategy[bytes]:
    return st.builds(
        answer,
        st.sampled_from(senders),
        st.sampled_from(to),
        st.sampled_from(KINDS),
        st.sampled_from((None, None, *IDS)),
    )


def _stanza(name: str, sender: str, to: str, more: str) -> bytes:
    return f"<{name}{more} from='{sender}' to='{to}'><body>MARK</body></{name}>".encode()


STANZAS = st.builds(
    _stanza,
    st.sampled_from(["message", "message", "iq", "presence"]),
    st.sampled_from(list(ADDRESSES)),
    st.sampled_from(list(ADDRESSES)),
    st.sampled_from(["", "", "", " id='1'", " xmlns='jabber:client'", " xmlns='urn:xmpp:sm:3'"]),
)
LIKELY = [(f"a@{REMOTE}", f"b@{LOCAL}"), (f"b@{LOCAL}", f"a@{REMOTE}")]
SMUGGLED = f" xmlns:z='urn:z' z:from='a@{VICTIM}' z:type='valid' from="
"""The beginning of a sender's address, behind one that is none."""
LAYERS = st.sampled_from(
    [
        message(*LIKELY[0]).replace(b" from=", SMUGGLED.encode()),
        message(*LIKELY[1]).replace(b" from=", SMUGGLED.encode()),
        result(REMOTE, LOCAL).replace(b" from=", SMUGGLED.encode()),
        result(LOCAL, REMOTE).replace(b" from=", SMUGGLED.encode()),
        auth(),
        auth(REMOTE),
        auth(VICTIM),
        f"<bidi xmlns='{ns.BIDIRECTIONAL}'/>".encode(),
        f"<compress xmlns='{ns.COMPRESSION}'/>".encode(),
        b"<enable xmlns='urn:xmpp:sm:3'/>",
        b"<stream:error/>",
        FOOTER,
        b" ",
        b"<",
        b"\xff",
        STARTTLS,
    ]
)
FROM_REMOTE = st.one_of(
    st.sampled_from(
        [
            opened(REMOTE, LOCAL, more=" mark='MARK'"),
            opened(REMOTE, LOCAL),
            opened(REMOTE, LOCAL_2),
            opened(None, LOCAL),
            opened(VICTIM, LOCAL),
            opened(LOCAL, LOCAL_2),
            opened(REMOTE, LOCAL, None),
        ]
    ),
    requests((*THERE, LOCAL), (*HERE, VICTIM)),
    requests((*THERE, LOCAL), (*HERE, VICTIM)),
    answers(THERE, HERE),
    STANZAS,
    st.just(message(*LIKELY[0], "MARK")),
    st.just(message(*LIKELY[0], "MARK")),
    LAYERS,
)
BY_LOCAL = st.one_of(
    answers(HERE, THERE),
    answers(HERE, THERE),
    st.sampled_from(
        [
            answer(LOCAL, REMOTE, "valid"),
            answer(LOCAL, REMOTE, "valid").replace(b" from=", SMUGGLED.encode()),
            answer(LOCAL, REMOTE, "valid").replace(b" type=", b" xmlns:z='urn:z' z:x='' type="),
            answered("L2", LOCAL) + FEATURES,
            answered("own-1", LOCAL),
            answered("L3", LOCAL, version=None),
            FEATURES,
            WITH_EXTERNAL,
            SUCCESS,
            FOOTER,
            b" ",
            b"<",
        ]
    ),
    requests(HERE, THERE),
    STANZAS,
)
FROM_LOCAL = st.one_of(
    st.sampled_from(
        [
            opened(LOCAL, REMOTE, more=" mark='MARK'"),
            opened(LOCAL, REMOTE),
            opened(LOCAL, REMOTE, None, db=False),
            opened(LOCAL_2, REMOTE_2),
            opened(VICTIM, REMOTE),
            UNADDRESSED,
        ]
    ),
    requests((*HERE, VICTIM), THERE),
    requests((*HERE, VICTIM), THERE),
    answers(HERE, THERE),
    STANZAS,
    st.just(message(*LIKELY[1], "MARK")),
    st.just(message(*LIKELY[1], "MARK")),
    LAYERS,
)
BY_REMOTE = st.one_of(
    answers(THERE, HERE),
    answers(THERE, HERE),
    st.sampled_from(
        [
            answer(REMOTE, LOCAL, "valid"),
            answer(REMOTE, LOCAL, "valid").replace(b" from=", SMUGGLED.encode()),
            answer(REMOTE, LOCAL, "valid").replace(b" type=", b" xmlns:z='urn:z' z:x='' type="),
            answered("r2", REMOTE) + FEATURES,
            answered("r3", REMOTE) + WITH_EXTERNAL,
            answered("r4", REMOTE, version=None),
            FEATURES,
            WITH_EXTERNAL,
            OFFER,
            PROCEED,
            SUCCESS,
            SUCCESS,
            FAILURE,
            FOOTER,
            b" ",
            b"<",
            f"<stream:error><see-other-host xmlns='{ns.STREAM_ERRORS}'>"
            "x.example</see-other-host></stream:error>".encode(),
        ]
    ),
    requests(THERE, HERE),
    STANZAS,
)


@st.composite
def torn(draw: st.DrawFn, side: str, fragments: st.SearchStrategy[bytes], most: int) -> list[Event]:
    """A few fragments of a side's, torn anywhere."""
    data = b"".join(draw(st.lists(fragments, min_size=1, max_size=most)))
    places = draw(st.lists(st.integers(0, len(data)), max_size=2))
    return [(side, piece) for piece in cut_at(data, places)]


OCCASIONS: st.SearchStrategy[list[Event]] = st.one_of(
    st.sampled_from(list(Deadline)).map(lambda deadline: [("expired", deadline)]),
    st.sampled_from(list(Side)).map(lambda side: [("lost", side)]),
    st.sampled_from(["unreachable", "shut down", "TLS failed", "server TLS failed"]).map(
        lambda name: [(name, None)]
    ),
)
ARRIVALS: st.SearchStrategy[list[Event]] = st.one_of(
    st.sampled_from([client_hello(), client_hello(LOCAL_2)]).map(lambda hello: [("hello", hello)]),
    st.sampled_from([proves(REMOTE, REMOTE_2), proves(VICTIM), ()]).map(
        lambda chain: [("secured", chain)]
    ),
    st.just([("server connected", None)]),
    st.booleans().map(lambda direct: [("reached", direct)]),
    st.sampled_from([evidence(REMOTE, REMOTE_2), evidence(VICTIM)]).map(
        lambda shown: [("server secured", shown)]
    ),
)
INTO: st.SearchStrategy[list[Event]] = st.one_of(
    torn("client", FROM_REMOTE, 5),
    torn("client", FROM_REMOTE, 5),
    torn("server", BY_LOCAL, 1),
    torn("server", BY_LOCAL, 1),
    ARRIVALS,
    OCCASIONS,
)
OUT: st.SearchStrategy[list[Event]] = st.one_of(
    torn("client", FROM_LOCAL, 5),
    torn("client", FROM_LOCAL, 5),
    torn("server", BY_REMOTE, 1),
    torn("server", BY_REMOTE, 1),
    ARRIVALS,
    OCCASIONS,
)

INTO_DIALBACK: list[Event] = [
    ("connected", None),
    ("client", opened(REMOTE, LOCAL, more=" mark='MARK'")),
    ("client", STARTTLS),
    ("hello", client_hello()),
    ("secured", proves(REMOTE, REMOTE_2)),
    ("client", opened(REMOTE, LOCAL)),
    ("server connected", None),
    ("server", answered("L1", LOCAL) + FEATURES),
    ("client", result(REMOTE, LOCAL)),
    ("server", answer(LOCAL, REMOTE, "valid")),
    ("client", message(*LIKELY[0], "MARK")),
]
INTO_EXTERNAL: list[Event] = [
    *INTO_DIALBACK[:8],
    ("client", auth(REMOTE)),
    ("client", opened(REMOTE, LOCAL)),
    ("server connected", None),
    ("server", answered("L2", LOCAL) + FEATURES),
    ("client", message(*LIKELY[0], "MARK")),
    ("server", answer(LOCAL, REMOTE, "valid")),
    ("client", message(*LIKELY[0], "MARK")),
]
_OUT_START: list[Event] = [
    ("reached", False),
    ("server", answered("r1", REMOTE) + OFFER),
    ("server", PROCEED),
    ("server secured", evidence(REMOTE, REMOTE_2)),
]
OUT_DIALBACK: list[Event] = [
    ("connected", None),
    ("client", opened(LOCAL, REMOTE, more=" mark='MARK'")),
    *_OUT_START,
    ("server", answered("r2", REMOTE) + FEATURES),
    ("client", result(LOCAL, REMOTE)),
    ("server", answer(REMOTE, LOCAL, "valid")),
    ("client", message(*LIKELY[1], "MARK")),
]
OUT_EXTERNAL: list[Event] = [
    *OUT_DIALBACK[:6],
    ("server", answered("r2", REMOTE) + WITH_EXTERNAL),
    ("server", SUCCESS),
    ("server", answered("r3", REMOTE) + FEATURES),
    ("client", result(LOCAL, REMOTE)),
    ("client", message(*LIKELY[1], "MARK")),
]
OUT_REFUSED: list[Event] = [
    *OUT_EXTERNAL[:7],
    ("server", FAILURE),
    *_OUT_START,
    ("server", answered("r4", REMOTE) + WITH_EXTERNAL),
    *OUT_DIALBACK[7:],
]
OUT_UNADDRESSED: list[Event] = [
    ("connected", None),
    ("client", UNADDRESSED),
    ("client", result(LOCAL, REMOTE)),
    *OUT_DIALBACK[2:7],
    *OUT_DIALBACK[8:],
]


@st.composite
def stories(
    draw: st.DrawFn,
    wells: Sequence[list[Event]],
    events: st.SearchStrategy[list[Event]],
    calm: st.SearchStrategy[list[Event]],
) -> list[Event]:
    """Sessions that go well for a while and then anyhow, or go well and on, or are disturbed."""
    well = draw(st.sampled_from(wells))
    way = draw(st.sampled_from(["anyhow", "on", "on", "disturbed"]))
    if way == "anyhow":
        story = well[: draw(st.integers(1, len(well)))]
        for some in draw(st.lists(events, max_size=12)):
            story = story + some
        return story
    later = [some for part in draw(st.lists(calm, min_size=1, max_size=12)) for some in part]
    if way == "on":
        return well + later
    place = draw(st.integers(5, len(well)))
    return well[:place] + later[: draw(st.integers(1, 3))] + well[place:]


_BARE = {domain: bare for bare, domain in ADDRESSES.items() if bare.endswith(f"@{domain}")}


def _settled(one: str, other: str, kind: str, used: bool) -> list[Event]:
    """A pair that is asked for and answered, and perhaps a stanza of it."""
    events = [("client", result(one, other)), ("server", answer(other, one, kind))]
    return [*events, ("client", message(_BARE[one], _BARE[other], "MARK"))] if used else events


def calm(
    senders: Sequence[str], to: Sequence[str], likely: tuple[str, str]
) -> st.SearchStrategy[list[Event]]:
    """Pairs that are agreed to or taken back, and stanzas of these and of others in one segment."""
    stanzas = st.lists(st.just(message(*likely, "MARK")), min_size=1, max_size=4).map(b"".join)
    others = st.builds(
        lambda one, other: message(_BARE[one], _BARE[other], "MARK"),
        st.sampled_from(senders),
        st.sampled_from(to),
    )
    mixed = st.one_of(stanzas, stanzas, requests(senders, to), st.just(b"\n"), STANZAS, others)
    burst = st.lists(mixed, min_size=1, max_size=4).map(b"".join)
    settled = st.builds(
        _settled,
        st.sampled_from(senders),
        st.sampled_from(to),
        st.sampled_from(KINDS),
        st.booleans(),
    )
    said = torn("server", answers(to, senders), 1)
    return st.one_of(torn("client", burst, 1), torn("client", burst, 1), settled, settled, said)


INWARD = stories([INTO_DIALBACK, INTO_EXTERNAL], INTO, calm(THERE, HERE, LIKELY[0]))
OUTWARD = stories(
    [OUT_DIALBACK, OUT_EXTERNAL, OUT_REFUSED, OUT_UNADDRESSED], OUT, calm(HERE, THERE, LIKELY[1])
)
