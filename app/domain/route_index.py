"""An index of routes by the values of documents that they can match.

A route is filed under its most selective exact condition: the one that the fewest routes share. The few candidates
found there are matched in full; counting the conditions that hold would cost ten times as much. Routes without an exact
condition are candidates for every document.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, Self, TypeVar

from app.domain.patterns.operators import exact_key
from app.domain.patterns.pattern import Pattern
from app.domain.patterns.tree import Path, flat

Anchor = tuple[Path, frozenset[object]]
RouteKey = tuple[str, str]  # team, name

_TYPE: Final = ("type",)


class Filed(Protocol):
    """An item that can be filed. Keys are unique within an index."""

    @property
    def key(self) -> RouteKey: ...

    @property
    def pattern(self) -> Pattern: ...


R = TypeVar("R", bound=Filed)


@dataclass(slots=True)
class _Place(Generic[R]):
    """A field of documents: the routes filed under its values, and the fields below it."""

    filed: dict[object, list[R]] = field(default_factory=dict)
    below: "dict[str, _Place[R]]" = field(default_factory=dict)

    def copy(self) -> "_Place[R]":
        """A copy that shares the lists of routes: a list in use is never changed."""
        return _Place(dict(self.filed), {name: place.copy() for name, place in self.below.items()})


class RouteIndex(Generic[R]):
    """An immutable index; `changed` makes another one, without filing the remaining routes again."""

    def __init__(self, routes: Iterable[R] = ()) -> None:
        self.routes: dict[RouteKey, R] = {}
        self._root: _Place[R] = _Place()
        self._everywhere: dict[RouteKey, R] = {}
        self._anchors: dict[RouteKey, Anchor] = {}  # the condition that a route is filed under
        self._crowd: Counter[tuple[Path, object]] = Counter()  # routes per path and value
        self._of_any_type = 0  # routes that require no exact `type`
        self._file(routes)

    def changed(self, *, removed: Iterable[RouteKey] = (), added: Iterable[R] = ()) -> Self:
        """An index without the removed routes, and with the added ones, which replace routes of the same key."""
        new = type(self)()
        new.routes, new._root, new._everywhere = dict(self.routes), self._root.copy(), dict(self._everywhere)
        new._anchors, new._crowd, new._of_any_type = dict(self._anchors), self._crowd.copy(), self._of_any_type
        by_key = {route.key: route for route in added}
        new._remove({*removed, *by_key})
        new._file(by_key.values())
        return new

    def asks_for(self, event_type: str) -> bool:
        """Whether some route could match a document of this type."""
        return self._of_any_type > 0 or (_TYPE, event_type) in self._crowd

    def candidates(self, fields: object) -> Iterable[R]:
        """Every route that could match an `unfolded` document, and few others; each once."""
        candidates = dict(self._everywhere)
        _collect(self._root, fields, candidates)
        return candidates.values()

    def _file(self, routes: Iterable[R]) -> None:
        """File each route under its rarest values, or as a candidate for every document."""
        added = {route.key: route for route in routes}
        self.routes |= added
        for route in added.values():
            self._crowd.update(_values(route))
            self._of_any_type += _is_of_any_type(route)
        copied = set[int]()  # identities of this index's own lists: others are shared with the index before
        for route in added.values():
            anchors = route.pattern.anchors
            if not anchors:
                self._everywhere[route.key] = route
                continue
            path, keys = min(anchors, key=self._rarity)
            self._anchors[route.key] = path, keys
            filed = self._place(path).filed
            for key in keys:
                here = filed.get(key, [])
                if id(here) not in copied:
                    here = filed[key] = [*here]
                    copied.add(id(here))
                here.append(route)

    def _remove(self, removed: Iterable[RouteKey]) -> None:
        emptied: dict[Path, dict[object, set[RouteKey]]] = {}
        for route_key in removed:
            route = self.routes.pop(route_key, None)
            if route is None:
                continue
            self._of_any_type -= _is_of_any_type(route)
            for value in _values(route):
                self._crowd[value] -= 1
                if not self._crowd[value]:
                    del self._crowd[value]
            self._everywhere.pop(route_key, None)
            path, keys = self._anchors.pop(route_key, ((), frozenset()))
            for key in keys:
                emptied.setdefault(path, {}).setdefault(key, set()).add(route_key)
        for path, gone in emptied.items():
            filed = self._place(path).filed
            for key, gone_keys in gone.items():
                filed[key] = [route for route in filed[key] if route.key not in gone_keys]
                if not filed[key]:
                    del filed[key]

    def _rarity(self, anchor: Anchor) -> tuple[int, Path]:
        """The count of routes with one of the anchor's values, then its path."""
        path, keys = anchor
        return sum(self._crowd[path, key] for key in keys), path

    def _place(self, path: Path) -> _Place[R]:
        place = self._root
        for name in path:
            place = place.below.setdefault(name, _Place())
        return place


def _values(route: Filed) -> Iterator[tuple[Path, object]]:
    return ((path, key) for path, keys in route.pattern.anchors for key in keys)


def _is_of_any_type(route: Filed) -> bool:
    return all(path != _TYPE for path, _ in route.pattern.anchors)


def _collect(place: _Place[R], value: object, candidates: dict[RouteKey, R]) -> None:
    """Add the routes filed under the values of a document, elements of arrays included."""
    if isinstance(value, dict):
        below = place.below
        # Iterate over the side with fewer names: a document may have few of many tags, or many of few.
        names = value.keys() & below.keys() if len(below) > 8 else [name for name in below if name in value]
        for name in names:
            _collect(below[name], value[name], candidates)
    elif isinstance(value, list | tuple):
        for item in flat(value):
            _collect(place, item, candidates)
    elif place.filed:
        for route in place.filed.get(exact_key(value), ()):
            candidates[route.key] = route
