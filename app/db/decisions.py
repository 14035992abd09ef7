"""Statements on the stored decisions of routes.

A decision is in the row of the job that it made (`matched_version`, `conditions`). It stays there when a replay moves
the job to a later version of the route (`route_version`).

Earlier releases wrote a row of `decisions` beside each job, which counts where it exists. In the oldest, made when a
route's name was unique among all teams, the team is empty. It is the team of the route's version; where several teams
have a route of that name and version, it is that of the oldest.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Decision, Job, RouteVersion


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
    in_jobs = select(Job.team, Job.route, Job.matched_version, Job.conditions).where(
        Job.event_id == event_id, Job.matched_version.is_not(None)
    )
    apart = select(owner.label("team"), Decision.route, Decision.route_version, Decision.conditions).where(
        Decision.event_id == event_id
    )
    if team is not None:
        in_jobs, apart = in_jobs.where(Job.team == team), apart.where(owner == team)
    found = [*session.execute(in_jobs), *session.execute(apart)]
    decisions = {(row[0], row[1]): StoredDecision(row[0], row[1], row[2], row[3] or []) for row in found}
    return [decisions[key] for key in sorted(decisions)]


def rewrite(
    session: Session, events: Collection[UUID], rewritten: Callable[[UUID, list[Any]], list[dict[str, Any]]]
) -> None:
    """Replace the conditions of these events' decisions: rewritten(event_id, conditions). Locks jobs in order."""
    if not events:
        return
    for table in (bulk.table(Job), bulk.table(Decision)):
        key = list(table.primary_key.columns)
        mine = bulk.among(bulk.dialect(session), table.c.event_id)
        chosen = select(*key, table.c.event_id.label("of_event"), table.c.conditions)
        chosen = chosen.where(mine, table.c.conditions.is_not(None)).order_by(*key).with_for_update()
        for row in session.execute(chosen, bulk.keys(events)).mappings().all():
            same = [column == row[column.name] for column in key]
            conditions = rewritten(row["of_event"], row["conditions"] or [])
            session.execute(update(table).where(*same).values(conditions=conditions))


def _team_of_version() -> ColumnElement[Any]:
    route = RouteVersion
    same = (route.name == Decision.route, route.version == Decision.route_version)
    oldest = select(route.team).where(*same).order_by(route.since_set).limit(1)
    return oldest.correlate(Decision).scalar_subquery()
