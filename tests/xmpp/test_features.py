"""Edits to features: what is not touched stays byte for byte."""

import io
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lxml import etree

from proxy.xmpp import features
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element
from proxy.xmpp.names import UNKNOWN
from tests.xmpp.streams import HEADER, element, read
from tests.xmpp.tables import tables
from tests.xmpp.test_framing_properties import elements

TLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"


def cut(*names: str) -> features.Edit:
    return lambda node: features.cut if etree.QName(node).localname in names else None


def cutting(doomed: etree._Element) -> features.Edit:
    return lambda node: features.cut if node is doomed else None


def in_features(inside: bytes) -> Element:
    return element(b"<stream:features>" + inside + b"</stream:features>")


PARTS: dict[str, bytes] = {
    "empty-element tag": b"<x/>",
    "empty-element tag with space": b"<x \r\n/>",
    "empty element": b"<x></x>",
    "white space in the end tag": b"<x>a</x \n>",
    "with children": b"<x><y/>a<z>b</z></x>",
    "with itself inside": b"<x><x/><x></x></x>",
    "end tags in attributes": b"<x a='/>' b=\"'>\" c='/x>'/>",
    "end tags in attributes, with content": b"<x a='/' b='>' c=\"/>\"><y a='>'/></x>",
    "end tags in character data": b"<x><![CDATA[</x>/>]]></x>",
    "prefixed": b"<p:x xmlns:p='urn:p' p:a=''></p:x>",
    "prefix of the stream": b"<stream:x/>",
    "another default namespace": b"<x xmlns='urn:x'><y/></x>",
    "characters of many bytes": "<x é='ß'>€<y>😀</y></x>".encode(),
    "references": b"<x a='&lt;&quot;'>&gt;&amp;</x>",
    "white space in the start tag": b'<x\n a\n=\n"b"\n>c</x>',
}
AROUND = [
    (b"", b""),
    (b"<a/>", b"<b/>"),
    (b" \r\n<a>\t</a> ", b"&amp;<![CDATA[x]]>\n"),
    (b"<a b='>'/>", TLS),
]


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_a_part_is_replaced_and_all_else_stays(part: bytes, before: bytes, after: bytes) -> None:
    found = in_features(before + part + after)
    for replacement in (b"", b"<new a='>'/>"):
        expected = in_features(before + replacement + after).raw

        def rewrite(raw: bytes, by: bytes = replacement) -> bytes:
            assert raw == part
            return by

        def change(
            node: etree._Element, rewrite: features.Rewrite = rewrite
        ) -> features.Rewrite | None:
            return rewrite if etree.QName(node).localname == "x" else None

        assert features.edit(found, change) == expected
    assert features.edit(found, lambda _: None) == found.raw


def test_parts_side_by_side_and_inside_one_another_are_cut() -> None:
    found = in_features(b"<x/><x></x><a><x/><b/><x>c</x></a><x><b/></x>")
    assert features.edit(found, cut("x")) == in_features(b"<a><b/></a>").raw
    assert (
        features.edit(found, cut("b")) == in_features(b"<x/><x></x><a><x/><x>c</x></a><x></x>").raw
    )
    assert features.edit(found, cut("x", "a")) == in_features(b"").raw


def test_what_is_inside_a_replaced_part_is_not_rewritten() -> None:
    def change(node: etree._Element) -> features.Rewrite | None:
        return (lambda _: b"<e/>") if etree.QName(node).localname in "bc" else None

    edited = features.edit(in_features(b"<a/><b><c/></b><d/>"), change)
    assert edited == in_features(b"<a/><e/><d/>").raw


def test_starttls_is_cut_from_a_servers_features() -> None:
    mechanisms = b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>X</mechanism>"
    found = in_features(TLS + mechanisms + b"</mechanisms>")

    def change(node: etree._Element) -> features.Rewrite | None:
        return features.cut if node.tag == ns.STARTTLS else None

    assert features.edit(found, change) == in_features(mechanisms + b"</mechanisms>").raw


FULL = b"<a/><b c='d'>e</b><ns:f xmlns:ns='urn:f'><g/></ns:f><h xmlns='x}y'/>"


def test_parts_whose_names_are_not_kept_are_edited_by_their_places() -> None:
    with tables(0):
        found = in_features(FULL + TLS)
        assert [node.tag for node in found.tree] == [UNKNOWN] * 4 + [ns.STARTTLS]
        for number, part in enumerate((b"<a/>", b"<b c='d'>e</b>", b"<g/>", b"<h xmlns='x}y'/>")):
            doomed = [node for node in found.tree.iter(UNKNOWN) if not len(node)][number]
            edited = features.edit(found, cutting(doomed))
            assert edited == in_features(FULL + TLS).raw.replace(part, b"")
        edited = features.edit(found, lambda n: features.cut if n.tag == ns.STARTTLS else None)
        assert edited == in_features(FULL).raw


