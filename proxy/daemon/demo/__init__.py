"""The demo: a legacy server, a made-up authority, the proxy, and a client that comes through it."""

from proxy.daemon.demo.play import run

__all__ = ["run"]
