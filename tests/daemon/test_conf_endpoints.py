"""proxy.daemon.endpoints: hosts and ports as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.daemon.endpoints import Endpoint, dns_server, listening_endpoint, server_endpoint


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:15222", "127.0.0.1", 15222),
        ("[::1]:1", "::1", 1),
        ("[2001:DB8:0::1]:65535", "2001:db8::1", 65535),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Endpoint(host, port) == listening_endpoint(text) == server_endpoint(text)


@pytest.mark.parametrize("text", ["[::]:5222", "0.0.0.0:5222"])
def test_any_address_can_be_listened_on_only(text: str) -> None:
    assert text == str(listening_endpoint(text))
    with pytest.raises(ValueError, match="cannot be connected to"):
        server_endpoint(text)


def test_port_0_can_be_listened_on_only() -> None:
    assert listening_endpoint("127.0.0.1:0").port == 0
    with pytest.raises(ValueError, match="port 0"):
        server_endpoint("127.0.0.1:0")


@pytest.mark.parametrize(
    ("host", "loopback", "everywhere"),
    [
        ("127.8.8.8", True, False),
        ("::1", True, False),
        ("10.0.0.1", False, False),
        ("fe80::1", False, False),
        ("::", False, False),
        ("9.9.9.9", False, True),
        ("2620:fe::9", False, True),
        ("localhost", False, False),
        ("example.com", False, False),
    ],
)
def test_how_far_an_address_goes(host: str, *, loopback: bool, everywhere: bool) -> None:
    endpoint = Endpoint(host, 1)
    assert (endpoint.is_loopback, endpoint.is_global) == (loopback, everywhere)


@pytest.mark.parametrize("text", ["localhost:1", "Legacy_1.example.com:5222", "a-b:1"])
def test_names_can_be_connected_to_only(text: str) -> None:
    assert text.lower() == str(server_endpoint(text))
    with pytest.raises(ValueError, match="not an IP address"):
        listening_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "h",
        "h:",
        ":1",
        "h:65536",
        "h:-1",
        "h:+1",
        "h:1 ",
        "h:१",
        "h:1\n",
        "::1:5222",
        "[::1]",
        "[::1:5222",
        "[h]:1",
        "[127.0.0.1]:1",
        "[]:1",
        "[g::]:1",
        "h h:1",
        "-h:1",
        "h-:1",
        "h..h:1",
        "h.:1",
        "127.0.0.256:1",
        "127.1:1",
        "2130706433:1",
        "xmpp://h:1",
        "faß.example:1",
        "*:1",
        f"{'a' * 64}:1",
        f"{'a.' * 127}a:1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|IPv6"):
        server_endpoint(text)
    with pytest.raises(ValueError, match=r"host|port|IPv6"):
        listening_endpoint(text)


@given(st.text() | st.from_regex(r"\[?[0-9a-z:.%]*\]?:[0-9]{0,6}", fullmatch=True))
def test_what_is_taken_is_written_to_be_taken_again(text: str) -> None:
    for read in (server_endpoint, listening_endpoint):
        try:
            endpoint = read(text)
        except ValueError:
            continue
        assert endpoint == read(str(endpoint))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("2001:DB8:0::1", "2001:db8::1", 53),
        ("2001:db8::1:5353", "2001:db8::1:5353", 53),
        ("[2001:db8::1]:5353", "2001:db8::1", 5353),
    ],
)
def test_dns_servers(text: str, host: str, port: int) -> None:
    assert Endpoint(host, port) == dns_server(text) == dns_server(str(dns_server(text)))


@pytest.mark.parametrize(
    "text",
    ["", "h", "h:53", "localhost", "[::1]", "::1]:53", "192.0.2.1:", "192.0.2.1:65536", "1.2.3"],
)
def test_what_is_no_dns_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|IPv6"):
        dns_server(text)


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "[::]:53", "192.0.2.1:0", "[::1]:0"])
def test_what_cannot_be_asked(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be asked"):
        dns_server(text)
