"""proxy.daemon.check and show: a report with certificates, a summary, and the round trip."""

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.daemon import toml
from proxy.daemon.check import inspect, summary
from proxy.daemon.conf import build
from proxy.daemon.files import Document
from proxy.daemon.model import Conf, Deadlines
from proxy.daemon.show import show
from tests.authority import Authority
from tests.daemon.conf_fakes import (
    MAIN,
    PLUGINS,
    content,
    domain_table,
    forward_table,
    listener_table,
    loaded,
)

NOW = datetime.now(UTC)


def write(directory: Path, text: str) -> Path:
    main = directory / "bascule.toml"
    main.write_text(text)
    return main


def sound(middle: Authority) -> str:
    certificate, key = middle.issue("example.com")
    return f"""
        [[domain]]
        name = "example.com"
        certificate = "{certificate}"
        private_key = "{key}"
        c2s_server = "127.0.0.1:15222"
        [[listener]]
        name = "c2s"
        direction = "reverse"
        stream = "c2s"
        address = "[::]:5222"
    """


def test_sound_conf(middle: Authority, tmp_path: Path) -> None:
    report = inspect(write(tmp_path, sound(middle)), NOW, PLUGINS)
    assert (report.mistakes, report.cautions) == ((), ())
    assert report.conf is not None
    text = summary(report.conf, report.certificates)
    lines = [line.split() for line in text.splitlines()]
    assert ["c2s", "[::]:5222", "reverse", "c2s", "required"] in lines
    certificate = report.certificates[0]
    assert certificate.days_left == 90
    assert [
        "example.com",
        "127.0.0.1:15222",
        "ECDSA",
        "P-256",
        f"{certificate.not_after:%Y-%m-%d}",
        str(certificate.days_left),
        str(certificate.file),
    ] in lines
    assert text.splitlines()[-3:] == [
        "Plugins: require_tls, features, limits",
        "",
        "No mistakes.",
    ]


def test_an_expired_certificate_is_loud(middle: Authority, tmp_path: Path) -> None:
    report = inspect(write(tmp_path, sound(middle)), NOW + timedelta(days=91), PLUGINS)
    assert report.conf is not None
    row = next(
        line
        for line in summary(report.conf, report.certificates).splitlines()
        if line.startswith("example.com")
    )
    assert row.split()[-2] == "EXPIRED"


def test_files_beside_the_fragments(middle: Authority, tmp_path: Path) -> None:
    main = write(tmp_path, sound(middle))
    fragments = tmp_path / "conf.d"
    fragments.mkdir()
    (fragments / "directory").mkdir()
    for name in ("a.conf", "b.toml", "b.toml~", "#b.toml#", ".b.toml.swp", "b.toml.bak", "c.TOML"):
        (fragments / name).touch()
    report = inspect(main, NOW, PLUGINS)
    assert report.conf is not None
    assert [str(caution) for caution in report.cautions] == [
        f"{fragments / name}: warning: is not read: its name does not end in .toml"
        for name in ("a.conf", "c.TOML")
    ]


def test_mistakes_of_conf_and_of_certificates_together(middle: Authority, tmp_path: Path) -> None:
    text = sound(middle).replace('"example.com"', '"example.org"') + "colour = 1\n"
    report = inspect(write(tmp_path, text), NOW, PLUGINS)
    assert report.conf is None
    assert [mistake.key for mistake in report.mistakes] == [
        'listener "c2s".colour',
        'domain "example.org".certificate',
    ]


def test_a_certificate_alone_withholds_the_conf(middle: Authority, tmp_path: Path) -> None:
    text = sound(middle).replace('"example.com"', '"example.org"')
    report = inspect(write(tmp_path, text), NOW, PLUGINS)
    assert report.conf is None
    assert len(report.mistakes) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[[domain]\n", "is not TOML: "),
        (b"a = 1\na = 2\n", "is not TOML: "),
        (b"a = " + b"9" * 5000, "is not TOML: "),
        (b"a = " + b"[" * 100_000, "is not TOML that can be read: it is nested too deeply"),
        (b"a = '\xff'", "is not UTF-8; TOML files are"),
    ],
)
def test_files_that_are_not_toml(tmp_path: Path, text: bytes, expected: str) -> None:
    main = tmp_path / "bascule.toml"
    main.write_bytes(text)
    [mistake] = inspect(main, NOW, PLUGINS).mistakes
    assert str(mistake).startswith(f"{main}: {expected}")
    assert str(mistake).isprintable()


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    [mistake] = inspect(tmp_path, NOW, PLUGINS).mistakes
    assert f"{tmp_path}: cannot be read: Is a directory" == str(mistake)


@given(st.binary(max_size=200))
def test_any_file_yields_mistakes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    main = tmp_path_factory.mktemp("conf") / "bascule.toml"
    main.write_bytes(data)
    assert inspect(main, NOW, PLUGINS).mistakes


def again(conf: Conf) -> Conf | None:
    document = Document(Path("/elsewhere/x.toml"), tomllib.loads(show(conf)))
    return build([document], PLUGINS, main=document.file).conf


