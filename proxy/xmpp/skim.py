"""Skimming: whole stanzas of a simple form, recognised at a glance and not parsed.

On an established stream between servers somebody must look at the addresses of each stanza, and at
nothing else. Expat tells far more than that, and it takes many times as long. Nearly all stanzas
are of a simple form, though, which one regular expression describes; `skim` takes those from the
front of a stream for as long as their addresses are approved of. All else is left to the framer.

The form is narrower than XML, so that there is only one way to read it and a framer would take each
stanza of it, as it stands, for one complete element:

* ``message``, ``iq`` or ``presence``, without a prefix, at most `LONGEST` bytes in all. The start
  tag has ``from`` and ``to``, and may have ``id``, ``type`` and ``xml:lang`` (RFC 6120, section
  8.1), each once and no others: not ``xmlns``, nothing that ends in ``:from`` or begins so.
* Addresses have no references, quotation marks or control characters: the bytes are the value.
* Elements inside nest at most `DEEPEST` minus 2 deep, each end tag names its start tag, and no tag
  has more than `MOST_ATTRIBUTES` attributes nor one of them twice. Names are in ASCII and without a
  prefix (but for ``xml:lang``), so that none is undeclared, and no reserved namespace is declared.
* Nowhere does a ``<`` or ``>`` stand that is no tag's own. So there are no comments, processing
  instructions and CDATA sections, no ``]]>``, and nothing is hidden in a value.
* References are the predefined ones and those to some characters of ASCII.
* It is UTF-8, strictly, and without the characters that XML forbids, U+FFFE and U+FFFF included.
* White space in tags is one space before an attribute or ``/>``; there is none between stanzas.

What comes out is therefore what the framer would have delivered, and what the framer refuses, for
whatever reason, it refuses still, with the same condition: skimming shows in the speed alone. The
one thing that a receiver may see otherwise is what it may see otherwise of any stanza: the content
namespace and the prefixes are those of the stream's header, which is not looked at here.

The expression is unambiguous: what comes next is told by one byte or two, so that a failed attempt
goes back over each choice at most once, and its work grows with the bytes that it has seen (each
attribute, of few, looks on to the end of its tag). Those are at most `LONGEST`.
"""

import re
from collections.abc import Callable
from typing import Final

Approve = Callable[[tuple[bytes, bytes]], bool]
"""Whether a stanza may pass that has these addresses: ``from`` and ``to``, as they are written.

They come as one pair, so that a mapping's own ``__getitem__`` can be what answers.

It is a mere question, which may come twice and for stanzas that are not taken in the end. The bytes
are not known to be UTF-8 yet, nor to be addresses.
"""

LONGEST: Final = 16_384
"""Bytes of a stanza; for longer ones a parser is no burden, and a failed attempt would be."""

MOST_ATTRIBUTES: Final = 8
"""Attributes of a tag, namespace declarations included."""

DEEPEST: Final = 7
"""Elements inside one another, stream and stanza included."""

# Runs of characters; each class lists what may come, which is found faster than what may not. None
# has control characters, "&", "<" or ">"; a value has not its own mark, an address neither mark.
# A run is possessive: nothing that may follow could have been a part of it.
_TEXT: Final = r"[\t\n\r\x20-%'-;=?-\xff]*+"
_APOSTROPHES: Final = r"[\t\n\r\x20-%(-;=?-\xff]*+"
_QUOTATION_MARKS: Final = r"[\t\n\r\x20!#-%'-;=?-\xff]*+"
_ADDRESS: Final = r"[\x20!#-%(-;=?-\xff]*+"

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]*+"
_REFERENCE: Final = "&(?:amp|lt|gt|quot|apos|#(?:9|10|13|3[2-9]|[4-9][0-9]));"
_RESERVED: Final = r"http://www\.w3\.org/(?:XML/1998/namespace|2000/xmlns/)"


def _with_references(run: str) -> str:
    # Written so that where there is no "&", no repetition is set up.
    return f"{run}(?:{_REFERENCE}{run}(?:{_REFERENCE}{run})*|)"


