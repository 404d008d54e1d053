"""The operating guide, carried out: its commands and files, by somebody who has read nothing else.

What the guide has on a machine of its own is here in a directory and on free ports. `Walk` knows
which is where, both ways, and changes nothing else of what the guide says.
"""

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import attrs

from tests.pages import ROOT
from tests.servers.program import HOST, Program, free_port

GUIDE: Final = ROOT / "docs/guide.md"

PORTS: Final = ("5221", "5222", "5269", "15222", "15269", "15270")
"""The ports of the guide, each of which is another one here."""

DIRECTORIES: Final = {
    "/etc/bascule": "etc-bascule",
    "/etc/letsencrypt": "etc-letsencrypt",
    "/opt/bascule": "opt-bascule",
}
"""The directories of the guide, each of which is another one here."""

ELSEWHERE: Final = (
    "cd bascule",
    "apt-get ",
    "python3 -m venv ",
    "/opt/bascule/bin/pip ",
    "ln -s /opt/bascule/bin/bascule ",
    "bascule top",
)
"""How commands begin that are not carried out: they install, or need a terminal."""

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SECONDS = 60

# The default of -c is the guide's place, and there is no other way to have another one.
_BASCULE = """\
#!{python}
import sys
from pathlib import Path
from proxy.daemon import files
files.DEFAULT_PATH = Path("{conf}")
from proxy.daemon.cli import main
sys.argv[0] = "bascule"
sys.exit(main())
"""

_VARIES = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"DATE +-?\d+ +", "DATE DAYS "),
    (r"(?<![\w.])\d+ days left", "DAYS days left"),
    (r"(?<![\d.])(?:198\.51\.100\.\d+|127\.0\.0\.1)(?![\d.])|\[::\]", "ADDRESS"),
    (r"\b(client|server)=ADDRESS:\d+", r"\1=WHERE"),
    (r"( from \S+\[ADDRESS\]):\d+", r"\1:PORT"),
    (r'reason="the (client|server) closed the (connection|stream)(: system-shutdown.*)?"', "END"),
    (r"\b(session|id)=[0-9a-z]+", r"\1=ID"),
    (r"\b(seconds|from_client|from_server)=[\d.]+", r"\1=NUMBER"),
    (r"\bversion=\S+ openssl=\S+", "version=VERSION openssl=VERSION"),
    (r"\bin \d+ ms|\bafter \d+ ms", "IN TIME"),
    (r"(?i)x25519mlkem768|x25519|secp256r1|prime256v1", "GROUP"),
    (r"sha256:[A-Za-z0-9+/]{43}=", "sha256:PIN"),
    (r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "HALF"),
    (r" {2,}", "  "),
)
"""What may differ between what the guide shows and what there is, and what it becomes in both."""


@attrs.frozen
class Block:
    """A fenced block of the guide.

    Attributes:
        language: what stands behind the fence.
        text: what is in it, without the indentation of a list.
    """

    language: str
    text: str


class Section:
    """The blocks of one section of the guide, in their order, up to the next heading.

    A ``with`` statement around them makes sure that none is left out.

    Args:
        heading: its heading; with the numbers of its #, which headings of the same name need.
    """

    def __init__(self, heading: str) -> None:
        text = GUIDE.read_text()
        # A heading inside a fence is a comment of a file or a program.
        outside = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
        headings = list(re.finditer(r"^#+ .*$", outside, re.MULTILINE))
        [at] = [number for number, each in enumerate(headings) if each[0] == heading]
        end = headings[at + 1].start() if at + 1 < len(headings) else len(text)
        self.heading = heading
        self.text = text[headings[at].end() : end]
        self._left = [
            Block(found[2], textwrap.dedent(found[3])) for found in _FENCE.finditer(self.text)
        ]

    def block(self, language: str) -> str:
        """Return the next block, which must be in this language."""
        assert self._left, f"{self.heading} has no block any more, {language} or other"
        block = self._left.pop(0)
        assert block.language == language, f"not {language}: {block}"
        return block.text

    def only(self, language: str) -> str:
        """Return the only block that is left in this language; it is still to come."""
        [text] = [block.text for block in self._left if block.language == language]
        return text

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Make sure that the end was reached."""
        assert kind is not None or not self._left, f"{self.heading}: left out: {self._left}"


class Daemon(Program):
    """What ``bascule run`` starts.

    Args:
        walk: whose it is.
        ports: where it listens.
    """

    def __init__(self, walk: "Walk", ports: Sequence[int]) -> None:
        super().__init__("bascule", walk.directory, ports)
        self._walk = walk

    def start(self) -> None:
        """Start it, with the guide's words."""
        self.launch("sh", "-c", "exec bascule run", environment=self._walk.environment)
        self.wait_until_ready()


