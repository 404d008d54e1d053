"""Stream headers: judged by RFC 6120, and written so that others read the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.xmpp import headers
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Header
from tests.xmpp.streams import read

NAMESPACES = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"


def header(text: str | bytes) -> Header:
    (found,) = read([text.encode() if isinstance(text, str) else text]).events
    assert isinstance(found, Header)
    return found


def judged(attributes: str) -> headers.StreamHeader:
    return headers.read(header(f"<stream:stream {NAMESPACES} {attributes}>"), ns.CLIENT)


def test_a_header_is_read_in_full() -> None:
    assert judged(
        "to='EXAMPLE.com' from='user@example.com' id='a' version='1.0' xml:lang='de-AT'"
    ) == headers.StreamHeader(
        to="example.com", sender="user@example.com", id="a", version=(1, 0), language="de-AT"
    )


def test_what_is_absent_is_none() -> None:
    found = judged("")
    assert found == headers.StreamHeader(
        to=None, sender=None, id=None, version=(0, 9), language=None
    )
    assert not found.has_features


def test_attributes_in_namespaces_are_other_attributes() -> None:
    found = judged("xmlns:a='b' a:to='example.com' a:version='1.0' a:from='c' lang='de'")
    assert found == judged("")


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.0", (1, 0)), ("1.10", (1, 10)), ("01.00", (1, 0)), ("1.99999", (1, 99999))],
)
def test_a_version_of_one_has_features(version: str, expected: tuple[int, int]) -> None:
    found = judged(f"version='{version}'")
    assert (found.version, found.has_features) == (expected, True)


@pytest.mark.parametrize("version", ["0.9", "0.0", "0.99"])
def test_a_version_before_one_has_none(version: str) -> None:
    assert not judged(f"version='{version}'").has_features


@pytest.mark.parametrize(
    "version",
    [
        "2.0",
        "2.4",
        "10.0",
        "11.1",
        "",
        "1",
        "1.",
        ".1",
        "1.0.0",
        "-1.0",
        "a",
        "1,0",
        "1.0a",
        "\u0661.\u0660",
        "1.000000",
        "9" * 5_000 + ".0",
    ],
)
def test_another_version_is_unsupported(version: str) -> None:
    with pytest.raises(StreamError) as caught:
        judged(f"version='{version}'")
    assert caught.value.condition is Condition.UNSUPPORTED_VERSION


@pytest.mark.parametrize("to", ["", " ", "a b", "user@example.com", "*", "a..b", "&#10;a"])
def test_a_stream_to_no_domain_is_for_an_unknown_host(to: str) -> None:
    with pytest.raises(StreamError) as caught:
        judged(f"to='{to}'")
    assert caught.value.condition is Condition.HOST_UNKNOWN


def test_whom_an_answer_is_to_does_not_matter() -> None:
    """Prosody leaves it empty where nobody has said from whom the stream is."""
    found = headers.read_answer(
        header(f"<stream:stream to='' id='7' version='1.0' {NAMESPACES}>"), ns.CLIENT
    )
    assert (found.to, found.id, found.has_features) == (None, "7", True)
    with pytest.raises(StreamError):
        headers.read_answer(header(f"<stream:stream to='' version='7' {NAMESPACES}>"), ns.CLIENT)


@pytest.mark.parametrize("language", ["", "d e", "-", "deutschland", "de\u00e4", "&lt;x&gt;"])
def test_what_is_no_language_tag_is_none(language: str) -> None:
    assert judged(f"xml:lang='{language}'").language is None


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("<stream:stream xmlns='jabber:client' xmlns:stream='a'>", Condition.INVALID_NAMESPACE),
        ("<stream xmlns='jabber:client'>", Condition.INVALID_NAMESPACE),
        ("<stream>", Condition.INVALID_NAMESPACE),
        (
            f"<stream:stream {NAMESPACES}>".replace("/streams", "/streams}a"),
            Condition.INVALID_NAMESPACE,
        ),
        (f"<stream:features {NAMESPACES}>", Condition.BAD_FORMAT),
        (
            "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>",
            Condition.BAD_NAMESPACE_PREFIX,
        ),
        ("<stream xmlns='http://etherx.jabber.org/streams'>", Condition.BAD_NAMESPACE_PREFIX),
        (
            f"<stream:stream {NAMESPACES}>".replace("client", "server"),
            Condition.INVALID_NAMESPACE,
        ),
        (
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
            Condition.INVALID_NAMESPACE,
        ),
        (
            "<stream:stream xmlns='' xmlns:stream='http://etherx.jabber.org/streams'>",
            Condition.INVALID_NAMESPACE,
        ),
    ],
)
def test_another_name_or_namespace_is_refused(text: str, condition: Condition) -> None:
    with pytest.raises(StreamError) as caught:
        headers.read(header(text), ns.CLIENT)
    assert caught.value.condition is condition


def test_the_content_namespace_is_the_one_asked_for() -> None:
    text = f"<stream:stream {NAMESPACES}>".replace("client", "server")
    assert headers.read(header(text), "jabber:server").to is None


def test_a_response_is_written_in_full() -> None:
    found = header(
        headers.response(stream_id="1", sender="example.com", to="user@example.com", language="de")
    )
    assert (found.name, found.prefix) == (ns.STREAM, "stream")
    assert found.namespaces == {"": ns.CLIENT, "stream": ns.STREAMS}
    assert found.attributes == {
        "from": "example.com",
        "id": "1",
        "to": "user@example.com",
        "version": "1.0",
        ns.qualified(ns.XML, "lang"): "de",
    }


def test_a_response_leaves_out_what_is_not_asked_for() -> None:
    found = header(
        headers.response(stream_id="1", sender="", version=False, content="jabber:server")
    )
    assert found.namespaces[""] == "jabber:server"
    assert found.attributes == {"from": "", "id": "1", ns.qualified(ns.XML, "lang"): "en"}


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"))))
def test_what_a_response_says_cannot_break_out(text: str) -> None:
    said = text + "'\"<>&\t\n"
    found = header(headers.response(stream_id=said, sender="a.example", to=said))
    assert (found.attributes["id"], found.attributes["to"]) == (said, said)
    assert set(found.attributes) == {"from", "id", "to", "version", ns.qualified(ns.XML, "lang")}
