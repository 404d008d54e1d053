"""Names in trees: a bounded number of them, whatever strangers make up; all else is exact."""

import ast
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

import plugins
import proxy
from proxy.xmpp import events, names
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import enclosure, parse
from proxy.xmpp.names import LONGEST, MOST, UNKNOWN
from tests.xmpp.streams import element
from tests.xmpp.tables import tables
from tests.xmpp.test_framing_properties import elements

DECLARED = {"": ns.CLIENT, "stream": ns.STREAMS}


def tree(raw: bytes) -> etree._Element:
    return parse(raw, DECLARED)


# What is shown

Shown = tuple[object, list[tuple[object, object]], str, list["Shown"], str]


def shown(node: etree._Element) -> Shown:
    inside = [shown(child) for child in node]
    return node.tag, list(node.attrib.items()), node.text or "", inside, node.tail or ""


def by_lxml(raw: bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, huge_tree=True)
    return etree.fromstring(enclosure(DECLARED) + raw + b"</enclosure>", parser)[0]


@given(elements())
def test_a_tree_is_what_lxml_itself_makes_of_it(text: str) -> None:
    assert shown(tree(text.encode())) == shown(by_lxml(text.encode()))


@given(st.from_regex(events._DECLARABLE, fullmatch=True))
def test_what_is_declared_is_what_lxml_takes(namespace: str) -> None:
    assert etree.Element("a", nsmap={"b": namespace} if namespace else {None: ""}).nsmap


@given(elements(), st.integers(0, 3))
def test_without_room_all_is_the_same_but_for_names(text: str, room: int) -> None:
    with tables(room) as (known, attributes):
        before = len(known), len(attributes)
        found = tree(text.encode())
        assert len(known) <= before[0] + room
        assert len(attributes) <= before[1] + room
        expected = by_lxml(text.encode())
        for node in expected.iter():
            for name in set(node.attrib) - set(attributes.values()):
                del node.attrib[name]
            if node.tag not in known.values():
                node.tag = UNKNOWN
        assert shown(found) == shown(expected)


@pytest.mark.parametrize(
    "raw",
    [
        b"<message to='a'><body xml:lang='en'>b</body></message>",
        b"<stream:features><a xmlns='urn:a'/><b:b xmlns:b='urn:b' b:c='d'/></stream:features>",
        b"<a xmlns='urn:a'><b xmlns=''><c/></b><d:e xmlns:d='urn:d'/></a>",
        b"<a:a xmlns:a='urn:a' xmlns='urn:b'><b/></a:a>",
    ],
)
def test_prefixes_are_those_that_were_written(raw: bytes) -> None:
    found, expected = tree(raw), by_lxml(raw)
    assert [node.prefix for node in found.iter()] == [node.prefix for node in expected.iter()]
    assert [node.nsmap for node in found.iter()] == [node.nsmap for node in expected.iter()]
    assert etree.tostring(found) == etree.tostring(expected)


@pytest.mark.parametrize("name", ["a" * (LONGEST + 1), "a" * 60_000])
def test_long_names_are_not_shown(name: str) -> None:
    assert tree(f"<{name}/>".encode()).tag == UNKNOWN
    assert tree(f"<a {name}='' b=''/>".encode()).keys() == ["b"]


def test_the_longest_names_are_shown() -> None:
    name = "a" * LONGEST
    assert tree(f"<{name} xmlns='' {name}=''/>".encode()).tag == name
    assert tree(f"<{name} xmlns='' {name}=''/>".encode()).keys() == [name]


def test_a_full_table_shows_what_it_holds_and_nothing_else() -> None:
    with tables(2):
        assert [node.tag for node in tree(b"<a xmlns=''><b/><c/><a/></a>").iter()] == [
            "a",
            "b",
            UNKNOWN,
            "a",
        ]
        assert tree(b"<iq a='1' b='2' c='3' to='4'/>").items() == [
            ("a", "1"),
            ("b", "2"),
            ("to", "4"),
        ]
        assert tree(f"<starttls xmlns='{ns.TLS}'/>".encode()).tag == ns.STARTTLS


def test_what_was_announced_is_shown_though_strangers_came_before() -> None:
    with tables(0):
        raw = b"<message><x xmlns='urn:x' y='z'/></message>"
        assert tree(raw)[0].tag == UNKNOWN
        names.know("{urn:x}x", attributes=["y"])
        assert tree(raw)[0].tag == "{urn:x}x"
        assert tree(raw)[0].items() == [("y", "z")]


