"""Every end that the page of refusals explains has its place among the causes."""

import re
from pathlib import Path

import pytest

from proxy.daemon.metrics.cause import Cause, cause_of, cause_of_report
from proxy.xmpp.errors import Condition

PAGE = Path(__file__).resolve().parents[3] / "docs/refusals.md"
CONDITIONS = {condition.value for condition in Condition}
ENDS = "## Ends without a stream error"


def rows(text: str) -> list[str]:
    return [
        re.sub(r"\bN\b", "5", name) for name in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    ]


def section(title: str) -> str:
    _, _, rest = PAGE.read_text().partition(f"{title}\n")
    return rest.split("\n## ")[0]


REFUSALS = [name for name in rows(PAGE.read_text()) if name.partition(": ")[0] in CONDITIONS]


def test_the_page_is_read() -> None:
    assert len(REFUSALS) > 80
    assert len(rows(section(ENDS))) > 20


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_has_a_cause(reason: str) -> None:
    for outward in (False, True):
        cause = cause_of(reason, outward=outward)
        assert cause is not Cause.OTHER
        assert cause.is_refusal or cause is Cause.SHUTDOWN


@pytest.mark.parametrize("reason", rows(section(ENDS)))
def test_every_other_end_has_a_cause(reason: str) -> None:
    cause = cause_of(reason, outward=False)
    assert cause is not Cause.OTHER
    assert cause.is_refusal is reason.startswith(("TLS refused", "<starttls/>", "fault"))


@pytest.mark.parametrize("title", ["## Before TLS", "## Between TLS and login"])
def test_before_login_policy_is_never_that_of_another_plugin(title: str) -> None:
    policies = [name for name in rows(section(title)) if name.startswith("policy-violation")]
    assert policies
    for reason in policies:
        assert cause_of(reason, outward=False) is not Cause.POLICY


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("policy-violation: more than 120 handshakes a minute from one address", "address-limit"),
        ("resource-constraint: more than 100 connections from one address", "address-limit"),
        (
            "TLS refused: policy-violation: more than 120 handshakes a minute from one address",
            "address-limit",
        ),
        ("TLS refused: SNI names another domain: x.example", "tls-refused"),
        ("policy-violation: a stanza is larger than 262144 bytes", "size-limit"),
        ("policy-violation: no messages after midnight", "policy"),
        ("host-unknown: example.org is not served here", "domain"),
        ("not-well-formed: this is no XML stream", "malformed"),
        ("invalid-from: example.com is served here, not out there", "forged"),
        ("the server closed the stream: policy-violation: TLS is required", "server-closed"),
        ("the client closed the stream; stanzas dropped meanwhile: 3", "client-closed"),
        ("something new", "other"),
    ],
)
def test_some_causes(reason: str, cause: str) -> None:
    assert cause_of(reason, outward=False).value == cause


def test_a_forward_listener_refuses_servers_by_policy() -> None:
    reason = "policy-violation: example.net:5222 offers no TLS"
    assert cause_of(reason, outward=True) is Cause.SERVER_POLICY
    excess = "policy-violation: a stanza is larger than 262144 bytes"
    assert cause_of(excess, outward=True) is Cause.SIZE_LIMIT


def test_every_condition_has_a_cause() -> None:
    for condition in Condition:
        assert cause_of(f"{condition.value}: whatever", outward=False) is not Cause.OTHER


def test_lines_that_refuse_nothing() -> None:
    assert cause_of_report("the server redirects") is None
