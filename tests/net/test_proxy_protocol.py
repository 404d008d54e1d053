"""Headers of the PROXY protocol: read whole, in pieces and broken; written, and read back."""

import contextlib
from ipaddress import IPv4Address, IPv6Address
from struct import pack

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.net.proxy_protocol import (
    FIXED,
    LONGEST,
    LONGEST_BLOCK,
    LONGEST_LINE,
    SIGNATURE,
    Header,
    HeaderError,
    Incomplete,
    Versions,
    crc32c,
    preface,
    read,
    write,
)
from proxy.session.hooks import Address, TLSFacts
from tests.plugins.views import view

CLIENT = Address("192.0.2.7", 56324)
PLACE = Address("198.51.100.1", 5222)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n"
LINE6 = b"PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 65535 0\r\n"
BEHIND = [b"", b"<stream:stream", b"\x16\x03\x01", b"\r\n", LINE]

hosts4 = st.ip_addresses(v=4).map(str)
hosts6 = st.ip_addresses(v=6).filter(lambda host: IPv6Address(host).ipv4_mapped is None).map(str)
ports = st.integers(0, 65535)
addresses4 = st.builds(Address, hosts4, ports)
addresses6 = st.builds(Address, hosts6, ports)
values = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=40)),
    max_size=8,
)


def block(command: int, family: int, content: bytes, *, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2) + content


ADDRESSES = IPv4Address("192.0.2.7").packed + IPv4Address("198.51.100.1").packed
FIELDS = ADDRESSES + pack("!HH", 56324, 5222)
BLOCK = block(0x21, 0x11, FIELDS)
ALL = [LINE, LINE6, b"PROXY UNKNOWN\r\n", BLOCK, block(0x20, 0, b""), block(0x20, 0x31, b"x" * 216)]


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize(
    ("header", "versions"),
    [(LINE, Versions.V1), (LINE, Versions.ANY), (BLOCK, Versions.V2), (BLOCK, Versions.ANY)],
)
def test_a_header_is_read_and_what_follows_is_not(
    header: bytes, versions: Versions, behind: bytes
) -> None:
    assert Header(len(header), CLIENT, PLACE) == read(header + behind, versions)


def test_ipv6_is_read() -> None:
    source, place = Address("2001:db8::7", 65535), Address("2001:db8::1", 0)
    assert Header(len(LINE6), source, place) == read(LINE6, Versions.V1)
    packed = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed
    header = block(0x21, 0x21, packed + b"\xff\xff\0\0")
    assert Header(len(header), source, place) == read(header, Versions.V2)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 56324 5222\r\n",
        block(
            0x21,
            0x21,
            IPv6Address("::ffff:192.0.2.7").packed
            + IPv6Address("::ffff:198.51.100.1").packed
            + FIELDS[8:],
        ),
    ],
    ids=["v1", "v2"],
)
def test_mapped_addresses_are_those_of_ipv4(header: bytes) -> None:
    """Or a client would have two, and limits that count by address would count half."""
    assert Header(len(header), CLIENT, PLACE) == read(header, Versions.ANY)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        b"PROXY UNKNOWN \xff\0\n\r \r\n",
        block(0x20, 0, b""),
        block(0x20, 0x11, FIELDS),
        block(0x20, 0xFF, b"\x04\xff\xff"),
        block(0x21, 0, b"whatever"),
        block(0x21, 0x12, FIELDS),
        block(0x21, 0x22, b""),
        block(0x21, 0x31, b"/" * 216),
        block(0x21, 0x32, b"/" * 216),
    ],
)
def test_some_headers_leave_the_addresses_as_they_are(header: bytes) -> None:
    assert Header(len(header)) == read(header + b"<stream", Versions.ANY)


@pytest.mark.parametrize("header", ALL)
def test_a_header_cut_anywhere_is_incomplete(header: bytes) -> None:
    for end in range(len(header)):
        assert Incomplete() == read(header[:end], Versions.ANY), end
    assert isinstance(read(header, Versions.ANY), Header)


