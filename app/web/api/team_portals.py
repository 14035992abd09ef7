"""Endpoints for portals of teams: their look, the links that open them, and the sessions of these."""

from datetime import timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from app.config.durations import duration
from app.db import team_portals as rows
from app.domain.access import Scope
from app.domain.team_portal import MAX_ORIGINS, Look
from app.errors import FieldFault, InvalidFields
from app.ids import SESSION, TEAM_LINK
from app.services.definitions import teams
from app.services.operators import team_portals
from app.services.operators.team_portals import MAX_USES, NewLink
from app.web.api.definitions import editor_of
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page, record
from app.web.api.reading import after, identity

_EXPIRES: Final = "How long the link works, such as `1h`; `7d` at most."
_USES: Final = "How many sessions it opens."
_EMBED: Final = "The origin of the pages that may embed the portal, one of `origins`; null for none."
_NOTE: Final = "Whom it is for."
_TITLE: Final = "The name shown in place of Waylink's."
_COLOR: Final = "The colour of the bar, as `#rrggbb`; ink and links are chosen so that they are read on it."
_ORIGINS: Final = "Origins such as `https://app.example.com`, whose pages may embed the portal by links for them."


class NewTeamLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    expires_in: Annotated[str, Meta(description=_EXPIRES, max_length=20)] = "1h"
    uses: Annotated[int, Meta(description=_USES, ge=1, le=MAX_USES)] = 1
    embed: Annotated[str | None, Meta(description=_EMBED)] = None
    note: Annotated[str | None, Meta(description=_NOTE)] = None


class TeamLinkRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link without its secret. `embed`: the origin whose pages may embed its sessions. `sessions`: how many live."""

    id: str
    team: str
    note: str | None
    made_by: str
    embed: str | None
    uses_left: int
    sessions: int
    created_at: str
    expires_at: str


class TeamLinkMade(TeamLinkRow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path`: of the link on Waylink's own origin, shown only in this answer."""

    path: str


class TeamSessionRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A browser in which a link was opened. `link`: the id of the link."""

    id: str
    link: str
    address: str
    browser: str
    created_at: str
    seen_at: str
    expires_at: str


class TeamPortal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The look of a team's portal, and who may embed it. Members that are left out are set to nothing."""

    title: Annotated[str | None, Meta(description=_TITLE)] = None
    color: Annotated[str | None, Meta(description=_COLOR)] = None
    origins: Annotated[list[str], Meta(description=_ORIGINS, max_length=MAX_ORIGINS)] = []


class EndedSessions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sessions: int


@endpoint("GET /teams/{team}/portal", scope=Scope.VIEWER, teams=True)
def get_team_portal(call: Call, team: str) -> TeamPortal:
    """The look of a team's portal, and the origins whose pages may embed it."""
    with call.context.database.read() as session:
        teams.get(session, team, editor_of(call))
        return _portal(team_portals.look(session, team))


@endpoint("PUT /teams/{team}/portal", scope=Scope.OPERATOR)
def change_team_portal(call: Call, team: str, body: TeamPortal) -> TeamPortal:
    """Set name, colour and embedding origins of a team's portal. An origin that goes ends its embedding at once."""
    look = Look(body.title, body.color, tuple(body.origins))
    with call.context.database.write() as session:
        now = call.context.clock()
        return _portal(team_portals.change_look(session, team, look, actor=call.actor, now=now))


@endpoint("GET /teams/{team}/links", scope=Scope.OPERATOR)
def list_team_links(call: Call, team: str, query: PageQuery) -> Page[TeamLinkRow]:
    """List the links that open a team's portal, newest first. One that is spent goes with its last session."""
    with call.context.database.read() as session:
        teams.get(session, team, editor_of(call))
        found = rows.links(session, team=team, limit=query.limit + 1, before=after(TEAM_LINK, query.cursor))
        shown = [rows.shown_link(row, number) for row, number in found]
    return page(shown, query.limit, TeamLinkRow)


@endpoint("POST /teams/{team}/links", scope=Scope.OPERATOR, status=201, holds_secret=True)
def make_team_link(call: Call, team: str, body: NewTeamLink) -> TeamLinkMade:
    """Make a link that opens a team's portal without an account, shown only in this answer."""
    wanted = NewLink(_life(body.expires_in), body.uses, body.embed, body.note)
    with call.context.database.write() as session:
        made = team_portals.issue(session, team, wanted, actor=call.actor, now=call.context.clock())
        return record({**rows.shown_link(made.row, 0), "path": made.path}, TeamLinkMade)


@endpoint("DELETE /teams/{team}/links/{link_id}", scope=Scope.OPERATOR)
def revoke_team_link(call: Call, team: str, link_id: str) -> EndedSessions:
    """End a link, and the sessions that it opened, at once."""
    wanted, now = identity(TEAM_LINK, link_id), call.context.clock()
    with call.context.database.write() as session:
        return EndedSessions(sessions=team_portals.revoke(session, team, wanted, actor=call.actor, now=now))


@endpoint("GET /teams/{team}/sessions", scope=Scope.OPERATOR)
def list_team_sessions(call: Call, team: str, query: PageQuery) -> Page[TeamSessionRow]:
    """List the browsers in which a team's portal is open, newest first."""
    with call.context.database.read() as session:
        teams.get(session, team, editor_of(call))
        found = rows.sessions(session, team=team, limit=query.limit + 1, before=after(SESSION, query.cursor))
    return page([rows.shown_session(row) for row in found], query.limit, TeamSessionRow)


@endpoint("DELETE /teams/{team}/sessions/{session_id}", scope=Scope.OPERATOR)
def end_team_session(call: Call, team: str, session_id: str) -> None:
    """End one session of a team's portal at once."""
    wanted, now = identity(SESSION, session_id), call.context.clock()
    with call.context.database.write() as session:
        team_portals.end_session(session, team, wanted, actor=call.actor, now=now)


def _portal(look: Look) -> TeamPortal:
    return TeamPortal(title=look.title, color=look.color, origins=list(look.origins))


def _life(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as wrong:
        raise InvalidFields([FieldFault("expires_in", "duration", str(wrong))]) from None


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    get_team_portal,
    change_team_portal,
    list_team_links,
    make_team_link,
    revoke_team_link,
    list_team_sessions,
    end_team_session,
)
