"""Why routes matched events, as it was noted.

Rows from when a route's name was the only one of all teams have an empty team. It is that of the route's version; where
other teams have a route of that name and version by now, the oldest is the one of then.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Decision, RouteVersion


@dataclass(frozen=True, slots=True)
class NotedDecision:
    team: str
    route: str
    route_version: int
    conditions: list[Any]


def of_event(session: Session, event_id: UUID, *, team: str | None = None) -> list[NotedDecision]:
    """By team and route; with a team, its own alone."""
    owner = func.coalesce(func.nullif(Decision.team, ""), _team_of_then(), "")
    chosen = select(owner.label("team"), Decision.route, Decision.route_version, Decision.conditions)
    chosen = chosen.where(Decision.event_id == event_id)
    if team is not None:
        chosen = chosen.where(owner == team)
    return [NotedDecision(*row) for row in session.execute(chosen.order_by(owner, Decision.route))]


def name_teams(session: Session, event_ids: Collection[UUID]) -> None:
    """Fill in the team of these events' decisions where there is none, so that each route has one decision."""
    without = (bulk.among(bulk.dialect(session), Decision.__table__.c.event_id), Decision.team == "")
    named = func.coalesce(_team_of_then(), "")
    statement = update(Decision).where(*without).values(team=named)
    session.execute(statement.execution_options(synchronize_session=False), bulk.keys(set(event_ids)))


def _team_of_then() -> ColumnElement[Any]:
    route = RouteVersion
    same = (route.name == Decision.route, route.version == Decision.route_version)
    oldest = select(route.team).where(*same).order_by(route.since_set).limit(1)
    return oldest.correlate(Decision).scalar_subquery()
