"""Statements on the stored decisions of routes.

Rows of earlier releases, in which a route's name was unique among all teams, have an empty team. It is the team of the
route's version; where several teams have a route of that name and version, it is that of the oldest.
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
class StoredDecision:
    """A matching route of an event, with its conditions."""

    team: str
    route: str
    route_version: int
    conditions: list[Any]


def of_event(session: Session, event_id: UUID, *, team: str | None = None) -> list[StoredDecision]:
    """An event's decisions, of all teams or of one, ordered by team and route."""
    owner = func.coalesce(func.nullif(Decision.team, ""), _team_of_version(), "")
    chosen = select(owner.label("team"), Decision.route, Decision.route_version, Decision.conditions)
    chosen = chosen.where(Decision.event_id == event_id)
    if team is not None:
        chosen = chosen.where(owner == team)
    return [StoredDecision(*row) for row in session.execute(chosen.order_by(owner, Decision.route))]


def name_teams(session: Session, event_ids: Collection[UUID]) -> None:
    """Fill in the missing team of events' decisions, so that no route gets a second decision."""
    without = (bulk.among(bulk.dialect(session), Decision.__table__.c.event_id), Decision.team == "")
    named = func.coalesce(_team_of_version(), "")
    statement = update(Decision).where(*without).values(team=named)
    session.execute(statement.execution_options(synchronize_session=False), bulk.keys(set(event_ids)))


def _team_of_version() -> ColumnElement[Any]:
    route = RouteVersion
    same = (route.name == Decision.route, route.version == Decision.route_version)
    oldest = select(route.team).where(*same).order_by(route.since_set).limit(1)
    return oldest.correlate(Decision).scalar_subquery()
