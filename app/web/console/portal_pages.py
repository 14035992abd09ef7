"""The page of a team's portal for operators: its look, links and sessions, and the acts on them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from app.web.api import team_portals
from app.web.console.act_pages import Act, Field, Form, Parts, Told, optional, telling
from app.web.console.browser_names import browser_name
from app.web.console.calling import ask
from app.web.console.definition_pages import TEAMS
from app.web.console.serving import ConsoleContext, FormNotRead, Visit, read_as
from app.web.console.tables import Button, Column, Section, row_page

_TEAM: Final = f"{TEAMS}/{{team}}"
_SHOWN: Final = 100  # rows of each table; the API has the others
_OPERATION: Final = "POST /console/teams/{team}/"


async def show_team_portal(context: ConsoleContext, visit: Visit) -> Response:
    """A team's portal: its look, the links that open it, and the browsers in which it is open."""
    team = visit.request.path_params["team"]
    look = await ask(context, visit, team_portals.get_team_portal, team=team)
    few = {"limit": str(_SHOWN)}
    links = (await ask(context, visit, team_portals.list_team_links, team=team, query=few)).data
    sessions = (await ask(context, visit, team_portals.list_team_sessions, team=team, query=few)).data
    path = f"{TEAMS}/{team}"
    return await row_page(
        context,
        visit,
        title=f"Portal of {team}",
        back=("Teams", TEAMS),
        buttons=(
            Button("Make a link", f"{path}/links/add", f"{_OPERATION}links/add"),
            Button("Change its look", f"{path}/portal", f"{_OPERATION}portal"),
        ),
        sections=[
            Section("Look", {"Name": look.title, "Colour": look.color, "May be embedded by": look.origins}),
            _links(links, path),
            _sessions(sessions, path),
        ],
        subject=team,
    )


def _links(links: Sequence[Any], path: str) -> Section:
    """path: of the team's page."""
    return Section(
        "Links",
        columns=(
            Column("Link", "id", "code", href=lambda row: f"{path}/links/{row.id}/revoke"),
            Column("For", "note"),
            Column("Made by", "made_by"),
            Column("Uses left", "uses_left"),
            Column("Sessions", "sessions"),
            Column("Embedded by", "embed"),
            Column("Works until", "expires_at"),
        ),
        rows=links,
        empty="No link works, and none has opened a session that lives.",
    )


def _sessions(sessions: Sequence[Any], path: str) -> Section:
    """path: of the team's page."""
    return Section(
        "Open in",
        columns=(
            Column("Browser", "browser"),
            Column("Address", "address"),
            Column("Last used", "seen_at"),
            Column("Link", "link", "code"),
            Column("Ends", "expires_at"),
            Column("Act", "end", href=lambda row: f"{path}/sessions/{row['id']}/end"),
        ),
        rows=[
            {"browser": browser_name(each.browser), "address": each.address, "seen_at": each.seen_at}
            | {"link": each.link, "expires_at": each.expires_at, "end": "End", "id": each.id}
            for each in sessions
        ],
        empty="No browser.",
    )


def _back(parts: Parts) -> str:
    return f"{TEAMS}/{parts['team']}/links"


async def _tell_link(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    look = await ask(context, visit, team_portals.get_team_portal, **parts)
    embed = Field("embed", "Embedded by", "Empty for a page of its own.", choices=("", *look.origins), required=False)
    return Told(
        (
            "Who has the link sees and changes what is the team's: routes, destinations and jobs, without an account.",
            "It is shown once. A session that it opens ends after 12 hours, or when the link is revoked.",
        ),
        {"Team": parts["team"]},
        (
            Field("note", "For", "Whom it is for; shown in the list of links.", required=False),
            Field("expires_in", "Works for", "Such as `1h`; `7d` at most.", value="1h"),
            Field("uses", "Uses", "How many sessions it opens.", "number", "1"),
            *((embed,) if look.origins else ()),
        ),
    )


async def _tell_look(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    look = await ask(context, visit, team_portals.get_team_portal, **parts)
    return Told(
        ("Ink and links are chosen so that they are read on the colour, in light and dark.",),
        {"Team": parts["team"]},
        (
            Field("title", "Name", "Shown in place of Waylink's.", value=look.title or "", required=False),
            Field("color", "Colour", "Such as `#0b5fff`.", value=look.color or "", required=False),
            Field(
                "origins",
                "May be embedded by",
                "Origins such as `https://app.example.com`, one a line. Embedding by one that goes ends at once.",
                "long",
                "\n".join(look.origins),
                required=False,
            ),
        ),
    )


def _link(form: Form) -> dict[str, Any]:
    try:
        uses = read_as(int, form.get("uses", "").strip() or "1")
    except FormNotRead:
        uses = 0  # which the API refuses at its field
    return {**optional(form, "note", "expires_in", "embed"), "uses": uses}


def _look(form: Form) -> dict[str, Any]:
    return {**optional(form, "title", "color"), "origins": form.get("origins", "").split()}


ACTS: Final[Mapping[str, Act]] = {
    f"{_TEAM}/links/add": Act(
        team_portals.make_team_link,
        "Make a link to the portal",
        "Make the link",
        _tell_link,
        _back,
        body=_link,
        once=lambda answer: (("Path of the link, on this host", answer.path), ("Works until", answer.expires_at)),
    ),
    f"{_TEAM}/links/{{link_id}}/revoke": Act(
        team_portals.revoke_team_link,
        "Revoke the link",
        "Revoke 1 link",
        telling("It opens nothing any more, and the sessions that it opened end at once."),
        _back,
        "link_revoked",
        is_danger=True,
        count="sessions",
    ),
    f"{_TEAM}/sessions/{{session_id}}/end": Act(
        team_portals.end_team_session,
        "End the session",
        "End 1 session",
        telling("The browser shows the portal no more. A link with uses left can open it again."),
        _back,
        "session_ended",
        is_danger=True,
    ),
    f"{_TEAM}/portal": Act(
        team_portals.change_team_portal,
        "Change the portal's look",
        "Change the look",
        _tell_look,
        _back,
        "portal_changed",
        body=_look,
    ),
}
