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
Key = tuple[str, str]  # a team, and the name of a route of its own


class Filed(Protocol):
    """What can be filed; keys are unique within an index."""

    @property
    def key(self) -> Key: ...

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
        self.routes: dict[Key, R] = {}
        self._root: _Place[R] = _Place()
        self._everywhere: dict[Key, R] = {}
        self._anchors: dict[Key, Anchor] = {}  # of a route, under what it is filed
        self._crowd: Counter[tuple[Path, object]] = Counter()
        self._file(routes)

    def changed(self, *, removed: Iterable[Key] = (), added: Iterable[R] = ()) -> Self:
        """An index without the routes of these keys, and with those added."""
        new = type(self)()
        new.routes, new._root, new._everywhere = dict(self.routes), self._root.copy(), dict(self._everywhere)
        new._anchors, new._crowd = dict(self._anchors), self._crowd.copy()
        several = {route.key: route for route in added}
        new._remove({*removed, *several})
        new._file(several.values())
        return new

    def candidates(self, fields: object) -> Iterable[R]:
        """Every route that could match a document that is `unfolded`, and few others; each once."""
        found = dict(self._everywhere)
        _collect(self._root, fields, found)
        return found.values()

    def _file(self, several: Iterable[R]) -> None:
        """Each route under its rarest value; one without an exact condition is noted as one for every document."""
        added = {route.key: route for route in several}
        self.routes |= added
        for route in added.values():
            self._crowd.update(_values(route))
        copied = set[int]()  # by their identity, the lists that are this index's own: others are in use
        for route in added.values():
            anchors = route.pattern.anchors
            if not anchors:
                self._everywhere[route.key] = route
                continue
            path, keys = min(anchors, key=lambda one: (sum(self._crowd[one[0], key] for key in one[1]), one[0]))
            self._anchors[route.key] = path, keys
            filed = self._place(path).filed
            for key in keys:
                here = filed.get(key, [])
                if id(here) not in copied:
                    here = filed[key] = [*here]
                    copied.add(id(here))
                here.append(route)

    def _remove(self, removed: Iterable[Key]) -> None:
        emptied: dict[Path, dict[object, set[Key]]] = {}
        for one in removed:
            route = self.routes.pop(one, None)
            if route is None:
                continue
            for value in _values(route):
                self._crowd[value] -= 1
                if not self._crowd[value]:
                    del self._crowd[value]
            self._everywhere.pop(one, None)
            path, keys = self._anchors.pop(one, ((), frozenset()))
            for key in keys:
                emptied.setdefault(path, {}).setdefault(key, set()).add(one)
        for path, gone in emptied.items():
            filed = self._place(path).filed
            for key, those in gone.items():
                filed[key] = [route for route in filed[key] if route.key not in those]
                if not filed[key]:
                    del filed[key]

    def _place(self, path: Path) -> _Place[R]:
        place = self._root
        for name in path:
            place = place.below.setdefault(name, _Place())
        return place


def _values(route: Filed) -> Iterator[tuple[Path, object]]:
    return ((path, key) for path, keys in route.pattern.anchors for key in keys)


def _collect(place: _Place[R], value: object, found: dict[Key, R]) -> None:
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
            found[route.key] = route
