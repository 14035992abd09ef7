"""Which routes an event feeds, and why: asking what matches, apart from doing anything about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from app.domain.patterns.pattern import Condition, Pattern
from app.domain.route_index import RouteIndex


@dataclass(frozen=True, slots=True)
class Route:
    """A named, versioned pattern over events, with the job and the destination it feeds."""

    name: str
    version: int
    team: str
    destination: str
    job: str
    pattern: Pattern
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a route takes an event. One that is disabled takes none, whatever its conditions say."""

    route: Route
    matched: bool
    conditions: tuple[Condition, ...]


class RouteSet:
    """All routes of one version of the configuration; only read. A change makes another set, which shares the rest."""

    def __init__(self, version: int, routes: Iterable[Route] = (), *, index: RouteIndex[Route] | None = None) -> None:
        self.version = version
        self._index = index or RouteIndex(routes)

    def changed(self, version: int, *, removed: Iterable[str] = (), added: Iterable[Route] = ()) -> "RouteSet":
        """The set without the routes of these names and with those added; one of a known name takes its place."""
        return RouteSet(version, index=self._index.changed(removed=removed, added=added))

    @property
    def routes(self) -> tuple[Route, ...]:
        """By name."""
        return tuple(sorted(self._index.routes.values(), key=attrgetter("name")))

    def match(self, document: object) -> list[Decision]:
        """A decision for each route that matches, ordered by route name."""
        candidates = self._index.candidates(document)
        matched = [route for route in candidates if route.enabled and route.pattern.matches(document)]
        matched.sort(key=attrgetter("name"))
        return [Decision(route, matched=True, conditions=route.pattern.conditions(document)) for route in matched]

    def explain(self, document: object) -> list[Decision]:
        """A decision for every route, disabled ones too, ordered by route name."""
        return [_decision(route, document) for route in self.routes]


def _decision(route: Route, document: object) -> Decision:
    conditions = route.pattern.explain(document)
    matched = route.enabled and all(condition.matched for condition in conditions)
    return Decision(route, matched, conditions)