def test_what_is_shown_loads_to_the_same() -> None:
    conf = loaded(
        content(
            plugins={"limits": {"stanza_bytes": 20000, "pace": 0.25}},
            deadlines={"connect": 2.5},
            domain=[
                domain_table(name="faß.example", c2s_server="[::1]:1"),
                domain_table(certificate=["a", 'odd"\\\t\x7fé'], private_key=["c", "d"]),
            ],
            listener=[
                listener_table(tls="report"),
                listener_table(name='a "b"\n', address="127.0.0.1:0"),
            ],
        )
    ).conf
    assert conf is not None
    assert conf == again(conf)


def test_what_is_forward_is_shown_and_loads_to_the_same() -> None:
    conf = loaded(
        content(
            listener=[
                listener_table(),
                forward_table(domains=["*", "*.faß.example"], tls="report"),
                forward_table(
                    name="b",
                    address="[::1]:1",
                    destination="original",
                    tproxy=True,
                    unlisted_destinations=True,
                ),
            ],
            policy=[
                {"domain": "*"},
                {
                    "domain": "example.net",
                    "server": "[::1]:5223",
                    "direct_tls": True,
                    "ca_file": "ca.pem",
                    "pins": [f"sha256:{digit * 42}A=" for digit in "BA"],
                    "min_version": "TLSv1.3",
                    "private_addresses": True,
                },
                {"domain": "a.faß.example", "level": "none", "server": "192.0.2.1:1"},
                {"domain": "b.faß.example", "level": "encrypt"},
            ],
            dns={"servers": ["192.0.2.1", "[2001:db8::1]:5353"]},
        )
    ).conf
    assert conf is not None
    assert conf == again(conf)
    text = summary(conf, [])
    assert ["legacy", "srv", "*,", "*.xn--fa-hia.example"] in [
        line.split() for line in text.splitlines()
    ]
    assert [line.split() for line in text.partition("POLICY")[2].splitlines()[1:5]] == [
        ["*", "secure", "dns", "TLSv1.2", "system", "-"],
        ["example.net", "secure", "[::1]:5223", "TLSv1.3", "/etc/bascule/ca.pem", "2"],
        ["a.xn--fa-hia.example", "none", "192.0.2.1:1", "-", "-", "-"],
        ["b.xn--fa-hia.example", "encrypt", "dns", "TLSv1.2", "-", "-"],
    ]
    assert "CERTIFICATE" not in text


def test_what_does_nothing_is_not_shown() -> None:
    conf = loaded(content()).conf
    assert conf is not None
    [listener] = tomllib.loads(show(conf))["listener"]
    assert [*listener] == ["name", "direction", "stream", "address", "tls", "proxy_protocol"]
    policies = [{"domain": "*", "level": level} for level in ("none",)]
    conf = loaded(content(listener=[forward_table()], policy=policies)).conf
    assert conf is not None
    [policy] = tomllib.loads(show(conf))["policy"]
    assert [*policy] == ["domain", "level", "server", "s2s_server", "private_addresses"]


def test_defaults_are_filled_in() -> None:
    conf = loaded(content()).conf
    assert conf is not None
    shown = tomllib.loads(show(conf))
    assert shown["deadlines"] == {
        "negotiation": 15,
        "authentication": 60,
        "connect": 15,
        "drain": 10,
    }
    assert shown["plugins"]["limits"] == {"stanza_bytes": 262144, "pace": 1.5}
    assert shown["domain"][0]["private_key"] == "/etc/bascule/tls/example.key"
    assert shown["listener"][0]["tls"] == "required"
    assert shown["dns"] == {"servers": [], "validating": "auto"}
    conf = loaded(content(listener=[forward_table()], policy=[{"domain": "*"}])).conf
    assert conf is not None
    shown = tomllib.loads(show(conf))
    assert shown["listener"][0]["destination"] == "srv"
    assert shown["listener"][0]["tproxy"] is False
    assert shown["policy"][0] == {
        "domain": "*",
        "level": "secure",
        "dialback": "allow",
        "server": "dns",
        "direct_tls": False,
        "s2s_server": "dns",
        "s2s_direct_tls": False,
        "ca_file": "system",
        "crl_files": [],
        "pins": [],
        "min_version": "TLSv1.2",
        "private_addresses": False,
        "posh": False,
    }


@given(*[st.floats(min_value=0, exclude_min=True, max_value=86400)] * 3)
def test_any_deadline_survives_the_round_trip(first: float, second: float, third: float) -> None:
    conf = loaded(content()).conf
    assert conf is not None
    conf = attrs.evolve(conf, deadlines=Deadlines(first, second, third))
    assert conf == again(conf)


text_of_toml = st.text(st.characters(codec="utf-8"), max_size=5)


@given(
    st.dictionaries(
        text_of_toml,
        st.booleans() | st.integers() | st.floats(allow_nan=False) | st.lists(text_of_toml),
    )
)
def test_toml_that_is_written_reads_the_same(values: dict[str, object]) -> None:
    text = "".join(f"{toml.key(key)} = {toml.value(given)}\n" for key, given in values.items())
    assert values == tomllib.loads(text)


def test_main_file_is_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [mistake] = inspect(Path("none.toml"), NOW, PLUGINS).mistakes
    assert tmp_path / "none.toml" == mistake.file
    assert mistake.file != MAIN
