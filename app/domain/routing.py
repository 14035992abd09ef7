"""Which routes an event feeds, and why: asking what matches, apart from doing anything about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from app.domain.patterns.fields import unfolded
from app.domain.patterns.pattern import Condition, Pattern
from app.domain.route_index import RouteIndex

ALERTS: Final = "waylink."  # how the types of events begin that tell of Waylink's own trouble


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

    def takes(self, document: object) -> bool:
        """Whether it is on, and a document matches that is no alert of its own destination."""
        fields = unfolded(document)
        return self.decided(fields, told=told_of(fields)) is not None

    def decided(self, fields: object, *, told: tuple[object, object] | None) -> tuple[Condition, ...] | None:
        """The conditions by which it takes a document that is `unfolded` already; None where it does not.

        told: the destination that an alert tells of.
        """
        if not self.enabled or (told is not None and told == (self.team, self.destination)):
            return None
        return self.pattern.met(fields)


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
        fields = unfolded(document)
        told = told_of(fields)
        decided = ((route, route.decided(fields, told=told)) for route in self._index.candidates(fields))
        matched = [Decision(route, True, conditions) for route, conditions in decided if conditions is not None]
        matched.sort(key=attrgetter("route.name"))
        return matched

    def explain(self, document: object) -> list[Decision]:
        """A decision for every route, disabled ones too, ordered by route name."""
        return [_decision(route, document) for route in self.routes]


def told_of(document: object) -> tuple[object, object] | None:
    """The destination that an alert tells of, by team and name. What has failed there would only fail there again."""
    if not isinstance(document, dict) or not str(document.get("type")).startswith(ALERTS):
        return None
    payload = document.get("payload")
    return (payload.get("team"), payload.get("destination")) if isinstance(payload, dict) else None


def _decision(route: Route, document: object) -> Decision:
    conditions = route.pattern.explain(document)
    if told_of(document) == (route.team, route.destination):
        actual = f"{route.team}/{route.destination}"
        other = "another destination than the one that the alert tells of"
        conditions += (Condition(path="", expected=other, actual=actual, present=True, matched=False),)
    matched = route.enabled and all(condition.matched for condition in conditions)
    return Decision(route, matched, conditions)
