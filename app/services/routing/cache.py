"""The live routes, compiled once per route set and process.

Opens short, read-only transactions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.db import routes as route_rows
from app.db.engine import Database
from app.db.models import RouteVersion
from app.domain.patterns import ASKED, KEPT, compile_pattern
from app.domain.routing import Route, RouteSet
from app.errors import InvalidPattern
from app.telemetry import get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class RouteCache:
    """The enabled routes. Reads one number per batch; a change of routes is in force with the next batch.

    Only changed routes are read and compiled: all of 100,000 would take seconds.
    """

    _routes: RouteSet = field(default_factory=lambda: RouteSet(-1))

    def current(self, database: Database) -> RouteSet:
        with database.read() as session:
            version, known = route_rows.current_version(session), self._routes
            if version > known.version >= 0:
                rows = route_rows.changed_since(session, known.version)
                added = map(_compile, (row for row in rows if row.until_set is None and row.enabled))
                removed = {(row.team, row.name) for row in rows}
                self._routes = known.changed(version, removed=removed, added=filter(None, added))
            elif version != known.version:  # the first call, or the database was restored
                self._routes = compiled(version, (row for row in route_rows.live(session) if row.enabled))
        return self._routes


def compiled(version: int, rows: Iterable[RouteVersion]) -> RouteSet:
    """A route set from its rows, disabled routes included: they can be explained, and match nothing."""
    return RouteSet(version, each_compiled(rows))


def each_compiled(rows: Iterable[RouteVersion]) -> Iterator[Route]:
    """Compile the rows one by one, and skip those whose pattern is refused."""
    return (route for route in map(_compile, rows) if route)


def _compile(row: RouteVersion) -> Route | None:
    """The compiled route, or None where this release refuses its pattern: one route must not stop all events."""
    try:
        pattern = compile_pattern(row.pattern, KEPT)
    except InvalidPattern as refused:
        log.error("route_unusable", team=row.team, route=row.name, version=row.version, problem=str(refused))
        return None
    return Route(
        name=row.name,
        version=row.version,
        team=row.team,
        destination=row.destination,
        job=row.job,
        pattern=pattern,
        enabled=row.enabled,
    )


def refused_patterns(rows: Iterable[RouteVersion]) -> tuple[dict[str, str], dict[str, str]]:
    """The reasons for refusing patterns, by `team/name`: of unusable routes, and of routes that stay in force although
    their pattern is no longer accepted in a new definition.
    """
    unusable: dict[str, str] = {}
    kept: dict[str, str] = {}
    for row in rows:
        try:
            compile_pattern(row.pattern, ASKED)
        except InvalidPattern as refused:
            reasons = kept
            try:
                compile_pattern(row.pattern, KEPT)
            except InvalidPattern:
                reasons = unusable
            reasons[f"{row.team}/{row.name}"] = str(refused)
    return unusable, kept
