"""Which routes an event feeds, and why: asking what matches, apart from doing anything about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from app.domain.patterns import Condition, Effort, Pattern
from app.domain.patterns.effort import MAX_STEPS
from app.domain.patterns.fields import unfolded
from app.domain.route_index import RouteIndex
from app.errors import TooMuchWork

TEAM_STEPS: Final = 3 * MAX_STEPS  # of all routes of a team on one event: no team takes the time of the others
LIGHT: Final = 1_000  # steps of a route that are not counted for its team: nearly all routes take fewer
ALERTS: Final = "waylink."  # how the types of events begin that tell of Waylink's own trouble
# Why an event is not routed: its routes took what it says before.
ANNOUNCED_BEFORE: Final = "the creation of this generation was routed before"
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
    key: tuple[str, str] = field(init=False, repr=False, compare=False)  # team and name, in one for every look-up

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.team, self.name))

    def taken(self, document: object) -> tuple[Condition, ...] | None:
        """The conditions by which it takes a document; None where it is off, the document does not match, or is an
        alert of its own destination. Raises TooMuchWork.
        """
        fields = unfolded(document)
        return self.decided(fields, told=told_of(fields))

    def decided(
        self, fields: object, effort: Effort | None = None, *, told: tuple[object, object] | None
    ) -> tuple[Condition, ...] | None:
        """The same of a document that is `unfolded` already. told: the destination that an alert tells of."""
        if not self.enabled or (told is not None and told == (self.team, self.destination)):
            return None
        return self.pattern.met(fields, effort)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a route takes an event. One that is disabled takes none, whatever its conditions say."""

    route: Route
    matched: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """A decision for each route that matches, ordered by team and name, and the routes that came to no decision: it
    would have taken more work than is allowed.
    """

    decisions: list[Decision]
    undecided: list[Route]


class RouteSet:
    """All routes of one version of the configuration; only read. A change makes another set, which shares the rest."""

    def __init__(self, version: int, routes: Iterable[Route] = (), *, index: RouteIndex[Route] | None = None) -> None:
        self.version = version
        self._index = index or RouteIndex(routes)

    def changed(
        self, version: int, *, removed: Iterable[tuple[str, str]] = (), added: Iterable[Route] = ()
    ) -> "RouteSet":
        """The set without these routes, by team and name, and with those added; one that is known takes its place."""
        return RouteSet(version, index=self._index.changed(removed=removed, added=added))

    @property
    def routes(self) -> tuple[Route, ...]:
        """By team and name."""
        return tuple(sorted(self._index.routes.values(), key=attrgetter("key")))

    def match(self, document: object, room: Effort | None = None) -> Matched:
        """Which routes take a document. A route's work is bounded, and so is that of all routes of a team.

        room: instead, for all routes together. Raises TooMuchWork where it is not enough.
        """
        fields = unfolded(document)
        told = told_of(fields)
        candidates = self._index.candidates(fields)
        if room is not None:
            decided = [(route, route.decided(fields, room, told=told)) for route in candidates]
            undecided = list[Route]()
        else:
            decided, undecided = _decided(candidates, fields, told)
        decisions = [Decision(route, True, conditions) for route, conditions in decided if conditions is not None]
        decisions.sort(key=attrgetter("route.key"))
        return Matched(decisions, undecided)

    def explain(self, document: object) -> list[Decision]:
        """A decision for every route, disabled ones too, ordered by team and name."""
        return list(explained(self.routes, document))


def explained(routes: Iterable[Route], document: object) -> Iterator[Decision]:
    """Each route's decision on a document, one after the other."""
    fields = unfolded(document)
    for route in routes:
        yield _decision(route, fields, Effort(MAX_STEPS))


def told_of(document: object) -> tuple[object, object] | None:
    """The destination that an alert tells of, by team and name. What has failed there would only fail there again."""
    if not isinstance(document, dict) or not str(document.get("type")).startswith(ALERTS):
        return None
    payload = document.get("payload")
    return (payload.get("team"), payload.get("destination")) if isinstance(payload, dict) else None


def _decided(
    candidates: Iterable[Route], fields: object, told: tuple[object, object] | None
) -> tuple[list[tuple[Route, tuple[Condition, ...] | None]], list[Route]]:
    """Each route with the conditions by which it takes a document, and the routes that come to no decision."""
    effort, left = Effort(), dict[str, float]()
    decided, undecided = list[tuple[Route, tuple[Condition, ...] | None]](), list[Route]()
    for route in candidates:
        allowed = effort.left = MAX_STEPS if not left else min(MAX_STEPS, left.get(route.team, TEAM_STEPS))
        try:
            decided.append((route, route.decided(fields, effort, told=told)))
        except TooMuchWork:
            undecided.append(route)
        if allowed - effort.left > LIGHT:
            left[route.team] = left.get(route.team, TEAM_STEPS) - (allowed - max(effort.left, 0))
    undecided.sort(key=attrgetter("key"))
    return decided, undecided


def _decision(route: Route, fields: object, effort: Effort) -> Decision:
    try:
        conditions = route.pattern.explain_fields(fields, effort)
    except TooMuchWork as undecided:
        return Decision(route, False, (Condition("", "an answer", str(undecided), present=True, matched=False),))
    if told_of(fields) == (route.team, route.destination):
        actual = f"{route.team}/{route.destination}"
        other = "another destination than the one that the alert tells of"
        conditions += (Condition(path="", expected=other, actual=actual, present=True, matched=False),)
    matched = route.enabled and all(condition.matched for condition in conditions)
    return Decision(route, matched, conditions)
