"""Which routes an event feeds, and why: asking what matches, apart from doing anything about it."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.domain.patterns.pattern import Condition, Pattern
from app.domain.patterns.tree import exact_keys_at


@dataclass(frozen=True, slots=True)
class Route:
    """A named, versioned pattern over events, with the job and the destination it feeds."""

    name: str
    version: int
    team: str
    destination: str
    job: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Decision:
    route: Route
    matched: bool
    conditions: tuple[Condition, ...]


class RouteSet:
    """All routes of one version of the configuration, indexed once and then only read.

    A route is filed under its one most selective exact condition, and the few routes found there are checked
    (MEASURED, "Routing": counting how many conditions hold costs ten times as much). Routes without such a condition
    are checked for every event.
    """

    def __init__(self, version: int, routes: Iterable[Route]) -> None:
        self.version = version
        self.routes = tuple(sorted(routes, key=lambda route: (route.name, route.version)))
        self._index: dict[tuple[str, ...], dict[object, list[int]]] = {}
        self._scan: list[int] = []
        self._file()

    def match(self, document: object) -> list[Decision]:
        """A decision for each route that matches, ordered by route name."""
        matched = [position for position in self._candidates(document) if self._at(position).matches(document)]
        routes = [self.routes[position] for position in sorted(matched)]
        return [Decision(route, matched=True, conditions=route.pattern.conditions(document)) for route in routes]

    def explain(self, document: object) -> list[Decision]:
        """A decision for every route, ordered by route name."""
        return [_decision(route, document) for route in self.routes]

    def _at(self, position: int) -> Pattern:
        return self.routes[position].pattern

    def _candidates(self, document: object) -> set[int]:
        candidates = set(self._scan)
        for path, filed in self._index.items():
            for key in exact_keys_at(document, path):
                candidates.update(filed.get(key, ()))
        return candidates

    def _file(self) -> None:
        crowd: dict[tuple[tuple[str, ...], object], int] = {}
        for route in self.routes:
            for path, keys in route.pattern.anchors:
                for key in keys:
                    crowd[path, key] = crowd.get((path, key), 0) + 1
        for position, route in enumerate(self.routes):
            sizes = {path: (sum(crowd[path, key] for key in keys), keys) for path, keys in route.pattern.anchors}
            if not sizes:
                self._scan.append(position)
                continue
            path = min(sizes, key=lambda each: (sizes[each][0], each))
            for key in sizes[path][1]:
                self._index.setdefault(path, {}).setdefault(key, []).append(position)


def _decision(route: Route, document: object) -> Decision:
    conditions = route.pattern.explain(document)
    return Decision(route, all(condition.matched for condition in conditions), conditions)
