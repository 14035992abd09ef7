"""Acts on routes and teams, and the trial of a pattern."""

from collections.abc import Mapping
from typing import Final

from app.web.api import definitions
from app.web.console.act_pages import (
    Act,
    Field,
    Parts,
    Told,
    optional,
    telling,
    with_sentences,
)
from app.web.console.calling import ask
from app.web.console.definition_pages import ROUTES, TEAMS, pretty
from app.web.console.serving import ConsoleContext, Visit

_ROUTE: Final = f"{ROUTES}/{{team}}/{{route}}"


def _route(parts: Parts) -> str:
    return f"{ROUTES}/{parts['team']}/{parts['route']}"


async def _tell_route(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, definitions.get_route, **parts)
    about = {"Route": f"{found.team}/{found.name}", "Job": found.job, "Destination": found.destination}
    return Told((), about)


async def _tell_change(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, definitions.get_route, **parts)
    fields = (
        Field("job", "Job", "The team's Celery task, or the name that its endpoint gets.", value=found.job),
        Field("destination", "Destination", "Of the same team.", value=found.destination),
        Field("pattern", "Pattern", "An event pattern, as JSON.", "pattern", pretty(found.pattern)),
        Field("version", "On version", "Refused where another one is in force by then.", value=str(found.version)),
    )
    return Told(("The change is a new version; workers route by it from their next batch on.",), {}, fields)


_PATTERN: Final = Field(
    "pattern", "Pattern", "An event pattern, as JSON.", "pattern", '{"type": ["connection.created"]}'
)
ACTS: Final[Mapping[str, Act]] = {
    f"{ROUTES}/add": Act(
        definitions.add_route,
        "Add a route",
        "Put it in force",
        telling(
            "Workers route by it from their next batch on.",
            fields=(
                Field("team", "Team"),
                Field("name", "Name"),
                Field("job", "Job", "The team's Celery task, or the name that its endpoint gets."),
                Field("destination", "Destination", "Of the same team."),
                _PATTERN,
            ),
        ),
        lambda _: ROUTES,
        "route_added",
        body=lambda form: {**optional(form, "team", "name", "job", "destination"), "pattern": form.get("pattern", "")},
    ),
    f"{_ROUTE}/change": Act(
        definitions.change_route,
        "Change the route",
        "Make a new version",
        _tell_change,
        _route,
        "route_changed",
        query=lambda form: optional(form, "version"),
        body=lambda form: {**optional(form, "job", "destination"), "pattern": form.get("pattern", "")},
    ),
    f"{_ROUTE}/enable": Act(
        definitions.enable_route,
        "Enable the route",
        "Enable",
        with_sentences(_tell_route, "It makes jobs again, of events from now on."),
        _route,
        "route_changed",
    ),
    f"{_ROUTE}/disable": Act(
        definitions.disable_route,
        "Disable the route",
        "Disable",
        with_sentences(_tell_route, "It makes no more jobs. Jobs that there are already are still delivered."),
        _route,
        "route_changed",
        is_danger=True,
    ),
    f"{_ROUTE}/remove": Act(
        definitions.remove_route,
        "Remove the route",
        "Remove 1 route",
        with_sentences(_tell_route, "It ends. Its versions stay, and jobs that there are already are still delivered."),
        lambda _: ROUTES,
        "route_removed",
        is_danger=True,
    ),
    f"{TEAMS}/-/add": Act(
        definitions.add_team,
        "Add a team",
        "Add the team",
        telling(fields=(Field("name", "Name", "Lower-case letters, digits, `_` and `-`."),)),
        lambda _: TEAMS,
        "team_added",
        body=lambda form: {"name": form.get("name", "").strip()},
    ),
    f"{TEAMS}/{{team}}/remove": Act(
        definitions.remove_team,
        "Remove the team",
        "Remove 1 team",
        telling("It may have no routes, destinations or tokens any more."),
        lambda _: TEAMS,
        "team_removed",
        is_danger=True,
    ),
}