@pytest.mark.parametrize(
    ("data", "versions"),
    [(LINE, Versions.V2), (b"P", Versions.V2), (BLOCK, Versions.V1), (b"\r", Versions.V1)],
)
def test_the_other_version_is_refused_from_its_first_byte(data: bytes, versions: Versions) -> None:
    with pytest.raises(HeaderError, match="does not begin with"):
        read(data, versions)


@pytest.mark.parametrize("versions", [Versions.V1, Versions.V2, Versions.ANY])
@pytest.mark.parametrize(
    "data",
    [b"<", b"\x16", b"GET", b" PROXY", b"proxy", b"\n", b"\0", b"QUIT", b"PROXYX", b"PROXY\t"],
)
def test_what_is_no_header_is_refused_at_once(data: bytes, versions: Versions) -> None:
    with pytest.raises(HeaderError):
        read(data, versions)


@pytest.mark.parametrize(
    "rest",
    [
        b"TCP5",
        b"tcp4",
        b"UDP4",
        b" TCP4",
        b"TCP4X",
        b"UNKNOWNX",
        b"\r\n",
        b"TCP4\n",
        b"TCP4 192.0.2.7 198.51.100.1 56324 5222\n",
        b"TCP4 192.0.2.7 198.51.100.1 56324 5222\r\r\n",
        b"TCP4 192.0.2.7\t198.51.100.1",
        b"TCP4 192.0.2.7 <",
        b"TCP6 fe80::1%eth0",
        b"TCP4 \xd9\xa1",
    ],
)
def test_a_line_that_goes_wrong_is_refused_where_it_does(rest: bytes) -> None:
    with pytest.raises(HeaderError):
        read(b"PROXY " + rest, Versions.ANY)


@pytest.mark.parametrize(
    "rest",
    [
        b"TCP4",
        b"TCP4 ",
        b"TCP4 192.0.2.7 198.51.100.1 56324",
        b"TCP4 192.0.2.7 198.51.100.1 56324 5222 ",
        b"TCP4 192.0.2.7 198.51.100.1 56324 5222 1",
        b"TCP4  192.0.2.7 198.51.100.1 56324 5222",
        b"TCP4 192.0.2.07 198.51.100.1 56324 5222",
        b"TCP4 192.0.2 198.51.100.1 56324 5222",
        b"TCP4 192.0.2.256 198.51.100.1 56324 5222",
        b"TCP4 192.0.2.7 198.51.100.1 056324 5222",
        b"TCP4 192.0.2.7 198.51.100.1 65536 5222",
        b"TCP4 192.0.2.7 198.51.100.1 56324 999999999999",
        b"TCP4 192.0.2.7 198.51.100.1  5222",
        b"TCP4 192.0.2.7 198.51.100.1 A 5222",
        b"TCP4 2001:db8::7 2001:db8::1 1 2",
        b"TCP4 192.0.2.7 2001:db8::1 1 2",
        b"TCP6 192.0.2.7 198.51.100.1 1 2",
        b"TCP6 2001:db8:::7 2001:db8::1 1 2",
        b"TCP6 2001:db8::7 2001::db8::1 1 2",
        b"TCP6 2001:db8:1:2:3:4:5:6:7 2001:db8::1 1 2",
        b"TCP6 12001:db8::7 2001:db8::1 1 2",
    ],
)
def test_a_line_that_is_wrong_is_refused_when_it_is_whole(rest: bytes) -> None:
    with pytest.raises(HeaderError, match="no proper addresses and ports"):
        read(b"PROXY " + rest + b"\r\n", Versions.ANY)


