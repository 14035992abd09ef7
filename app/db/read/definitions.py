"""Lists of teams, destinations and routes as plain objects, by name, filtered and bounded."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.orm import Session

from app.db.models import Destination, DestinationHealth, RouteVersion, Team
from app.domain import canary


@dataclass(frozen=True, slots=True)
class DefinitionFilters:
    """Exact matches; None is any. `after` continues a list after that name, `team/name` except for teams.

    in_force: those in force, or removed ones; None for both.
    """

    limit: int = 50
    after: str | None = None
    team: str | None = None
    source: str | None = None
    in_force: bool | None = True
    destination: str | None = None
    enabled: bool | None = None
    kind: str | None = None


def teams(session: Session, filters: DefinitionFilters) -> list[dict[str, Any]]:
    found = _filtered(
        select(Team),
        (Team.name, filters.team),
        (Team.source, filters.source),
        (Team.retired_at.is_(None), filters.in_force),
    ).where(Team.name != canary.TEAM)
    if filters.after is not None:
        found = found.where(Team.name > filters.after)
    return [shown_team(team) for team in session.scalars(found.order_by(Team.name).limit(filters.limit))]


def destinations(session: Session, filters: DefinitionFilters) -> list[dict[str, Any]]:
    found = _filtered(
        select(Destination),
        (Destination.team, filters.team),
        (Destination.source, filters.source),
        (Destination.kind, filters.kind),
        (Destination.disabled_at.is_(None), filters.enabled),
        (Destination.retired_at.is_(None), filters.in_force),
    ).where(Destination.team != canary.TEAM)
    key = tuple_(Destination.team, Destination.name)
    if filters.after is not None:
        team, _, name = filters.after.partition("/")
        found = found.where(key > tuple_(team, name))
    ordered = found.order_by(Destination.team, Destination.name).limit(filters.limit)
    return [shown_destination(destination) for destination in session.scalars(ordered)]


def routes(session: Session, filters: DefinitionFilters) -> list[dict[str, Any]]:
    """Routes in force."""
    found = _filtered(
        select(RouteVersion).where(RouteVersion.until_set.is_(None)),
        (RouteVersion.team, filters.team),
        (RouteVersion.destination, filters.destination),
        (RouteVersion.source, filters.source),
        (RouteVersion.enabled, filters.enabled),
    )
    key = tuple_(RouteVersion.team, RouteVersion.name)
    if filters.after is not None:
        team, _, name = filters.after.partition("/")
        found = found.where(key > tuple_(team, name))
    ordered = found.order_by(RouteVersion.team, RouteVersion.name).limit(filters.limit)
    return [shown_route(route) for route in session.scalars(ordered)]


def shown_team(team: Team) -> dict[str, Any]:
    return {
        "name": team.name,
        "source": team.source,
        "created_at": team.created_at.isoformat(),
        "retired_at": _time(team.retired_at),
    }


def shown_destination(destination: Destination) -> dict[str, Any]:
    """A destination in its public form. `own_broker`: it is on the team's own broker, whose URL is a secret."""
    return {
        "team": destination.team,
        "name": destination.name,
        "kind": destination.kind,
        "queue": destination.queue,
        "own_broker": destination.broker_sealed is not None,
        "url": destination.url,
        "timeout_seconds": destination.timeout_seconds,
        "rate_per_second": destination.rate_per_second,
        "source": destination.source,
        "version": destination.version,
        "created_at": destination.created_at.isoformat(),
        "updated_at": _time(destination.updated_at),
        "disabled_at": _time(destination.disabled_at),
        "disabled_reason": destination.disabled_reason,
        "retired_at": _time(destination.retired_at),
    }


def health(session: Session, *, team: str, name: str) -> Mapping[str, Any] | None:
    """A destination's health in its public form; None before the first attempt."""
    found = session.get(DestinationHealth, (team, name))
    if found is None:
        return None
    return {
        "failing_since": _time(found.failing_since),
        "probe_at": _time(found.probe_at),
        "last_succeeded_at": _time(found.last_succeeded_at),
        "last_failed_at": _time(found.last_failed_at),
        "last_error": found.last_error,
    }


def shown_route(route: RouteVersion) -> dict[str, Any]:
    return {
        "team": route.team,
        "name": route.name,
        "version": route.version,
        "destination": route.destination,
        "job": route.job,
        "pattern": route.pattern,
        "enabled": route.enabled,
        "source": route.source,
        "since_set": route.since_set,
        "until_set": route.until_set,
        "created_at": route.created_at.isoformat(),
    }


def _filtered(statement: Select[Any], *pairs: tuple[ColumnElement[Any] | Any, Any]) -> Select[Any]:
    """The statement limited to rows where each column has its value (None: any); conditions take True or False."""
    for column, value in pairs:
        if value is not None:
            statement = statement.where(column if value is True else ~column if value is False else column == value)
    return statement


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
