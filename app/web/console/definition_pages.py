"""The pages of routes, destinations and teams."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import structs
from starlette.responses import Response

from app.web.api import definitions, destinations
from app.web.console.calling import ask
from app.web.console.figure_charts import PATH as FIGURES
from app.web.console.lists import Filter, List
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Button, Column, RowsPage, Section, View, row_page

ROUTES, DESTINATIONS, TEAMS = "/console/routes", "/console/destinations", "/console/teams"
FILE_NOTE: Final = "`waylink.toml` defines it: change it there, it is read-only here."

_ROUTE_LIST: Final = List(
    definitions.list_routes, (Filter("team"), Filter("destination"), Filter("enabled"), Filter("source"))
)
_DESTINATION_LIST: Final = List(
    destinations.list_destinations,
    (Filter("team"), Filter("kind"), Filter("enabled"), Filter("source"), Filter("retired")),
)
_TEAM_LIST: Final = List(definitions.list_teams, (Filter("source"),))


def path_of(base: str, row: Any) -> str:
    """The page of a route or a destination."""
    return f"{base}/{row.team}/{row.name}"


_ROUTES: Final = RowsPage(
    "Routes",
    "route",
    (
        Column("Route", "name", href=lambda row: path_of(ROUTES, row)),
        Column("Team", "team", href=lambda row: link(ROUTES, team=row.team)),
        Column("Job", "job", "code"),
        Column("Destination", "destination", href=lambda row: f"{DESTINATIONS}/{row.team}/{row.destination}"),
        Column("Makes jobs", "enabled"),
        Column("Version", "version"),
        Column("Defined in", "source"),
    ),
    "No route is in force. Add one here, or in `waylink.toml`.",
    "A route makes a job for its destination of each event that its pattern matches.",
    (
        Button("Add a route", f"{ROUTES}/add", "POST /console/routes/add"),
        Button("Try a pattern", f"{ROUTES}/test", "POST /console/routes/test"),
    ),
    (View("In force", {}), View("Disabled", {"enabled": "false"})),
)
_DESTINATIONS: Final = RowsPage(
    "Destinations",
    "destination",
    (
        Column("Destination", "name", href=lambda row: path_of(DESTINATIONS, row)),
        Column("Team", "team", href=lambda row: link(DESTINATIONS, team=row.team)),
        Column("Kind", "kind"),
        Column("Queue", "queue", "code"),
        Column("URL", "url"),
        Column("Jobs a second", "rate_per_second"),
        Column("Disabled", "disabled_at"),
        Column("Defined in", "source"),
    ),
    "No destination is in force. Add one here, or in `waylink.toml`.",
    "The places where teams take their jobs.",
    (
        Button("Add an HTTP endpoint", f"{DESTINATIONS}/-/http", "POST /console/destinations/-/http"),
        Button("Add a Celery queue", f"{DESTINATIONS}/-/celery", "POST /console/destinations/-/celery"),
    ),
    (View("In force", {}), View("Disabled", {"enabled": "false"}), View("Removed", {"retired": "true"})),
)
_TEAMS: Final = RowsPage(
    "Teams",
    "team",
    (
        Column("Team", "name", href=lambda row: f"{TEAMS}/{row.name}"),
        Column("Defined in", "source"),
        Column("Since", "created_at"),
    ),
    "There is no team. Add one here, or in `waylink.toml`.",
    buttons=(Button("Add a team", f"{TEAMS}/-/add", "POST /console/teams/-/add"),),
)


async def show_routes(context: ConsoleContext, visit: Visit) -> Response:
    """Routes in force, by team and name."""
    return await _ROUTES.of_list(context, visit, _ROUTE_LIST)


async def show_destinations(context: ConsoleContext, visit: Visit) -> Response:
    """Destinations, by team and name."""
    return await _DESTINATIONS.of_list(context, visit, _DESTINATION_LIST)


async def show_teams(context: ConsoleContext, visit: Visit) -> Response:
    """Teams, by name."""
    return await _TEAMS.of_list(context, visit, _TEAM_LIST)


async def show_route(context: ConsoleContext, visit: Visit) -> Response:
    """One route: its pattern, its versions and how each differs from the one before."""
    parts = visit.request.path_params
    found = await ask(context, visit, definitions.get_route, **parts)
    versions = (await ask(context, visit, definitions.list_route_versions, **parts)).data
    path, operation = path_of(ROUTES, found), "POST /console/routes/{team}/{route}/"
    jobs = link("/console/jobs", team=found.team, route=f"{found.team}/{found.name}")
    buttons = [
        Button("Try its pattern", link(f"{ROUTES}/test", pattern=pretty(found.pattern)), "POST /console/routes/test"),
        Button("Its jobs", jobs, "GET /console/jobs"),
    ]
    if found.source != "file" and found.until_set is None:
        name = "disable" if found.enabled else "enable"
        buttons += [
            Button("Change", f"{path}/change", f"{operation}change"),
            Button(name.capitalize(), f"{path}/{name}", operation + name),
            Button("Remove", f"{path}/remove", f"{operation}remove", "danger"),
        ]
    return await row_page(
        context,
        visit,
        title=f"{found.team}/{found.name}",
        back=("Routes", ROUTES),
        mark=_state(found),
        note=FILE_NOTE if found.source == "file" else None,
        buttons=buttons,
        sections=[
            Section(
                "Route",
                {
                    "Team": found.team,
                    "Job": found.job,
                    "Destination": found.destination,
                    "Version": found.version,
                    "Defined in": found.source,
                    "This version since": found.created_at,
                },
            ),
            Section("Pattern", text=pretty(found.pattern)),
            *_differences(versions),
        ],
        subject=f"{found.team}/{found.name}",
    )


def _state(route: Any) -> str:
    if route.until_set is not None:
        return "removed"
    return "active" if route.enabled else "disabled"


def _differences(versions: Sequence[Any]) -> list[Section]:
    """A section for each version: what it changed, newest first."""
    found = []
    for newer, older in zip(versions, [*versions[1:], None], strict=True):
        if older is None:
            text = "The first version."
        else:
            lines = difflib.unified_diff(_lines(older), _lines(newer), lineterm="", n=2)
            text = "\n".join(list(lines)[2:]) or "Nothing but its number differs."
        found.append(Section(f"Version {newer.version}", {"Since": newer.created_at}, text=text))
    return found


def _lines(version: Any) -> list[str]:
    known = structs.asdict(version)
    return pretty({name: known[name] for name in ("destination", "job", "enabled", "pattern")}).splitlines()


def pretty(of: Mapping[str, Any]) -> str:
    """An object as people read it."""
    return json.dumps(of, indent=2, ensure_ascii=False)


_ACT: Final = "POST /console/destinations/{team}/{destination}/"


async def show_destination(context: ConsoleContext, visit: Visit) -> Response:
    """One destination: its definition, its health, its signing secrets by id."""
    parts = visit.request.path_params
    found = await ask(context, visit, destinations.get_destination, **parts)
    qualified = f"{found.team}/{found.name}"
    sections = [_definition(found), _health(found.health)]
    if found.kind == "http":
        secrets = (await ask(context, visit, destinations.list_destination_secrets, **parts)).data
        sections.append(_secrets(found, secrets))
    return await row_page(
        context,
        visit,
        title=qualified,
        back=("Destinations", DESTINATIONS),
        mark=_condition(found),
        note=FILE_NOTE if found.source == "file" else None,
        buttons=_buttons(found, qualified),
        sections=sections,
        subject=qualified,
    )


def _buttons(found: Any, qualified: str) -> list[Button]:
    path = path_of(DESTINATIONS, found)
    buttons = [Button("Its jobs", link("/console/jobs", destination=qualified), "GET /console/jobs")]
    buttons += [
        Button(label, link(f"{FIGURES}/{figure}", destination=qualified), "GET /console/figures/{figure}")
        for label, figure in (
            ("Attempts over time", "jobs"),
            ("Time to a job", "to-job"),
            ("Dead letters", "discarded"),
        )
    ]
    if found.retired_at is None:
        name = "enable" if found.disabled_at else "disable"
        buttons.append(Button(name.capitalize(), f"{path}/{name}", _ACT + name))
        if found.source != "file":
            buttons.append(Button("Change the rate", f"{path}/rate", f"{_ACT}rate"))
            buttons.append(Button("Remove", f"{path}/remove", f"{_ACT}remove", "danger"))
    return buttons


def _definition(found: Any) -> Section:
    return Section(
        "Destination",
        {
            "Team": found.team,
            "Kind": found.kind,
            "Queue": found.queue,
            "URL": found.url,
            "On the team's own broker": found.own_broker,
            "Jobs a second at most": found.rate_per_second,
            "Time-out in seconds": found.timeout_seconds,
            "Disabled": found.disabled_at,
            "Why disabled": found.disabled_reason,
            "Defined in": found.source,
        },
    )


def _health(health: Any) -> Section:
    if not health:
        return Section("Health", {"Health": "no job was handed over yet"})
    return Section(
        "Health",
        {
            "Failing since": health.failing_since,
            "Next probe": health.probe_at,
            "Last success": health.last_succeeded_at,
            "Last failure": health.last_failed_at,
            "Last error": health.last_error,
        },
    )


def _secrets(found: Any, secrets: Sequence[Any]) -> Section:
    rotate = Button("Rotate the secret", f"{path_of(DESTINATIONS, found)}/rotate", f"{_ACT}rotate")
    columns = (Column("Secret", "id", "code"), Column("Made", "created_at"), Column("Ends", "expires_at"))
    managed = found.source != "file" and found.retired_at is None
    return Section("Signing secrets", columns=columns, rows=secrets, buttons=(rotate,) if managed else ())


def _condition(found: Any) -> str:
    if found.retired_at:
        return "removed"
    if found.disabled_at:
        return "disabled"
    return "failing" if found.health and found.health.failing_since else "active"


async def show_team(context: ConsoleContext, visit: Visit) -> Response:
    """One team, with the ways to what is its own."""
    found = await ask(context, visit, definitions.get_team, **visit.request.path_params)
    portal = Button("Portal", f"{TEAMS}/{found.name}/links", "GET /console/teams/{team}/links")
    removal = Button("Remove", f"{TEAMS}/{found.name}/remove", "POST /console/teams/{team}/remove", "danger")
    return await row_page(
        context,
        visit,
        title=found.name,
        back=("Teams", TEAMS),
        note=FILE_NOTE if found.source == "file" else None,
        buttons=[
            Button("Routes", link(ROUTES, team=found.name), "GET /console/routes"),
            Button("Destinations", link(DESTINATIONS, team=found.name), "GET /console/destinations"),
            Button("Jobs", link("/console/jobs", team=found.name), "GET /console/jobs"),
            *((portal,) if found.retired_at is None else ()),
            *((removal,) if found.source != "file" and found.retired_at is None else ()),
        ],
        sections=[
            Section("Team", {"Defined in": found.source, "Since": found.created_at, "Removed": found.retired_at})
        ],
        subject=found.name,
    )
