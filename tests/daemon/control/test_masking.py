"""What a trace shows of elements: structure, and nothing that lets somebody in."""

import base64
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.daemon.control.masking import LONGEST, masked, masked_header
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Header
from tests.xmpp.streams import read

SECRET = "AGFsaWNlAHdvbmRlcmxhbmQ="
CONTENTS = {"client": ns.CLIENT, "server": ns.SERVER, "component": ns.COMPONENT}


def opening(content: str = ns.CLIENT) -> bytes:
    return (
        f"<stream:stream xmlns='{content}' xmlns:stream='{ns.STREAMS}' xmlns:db='{ns.DIALBACK}'>"
    ).encode()


def shown(raw: str, content: str = ns.CLIENT) -> str:
    reading = read([opening(content), raw.encode()])
    assert reading.condition is None, reading
    (element,) = reading.elements
    return masked(element)


CREDENTIALS = (
    f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{SECRET}</auth>",
    f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>AG<![CDATA[{SECRET}]]></auth>",
    f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'><mechanism>{SECRET}</mechanism></auth>",
    f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'><text>{SECRET}</text></auth>",
    f"<s:auth xmlns:s='{ns.SASL}' mechanism='PLAIN'>{SECRET}</s:auth>",
    f"<response xmlns='{ns.SASL}'>{SECRET}</response>",
    f"<challenge xmlns='{ns.SASL}'>{SECRET}</challenge>",
    f"<success xmlns='{ns.SASL}'>{SECRET}</success>",
    (
        f"<iq type='set' id='1'><query xmlns='{ns.AUTH}'><username>alice</username>"
        f"<password>{SECRET}</password><resource>r</resource></query></iq>"
    ),
    f"<iq type='set' id='1'><query xmlns='{ns.AUTH}'><digest>{SECRET}</digest></query></iq>",
    (
        f"<iq type='set' id='1'><query xmlns='{ns.REGISTER}'><password>{SECRET}</password>"
        f"<username>{SECRET}</username></query></iq>"
    ),
    f"<db:result from='a.example' to='b.example'>{SECRET}</db:result>",
    f"<db:verify from='a.example' to='b.example' id='7'>{SECRET}</db:verify>",
    f"<handshake>{SECRET}</handshake>",
    (
        f"<authenticate xmlns='{ns.SASL2}' mechanism='HT-SHA-256-ENDP'>"
        f"<initial-response>{SECRET}</initial-response><user-agent id='{SECRET}'/></authenticate>"
    ),
    f"<response xmlns='{ns.SASL2}'>{SECRET}</response>",
    f"<challenge xmlns='{ns.SASL2}'>{SECRET}</challenge>",
    (
        f"<success xmlns='{ns.SASL2}'><additional-data>{SECRET}</additional-data>"
        f"<authorization-identifier>alice@example.com</authorization-identifier>"
        f"<token xmlns='{ns.FAST}' expiry='2026-05-01T10:00:00Z' token='{SECRET}'/></success>"
    ),
    f"<continue xmlns='{ns.SASL2}'><additional-data>{SECRET}</additional-data></continue>",
    f"<next xmlns='{ns.SASL2}' task='T'><task-data>{SECRET}</task-data></next>",
    f"<enabled xmlns='{ns.STREAM_MANAGEMENT}' id='{SECRET}' resume='true'/>",
    f"<resume xmlns='{ns.STREAM_MANAGEMENT}' previd='{SECRET}' h='4'/>",
    f"<resumed xmlns='{ns.STREAM_MANAGEMENT}' previd='{SECRET}' h='4'/>",
    f"<message to='bob@example.com'><body>{SECRET}</body></message>",
    f"<unheard-of xmlns='urn:example:new' key='{SECRET}'>{SECRET}</unheard-of>",
    f"<mechanisms xmlns='{ns.SASL}'><mechanism>PLAIN<x/>{SECRET}</mechanism></mechanisms>",
)


@pytest.mark.parametrize("raw", CREDENTIALS)
@pytest.mark.parametrize("content", CONTENTS)
def test_credentials_are_masked(raw: str, content: str) -> None:
    told = shown(raw, CONTENTS[content])
    assert SECRET not in told
    assert "(masked)" in told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{SECRET}</auth>",
            f'<auth xmlns="{ns.SASL}" mechanism="PLAIN">(masked)</auth>',
        ),
        (
            (
                f"<stream:features><starttls xmlns='{ns.TLS}'>\n <required/></starttls>"
                f"<mechanisms xmlns='{ns.SASL}'><mechanism>SCRAM-SHA-1</mechanism></mechanisms>"
                "</stream:features>"
            ),
            (
                f'<stream:features><starttls xmlns="{ns.TLS}"><required/></starttls>'
                f'<mechanisms xmlns="{ns.SASL}"><mechanism>SCRAM-SHA-1</mechanism></mechanisms>'
                "</stream:features>"
            ),
        ),
        (
            (
                f"<failure xmlns='{ns.SASL}'><not-authorized/>"
                "<text xml:lang='en'>no &lt; way</text></failure>"
            ),
            (
                f'<failure xmlns="{ns.SASL}"><not-authorized/>'
                '<text xml:lang="en">no &lt; way</text></failure>'
            ),
        ),
        (
            f"<iq type='set' id='b1'><bind xmlns='{ns.BIND}'><resource>home</resource></bind></iq>",
            (
                f'<iq xmlns="{ns.CLIENT}" type="set" id="b1"><bind xmlns="{ns.BIND}">'
                "<resource>home</resource></bind></iq>"
            ),
        ),
        (
            "<db:result from='a.example' to='b.example' type='valid'/>",
            '<db:result from="a.example" to="b.example" type="valid"/>',
        ),
        (
            f"<stream:error><host-unknown xmlns='{ns.STREAM_ERRORS}'/></stream:error>",
            f'<stream:error><host-unknown xmlns="{ns.STREAM_ERRORS}"/></stream:error>',
        ),
    ],
)
def test_structure_is_shown(raw: str, told: str) -> None:
    assert shown(raw) == told