_CHARACTERS: Final = _with_references(_TEXT)
_VALUE: Final = (
    f"(?:'{_with_references(_APOSTROPHES)}'" + f'|"{_with_references(_QUOTATION_MARKS)}")'
)
_NAMESPACE: Final = f"(?:'(?!{_RESERVED}){_APOSTROPHES}'" + f'|"(?!{_RESERVED}){_QUOTATION_MARKS}")'

# Groups by number, because a condition may come before the group that it asks for. A group that
# has matched already makes its attribute the second of that name, for which there is no match.
_FROM: Final = 3
_TO: Final = 5
_STANZA: Final = (
    "<(message|iq|presence)"
    "(?: (?:"
    rf"from=(?(3)(?!))(['\"])({_ADDRESS})\2"
    "|t(?:"
    rf"o=(?(5)(?!))(['\"])({_ADDRESS})\4"
    f"|ype=(?(6)(?!))(){_VALUE})"
    f"|id=(?(7)(?!))(){_VALUE}"
    f"|xml:lang=(?(8)(?!))(){_VALUE}"
    "))+"
    "(?(3)|(?!))(?(5)|(?!))"
)


def _once(name: str) -> str:
    """Return what follows an attribute: nothing, if its tag has no other one of that name."""
    return f"(?![^>]* {name}=)"


def _element(depth: int) -> str:
    """Return the pattern of an element that stands so deep, the stream being the first."""
    name, attribute = f"name{depth}", f"attribute{depth}"
    # No other names that begin with an "x", lest one be "xmlns" after all.
    start = (
        f"<(?P<{name}>{_NAME})(?: (?:"
        f"xmlns={_NAMESPACE}{_once('xmlns')}"
        f"|(?P<{attribute}>xml:lang|[A-Za-wyz_][A-Za-z0-9_.-]*+)={_VALUE}"
        f"{_once(f'(?P={attribute})')}"
        f")){{0,{MOST_ATTRIBUTES}}}"
    )
    end = f"</(?P={name})>"
    if depth < DEEPEST:
        end = f"(?:{end}|(?:{_element(depth + 1)}{_CHARACTERS})+{end})"
    return f"{start}(?:/>|>{_CHARACTERS}{end}| />)"


_SIMPLE: Final = re.compile(
    rf"{_STANZA}(?:/>|>{_CHARACTERS}(?:{_element(3)}{_CHARACTERS})*</\1>| />)".encode()
)
_FORBIDDEN: Final = re.compile(rb"\xef\xbf[\xbe\xbf]")


def skim(data: bytearray, approve: Approve, room: int) -> bytes:
    """Return the simple stanzas at the front of ``data`` whose addresses are approved of.

    Args:
        data: what comes next in a stream that stands between two first-level elements.
        approve: is asked for each stanza; at the first "no" the skimming ends.
        room: bytes that a stanza may have.
    """
    end = _approved(data, approve, room, len(data))
    taken = bytes(data[:end])
    if taken.isascii():
        return taken
    valid = _valid(taken)
    if valid < end:
        # To be refused by the framer: it is next, and does not get this far again.
        end = _approved(data, approve, room, valid)
    return taken[:end]


def _approved(data: bytearray, approve: Approve, room: int, stop: int) -> int:
    """Return where the stanzas end that `skim` is to take, ``stop`` at most."""
    match = _SIMPLE.match
    room = min(room, LONGEST)
    end = 0
    while (found := match(data, end, min(end + room, stop))) is not None:
        if not approve(found.group(_FROM, _TO)):  # type: ignore[arg-type]  # there are both
            break
        end = found.end()
    return end


def _valid(data: bytes) -> int:
    """Return how many bytes of ``data`` come before the first that breaks UTF-8 or XML's rules.

    Of the rules for characters only those count that are not about ASCII.
    """
    forbidden = _FORBIDDEN.search(data)
    end = len(data) if forbidden is None else forbidden.start()
    try:
        data[:end].decode()
    except UnicodeDecodeError as error:
        return error.start
    return end