def test_a_line_has_107_bytes_at_most() -> None:
    longest = b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 2, b"x") + b"\r\n"
    assert Header(107) == read(longest, Versions.V1)
    with pytest.raises(HeaderError, match="more than 107 bytes"):
        read(b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 1, b"x") + b"\r\n", Versions.V1)
    with pytest.raises(HeaderError, match="more than 107 bytes"):
        read(b"PROXY UNKNOWN ".ljust(LONGEST_LINE, b"x"), Versions.V1)
    assert Incomplete() == read(b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 1, b"x"), Versions.V1)


@pytest.mark.parametrize("byte", [*range(0x20), *range(0x22, 0x100)])
def test_other_versions_and_commands_are_refused_as_soon_as_they_show(byte: int) -> None:
    with pytest.raises(HeaderError, match="version or command"):
        read(SIGNATURE + bytes((byte,)), Versions.V2)


@pytest.mark.parametrize("family", [0x01, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0xFF])
def test_other_families_are_refused_as_soon_as_they_show(family: int) -> None:
    with pytest.raises(HeaderError, match="family"):
        read(SIGNATURE + bytes((0x21, family)), Versions.V2)


@pytest.mark.parametrize("command", [0x20, 0x21])
def test_a_block_has_4096_bytes_at_most(command: int) -> None:
    with pytest.raises(HeaderError, match=f"more than {LONGEST} bytes"):
        read(block(command, 0x11, b"", length=LONGEST_BLOCK + 1), Versions.V2)
    content = FIELDS + b"\x04" + (LONGEST_BLOCK - len(FIELDS) - 3).to_bytes(2)
    header = block(command, 0x11, content.ljust(LONGEST_BLOCK, b"x"))
    assert Incomplete() == read(header[:-1], Versions.V2)
    found = read(header, Versions.V2)
    assert isinstance(found, Header)
    assert found.length == LONGEST


@pytest.mark.parametrize(("family", "least"), [(0x11, 12), (0x21, 36)])
def test_a_length_that_leaves_no_room_for_the_addresses_is_a_lie(family: int, least: int) -> None:
    for length in range(least):
        with pytest.raises(HeaderError, match="too short"):
            read(block(0x21, family, b"", length=length), Versions.V2)


@pytest.mark.parametrize(
    "tail",
    [
        b"\x04",
        b"\x04\0",
        b"\x04\0\1",
        b"\x04\xff\xff",
        b"\x04\0\0\x04",
        b"\x01\0\x0bxmpp-client" + b"\x20\0\xffxx",
    ],
)
def test_a_value_whose_length_lies_is_refused(tail: bytes) -> None:
    with pytest.raises(HeaderError, match="cut short"):
        read(block(0x21, 0x11, FIELDS + tail) + b"x" * 0x10000, Versions.V2)


def test_a_checksum_is_checked() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    begun = block(0x21, 0x11, FIELDS + b"\x04\0\1x\x03\0\4" + bytes(4) + b"\x05\0\1y")
    at = begun.rindex(bytes(4))
    right = begun[:at] + crc32c(begun).to_bytes(4) + begun[at + 4 :]
    assert Header(len(right), CLIENT, PLACE) == read(right + b"more", Versions.V2)
    for wrong in (
        begun,
        right.replace(b"x", b"z"),
        block(0x21, 0x11, FIELDS + b"\x03\0\0"),
        block(0x21, 0x11, FIELDS + b"\x03\0\5" + bytes(5)),
    ):
        with pytest.raises(HeaderError, match="checksum"):
            read(wrong, Versions.V2)


@given(st.binary(max_size=300), st.sampled_from(Versions))
def test_any_bytes_are_a_header_or_not(data: bytes, versions: Versions) -> None:
    judge(data, versions)


@given(st.sampled_from(ALL), st.data())
def test_any_damage_is_a_header_or_not(header: bytes, data: st.DataObject) -> None:
    damaged = bytearray(header)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    judge(bytes(damaged), Versions.ANY)


