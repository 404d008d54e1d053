"""The command for alerts in the guide does what the guide says: it mails them."""

import email
import socket
import subprocess
import sys
import threading
from email.message import Message
from email.policy import default
from pathlib import Path

import pytest

from proxy.daemon.alerting.hook import environment
from proxy.daemon.alerting.told import Told
from proxy.trust.keyring.alerts import downgrade
from proxy.trust.keyring.entry import Seen
from tests.pages import ROOT, blocks
from tests.trust.showing import NOW

TO = "admin@example.com"
ALERT = downgrade("example.net", "s2s", Seen(tls_since=NOW, dane_since=None), "TLS")


class MailServer(threading.Thread):
    """A server that takes one message by SMTP (RFC 5321), or refuses it."""

    def __init__(self, *, refuses: bool = False) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self._refuses = refuses
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.said: list[str] = []
        self.message = b""

    def run(self) -> None:
        connection, _ = self._listening.accept()
        connection.settimeout(20)
        with connection, connection.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 mail.example\r\n")
            for line in iter(stream.readline, b""):
                self.said.append(line.decode().strip())
                word = line[:4].upper().strip()
                if word == b"DATA":
                    stream.write(b"354 go on\r\n")
                    self.message = b"".join(iter(stream.readline, b".\r\n"))
                if word == b"QUIT":
                    stream.write(b"221 bye\r\n")
                    return
                refused = word == b"RCPT" and self._refuses
                stream.write(b"550 nobody here\r\n" if refused else b"250 ok\r\n")

    def close(self) -> None:
        self.join(20)
        self._listening.close()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    [text] = [block for block in blocks(ROOT / "docs/guide.md", "python") if "smtplib" in block]
    file = tmp_path / "bascule-alert"
    file.write_text(text)
    return file


def run(script: Path, server: MailServer) -> subprocess.CompletedProcess[str]:
    """Run it as the daemon does, as far as that can be seen."""
    server.start()
    done = subprocess.run(
        [sys.executable, script, TO, server.address],
        input=Told.of(ALERT, NOW.timestamp(), 3).json().decode(),
        capture_output=True,
        text=True,
        cwd="/",
        env=environment({}),
        timeout=60,
        check=False,
    )
    server.close()
    return done


def test_an_alert_is_mailed(script: Path) -> None:
    server = MailServer()
    done = run(script, server)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert f"rcpt TO:<{TO}>" in server.said
    message: Message = email.message_from_bytes(server.message, policy=default)
    assert message["To"] == TO
    assert message["Subject"] == "Bascule, critical: downgrade example.net"
    text = message.get_content()  # type: ignore[attr-defined]
    first, _, *fields = text.splitlines()
    assert first == ALERT.text
    assert fields == [
        *(f"{name}: {value}" for name, value in ALERT.fields.items()),
        f"time: {NOW:%Y-%m-%dT%H:%M:%SZ}",
        "count: 3",
    ]


def test_a_mail_that_is_refused_is_a_failure(script: Path) -> None:
    done = run(script, MailServer(refuses=True))
    assert done.returncode != 0
    assert "nobody here" in done.stderr
