"""What the metrics of one process make of what they are told and of what is there."""

from collections.abc import Mapping
from typing import cast

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from proxy.daemon.metrics import counting
from proxy.daemon.metrics import round as round_module
from proxy.daemon.metrics.snapshot import Labels, Numbers, Snapshot
from proxy.daemon.metrics.sources import Expiring, Source
from proxy.session.commands import Report, Severity, Side
from proxy.trust.keyring.alerts import Alert, Kind
from proxy.trust.keyring.alerts import Severity as Urgency
from tests.daemon.metrics.fakes import TLS, Counted, Session, view

RECEIVED = "bascule_received_bytes_total"


def grown(series: Mapping[Labels, Numbers]) -> dict[Labels, Numbers]:
    """What has been counted since the beginning."""
    return {labels: numbers for labels, numbers in series.items() if any(numbers)}


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_sessions_are_counted_by_what_they_have_come_to(counted: Counted) -> None:
    counted.sources.going = {
        Session(),
        Session(),
        Session(view(tls=TLS)),
        Session(view("out", server_tls=TLS)),
        Session(view(tls=TLS, authenticated=True), stalled=True),
    }
    found = counted.snapshot().values
    assert grown(found["bascule_sessions"]) == {
        ("c2s", "negotiating"): (2,),
        ("c2s", "secured"): (1,),
        ("c2s", "established"): (1,),
        ("out", "secured"): (1,),
    }
    assert found["bascule_sessions_stalled"] == {("c2s",): (1,), ("out",): (0,)}


def test_counters_are_there_from_the_beginning(counted: Counted) -> None:
    assert counted.value("bascule_sessions_started_total", "c2s") == 0
    assert counted.value("bascule_sessions_ended_total", "out", "fault") == 0
    assert counted.value("bascule_refusals_total", "c2s", "forged", "yes") == 0
    assert counted.value("bascule_alerts_total", "change", "critical") == 0
    assert counted.value("bascule_collection_faults_total", "keyring") == 0
    counted.metrics.session_opened("c2s")
    assert counted.value("bascule_sessions_started_total", "c2s") == 1
    counted.metrics.turned_away("out")
    assert counted.value("bascule_connections_turned_away_total", "out") == 1


@pytest.mark.parametrize(
    ("reason", "outward", "cause", "refused"),
    [
        ("the client closed the connection", False, "client-closed", None),
        ("system-shutdown: the proxy is shutting down", False, "shutdown", None),
        ("policy-violation: TLS is required: send <starttls/> first", False, "no-tls", 1),
        ("policy-violation: the certificate of x expired on 2020-01-01", True, "server-policy", 1),
    ],
)
def test_an_end_is_counted_by_its_cause(
    counted: Counted, reason: str, outward: bool, cause: str, refused: int | None
) -> None:
    session = Session(view(outward=outward))
    counted.metrics.session_closed(session, session.summary(reason))
    assert counted.value("bascule_sessions_ended_total", "c2s", cause) == 1
    assert counted.value("bascule_refusals_total", "c2s", cause, "yes") == refused


def test_what_would_be_refused_is_counted_apart(counted: Counted) -> None:
    for message in (
        "would be refused: authenticated without TLS",
        "would be refused: the server of example.net offers no TLS",
        "dialback refused: example.org is not served here",
        "server given up: whatever",
    ):
        counted.metrics.reported("c2s", Report(Severity.WARNING, message))
    assert grown(counted.snapshot().values["bascule_refusals_total"]) == {
        ("c2s", "no-tls", "no"): (1,),
        ("c2s", "server-policy", "no"): (1,),
        ("c2s", "dialback", "yes"): (1,),
    }


def test_handshakes_are_counted_by_what_was_agreed_on(counted: Counted) -> None:
    counted.metrics.handshake(Side.CLIENT, TLS)
    counted.metrics.handshake(Side.CLIENT, TLS)
    counted.metrics.handshake_failed(Side.SERVER)
    assert counted.snapshot().values["bascule_tls_handshakes_total"] == {
        ("client", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "established"): (2,),
        ("server", "none", "none", "none", "failed"): (1,),
    }


def test_bytes_are_those_of_ended_sessions_and_of_those_that_go_on(counted: Counted) -> None:
    going, ended = Session(passed=(5, 7)), Session(passed=(100, 200))
    counted.sources.going = {going}
    counted.metrics.session_closed(ended, ended.summary())
    assert counted.value(RECEIVED, "c2s", "client") == 105
    assert counted.value(RECEIVED, "c2s", "server") == 207
    going.passed = (50, 70)
    assert counted.value(RECEIVED, "c2s", "client") == 150
    counted.sources.going = set()
    counted.metrics.session_closed(going, going.summary())
    assert counted.value(RECEIVED, "c2s", "client") == 150


def test_a_divided_session_counts_no_bytes_twice_and_none_back(counted: Counted) -> None:
    session = Session(passed=(30, 40))
    counted.sources.going = {session}
    assert counted.value(RECEIVED, "c2s", "client") == 30
    counted.sources.going = set()
    counted.metrics.session_closed(session, session.summary(), divided=True)
    assert counted.value(RECEIVED, "c2s", "client") == 30
    assert counted.value("bascule_sessions_ended_total", "c2s", "client-closed") == 1


