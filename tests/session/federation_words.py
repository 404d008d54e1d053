"""What the servers at the ends of a session between servers say.

``example.com`` and ``example.org`` are ours and behind the same server; ``example.net`` is ours
too, but behind another one. ``remote.example`` and all others are out there. A certificate is a
list of the domains that it proves.
"""

import re
from base64 import b64encode

from proxy.trust.evidence import Evidence
from proxy.xmpp import namespaces as ns
from proxy.xmpp.headers import response
from tests.session.playbook import header

LOCAL, LOCAL_2, ELSEWHERE = "example.com", "example.org", "example.net"
REMOTE, REMOTE_2, VICTIM = "remote.example", "second.example", "victim.example"

DIALBACK = f"<dialback xmlns='{ns.DIALBACK_FEATURE}'/>"
BIDI = f"<bidi xmlns='{ns.BIDIRECTIONAL_FEATURE}'/>"
FEATURES = f"<stream:features>{DIALBACK}</stream:features>".encode()
EXTERNAL = f"<mechanisms xmlns='{ns.SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>"
WITH_EXTERNAL = f"<stream:features>{DIALBACK}{EXTERNAL}</stream:features>".encode()
EXTERNAL_FIRST = f"<stream:features>{EXTERNAL}{DIALBACK}</stream:features>".encode()
"""The proxy's own, where our server has none."""
SUCCESS = f"<success xmlns='{ns.SASL}'/>".encode()
FAILURE = f"<failure xmlns='{ns.SASL}'><not-authorized/></failure>".encode()


def auth(identity: str | None = None, mechanism: str = "EXTERNAL") -> bytes:
    """A request to be authenticated as ``identity``; None leaves the identity out."""
    text = "=" if identity is None else b64encode(identity.encode()).decode()
    return f"<auth xmlns='{ns.SASL}' mechanism='{mechanism}'>{text}</auth>".encode()


def opened(
    sender: str | None,
    to: str | None,
    version: str | None = "1.0",
    *,
    db: bool = True,
    more: str = "",
) -> bytes:
    """The header of a server that opens a stream."""
    said = more if sender is None else f" from='{sender}'{more}"
    if db:
        said += f" xmlns:db='{ns.DIALBACK}'"
    return header(to, version, content=ns.SERVER, more=said)


def answered(stream_id: str, sender: str, version: str | None = "1.0") -> bytes:
    """The header of a server that answers."""
    said = "" if version is None else f" version='{version}'"
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{ns.SERVER}' xmlns:db='{ns.DIALBACK}' "
        f"xmlns:stream='{ns.STREAMS}' id='{stream_id}' from='{sender}'{said}>"
    ).encode()


def own(number: int, *, sender: str = "", to: str | None = None, version: bool = True) -> bytes:
    """The header of the proxy's own stream with this number."""
    stream_id = f"own-{number}"
    return response(stream_id=stream_id, sender=sender, to=to, version=version, content=ns.SERVER)


def result(sender: str, to: str, key: str = "k3y") -> bytes:
    """Asks for a pair of domains."""
    return f"<db:result from='{sender}' to='{to}'>{key}</db:result>".encode()


def verify(sender: str, to: str, stream_id: str, key: str = "k3y") -> bytes:
    """Asks about a key."""
    return f"<db:verify from='{sender}' to='{to}' id='{stream_id}'>{key}</db:verify>".encode()


def answer(sender: str, to: str, kind: str, stream_id: str | None = None) -> bytes:
    """Answers what was asked for a pair, or about a key if there is a stream's id."""
    if stream_id is None:
        return f"<db:result from='{sender}' to='{to}' type='{kind}'/>".encode()
    return f"<db:verify from='{sender}' to='{to}' id='{stream_id}' type='{kind}'/>".encode()


def anew(said: bytes) -> bytes:
    """What any of these becomes on its way to the other side: the same in the proxy's own words."""
    said = said.replace(b" ", f" xmlns:db='{ns.DIALBACK}' ".encode(), 1)
    said = re.sub(rb" (from|to|id)='([^']*)'", rb' \1="\2"', said)
    if not said.endswith(b" type='error'/>"):
        return said
    condition = f"<undefined-condition xmlns='{ns.STANZA_ERRORS}'/>".encode()
    name = said[1:].split(b" ", 1)[0]
    return said[:-2] + b"><error type='cancel'>" + condition + b"</error></" + name + b">"


def own_answer(sender: str, to: str, kind: str, stream_id: str | None = None) -> bytes:
    """The same, as the proxy itself writes it."""
    return f"{_own(sender, to, stream_id)} type='{kind}'/>".encode()


def own_error(sender: str, to: str, condition: str, stream_id: str | None = None) -> bytes:
    """An error by the proxy itself (XEP-0220, section 2.4)."""
    name = "result" if stream_id is None else "verify"
    return (
        f"{_own(sender, to, stream_id)} type='error'><error type='cancel'>"
        f"<{condition} xmlns='{ns.STANZA_ERRORS}'/></error></db:{name}>"
    ).encode()


def own_result(sender: str, to: str, key: str) -> bytes:
    """Asks for a pair of domains, by the proxy itself."""
    return f"{_own(sender, to)}>{key}</db:result>".encode()


def _own(sender: str, to: str, stream_id: str | None = None) -> str:
    """The beginning of an element that declares its prefix, for nobody else may have."""
    name = "result" if stream_id is None else "verify"
    said = "" if stream_id is None else f' id="{stream_id}"'
    return f'<db:{name} xmlns:db=\'{ns.DIALBACK}\' from="{sender}" to="{to}"{said}'


def message(sender: str = f"a@{REMOTE}", to: str = f"b@{LOCAL}", body: str = "hello") -> bytes:
    return f"<message from='{sender}' to='{to}'><body>{body}</body></message>".encode()


def proves(*domains: str) -> tuple[bytes, ...]:
    """A chain of certificates that proves these domains."""
    return (",".join(domains).encode(),)


def evidence(*domains: str) -> Evidence:
    return Evidence(proves(*domains), 0, "ok")
