"""Teams, destinations and routes: who subscribes, where jobs go, and which events become them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec import UNSET, Struct, structs

from app.db import definitions as listing
from app.db.definitions import DefinitionFilters, shown_destination, shown_route, shown_team
from app.db.models import Destination
from app.domain.access import Scope
from app.errors import FieldFault, InvalidFields
from app.services.defining import destinations, routes, teams
from app.services.defining.editor import Editor
from app.web.api.definition_shapes import (
    DestinationChange,
    DestinationQuery,
    DestinationRecord,
    DestinationRow,
    DisableQuery,
    EditQuery,
    NewDestination,
    NewRoute,
    NewTeam,
    RouteChange,
    RouteQuery,
    RouteRow,
    TeamQuery,
    TeamRow,
    Versions,
)
from app.web.api.endpoint import Call, Endpoint, Page, endpoint, record

Row = TypeVar("Row")


@endpoint("GET /teams", scope=Scope.VIEWER, teams=True)
def list_teams(call: Call, query: TeamQuery) -> Page[TeamRow]:
    """List teams, by name."""
    filters = DefinitionFilters(limit=query.limit + 1, after=query.cursor, team=call.team, source=query.source)
    with call.context.database.read() as session:
        return _page(listing.teams(session, filters), query.limit, TeamRow, "name")


@endpoint("POST /teams", scope=Scope.OPERATOR, status=201)
def add_team(call: Call, body: NewTeam) -> TeamRow:
    """Add a team."""
    with call.context.database.write() as session:
        made = teams.add(session, body.name, editor=_editor(call), now=call.context.clock())
        return record(shown_team(made), TeamRow)


@endpoint("GET /teams/{team}", scope=Scope.VIEWER, teams=True)
def get_team(call: Call, team: str) -> TeamRow:
    """One team."""
    with call.context.database.read() as session:
        return record(shown_team(teams.get(session, team, _editor(call))), TeamRow)


@endpoint("DELETE /teams/{team}", scope=Scope.OPERATOR)
def remove_team(call: Call, team: str) -> TeamRow:
    """Remove a team. While it has routes, destinations or tokens, that is a conflict."""
    with call.context.database.write() as session:
        gone = teams.remove(session, team, editor=_editor(call), now=call.context.clock())
        return record(shown_team(gone), TeamRow)


@endpoint("GET /routes", scope=Scope.VIEWER, teams=True)
def list_routes(call: Call, query: RouteQuery) -> Page[RouteRow]:
    """List the routes in force, by name."""
    filters = DefinitionFilters(
        limit=query.limit + 1,
        after=query.cursor,
        team=call.team or query.team,
        destination=query.destination,
        enabled=query.enabled,
        source=query.source,
    )
    if call.team is not None and query.team not in {None, call.team}:
        return Page(data=[], next_cursor=None)
    with call.context.database.read() as session:
        return _page(listing.routes(session, filters), query.limit, RouteRow, "name")


@endpoint("POST /routes", scope=Scope.OPERATOR, teams=True, status=201)
def add_route(call: Call, body: NewRoute) -> RouteRow:
    """Put a route in force. Workers route by it from their next batch on."""
    fields = {**structs.asdict(body), "team": _team(call, body.team)}
    with call.context.database.write() as session:
        made = routes.add(session, fields, editor=_editor(call), now=call.context.clock())
        return record(shown_route(made), RouteRow)


@endpoint("GET /routes/{route}", scope=Scope.VIEWER, teams=True)
def get_route(call: Call, route: str) -> RouteRow:
    """One route: its newest version. `until_set` is null while it is in force."""
    with call.context.database.read() as session:
        return record(shown_route(routes.get(session, route, _editor(call))), RouteRow)


@endpoint("GET /routes/{route}/versions", scope=Scope.VIEWER, teams=True)
def list_route_versions(call: Call, route: str) -> Versions:
    """List all versions of a route, newest first."""
    with call.context.database.read() as session:
        found = routes.history(session, route, _editor(call))
    return Versions(data=[record(shown_route(one), RouteRow) for one in found])


@endpoint("PATCH /routes/{route}", scope=Scope.OPERATOR, teams=True)
def change_route(call: Call, route: str, query: EditQuery, body: RouteChange) -> RouteRow:
    """Change a route, by a new version. What says the same makes none."""
    return _change_route(call, route, query, _given(body))


@endpoint("POST /routes/{route}/enable", scope=Scope.OPERATOR, teams=True)
def enable_route(call: Call, route: str, query: EditQuery) -> RouteRow:
    """Let a route make jobs again."""
    return _change_route(call, route, query, {"enabled": True})


@endpoint("POST /routes/{route}/disable", scope=Scope.OPERATOR, teams=True)
def disable_route(call: Call, route: str, query: EditQuery) -> RouteRow:
    """Keep a route from making jobs. Jobs that are there are still handed over."""
    return _change_route(call, route, query, {"enabled": False})


@endpoint("DELETE /routes/{route}", scope=Scope.OPERATOR, teams=True)
def remove_route(call: Call, route: str, query: EditQuery) -> RouteRow:
    """End a route. Its versions stay, and its name goes on counting when it comes back."""
    with call.context.database.write() as session:
        ended = routes.remove(session, route, version=query.version, editor=_editor(call), now=call.context.clock())
        return record(shown_route(ended), RouteRow)


@endpoint("GET /destinations", scope=Scope.VIEWER, teams=True)
def list_destinations(call: Call, query: DestinationQuery) -> Page[DestinationRow]:
    """List destinations, by team and name."""
    filters = DefinitionFilters(
        limit=query.limit + 1,
        after=query.cursor,
        team=call.team or query.team,
        kind=query.kind,
        enabled=query.enabled,
        source=query.source,
        in_force=not query.retired,
    )
    if call.team is not None and query.team not in {None, call.team}:
        return Page(data=[], next_cursor=None)
    with call.context.database.read() as session:
        return _page(listing.destinations(session, filters), query.limit, DestinationRow, "team", "name")


@endpoint("POST /destinations", scope=Scope.OPERATOR, teams=True, status=201)
def add_destination(call: Call, body: NewDestination) -> DestinationRecord:
    """Add a destination of a team."""
    fields = _given(body)
    team, name = _team(call, fields.pop("team", UNSET)), fields.pop("name")
    with call.context.database.write() as session:
        made = destinations.add(session, fields, team=team, name=name, editor=_editor(call), now=call.context.clock())
        return _record(session, made)


@endpoint("GET /destinations/{team}/{destination}", scope=Scope.VIEWER, teams=True)
def get_destination(call: Call, team: str, destination: str) -> DestinationRecord:
    """One destination, and how it does."""
    with call.context.database.read() as session:
        return _record(session, destinations.get(session, team=team, name=destination, editor=_editor(call)))


@endpoint("PATCH /destinations/{team}/{destination}", scope=Scope.OPERATOR, teams=True)
def change_destination(
    call: Call, team: str, destination: str, query: EditQuery, body: DestinationChange
) -> DestinationRecord:
    """Change a destination. Jobs that wait go where it says from then on."""
    with call.context.database.write() as session:
        changed = destinations.change(
            session,
            _given(body),
            team=team,
            name=destination,
            version=query.version,
            editor=_editor(call),
            now=call.context.clock(),
        )
        return _record(session, changed)


@endpoint("POST /destinations/{team}/{destination}/enable", scope=Scope.OPERATOR, teams=True)
def enable_destination(call: Call, team: str, destination: str) -> DestinationRecord:
    """Let the jobs of a destination go out again, parked ones too."""
    with call.context.database.write() as session:
        one = destinations.enable(session, team=team, name=destination, editor=_editor(call), now=call.context.clock())
        return _record(session, one)


@endpoint("POST /destinations/{team}/{destination}/disable", scope=Scope.OPERATOR, teams=True)
def disable_destination(call: Call, team: str, destination: str, query: DisableQuery) -> DestinationRecord:
    """Park the jobs of a destination until it is enabled. None is lost, and no attempt is used up."""
    with call.context.database.write() as session:
        one = destinations.disable(
            session,
            call.context.alerts,
            team=team,
            name=destination,
            reason=query.reason,
            editor=_editor(call),
            now=call.context.clock(),
        )
        return _record(session, one)


@endpoint("DELETE /destinations/{team}/{destination}", scope=Scope.OPERATOR, teams=True)
def remove_destination(call: Call, team: str, destination: str, query: EditQuery) -> DestinationRecord:
    """Retire a destination that no route in force feeds. Jobs that are there are still handed over."""
    with call.context.database.write() as session:
        gone = destinations.remove(
            session,
            team=team,
            name=destination,
            version=query.version,
            editor=_editor(call),
            now=call.context.clock(),
        )
        return _record(session, gone)


def _editor(call: Call) -> Editor:
    return Editor(call.actor, call.team)


def _team(call: Call, given: str | Any) -> str:
    """The team that a body names, or the caller's own. Raises InvalidFields where neither is there."""
    team = call.team if given is UNSET else given
    if team is None:
        raise InvalidFields([FieldFault("team", "required", "is missing: this token is no team's")])
    return str(team)


def _change_route(call: Call, name: str, query: EditQuery, fields: Mapping[str, Any]) -> RouteRow:
    with call.context.database.write() as session:
        changed = routes.change(
            session, name, fields, version=query.version, editor=_editor(call), now=call.context.clock()
        )
        return record(shown_route(changed), RouteRow)


def _record(session: Any, one: Destination) -> DestinationRecord:
    health = listing.health(session, team=one.team, name=one.name)
    return record({**shown_destination(one), "health": health}, DestinationRecord)


def _given(body: Struct) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(body).items() if value is not UNSET}


def _page(rows: Sequence[Mapping[str, Any]], limit: int, shape: type[Row], *key: str) -> Page[Row]:
    """A page of rows that go on after a name."""
    more = len(rows) > limit
    cursor = "/".join(rows[limit - 1][part] for part in key) if more else None
    return Page(data=[record(row, shape) for row in rows[:limit]], next_cursor=cursor)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_teams,
    add_team,
    get_team,
    remove_team,
    list_routes,
    add_route,
    get_route,
    list_route_versions,
    change_route,
    enable_route,
    disable_route,
    remove_route,
    list_destinations,
    add_destination,
    get_destination,
    change_destination,
    enable_destination,
    disable_destination,
    remove_destination,
)