class Walk:
    """The guide's machine: its directories, its ports, and what its commands say.

    Args:
        directory: where all of it is.
        authority: the file of the only authority that is trusted.
        laboratory: a conf beside the guide's, for what the laboratory alone needs.
        ports: which of the guide's ports have to be which ones here.

    Attributes:
        directory: as above.
        ports: the guide's ports, and which they are here.
        addresses: addresses that are another one here, on which anybody may listen; the second is
            that of a name server, with its port.
        daemon: what ``bascule run`` starts.
        environment: in which commands are carried out.
    """

    def __init__(
        self,
        directory: Path,
        authority: Path,
        laboratory: str = "",
        ports: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.directory = directory
        self.ports: Mapping[str, int] = {port: free_port() for port in PORTS} | dict(ports)
        self.addresses = {"[::]": HOST, "127.0.0.2": f"{HOST}@{free_port()}"}
        self.daemon = Daemon(self, [])
        (directory / "bin").mkdir(parents=True)
        program = directory / "bin/bascule"
        conf = self.path("/etc/bascule/bascule.toml")
        program.write_text(_BASCULE.format(python=sys.executable, conf=conf))
        program.chmod(0o755)
        self.environment = {
            "PATH": f"{program.parent}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(ROOT),
            "SSL_CERT_FILE": str(authority),
        }
        self.write(
            "/etc/bascule/conf.d/laboratory.toml",
            f'{laboratory}\n[bascule]\nstate_directory = "{directory}/state"\n'
            f'control_socket = "{directory}/control"\n',
        )
        (directory / "state").mkdir(mode=0o700)

    def path(self, name: str) -> Path:
        """Return where a file of the guide is."""
        return Path(self.here(name))

    def here(self, text: str) -> str:
        """Return a text of the guide as it has to be here."""
        for guides, own in DIRECTORIES.items():
            text = text.replace(guides, str(self.directory / own))
        for guides, own in self.addresses.items():
            text = text.replace(guides, own)
        text = text.replace("-o bascule ", f"-o {os.geteuid()} ")
        return re.sub(
            rf"(?<![\d.])(?:{'|'.join(PORTS)})(?![\d.])",
            lambda found: str(self.ports[found[0]]),
            text,
        )

    def guides(self, text: str) -> str:
        """Return a text from here as the guide would have it, addresses left as they are."""
        for guides, own in DIRECTORIES.items():
            text = text.replace(str(self.directory / own), guides)
        for guides, port in self.ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", guides, text)
        return text

    def write(self, name: str, text: str) -> Path:
        """Write a file that the guide shows, where it says."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text))
        return path

    def carry_out(self, commands: str, *, status: int = 0) -> str:
        """Carry out commands, one after another; ``bascule run`` goes on in the background.

        Returns:
            What the last of them said, errors first, as the guide would have it.

        Raises:
            AssertionError: if one of them ends with another exit status.
        """
        said = ""
        # A line that ends with | or \ goes on.
        for line in re.sub(r"\\\n|(?<=\|)\n", " ", commands).splitlines():
            if line.startswith(ELSEWHERE):
                continue
            if line == "bascule run":
                self.run()
                continue
            done = subprocess.run(
                ["sh", "-c", self._led(self.here(line))],
                env={**os.environ, **self.environment},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            said = self.guides(done.stderr + done.stdout)
            assert done.returncode == status, f"{line}: exit status {done.returncode}: {said}"
        return said

    async def meanwhile(self, commands: str, *, status: int = 0) -> str:
        """Do the same while clients of this loop go on."""
        return await asyncio.to_thread(self.carry_out, commands, status=status)

    async def follow(self, command: str) -> asyncio.subprocess.Process:
        """Begin to carry out a command, and return it when it has said the first line."""
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f"exec {self.here(command)}"),
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), _SECONDS)
        return process

    def run(self) -> None:
        """Start the daemon on whatever the conf says."""
        conf = self.path("/etc/bascule/bascule.toml").read_text()
        self.daemon.ports = tuple(
            map(int, re.findall(r'^address = ".*:(\d+)"$', conf, re.MULTILINE))
        )
        self.daemon.start()

    def log(self) -> str:
        """Return the daemon's log, as the guide would have it."""
        return self.guides(self.daemon.whole_log())

    @staticmethod
    def _led(line: str) -> str:
        """Return a command of OpenSSL's as if the guide's domain had this address in DNS."""
        return re.sub(r"-connect (\S+):", rf"-servername \1 -connect {HOST}:", line)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the daemon, if it runs."""
        self.daemon.stop()


def assert_shown(sample: str, said: str) -> None:
    """Make sure that what the guide shows is what was said, but for what varies.

    A line ``...`` of the guide stands for any number of lines.

    Raises:
        AssertionError: if it is not; with both.
    """
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in _steady(sample)
    )
    told = "".join(f"{line}\n" for line in _steady(said))
    wanted = "\n".join(_steady(sample))
    assert re.fullmatch(pattern, told), f"the guide has:\n{wanted}\nbut said was:\n{told}"


def assert_logged(sample: str, log: Callable[[], str]) -> None:
    """Wait until each line of a log that the guide shows was written, but for what varies.

    Args:
        sample: the lines.
        log: returns the log as it is by then.

    Raises:
        AssertionError: if one is still missing after thirty seconds; with the log.
    """
    end = time.monotonic() + 30
    while missing := set(_steady(sample)) - set(_steady(log())):
        assert time.monotonic() < end, "\n".join(["missing:", *missing, "there is:", log()])
        time.sleep(0.05)


def _steady(text: str) -> list[str]:
    """Return the lines of a text, with one name for each thing that varies."""
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return [line.rstrip() for line in text.splitlines()]