@pytest.mark.parametrize("name", ["", "a b", "{x}y}a", "{not a uri}a", "{urn:x}", "a:b"])
def test_what_is_no_name_is_not_announced(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        names.know(name)
    with pytest.raises(ValueError, match="no name"):
        names.know(attributes=[name])


def test_names_that_lxml_refuses_take_room() -> None:
    with tables(1):
        assert tree(b"<a xmlns='x}y'/>").tag == UNKNOWN
        assert tree(b"<a xmlns=''/>").tag == UNKNOWN


def test_xml_id_is_left_out() -> None:
    assert tree(b"<a xml:id='b' xml:lang='c'/>").keys() == [ns.qualified(ns.XML, "lang")]


@pytest.mark.parametrize(
    ("raw", "condition"),
    [
        (b"", Condition.NOT_WELL_FORMED),
        (b"<a/><b/>", Condition.NOT_WELL_FORMED),
        (b"a<a/>", Condition.NOT_WELL_FORMED),
        (b"<a/>b", Condition.NOT_WELL_FORMED),
        (b"<a>", Condition.NOT_WELL_FORMED),
        (b"</enclosure><enclosure>", Condition.NOT_WELL_FORMED),
        (b"<a/></enclosure><enclosure><a/>", Condition.NOT_WELL_FORMED),
        (b"<a:a/>", Condition.NOT_WELL_FORMED),
        (b"<a>\xff</a>", Condition.NOT_WELL_FORMED),
        (b"<a>\xed\xa0\x80</a>", Condition.NOT_WELL_FORMED),
        (b"<!DOCTYPE a><a/>", Condition.NOT_WELL_FORMED),
        (b"<a>&b;</a>", Condition.RESTRICTED_XML),
        (b"<a><!-- b --></a>", Condition.RESTRICTED_XML),
        (b"<a><?b c?></a>", Condition.RESTRICTED_XML),
    ],
)
def test_what_is_not_one_element_has_no_tree(raw: bytes, condition: Condition) -> None:
    with pytest.raises(StreamError) as caught:
        tree(raw)
    assert caught.value.condition is condition


# What is known


def _namings() -> Iterator[str]:
    """The names that the sources form of constants, as ``qualified(ns.X, "local")``."""
    for package in (proxy, plugins):
        for path in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(
                        func=ast.Attribute(attr="qualified") | ast.Name(id="qualified"),
                        args=[
                            ast.Attribute(value=ast.Name(id="ns"), attr=namespace)
                            | ast.Name(id=namespace),
                            ast.Constant(value=str(local)),
                        ],
                    ) if isinstance(getattr(ns, namespace, None), str):
                        yield ns.qualified(getattr(ns, namespace), local)


def test_what_the_project_looks_for_is_known_without_room() -> None:
    looked_for = set(_namings())
    assert {ns.STARTTLS, ns.FEATURES, ns.qualified(ns.STREAM_LIMITS, "max-bytes")} <= looked_for
    with tables(0) as (known, attributes):
        assert looked_for <= {*known.values(), *attributes.values()}
        assert set(known) == set(names.ELEMENTS)


# What is kept

ROUNDS = min(2_000, settings().max_examples)
"""More of them where property tests get more examples."""


_numbers = itertools.count()


def _fresh() -> Iterator[str]:
    """2,000 names that have never been used."""
    return (f"n{next(_numbers)}-" + "x" * 90 for _ in range(2_000))


def _as_namespaces(fresh: str) -> str:
    return f"<a xmlns='urn:{fresh}'/><a:b xmlns:a='urn:{fresh}'/>"


KINDS: dict[str, Callable[[str], str]] = {
    "elements": "<{}/>".format,
    "attributes": "<a {}=''/>".format,
    "values": "<a b='{}'/>".format,
    "xml:id": "<a xml:id='{}'/>".format,
    "texts": "<a>{}</a>".format,
    "tails": "<a/>{}".format,
    "prefixes": "<{0}:a xmlns:{0}='urn:a'/>".format,
    "namespaces": _as_namespaces,
    "prefixed attributes": "<a xmlns:b='urn:b' b:{}=''/>".format,
    "invalid namespaces": "<a xmlns='urn:}}{}'/>".format,
}


def _resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.hypothesis
@pytest.mark.parametrize("written", KINDS.values(), ids=KINDS.keys())
def test_nothing_that_strangers_make_up_is_kept(written: Callable[[str], str]) -> None:
    """What lxml keeps of 100,000 names takes 10 MB and more."""

    def look(rounds: int) -> None:
        for _ in range(rounds):
            inside = "".join(map(written, _fresh()))
            assert len(tree(b"<stream:features>" + inside.encode() + b"</stream:features>"))

    with tables(100):
        look(4)
        before = _resident()
        look(ROUNDS)
        assert _resident() - before < 4_000_000


def test_the_tables_of_the_process_are_bounded() -> None:
    with tables(MOST) as (known, attributes):
        before = len(known), len(attributes)
        for start in range(0, 2 * MOST, 512):
            numbers = range(start, start + 512)
            tree(b"<iq>%b</iq>" % b"".join(b"<n%d a%d=''/>" % (each, each) for each in numbers))
        assert (len(known), len(attributes)) == (before[0] + MOST, before[1] + MOST)


def test_an_elements_tree_is_such_a_tree() -> None:
    with tables(0):
        assert element(b"<never-seen/>").tree.tag == UNKNOWN
