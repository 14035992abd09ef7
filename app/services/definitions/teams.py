"""Changes of teams by people. A team is a name that owns destinations, routes and tokens."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.db import destinations as destination_rows
from app.db import operators as operator_rows
from app.db import routes as route_rows
from app.db import team_portals
from app.db import teams as rows
from app.db import tokens as token_rows
from app.db.models import Team
from app.db.routes import API, FILE
from app.domain.definitions import wrong_name
from app.errors import FieldFault, InvalidFields, NameTaken, NotFound, ReadOnly, StillUsed
from app.services.definitions.editor import Editor, team_in_force


def get(session: Session, name: str, editor: Editor) -> Team:
    """The team. Raises NotFound."""
    team = team_in_force(session, name, editor)
    if team is None:
        raise NotFound("team", name)
    return team


def add(session: Session, name: str, *, editor: Editor, now: datetime) -> Team:
    """Add a team; a removed one of that name is put in force again. Raises InvalidFields, NameTaken."""
    route_rows.lock_definitions(session)
    if wrong := wrong_name(name):
        raise InvalidFields([FieldFault("name", "invalid", wrong)])
    team = rows.get(session, name)
    if team is not None and team.retired_at is None:
        raise NameTaken("team", name)
    if team is None:
        team = Team(name=name, source=API, created_at=now)
    else:
        team.source, team.retired_at = API, None
    rows.save(session, team)
    editor.record(session, "team.added", name, {}, now=now)
    return team


def remove(session: Session, name: str, *, editor: Editor, now: datetime) -> Team:
    """Remove a team that owns nothing in force; its jobs and decisions stay.

    Raises NotFound, ReadOnly, and StillUsed while it has routes, destinations, tokens or operators: a later team of
    that name is another one, for which old tokens must not be valid.
    """
    route_rows.lock_definitions(session)
    team = get(session, name, editor)
    if team.source == FILE:
        raise ReadOnly("team", name)
    used = {
        "routes": route_rows.live_names(session, team=name),
        "destinations": destination_rows.names_in_force(session, team=name),
        "tokens": token_rows.live_names_of(session, team=name, now=now),
        "operators": operator_rows.names_of_team(session, team=name),
    }
    if any(used.values()):
        raise StillUsed("team", name, used)
    team.retired_at = now
    rows.save(session, team)
    team_portals.drop_of_teams(session, [name])
    editor.record(session, "team.removed", name, {}, now=now)
    return team
