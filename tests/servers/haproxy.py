"""HAProxy, in front of Bascule and behind it."""

from pathlib import Path

from tests.servers.program import HOST, Program, free_port

PROGRAM = "haproxy"

_RECEIVING = """\
defaults
    mode tcp
    log stdout format raw local0
    log-format "client=[%ci]:%cp place=[%fi]:%fp domain=%[fc_pp_authority] id=%[fc_pp_unique_id]"
    timeout connect 5s
    timeout client 1m
    timeout server 1m

frontend bascule
    bind {host}:{port} accept-proxy
    default_backend server

backend server
    server server {host}:{server}
"""


class HAProxy(Program):
    """A HAProxy with one port.

    Args:
        directory: its configuration and log.
        configuration: its configuration, in which ``{host}`` and ``{port}`` stand for where it
            listens.
        places: what else stands in braces there.
    """

    def __init__(self, directory: Path, configuration: str, **places: object) -> None:
        self.port = free_port()
        super().__init__("haproxy", directory, [self.port])
        self._configuration = configuration.format(host=HOST, port=self.port, **places)

    def start(self) -> None:
        """Write its configuration and start it."""
        file = self.directory / "haproxy.cfg"
        file.write_text(self._configuration)
        self.launch(PROGRAM, "-db", "-f", file)
        self.wait_until_ready()


def receiving(directory: Path, server: int) -> HAProxy:
    """Return one that takes headers for a server on a port of this machine, and logs them."""
    return HAProxy(directory, _RECEIVING, server=server)