def judge(data: bytes, versions: Versions) -> None:
    """Hold what must be true of any bytes."""
    try:
        found = read(data, versions)
    except HeaderError:
        with pytest.raises(HeaderError):
            read(data + b"\r\n", versions)
        return
    if isinstance(found, Header):
        assert 0 < found.length <= len(data)
        assert found == read(data[: found.length], versions)
        assert (found.source is None) == (found.destination is None)
        for address in (found.source, found.destination):
            assert address is None or 0 <= address.port <= 65535
    else:
        assert len(data) < LONGEST


@given(st.sampled_from(Versions), st.binary(min_size=1), st.sampled_from([b"", *ALL, BLOCK[:16]]))
def test_as_many_bytes_as_the_longest_header_are_never_incomplete(
    versions: Versions, filling: bytes, start: bytes
) -> None:
    data = (start + filling * LONGEST)[:LONGEST]
    with contextlib.suppress(HeaderError):
        assert isinstance(read(data, versions), Header)


same = st.one_of(st.tuples(addresses4, addresses4), st.tuples(addresses6, addresses6))
mixed = st.one_of(st.tuples(addresses4, addresses6), st.tuples(addresses6, addresses4))


@given(st.one_of(same, mixed), values, st.binary(max_size=20))
def test_what_is_written_is_read_back(
    ends: tuple[Address, Address], told: list[tuple[int, bytes]], behind: bytes
) -> None:
    header = write(*ends, told)
    assert Header(len(header), *ends) == read(header + behind, Versions.V2)
    mapped = any(":" in end.host for end in ends)
    assert header[13] == (0x21 if mapped else 0x11)
    assert told == walked(header[FIXED + (36 if mapped else 12) :])


def walked(content: bytes) -> list[tuple[int, bytes]]:
    """Take values apart as the specification describes them."""
    found = []
    while content:
        end = 3 + int.from_bytes(content[1:3])
        assert len(content) >= end
        found.append((content[0], content[3:end]))
        content = content[end:]
    return found


def test_the_other_end_of_another_family_is_mapped() -> None:
    header = write(CLIENT, Address("2001:db8::1", 5222))
    assert header[FIXED:] == (
        IPv6Address("::ffff:192.0.2.7").packed
        + IPv6Address("2001:db8::1").packed
        + pack("!HH", 56324, 5222)
    )


def test_a_scope_is_left_out() -> None:
    header = write(Address("fe80::1%eth0", 1), Address("fe80::2%3", 2))
    assert read(header, Versions.V2) == Header(52, Address("fe80::1", 1), Address("fe80::2", 2))


def test_a_header_that_nobody_would_take_is_not_written() -> None:
    with pytest.raises(ValueError, match="too long"):
        write(CLIENT, PLACE, [(4, bytes(LONGEST_BLOCK))])
    with pytest.raises(ValueError, match="not appear to be"):
        write(Address("example.com", 1), PLACE)


def test_the_preface_tells_of_the_session() -> None:
    facts = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519", "", None, False, False)
    session = attrs.evolve(view(), client=CLIENT, domain="example.com", tls=facts)
    header = preface(session, PLACE)
    assert header[:28] == SIGNATURE + b"\x21\x11" + header[14:16] + FIELDS
    told = walked(header[28:])
    assert told[:3] == [(1, b"xmpp-client"), (2, b"example.com"), (5, session.id.encode())]
    [(kind, tls)] = told[3:]
    assert (kind, tls[:5]) == (0x20, b"\1\0\0\0\1")  # TLS, and no certificate was verified
    assert walked(tls[5:]) == [(0x21, b"TLSv1.3"), (0x23, b"TLS_AES_256_GCM_SHA384")]


def test_the_preface_tells_of_no_tls_where_there_is_none() -> None:
    session = attrs.evolve(view(), client=CLIENT, domain=None, tls=None)
    told = walked(preface(session, PLACE)[28:])
    assert told == [(1, b"xmpp-client"), (5, session.id.encode())]
