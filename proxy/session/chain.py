"""The plugin chain: asks each plugin in the conf's order and gives one verdict."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from proxy.session.counts import Counts, Section
from proxy.session.hooks import (
    Bounds,
    ClientHello,
    Condition,
    Continue,
    Direction,
    Element,
    Plugin,
    Reject,
    Replace,
    Reply,
    StreamHeader,
    Verdict,
    View,
)
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import replaced

HOOKS: Final[tuple[str, ...]] = (
    "client_connected",
    "stream_opened",
    "element",
    "client_hello",
    "features",
    "tls_established",
    "authenticated",
    "stanza",
    "session_closed",
)
"""Every hook there is."""

Failure = Callable[[str, str, BaseException | None], None]
"""Told of a plugin that failed: its name, what went wrong, and the exception if there was one."""

_CONTINUE: Final = Continue()
_PLAIN: Final = (Continue, Reject)
_FULL: Final = (Continue, Reject, Replace, Reply)


class ChainError(Exception):
    """A chain that cannot be built; the message says why."""


def _ignore(_plugin: str, _text: str, _error: BaseException | None) -> None:
    """Tell nobody."""


class Chain:
    """Plugins in the order in which they are asked.

    Raises:
        ChainError: a plugin has no name, a method ``on_…`` for a hook that does not exist, or
            fails to say its bounds.
    """

    def __init__(self, plugins: Iterable[Plugin], failed: Failure = _ignore) -> None:
        self.plugins: Final = tuple(plugins)
        self._failed = failed
        for plugin in self.plugins:
            _check(plugin)
        self._asked = {hook: tuple(_asked(self.plugins, hook)) for hook in HOOKS}
        self.bounds: Final = _least([_bounds(plugin) for plugin in self.plugins])

    def client_connected(self, view: View) -> Continue | Reject:
        """Ask whether a client that has connected may stay."""
        return self._judge("client_connected", view)

    def stream_opened(self, view: View, header: StreamHeader) -> Continue | Reject:
        """Ask about a stream that a client opens."""
        return self._judge("stream_opened", view, header)

    def client_hello(self, view: View, hello: ClientHello) -> Continue | Reject:
        """Ask about a TLS handshake before it costs anything."""
        return self._judge("client_hello", view, hello)

    def tls_established(self, view: View) -> Continue | Reject:
        """Ask about what a TLS handshake agreed on."""
        return self._judge("tls_established", view)

    def authenticated(self, view: View) -> Continue | Reject:
        """Ask about a client whose credentials the server accepted."""
        return self._judge("authenticated", view)

    def element(self, view: View, direction: Direction, element: Element) -> Verdict:
        """Ask about an element; after a `Replace` the next plugin sees the replacement."""
        return self._pass("element", _FULL, view, element, direction)

    def stanza(self, view: View, direction: Direction, stanza: Element) -> Verdict:
        """Ask about a stanza of an established session, as `element` does."""
        return self._pass("stanza", _FULL, view, stanza, direction)

    def features(self, view: View, features: Element) -> Verdict:
        """Ask for the features that the client shall see; never answers with a `Reply`."""
        return self._pass("features", (Continue, Reject, Replace), view, features, None)

    def session_closed(self, view: View) -> None:
        """Tell that a session is over."""
        for plugin, method in self._asked["session_closed"]:
            try:
                method(view)
            except BaseException as error:  # noqa: BLE001 - any plugin may raise anything
                self._failed(plugin.name, "on_session_closed raised", error)

    def wants_stanzas(self, direction: Direction) -> bool:
        """Whether a plugin asks for stanzas that go this way."""
        return any(
            wish.direction is direction
            for plugin, _ in self._asked["stanza"]
            for wish in plugin.stanzas
        )

    def _judge(self, hook: str, *arguments: Any) -> Continue | Reject:
        for plugin, method in self._asked[hook]:
            verdict = self._ask(hook, _PLAIN, plugin, method, arguments)
            if isinstance(verdict, Reject):
                return verdict
        return _CONTINUE

    def _pass(
        self,
        hook: str,
        allowed: tuple[type[Any], ...],
        view: View,
        element: Element,
        direction: Direction | None,
    ) -> Verdict:
        result: Verdict = _CONTINUE
        for plugin, method in self._asked[hook]:
            if not _wanted(hook, plugin, direction, element.name):
                continue
            arguments = (view, element) if direction is None else (view, direction, element)
            verdict = self._ask(hook, allowed, plugin, method, arguments)
            match verdict:
                case Reject() | Reply():
                    return verdict
                case Replace(raw):
                    result = verdict
                    if not raw:
                        return result
                    try:
                        element = replaced(element, raw)
                    except StreamError as error:
                        return self._fail(plugin, f"on_{hook} gave what is no element", error)
                case Continue():
                    pass
        return result

    def _ask(
        self,
        hook: str,
        allowed: tuple[type[Any], ...],
        plugin: Plugin,
        method: Callable[..., Any],
        arguments: Sequence[Any],
    ) -> Verdict:
        try:
            verdict = method(*arguments)
        except BaseException as error:  # noqa: BLE001 - any plugin may raise anything
            return self._fail(plugin, f"on_{hook} raised", error)
        if type(verdict) in allowed:
            return verdict  # type: ignore[no-any-return]
        return self._fail(plugin, f"on_{hook} gave {type(verdict).__name__}, no verdict here", None)

    def _fail(self, plugin: Plugin, text: str, error: BaseException | None) -> Reject:
        """Tell of a plugin that failed, which ends the session."""
        self._failed(plugin.name, text, error)
        return Reject(
            Condition.INTERNAL_SERVER_ERROR, f"the plugin {plugin.name} failed; see the proxy's log"
        )


def share(plugin: Plugin, counts: Counts) -> None:
    """Give a plugin its part of all counts, which is that of all plugins of its name.

    Raises:
        ChainError: the plugin fails to take it.
    """
    try:
        plugin.share(Section(counts, "plugins", plugin.name))
    except Exception as error:
        raise ChainError(f"plugin {plugin.name}: share raised {error!r}") from error


def _check(plugin: Plugin) -> None:
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not name:
        raise ChainError(f"{type(plugin).__qualname__} has no name")
    for attribute in dir(plugin):
        if attribute.startswith("on_") and attribute.removeprefix("on_") not in HOOKS:
            raise ChainError(f"plugin {name}: there is no hook for {attribute}")


def _asked(plugins: Sequence[Plugin], hook: str) -> Iterable[tuple[Plugin, Callable[..., Any]]]:
    """Return the plugins that override a hook, with the method to call."""
    for plugin in plugins:
        method = getattr(plugin, f"on_{hook}", None)
        if method is not None and getattr(type(plugin), f"on_{hook}") is not getattr(
            Plugin, f"on_{hook}"
        ):
            yield plugin, method


def _wanted(hook: str, plugin: Plugin, direction: Direction | None, name: str) -> bool:
    if hook == "element":
        return plugin.elements is None or name in plugin.elements
    if hook == "stanza":
        return any(
            wish.direction is direction and (wish.names is None or name in wish.names)
            for wish in plugin.stanzas
        )
    return True


def _bounds(plugin: Plugin) -> Bounds:
    try:
        bounds = plugin.bounds()
    except Exception as error:
        raise ChainError(f"plugin {plugin.name}: bounds raised {error!r}") from error
    if not isinstance(bounds, Bounds):
        raise ChainError(f"plugin {plugin.name}: bounds gave {bounds!r}, which are none")
    return bounds


def _least(bounds: Sequence[Bounds]) -> Bounds:
    """Return the least of each bound."""

    def least(values: Iterable[int | None]) -> int | None:
        return min((value for value in values if value is not None), default=None)

    return Bounds(
        stanza_bytes=least(bound.stanza_bytes for bound in bounds),
        unauthenticated_bytes=least(bound.unauthenticated_bytes for bound in bounds),
        unauthenticated_elements=least(bound.unauthenticated_elements for bound in bounds),
    )
