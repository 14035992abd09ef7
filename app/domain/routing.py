"""Matching of event documents against routes, and explanations of the decisions. No I/O."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from app.domain.patterns import Condition, Effort, Pattern
from app.domain.patterns.effort import MAX_STEPS
from app.domain.patterns.fields import unfolded
from app.domain.route_index import RouteIndex, RouteKey
from app.domain.values import value
from app.errors import TooMuchWork

TEAM_STEPS: Final = 3 * MAX_STEPS  # of all routes of a team per event: one team's patterns must not delay the others
LIGHT: Final = 1_000  # steps of a route that do not count for its team: nearly all routes take fewer
ALERTS: Final = "waylink."  # prefix of the types of Waylink's alerts
# Reasons for suppressing an event: its routes have its content from an earlier event.
ANNOUNCED_BEFORE: Final = "the creation of this generation was routed before"
RECURRING_FAILURE: Final = "the same failure was routed before, and its connection has not recovered since"
KNOWN_BEFORE: Final = "nothing was new in it: this was known before"


@dataclass(frozen=True, slots=True)
class Route:
    """A named, versioned pattern over events, with the job and the destination it feeds. Its name is its team's own."""

    name: str
    version: int
    team: str
    destination: str
    job: str
    pattern: Pattern
    enabled: bool = True
    key: RouteKey = field(init=False, repr=False, compare=False)  # made once, for lookups

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.team, self.name))

    def taken(self, document: object) -> tuple[Condition, ...] | None:
        """The conditions by which it takes a document; None where it is disabled, the document does not match, or is an
        alert about its own destination. Raises TooMuchWork.
        """
        fields = unfolded(document)
        return self.decided(fields, alert=alert_destination(fields))

    def decided(
        self, fields: object, effort: Effort | None = None, *, alert: tuple[object, object] | None
    ) -> tuple[Condition, ...] | None:
        """The same of an `unfolded` document. alert: the document's `alert_destination`."""
        if not self.enabled or (alert is not None and alert == (self.team, self.destination)):
            return None
        return self.pattern.met(fields, effort)


@value
class RoutingDecision:
    """A route's decision on an event. A disabled route takes none, whatever its conditions say."""

    route: Route
    matched: bool
    conditions: tuple[Condition, ...]


@value
class Matched:
    """Decisions of the matching routes, ordered by team and name; undecided: routes whose steps exceed their limit."""

    decisions: list[RoutingDecision]
    undecided: list[Route]


class RouteSet:
    """The routes of one version of the configuration; immutable. `changed` makes another set, which shares the rest."""

    def __init__(self, version: int, routes: Iterable[Route] = (), *, index: RouteIndex[Route] | None = None) -> None:
        self.version = version
        self._index = index or RouteIndex(routes)

    def changed(self, version: int, *, removed: Iterable[RouteKey] = (), added: Iterable[Route] = ()) -> "RouteSet":
        """A set without the removed routes, and with the added ones, which replace routes of the same key."""
        return RouteSet(version, index=self._index.changed(removed=removed, added=added))

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes, ordered by team and name."""
        return tuple(sorted(self._index.routes.values(), key=attrgetter("key")))

    def asks_for(self, event_type: str) -> bool:
        """Whether some route could match an event of this type."""
        return self._index.asks_for(event_type)

    def match(self, document: object, room: Effort | None = None) -> Matched:
        """Match a document, with limits on the steps of a route and of a team's routes together.

        room: one limit for all routes instead. Raises TooMuchWork where it is exceeded.
        """
        if isinstance(document, dict) and type(kind := document.get("type")) is str and not self.asks_for(kind):
            return Matched([], [])
        fields = unfolded(document)
        alert = alert_destination(fields)
        candidates = self._index.candidates(fields)
        if room is not None:
            decided = [(route, route.decided(fields, room, alert=alert)) for route in candidates]
            undecided = list[Route]()
        else:
            decided, undecided = _decided(candidates, fields, alert)
        decisions = [
            RoutingDecision(route, True, conditions) for route, conditions in decided if conditions is not None
        ]
        decisions.sort(key=attrgetter("route.key"))
        return Matched(decisions, undecided)

    def explain(self, document: object) -> list[RoutingDecision]:
        """A decision for every route, disabled ones included, ordered by team and name."""
        return list(explained(self.routes, document))


def explained(routes: Iterable[Route], document: object) -> Iterator[RoutingDecision]:
    """Yield each route's decision on a document."""
    fields = unfolded(document)
    for route in routes:
        yield _decision(route, fields, Effort(MAX_STEPS))


def alert_destination(document: object) -> tuple[object, object] | None:
    """The (team, destination) that an alert is about, or None. Its delivery there would fail as well."""
    if not isinstance(document, dict) or not str(document.get("type")).startswith(ALERTS):
        return None
    payload = document.get("payload")
    return (payload.get("team"), payload.get("destination")) if isinstance(payload, dict) else None


def _decided(
    candidates: Iterable[Route], fields: object, alert: tuple[object, object] | None
) -> tuple[list[tuple[Route, tuple[Condition, ...] | None]], list[Route]]:
    """Each route with the conditions by which it takes a document, or None; and the undecided routes."""
    effort, left = Effort(), dict[str, float]()
    decided, undecided = list[tuple[Route, tuple[Condition, ...] | None]](), list[Route]()
    for route in candidates:
        allowed = effort.left = MAX_STEPS if not left else min(MAX_STEPS, left.get(route.team, TEAM_STEPS))
        try:
            decided.append((route, route.decided(fields, effort, alert=alert)))
        except TooMuchWork:
            undecided.append(route)
        if allowed - effort.left > LIGHT:
            left[route.team] = left.get(route.team, TEAM_STEPS) - (allowed - max(effort.left, 0))
    undecided.sort(key=attrgetter("key"))
    return decided, undecided


def _decision(route: Route, fields: object, effort: Effort) -> RoutingDecision:
    try:
        conditions = route.pattern.explain_fields(fields, effort)
    except TooMuchWork as undecided:
        return RoutingDecision(route, False, (Condition("", "an answer", str(undecided), present=True, matched=False),))
    if alert_destination(fields) == (route.team, route.destination):
        actual = f"{route.team}/{route.destination}"
        other = "another destination than the one that the alert tells of"
        conditions += (Condition(path="", expected=other, actual=actual, present=True, matched=False),)
    matched = route.enabled and all(condition.matched for condition in conditions)
    return RoutingDecision(route, matched, conditions)
