"""Reading for people: teams, destinations and routes as plain objects, by name, filtered and bounded."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.orm import Session

from app.db.models import Destination, DestinationHealth, RouteVersion, Team


@dataclass(frozen=True, slots=True)
class DefinitionFilters:
    """Exact matches; None is any. `after` continues a listing behind that name, which is `team/name` but for teams.

    in_force: what is, or what was removed; None for both.
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
    )
    if filters.after is not None:
        found = found.where(Team.name > filters.after)
    return [shown_team(one) for one in session.scalars(found.order_by(Team.name).limit(filters.limit))]


def destinations(session: Session, filters: DefinitionFilters) -> list[dict[str, Any]]:
    found = _filtered(
        select(Destination),
        (Destination.team, filters.team),
        (Destination.source, filters.source),
        (Destination.kind, filters.kind),
        (Destination.disabled_at.is_(None), filters.enabled),
        (Destination.retired_at.is_(None), filters.in_force),
    )
    key = tuple_(Destination.team, Destination.name)
    if filters.after is not None:
        team, _, name = filters.after.partition("/")
        found = found.where(key > tuple_(team, name))
    ordered = found.order_by(Destination.team, Destination.name).limit(filters.limit)
    return [shown_destination(one) for one in session.scalars(ordered)]


def routes(session: Session, filters: DefinitionFilters) -> list[dict[str, Any]]:
    """Those in force."""
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
    return [shown_route(one) for one in session.scalars(ordered)]


def shown_team(one: Team) -> dict[str, Any]:
    return {
        "name": one.name,
        "source": one.source,
        "created_at": one.created_at.isoformat(),
        "retired_at": _time(one.retired_at),
    }


def shown_destination(one: Destination) -> dict[str, Any]:
    """`own_broker`: jobs go to a broker of the team's, whose URL is a secret."""
    return {
        "team": one.team,
        "name": one.name,
        "kind": one.kind,
        "queue": one.queue,
        "own_broker": one.broker_sealed is not None,
        "url": one.url,
        "timeout_seconds": one.timeout_seconds,
        "rate_per_second": one.rate_per_second,
        "source": one.source,
        "version": one.version,
        "created_at": one.created_at.isoformat(),
        "updated_at": _time(one.updated_at),
        "disabled_at": _time(one.disabled_at),
        "disabled_reason": one.disabled_reason,
        "retired_at": _time(one.retired_at),
    }


def health(session: Session, *, team: str, name: str) -> Mapping[str, Any] | None:
    """How a destination does, in the words of the circuit breaker; None for one that was never tried."""
    one = session.get(DestinationHealth, (team, name))
    if one is None:
        return None
    return {
        "failing_since": _time(one.failing_since),
        "probe_at": _time(one.probe_at),
        "last_succeeded_at": _time(one.last_succeeded_at),
        "last_failed_at": _time(one.last_failed_at),
        "last_error": one.last_error,
    }


def shown_route(one: RouteVersion) -> dict[str, Any]:
    return {
        "team": one.team,
        "name": one.name,
        "version": one.version,
        "destination": one.destination,
        "job": one.job,
        "pattern": one.pattern,
        "enabled": one.enabled,
        "source": one.source,
        "since_set": one.since_set,
        "until_set": one.until_set,
        "created_at": one.created_at.isoformat(),
    }


def _filtered(statement: Select[Any], *pairs: tuple[ColumnElement[Any] | Any, Any]) -> Select[Any]:
    """Where each that has a value holds it; a condition is asked to be true or false."""
    for column, value in pairs:
        if value is not None:
            statement = statement.where(column if value is True else ~column if value is False else column == value)
    return statement


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
