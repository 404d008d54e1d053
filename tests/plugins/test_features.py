"""What is taken out of the server's features; what stays must stay byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.features import Features, FeaturesConfig
from proxy.session.hooks import Continue, Replace
from proxy.xmpp import namespaces as ns
from tests.plugins.views import features, view
from tests.xmpp.streams import HEADER, read

PLUGIN = Features(FeaturesConfig())


def left(inside: str) -> str:
    """What is left of what stands inside the features."""
    given_features = features(inside)
    match PLUGIN.on_features(view(secured=True), given_features):
        case Continue():
            raw = given_features.raw
        case Replace(raw):
            assert raw != given_features.raw
        case verdict:
            pytest.fail(f"{verdict}")
    return raw.decode().removeprefix("<stream:features>").removesuffix("</stream:features>")


TAKEN = {
    "STARTTLS": f"<starttls xmlns='{ns.TLS}'/>",
    "STARTTLS, required": f"<starttls xmlns='{ns.TLS}'><required/></starttls>",
    "STARTTLS, prefixed": f'<t:starttls  xmlns:t = "{ns.TLS}" ></t:starttls >',
    "compression": f"<compression xmlns='{ns.COMPRESSION_FEATURE}'><method>zlib</method>"
    "</compression>",
    "channel bindings": f"<sasl-channel-binding xmlns='{ns.CHANNEL_BINDING}'>"
    "<channel-binding type='tls-exporter'/></sasl-channel-binding>",
    "a version of the features": f"<config-version xmlns='{ns.CONFIG_VERSION}'>x</config-version>",
}
KEPT = {
    "bind": f"<bind xmlns='{ns.BIND}'/>",
    "session": f"<session xmlns='{ns.SESSION}'><optional/></session>",
    "oddly spaced": f"<bind\n\t xmlns = \"{ns.BIND}\"  a='>'\n/>",
    "stream management": f"<sm xmlns='{ns.STREAM_MANAGEMENT}'></sm >",
    "text and CDATA": "<x xmlns='urn:x'>&lt;<![CDATA[<starttls/>]]>&#x20;</x>",
    "starttls of no such namespace": "<starttls xmlns='urn:x'/>",
    "legacy login": "<auth xmlns='http://jabber.org/features/iq-auth'/>",
    "a mechanism elsewhere": "<mechanism xmlns='urn:x'>SCRAM-SHA-1-PLUS</mechanism>",
    "limits": f"<limits xmlns='{ns.STREAM_LIMITS}'><max-bytes>5</max-bytes></limits>",
    "not ASCII": "<x xmlns='urn:x' a='ü'>日本</x>",
}
BETWEEN = ["", " ", "\n", "\t\r\n  "]


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_each_thing_is_taken_out_and_the_rest_stays(taken: str, kept: str) -> None:
    assert left(f" {kept}\n{taken}\t{kept}") == f" {kept}\n\t{kept}"


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_with_nothing_to_take_out_there_is_nothing_against_it(kept: str) -> None:
    assert PLUGIN.on_features(view(), features(kept)) == Continue()


@pytest.mark.parametrize("raw", [b"<stream:features/>", b"<stream:features  ></stream:features\n>"])
def test_features_without_any(raw: bytes) -> None:
    (found,) = read([HEADER + raw]).elements
    assert PLUGIN.on_features(view(), found) == Continue()


def mechanisms(*names: str, namespace: str = ns.SASL) -> str:
    inside = "".join(f"\n <mechanism>{name}</mechanism>" for name in names)
    return f"<mechanisms xmlns='{namespace}'>{inside}\n</mechanisms>"


def test_mechanisms_bound_to_a_channel_are_taken_out() -> None:
    offered = mechanisms("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", " scram-sha-1-plus\n", "PLAIN")
    kept = f"<mechanisms xmlns='{ns.SASL}'>\n \n <mechanism>SCRAM-SHA-256</mechanism>\n \n "
    assert left(offered) == kept + "<mechanism>PLAIN</mechanism>\n</mechanisms>"


@pytest.mark.parametrize("name", ["PLAIN", "SCRAM-SHA-1", "X-PLUS-ULTRA", "EXTERNAL", "DIGEST-MD5"])
def test_other_mechanisms_are_kept(name: str) -> None:
    assert left(mechanisms(name)) == mechanisms(name)


def test_sasl2_loses_its_bound_mechanisms_and_keeps_its_inline_features() -> None:
    inline = f"<inline><bind xmlns='{ns.BIND2}'/><sm xmlns='{ns.STREAM_MANAGEMENT}'/></inline>"
    start = f"<authentication xmlns='{ns.SASL2}'>"
    plus, plain = "<mechanism>SCRAM-SHA-1-PLUS</mechanism>", "<mechanism>PLAIN</mechanism>"
    assert (
        left(f"{start}{plus}{plain}{inline}</authentication>")
        == f"{start}{plain}{inline}</authentication>"
    )


def fast(*names: str, more: str = "") -> str:
    inside = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    return f"<fast xmlns='{ns.FAST}'{more}>{inside}</fast>"


def within(offered: str) -> str:
    return (
        f"<authentication xmlns='{ns.SASL2}'><mechanism>PLAIN</mechanism><inline>{offered}"
        "</inline></authentication>"
    )


def test_fast_keeps_tokens_that_bind_to_no_channel() -> None:
    offered = fast("HT-SHA-256-UNIQ", "HT-SHA-256-NONE", "HT-SHA-256-EXPR", "HT-SHA-256-ENDP")
    assert left(within(offered)) == within(fast("HT-SHA-256-NONE"))


@pytest.mark.parametrize("said", [" tls-0rtt='true'", '\n tls-0rtt = "1"', " tls-0rtt='false'"])
def test_fast_is_not_offered_in_early_data(said: str) -> None:
    offered = fast("HT-SHA-256-UNIQ", "HT-SHA-256-NONE", more=f" count='1'{said} a='b'")
    assert left(within(offered)) == within(fast("HT-SHA-256-NONE", more=" count='1' a='b'"))


def test_tls_0rtt_of_anything_but_fast_is_kept() -> None:
    said = "<fast xmlns='urn:x' tls-0rtt='true'/>"
    assert left(said) == said


@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from([(True, one) for one in TAKEN.values()])
            | st.sampled_from([(False, one) for one in KEPT.values()]),
            st.sampled_from(BETWEEN),
        )
    )
)
def test_any_mixture_loses_exactly_what_cannot_hold(
    parts: list[tuple[tuple[bool, str], str]],
) -> None:
    offered = "".join(part + space for (_, part), space in parts)
    expected = "".join(space if taken else part + space for (taken, part), space in parts)
    assert left(offered) == expected
