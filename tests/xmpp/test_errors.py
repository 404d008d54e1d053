"""Errors as they are written."""

import pytest
from lxml import etree

from proxy.xmpp import errors
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Footer
from tests.xmpp.streams import HEADER, element, read


@pytest.mark.parametrize("condition", Condition)
def test_a_stream_error_says_its_condition_and_why(condition: Condition) -> None:
    error = StreamError(condition, "5 > 4 & more")
    tree = element(error.serialise()).tree
    assert tree.tag == ns.ERROR
    assert [child.tag for child in tree] == [
        ns.qualified(ns.STREAM_ERRORS, condition.value),
        ns.qualified(ns.STREAM_ERRORS, "text"),
    ]
    assert tree[1].text == "5 > 4 & more"
    assert tree[1].get(ns.qualified(ns.XML, "lang")) == "en"
    assert str(error) == f"{condition.value}: 5 > 4 & more"


def test_the_conditions_are_those_of_rfc_6120() -> None:
    assert len(Condition) == 24  # the 25th, see-other-host, needs a host that we never name
    assert all(
        condition.value == condition.name.lower().replace("_", "-") for condition in Condition
    )


@pytest.mark.parametrize(
    "text", ["\0", "\x1b[2J", "\ud800", "\ufffe", "</text>", "]]>", "a" * 9_999]
)
def test_a_peers_text_cannot_break_an_error(text: str) -> None:
    for written in (
        StreamError(Condition.BAD_FORMAT, text).serialise(),
        errors.sasl_failure("not-authorized", text),
    ):
        assert len(written) < 2_000
        assert element(written).raw == written


def test_a_sasl_failure_says_its_condition_and_why() -> None:
    tree = element(errors.sasl_failure("encryption-required", "TLS first <")).tree
    assert tree.tag == ns.qualified(ns.SASL, "failure")
    assert [(etree.QName(child).localname, child.text) for child in tree] == [
        ("encryption-required", None),
        ("text", "TLS first <"),
    ]


def test_answers_to_starttls_are_exact() -> None:
    assert errors.PROCEED == b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    assert errors.STARTTLS_FAILURE == b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    assert read([HEADER + errors.FOOTER]).events[-1] == Footer(errors.FOOTER)
