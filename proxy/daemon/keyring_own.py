"""The command ``bascule keyring export --own``: what partners are given of our certificates."""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import attrs
import click

from proxy.daemon import partners
from proxy.daemon.conf import load
from proxy.daemon.exits import Exit
from proxy.daemon.keyring_place import Place, complain
from proxy.daemon.model import Conf
from proxy.daemon.partners import POSH_SERVICES, OwnCertificateError, OwnDomain, own_domain
from proxy.daemon.stated import TO_CONF, ConfError


class Format(Enum):
    """In which form certificates are given away."""

    TEXT = "text"
    """For people to compare."""
    PEM = "pem"
    """The certificates with their chains."""
    PKCS7 = "pkcs7"
    """The same as certs-only PKCS #7."""
    PINS = "pins"
    """A policy with pins for a partner's Bascule."""
    TLSA = "tlsa"
    """TLSA records."""
    POSH = "posh"
    """A POSH document."""


_SUFFIXES: Final = {
    Format.TEXT: "txt",
    Format.PEM: "pem",
    Format.PKCS7: "p7b",
    Format.PINS: "toml",
    Format.TLSA: "zone",
}
_WRITTEN: Final[dict[Format, Callable[[OwnDomain], str]]] = {
    Format.TEXT: partners.cards,
    Format.PEM: partners.pem_chains,
    Format.PKCS7: partners.certs_only,
    Format.PINS: partners.policy,
    Format.POSH: partners.posh,
}


@attrs.frozen
class Wanted:
    """What is to be given away.

    Attributes:
        domains: The domains, in A-labels; all of the conf if there are none.
        form: The form.
        output: A file, or a directory for a file of each domain; ``None`` for standard output.
        host: Of TLSA records, the host; ``None`` for each domain's own name.
        ports: Likewise the ports; those of its reverse listeners if there are none.
    """

    domains: tuple[str, ...]
    form: Format
    output: Path | None
    host: str | None
    ports: tuple[int, ...]


def export_own(place: Place, wanted: Wanted) -> int:
    """Give certificates of a conf's domains away, and return the exit code.

    Raises:
        click.UsageError: What is wanted does not fit together, or not the conf.
        ConfError: The conf has mistakes, or a certificate cannot be read.
    """
    found = load(place.conf_path)
    if found.conf is None:
        raise ConfError(f"{found.mistakes[0]} ({TO_CONF})")
    try:
        domains = [
            own_domain(each, found.conf) for each in found.conf.domains if _meant(each.name, wanted)
        ]
    except OwnCertificateError as error:
        raise ConfError(f"{error} ({TO_CONF})") from error
    _check(domains, wanted, found.conf)
    if wanted.output is None or not wanted.output.is_dir():
        text = "\n".join(_text(domain, wanted) for domain in domains)
        return write(wanted.output, text)
    for domain in domains:
        for name in _names(domain, wanted.form):
            code = write(wanted.output / name, _text(domain, wanted))
            if code != Exit.OK:
                return code
    return Exit.OK


def write(output: Path | None, text: str) -> int:
    """Write text to a file, or to standard output where there is none; return the exit code."""
    if output is None:
        click.echo(text, nl=False)
        return Exit.OK
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        return complain(f"{output}: cannot be written: {error.strerror}", Exit.IO)
    return Exit.OK


def _meant(name: str, wanted: Wanted) -> bool:
    return not wanted.domains or name in wanted.domains


def _check(domains: Sequence[OwnDomain], wanted: Wanted, conf: Conf) -> None:
    ours = [domain.name for domain in conf.domains]
    for name in wanted.domains:
        if name not in ours:
            raise click.UsageError(f"there is no [[domain]] with the name {name}")
    if not ours:
        raise click.UsageError("the configuration has no [[domain]]")
    into_directory = wanted.output is not None and wanted.output.is_dir()
    if wanted.form is Format.POSH and len(domains) > 1 and not into_directory:
        raise click.UsageError(
            "each domain has a POSH document of its own: name one, or a directory by --output"
        )
    if wanted.form is Format.TLSA and not wanted.ports:
        for domain in domains:
            if not domain.ports:
                raise click.UsageError(
                    f"nobody knows on which ports others meet {domain.name}: name them by --port"
                )


def _text(domain: OwnDomain, wanted: Wanted) -> str:
    if wanted.form is Format.TLSA:
        return partners.tlsa(domain, wanted.host or domain.name, wanted.ports or domain.ports)
    return _WRITTEN[wanted.form](domain)


def _names(domain: OwnDomain, form: Format) -> Iterator[str]:
    """Name the files of a domain: of POSH one for each kind of stream, all else is one."""
    if form is Format.POSH:
        yield from (f"{domain.name}.{POSH_SERVICES[kind]}.json" for kind in domain.kinds)
    else:
        yield f"{domain.name}.{_SUFFIXES[form]}"