def _added(tree: etree._Element) -> None:
    etree.SubElement(tree, "a")


def _moved(tree: etree._Element) -> None:
    tree[0].append(tree[1])


def _commented(tree: etree._Element) -> None:
    tree.replace(tree[0], etree.Comment("a"))


def _renamed(tree: etree._Element) -> None:
    tree[0].tag = "b"


def _removed(tree: etree._Element) -> None:
    tree.remove(tree[0])


@pytest.mark.parametrize("room", [0, 9])
@pytest.mark.parametrize("tampering", [_added, _moved, _commented, _renamed, _removed])
def test_a_tree_that_is_not_that_of_the_bytes_is_not_edited_by(
    tampering: Callable[[etree._Element], None], room: int
) -> None:
    with tables(room):
        found = in_features(b"<a/><a/><a/>")
        tampering(found.tree)
        with pytest.raises(ValueError, match="cannot be told apart"):
            features.edit(found, lambda _: features.cut)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"<a/>", b"<a><n/></a>"),
        (b"<a />", b"<a ><n/></a>"),
        (b"<a\n/>", b"<a\n><n/></a>"),
        (b"<stream:features/>", b"<stream:features><n/></stream:features>"),
        (b"<a b='/>'/>", b"<a b='/>'><n/></a>"),
        (b"<a></a>", b"<a><n/></a>"),
        (b"<a>b</a \n>", b"<a>b<n/></a \n>"),
        (b"<a><b/></a>", b"<a><b/><n/></a>"),
        (b"<a><![CDATA[</a>]]></a>", b"<a><![CDATA[</a>]]><n/></a>"),
    ],
)
def test_a_child_is_inserted_last(raw: bytes, expected: bytes) -> None:
    assert features.insert(raw, b"<n/>") == expected
    assert element(expected).raw == expected


def test_what_is_offered_before_tls_is_starttls_and_nothing_else() -> None:
    tree = element(features.STARTTLS_REQUIRED).tree
    assert tree.tag == ns.FEATURES
    assert [node.tag for node in tree.iter()] == [
        ns.FEATURES,
        ns.STARTTLS,
        ns.qualified(ns.TLS, "required"),
    ]


@given(elements())
def test_keeping_all_keeps_all_bytes(text: str) -> None:
    for found in read([HEADER + b"<f>" + text.encode() + b"</f>"]).elements:
        assert features.edit(found, lambda _: None) == found.raw


@given(elements(), st.data())
def test_cutting_is_what_removing_from_the_tree_is(text: str, data: st.DataObject) -> None:
    raw = b"<f>" + text.encode() + b"</f>"
    found, expected = element(raw), element(raw).tree
    nodes = list(found.tree.iter())[1:]
    assume(nodes)
    chosen = data.draw(st.sets(st.sampled_from(range(len(nodes))), min_size=1))
    doomed = [nodes[index] for index in chosen]
    edited = features.edit(found, lambda node: features.cut if node in doomed else None)
    for node in [list(expected.iter())[index + 1] for index in chosen]:
        _remove(node)
    assert _canonical(element(edited).tree) == _canonical(expected)


@given(elements(), elements())
def test_an_inserted_child_is_the_last_one(text: str, child: str) -> None:
    raw = f"<f>{text}</f>".encode()
    inserted = element(features.insert(raw, b"<f>" + child.encode() + b"</f>")).tree
    assert _canonical(inserted[-1]) == _canonical(element(f"<f>{child}</f>".encode()).tree)
    inserted.remove(inserted[-1])
    assert _canonical(inserted) == _canonical(element(raw).tree)


def _remove(node: etree._Element) -> None:
    """Remove ``node``, but not the text that follows it."""
    parent = node.getparent()
    if parent is None:
        return  # went with its parent
    before = node.getprevious()
    if before is not None:
        before.tail = (before.tail or "") + (node.tail or "")
    else:
        parent.text = (parent.text or "") + (node.tail or "")
    node.tail = None
    parent.remove(node)


def _canonical(node: etree._Element) -> bytes:
    written = io.BytesIO()
    etree.ElementTree(node).write_c14n(written, exclusive=True)
    return written.getvalue()