def test_sessions_that_end_during_a_round_are_counted_once(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_module, "STEP", 1)
    sessions = [Session(passed=(1, 0)) for _ in range(4)]
    counted.sources.going = set(sessions)
    found: list[Snapshot] = []
    counted.metrics.snapshot().addCallback(found.append)
    counted.clock.turn()
    counted.clock.turn()  # half of them have been looked at
    for session in sessions:
        session.passed = (10, 0)
        counted.metrics.session_closed(session, session.summary())
    while not found:
        counted.clock.turn()
    assert found[0].values[RECEIVED]["c2s", "client"] == (40,)
    assert grown(found[0].values["bascule_sessions"]) == {}


def test_many_sessions_are_looked_at_a_step_at_a_time(counted: Counted) -> None:
    counted.sources.going = {Session() for _ in range(round_module.STEP + 1)}
    found: list[Snapshot] = []
    for _ in range(2):
        counted.metrics.snapshot().addCallback(found.append)
    for _ in range(2):
        counted.clock.turn()
        assert not found
    counted.clock.turn()
    assert found[0] is found[1]
    assert found[0].values["bascule_sessions"]["c2s", "negotiating"] == (round_module.STEP + 1,)


def test_connections_to_servers(counted: Counted) -> None:
    metrics = counted.metrics
    metrics.connected("c2s", "example.com", 0.02)
    metrics.unreachable("c2s", "example.com")
    metrics.connected("out", "example.net", 3.0)
    metrics.unreachable("out", "deep.below.example.org")
    metrics.unreachable("out", "elsewhere.example")
    found = counted.snapshot().values
    assert found["bascule_upstream_connections_total"] == {
        ("reverse", "c2s", "example.com", "connected"): (1,),
        ("reverse", "c2s", "example.com", "failed"): (1,),
        ("forward", "s2s", "example.net", "connected"): (1,),
        ("forward", "s2s", "*.example.org", "failed"): (1,),
        ("forward", "s2s", "*", "failed"): (1,),
    }
    # Only for our own servers is the last time kept: others there are any number of.
    assert found["bascule_upstream_last_success_timestamp_seconds"] == {
        ("c2s", "example.com"): (1000,)
    }
    assert found["bascule_upstream_last_failure_timestamp_seconds"] == {
        ("c2s", "example.com"): (1000,)
    }
    assert found["bascule_upstream_last_connect_seconds"] == {("c2s", "example.com"): (0.02,)}
    histogram = found["bascule_upstream_connect_seconds"]["reverse", "c2s"]
    assert histogram[2] == 1  # at most 0.02 s, and more than 0.005 s
    assert histogram[-1] == 0.02


def test_certificates_are_those_of_domains_that_are_configured(counted: Counted) -> None:
    served, remembered = Source.SERVED, Source.REMEMBERED
    counted.sources.expiring = [
        Expiring(served, "example.com", 300.0),
        Expiring(served, "example.com", 200.0),
        Expiring(remembered, "example.net", 300.0),
        Expiring(remembered, "example.net", 400.0),
        Expiring(remembered, "stranger.example", 100.0),
    ]
    found = counted.snapshot().values
    assert found["bascule_certificates"] == {("served",): (2,), ("remembered",): (3,)}
    assert found["bascule_certificate_expiry_timestamp_seconds"] == {
        ("served", "example.com"): (200,),
        ("remembered", "example.net"): (400,),
    }


def test_certificates_are_asked_for_seldom(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        counted.snapshot()
    assert counted.sources.asked == 1
    monkeypatch.setattr(counting, "SELDOM", 0.0)
    counted.snapshot()
    assert counted.sources.asked == 2


def test_pending_alerts_and_stalls(counted: Counted) -> None:
    counted.sources.waiting = 3
    counted.sources.stalled = {Side.CLIENT: 4, Side.SERVER: 5}
    alert = Alert(Kind.CHANGE, Urgency.CRITICAL, "peer.example", "s2s", "text", {}, "key")
    counted.metrics.alerted(alert)
    found = counted.snapshot().values
    assert found["bascule_keyring_pending"] == {(): (3,)}
    assert found["bascule_stalls_total"] == {("client",): (4,), ("server",): (5,)}
    assert grown(found["bascule_alerts_total"]) == {("change", "critical"): (1,)}


def test_what_cannot_be_collected_is_left_out_and_told(counted: Counted) -> None:
    counted.sources.fault = RuntimeError("no keyring")
    logged: list[LogEvent] = []
    observer = cast(ILogObserver, logged.append)
    globalLogPublisher.addObserver(observer)
    try:
        found = counted.snapshot().values
    finally:
        globalLogPublisher.removeObserver(observer)
    assert "bascule_keyring_pending" not in found
    assert grown(found["bascule_collection_faults_total"]) == {("keyring",): (1,)}
    assert found["bascule_workers"] == {("running",): (1,)}
    assert found["bascule_worker_restarts_total"] == {(): (0,)}
    assert "no keyring" in str(logged)


def test_ready_or_not(counted: Counted) -> None:
    assert counted.value("bascule_ready") == 1
    assert counted.metrics.troubles() == []
    counted.sources.wrong = ("it is draining",)
    assert counted.value("bascule_ready") == 0
    assert counted.metrics.troubles() == ["it is draining"]


def test_the_process_is_measured(counted: Counted) -> None:
    assert (counted.value("process_resident_memory_bytes") or 0) > 1_000_000
    ratio = counted.value("bascule_open_descriptors_ratio")
    assert ratio is not None
    assert 0 < ratio <= 1


def test_a_stop_leaves_nothing_behind(counted: Counted) -> None:
    counted.metrics.start()
    counted.metrics.snapshot()
    counted.metrics.stop()
    assert counted.clock.getDelayedCalls() == []
