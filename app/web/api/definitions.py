"""Endpoints for teams and routes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec import UNSET, Struct, structs

from app.db.read import definitions as listing
from app.db.read.definitions import DefinitionFilters, shown_route, shown_team
from app.domain.access import Scope
from app.errors import FieldFault, InvalidFields
from app.services.definitions import routes, teams
from app.services.definitions.editor import Editor
from app.web.api.definition_shapes import (
    EditQuery,
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
        return page_by_name(listing.teams(session, filters), query.limit, TeamRow, "name")


@endpoint("POST /teams", scope=Scope.OPERATOR, status=201)
def add_team(call: Call, body: NewTeam) -> TeamRow:
    """Add a team."""
    with call.context.database.write() as session:
        made = teams.add(session, body.name, editor=editor_of(call), now=call.context.clock())
        return record(shown_team(made), TeamRow)


@endpoint("GET /teams/{team}", scope=Scope.VIEWER, teams=True)
def get_team(call: Call, team: str) -> TeamRow:
    """One team."""
    with call.context.database.read() as session:
        return record(shown_team(teams.get(session, team, editor_of(call))), TeamRow)


@endpoint("DELETE /teams/{team}", scope=Scope.OPERATOR)
def remove_team(call: Call, team: str) -> TeamRow:
    """Remove a team. While it has routes, destinations or tokens, that is a conflict."""
    with call.context.database.write() as session:
        gone = teams.remove(session, team, editor=editor_of(call), now=call.context.clock())
        return record(shown_team(gone), TeamRow)


@endpoint("GET /routes", scope=Scope.VIEWER, teams=True)
def list_routes(call: Call, query: RouteQuery) -> Page[RouteRow]:
    """List the routes in force, by team and name."""
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
        return page_by_name(listing.routes(session, filters), query.limit, RouteRow, "team", "name")


@endpoint("POST /routes", scope=Scope.OPERATOR, teams=True, status=201)
def add_route(call: Call, body: NewRoute) -> RouteRow:
    """Put a route in force. Workers route by it from their next batch on."""
    draft = routes.drafted({**structs.asdict(body), "team": team_of(call, body.team)})
    with call.context.database.write() as session:
        made = routes.add(session, draft, editor=editor_of(call), now=call.context.clock())
        return record(shown_route(made), RouteRow)


@endpoint("GET /routes/{team}/{route}", scope=Scope.VIEWER, teams=True)
def get_route(call: Call, team: str, route: str) -> RouteRow:
    """One route: its newest version. `until_set` is null while it is in force."""
    with call.context.database.read() as session:
        return record(shown_route(routes.get(session, team=team, name=route, editor=editor_of(call))), RouteRow)


@endpoint("GET /routes/{team}/{route}/versions", scope=Scope.VIEWER, teams=True)
def list_route_versions(call: Call, team: str, route: str) -> Versions:
    """List all versions of a route, newest first."""
    with call.context.database.read() as session:
        found = routes.history(session, team=team, name=route, editor=editor_of(call))
    return Versions(data=[record(shown_route(route_version), RouteRow) for route_version in found])


@endpoint("PATCH /routes/{team}/{route}", scope=Scope.OPERATOR, teams=True)
def change_route(call: Call, team: str, route: str, query: EditQuery, body: RouteChange) -> RouteRow:
    """Change a route, by a new version. A change without a difference makes none."""
    return _change_route(call, team, route, query, given(body))


@endpoint("POST /routes/{team}/{route}/enable", scope=Scope.OPERATOR, teams=True)
def enable_route(call: Call, team: str, route: str, query: EditQuery) -> RouteRow:
    """Let a route make jobs again."""
    return _change_route(call, team, route, query, {"enabled": True})


@endpoint("POST /routes/{team}/{route}/disable", scope=Scope.OPERATOR, teams=True)
def disable_route(call: Call, team: str, route: str, query: EditQuery) -> RouteRow:
    """Keep a route from making jobs. Existing jobs are still delivered."""
    return _change_route(call, team, route, query, {"enabled": False})


@endpoint("DELETE /routes/{team}/{route}", scope=Scope.OPERATOR, teams=True)
def remove_route(call: Call, team: str, route: str, query: EditQuery) -> RouteRow:
    """End a route. Its versions stay, and their numbers continue when the name comes back."""
    with call.context.database.write() as session:
        ended = routes.remove(
            session, team=team, name=route, version=query.version, editor=editor_of(call), now=call.context.clock()
        )
        return record(shown_route(ended), RouteRow)


def editor_of(call: Call) -> Editor:
    return Editor(call.actor, call.team)


def team_of(call: Call, named: str | Any) -> str:
    """The team that a body names, or the caller's own. Raises InvalidFields where there is neither."""
    team = call.team if named is UNSET else named
    if team is None:
        raise InvalidFields([FieldFault("team", "required", "is missing: this token is no team's")])
    return str(team)


def _change_route(call: Call, team: str, name: str, query: EditQuery, fields: Mapping[str, Any]) -> RouteRow:
    draft = routes.drafted_change(call.context.database, fields, team=team, name=name)
    with call.context.database.write() as session:
        changed = routes.change(
            session,
            draft,
            team=team,
            name=name,
            version=query.version,
            editor=editor_of(call),
            now=call.context.clock(),
        )
        return record(shown_route(changed), RouteRow)


def given(body: Struct) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(body).items() if value is not UNSET}


def page_by_name(rows: Sequence[Mapping[str, Any]], limit: int, shape: type[Row], *key: str) -> Page[Row]:
    """A page of rows that continue after a name."""
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
)
