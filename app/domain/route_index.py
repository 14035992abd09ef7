"""Which routes could match a document: found by its values, not by going through all routes.

A route is filed under its one most selective exact condition: the one that the fewest routes share. The few routes
found there are checked whole (MEASURED, "Routing": counting how many conditions hold costs ten times as much). Routes
without such a condition are candidates for every document.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar

from app.domain.patterns.operators import exact_key
from app.domain.patterns.pattern import Pattern
from app.domain.patterns.tree import Path, flat

Anchor = tuple[Path, frozenset[object]]


class Filed(Protocol):
    """What can be filed; names are unique within an index."""

    @property
    def name(self) -> str: ...

    @property
    def pattern(self) -> Pattern: ...


R = TypeVar("R", bound=Filed)


@dataclass(slots=True)
class _Place(Generic[R]):
    """A field of the document: what is filed under its values, and the fields below it."""

    filed: dict[object, list[R]] = field(default_factory=dict)
    below: "dict[str, _Place[R]]" = field(default_factory=dict)

    def copy(self) -> "_Place[R]":
        """Lists are shared: nobody changes one that is in use."""
        return _Place(dict(self.filed), {name: place.copy() for name, place in self.below.items()})


class RouteIndex(Generic[R]):
    """Read by many, never changed: `changed` makes another, without filing anew what stays."""

    def __init__(self, routes: Iterable[R] = ()) -> None:
        self.routes: dict[str, R] = {route.name: route for route in routes}
        self._root: _Place[R] = _Place()
        self._everywhere: dict[str, R] = {}
        self._anchors: dict[str, Anchor] = {}  # by the name of a route, under what it is filed
        self._crowd: Counter[tuple[Path, object]] = Counter()
        for route in self.routes.values():
            self._crowd.update(_values(route))
        for route in self.routes.values():
            for filed, key in self._slots(route):
                filed.setdefault(key, []).append(route)

    def changed(self, *, removed: Iterable[str] = (), added: Iterable[R] = ()) -> Self:
        """An index without the routes of these names, and with those added."""
        new = type(self)()
        new.routes, new._root, new._everywhere = dict(self.routes), self._root.copy(), dict(self._everywhere)
        new._anchors, new._crowd = dict(self._anchors), self._crowd.copy()
        for name in removed:
            new._remove(name)
        for route in added:
            new._remove(route.name)
            new.routes[route.name] = route
            new._crowd.update(_values(route))
            for filed, key in new._slots(route):
                filed[key] = [*filed.get(key, ()), route]
        return new

    def candidates(self, fields: object) -> Iterable[R]:
        """Every route that could match a document that is `unfolded`, and few others; each once."""
        found = dict(self._everywhere)
        _collect(self._root, fields, found)
        return found.values()

    def _remove(self, name: str) -> None:
        route = self.routes.pop(name, None)
        if route is None:
            return
        self._crowd.subtract(_values(route))
        self._everywhere.pop(name, None)
        anchor = self._anchors.pop(name, None)
        if anchor is not None:
            path, keys = anchor
            filed = self._place(path).filed
            for key in keys:
                filed[key] = [one for one in filed[key] if one is not route]

    def _slots(self, route: R) -> Iterator[tuple[dict[object, list[R]], object]]:
        """Where a route is filed; it is noted as one for every document where it has no exact condition."""
        anchors = route.pattern.anchors
        if not anchors:
            self._everywhere[route.name] = route
            return
        path, keys = min(anchors, key=lambda one: (sum(self._crowd[one[0], key] for key in one[1]), one[0]))
        self._anchors[route.name] = path, keys
        filed = self._place(path).filed
        for key in keys:
            yield filed, key

    def _place(self, path: Path) -> _Place[R]:
        place = self._root
        for name in path:
            place = place.below.setdefault(name, _Place())
        return place


def _values(route: Filed) -> Iterator[tuple[Path, object]]:
    return ((path, key) for path, keys in route.pattern.anchors for key in keys)


def _collect(place: _Place[R], value: object, found: dict[str, R]) -> None:
    """What is filed under the values of a document, the elements of its arrays too."""
    if isinstance(value, dict):
        below = place.below
        # Whichever has fewer names: a document may have few of many tags, or many of few.
        names = value.keys() & below.keys() if len(below) > 8 else [name for name in below if name in value]
        for name in names:
            _collect(below[name], value[name], found)
    elif isinstance(value, list | tuple):
        for item in flat(value):
            _collect(place, item, found)
    elif place.filed:
        for route in place.filed.get(exact_key(value), ()):
            found[route.name] = route