def test_what_could_forge_a_line_is_escaped() -> None:
    told = shown(f"<iq id='a&#10;b&quot;\u202e\\'><query xmlns='{ns.AUTH}'/></iq>")
    assert '<iq xmlns="jabber:client" id="a\\nb&quot;\\u202e\\\\">' in told
    assert told.isprintable()


def test_long_elements_are_cut() -> None:
    told = shown(f"<stream:features>{'<x/>' * 5_000}</stream:features>")
    assert len(told) == LONGEST + 1
    assert told.endswith("…")


def test_of_headers_only_what_is_known_is_shown() -> None:
    names = {"to": "example.com", "id": "77", "version": "1.0", "key": SECRET}
    header = Header(b"", ns.STREAM, "stream", names, {"": ns.CLIENT, "stream": ns.STREAMS})
    assert masked_header(header) == (
        '<stream:stream xmlns="jabber:client" to="example.com" id="77" version="1.0" key=(masked)>'
    )
    # Between streams an element may stand where a header is expected.
    wrong = Header(b"", "{jabber:client}auth", "", {"id": SECRET, "mechanism": "X"}, {})
    assert masked_header(wrong) == "<auth id=(masked) mechanism=(masked)>"


# Whatever the element is like

SECRETS = st.binary(min_size=9, max_size=40).map(lambda data: base64.b64encode(data).decode())
CREDENTIAL_NAMES = st.sampled_from(
    [
        *((ns.SASL, name) for name in ("auth", "response", "challenge", "success")),
        *((ns.SASL2, name) for name in ("authenticate", "response", "challenge", "continue")),
        (ns.DIALBACK, "result"),
        (ns.DIALBACK, "verify"),
        (ns.COMPONENT, "handshake"),
        (ns.FAST, "token"),
        (ns.AUTH, "password"),
        (ns.AUTH, "digest"),
        (ns.REGISTER, "password"),
        ("urn:example:new", "password"),
    ]
)
INSIDE = st.sampled_from(
    [
        (ns.SASL, "mechanism"),
        (ns.SASL, "text"),
        (ns.SASL2, "initial-response"),
        (ns.SASL2, "authorization-identifier"),
        (ns.BIND, "resource"),
        (ns.AUTH, "username"),
        (ns.CLIENT, "iq"),
        ("", "x"),
    ]
)
OUTSIDE = st.sampled_from(
    [(ns.CLIENT, "iq"), (ns.STREAMS, "features"), (ns.SASL2, "success"), (ns.SASL, "failure")]
)
HIDING = st.sampled_from(["id", "key", "token", "previd", "name"])


def written(name: tuple[str, str], inside: str, attributes: str = "") -> str:
    return f"<{name[1]} xmlns={quoteattr(name[0])}{attributes}>{inside}</{name[1]}>"


def prefixed(name: tuple[str, str], inside: str) -> str:
    return f"<e:{name[1]} xmlns:e={quoteattr(name[0])}>{inside}</e:{name[1]}>"


@st.composite
def hidden(draw: st.DrawFn) -> tuple[str, str]:
    """A secret and an element that has it somewhere in a credential, in one piece or in several."""
    secret = draw(SECRETS)
    pieces = [
        "".join(f"&#{ord(each)};" for each in secret),
        escape(secret),
        f"<![CDATA[{secret}]]>",
    ]
    raw = draw(st.sampled_from(pieces))
    for name in draw(st.lists(INSIDE, max_size=3)):
        form = draw(st.sampled_from([written, prefixed] if name[0] else [written]))
        raw = form(name, draw(st.sampled_from(["", "AG", " "])) + raw)
    name = draw(CREDENTIAL_NAMES)
    if name[0] == ns.DIALBACK:
        attributes = " from='a.example'"
    else:
        attributes = draw(st.sampled_from(["", f" {draw(HIDING)}={quoteattr(secret)}"]))
    raw = written(name, raw, attributes)
    for around in draw(st.lists(OUTSIDE, max_size=2)):
        raw = written(around, raw)
    return secret, raw


@given(hidden(), st.sampled_from(sorted(CONTENTS)))
def test_no_credential_comes_out_whatever_the_element(found: tuple[str, str], content: str) -> None:
    secret, raw = found
    assert secret not in shown(raw, CONTENTS[content])
