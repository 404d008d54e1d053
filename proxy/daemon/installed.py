"""The plugins that are installed, by the entry points of the group ``bascule.plugins``."""

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "bascule.plugins"
_OWN_DISTRIBUTION = "bascule"


class InstalledPlugins(Mapping[str, type[Any]]):
    """Plugin classes by name; each is imported when it is looked up, not before.

    A look-up raises ``KeyError`` for a name that is not installed, and whatever the import of the
    plugin raises.
    """

    def __init__(self, *, own_only: bool = False) -> None:
        """Look up what is installed now.

        Args:
            own_only: Leave out the plugins of other distributions than Bascule itself.
        """
        self._points: dict[str, EntryPoint] = {
            point.name: point
            for point in entry_points(group=GROUP)
            if not own_only or (point.dist is not None and point.dist.name == _OWN_DISTRIBUTION)
        }

    def __getitem__(self, name: str) -> type[Any]:
        found = self._points[name].load()
        if not isinstance(found, type):
            raise TypeError(f"{self._points[name].value} is not a class")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)
