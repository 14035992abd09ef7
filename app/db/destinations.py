"""Statements on destinations: definitions, whether they take jobs, and the health of deliveries."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.jobs import HELD, PARKED, READY, waits
from app.db.models import Destination, DestinationHealth, Job
from app.domain import canary
from app.domain.definitions import DestinationKey
from app.domain.destination_breaker import HealthState

COUNTED: Final = 1000  # most waiting jobs that are counted

_destinations = bulk.table(Destination)
_health = bulk.table(DestinationHealth)
_state = [_health.c[column.name] for column in fields(HealthState)]


@dataclass(frozen=True, slots=True)
class DeliveryTarget:
    """A destination as the deliverer needs it.

    `ready`, `held`, `parked`: such jobs are due in its queue; held ones are possibly poison.
    """

    team: str
    name: str
    kind: str
    queue: str | None
    url: str | None
    broker_sealed: bytes | None = field(repr=False)
    timeout_seconds: float | None
    rate_per_second: float | None
    disabled_at: datetime | None
    failing_since: datetime | None
    probe_at: datetime | None
    ready: bool
    held: bool
    parked: bool

    @property
    def key(self) -> DestinationKey:
        return self.team, self.name


def get(session: Session, *, team: str, destination: str) -> Destination | None:
    """The destination, in force or retired; None for one that never was."""
    return session.get(Destination, (team, destination))


def get_in_force(session: Session, *, team: str, destination: str) -> Destination | None:
    """The destination; None for one that is retired or never was."""
    found = get(session, team=team, destination=destination)
    return found if found is not None and found.retired_at is None else None


def get_all(session: Session) -> dict[DestinationKey, Destination]:
    """Every destination by team and name, retired ones too: old jobs point at them."""
    return {(destination.team, destination.name): destination for destination in session.scalars(select(Destination))}


def names_in_force(session: Session, *, team: str, limit: int = 5) -> list[str]:
    """The names of some of a team's destinations in force, in order."""
    found = select(Destination.name).where(Destination.team == team, Destination.retired_at.is_(None))
    return list(session.scalars(found.order_by(Destination.name).limit(limit)))


def lock(session: Session, *, team: str, destination: str) -> Destination | None:
    """The destination, locked; None for one that never was."""
    named = (Destination.team == team, Destination.name == destination)
    return session.scalar(select(Destination).where(*named).with_for_update())


def save(session: Session, *destinations: Destination) -> None:
    """Write new and changed destinations now, within the transaction."""
    session.add_all(destinations)
    session.flush()


def reload(session: Session, destination: Destination) -> None:
    """Read a destination's columns again, which a statement has changed."""
    session.refresh(destination)


def targets(session: Session, *, now: datetime) -> list[DeliveryTarget]:
    """Every destination, retired ones too, as old jobs point at them. Three index lookups per destination."""
    found = [DeliveryTarget(*row) for row in session.execute(_targets(), {"now": now})]
    return [_as_canary(target) if target.key == canary.KEY else target for target in found]


def _as_canary(target: DeliveryTarget) -> DeliveryTarget:
    """The canary's destination, whose row is disabled for earlier releases."""
    return replace(target, kind=canary.KIND, disabled_at=None, failing_since=None, probe_at=None)


@cache
def _targets() -> Select[Any]:
    ours = _destinations.c
    owner = (_health.c.team == ours.team) & (_health.c.destination == ours.name)
    described = (ours.team, ours.name, ours.kind, ours.queue, ours.url, ours.broker_sealed, ours.timeout_seconds)
    state = (ours.rate_per_second, ours.disabled_at, _health.c.failing_since, _health.c.probe_at)
    queues = (waits(which, team=ours.team, destination=ours.name) for which in (READY, HELD, PARKED))
    return select(*described, *state, *queues).select_from(_destinations.outerjoin(_health, owner))


def lock_health(
    session: Session, keys: Collection[DestinationKey], *, now: datetime
) -> dict[DestinationKey, HealthState]:
    """The health of destinations, their rows locked in order of keys. Missing rows are inserted."""
    wanted = sorted(keys)
    found = _locked(session, wanted)
    missing = [key for key in wanted if key not in found]
    if missing:
        fresh = {"window_at": now, "succeeded": 0, "failed": 0, "probes": 0}
        rows = [{"team": team, "destination": destination, **fresh} for team, destination in missing]
        session.execute(bulk.insert_for(session, DestinationHealth).on_conflict_do_nothing(), rows)
        found |= _locked(session, missing)
    return found


def _locked(session: Session, keys: Collection[DestinationKey]) -> dict[DestinationKey, HealthState]:
    found = session.execute(_locking(bulk.dialect(session)), bulk.keys(keys))
    names = [column.name for column in _state]
    return {
        (team, destination): HealthState(**dict(zip(names, values, strict=True)))
        for team, destination, *values in found
    }


@cache
def _locking(dialect: str) -> Select[Any]:
    key = (_health.c.team, _health.c.destination)
    return select(*key, *_state).where(bulk.among(dialect, *key)).order_by(*key).with_for_update()


def write_health(session: Session, changed: Mapping[DestinationKey, HealthState]) -> None:
    """Write health to rows locked by `lock_health`."""
    for (team, destination), health in changed.items():
        named = (_health.c.team == team, _health.c.destination == destination)
        session.execute(update(_health).where(*named).values(**asdict(health)))


def disable(
    session: Session, *, team: str, destination: str, reason: str, now: datetime, url: str | None = None
) -> bool:
    """Disable a destination; with `url`, only while that is its address. False if nothing changed."""
    ours = _destinations.c
    statement = update(_destinations).where(ours.team == team, ours.name == destination, ours.disabled_at.is_(None))
    if url is not None:
        statement = statement.where(ours.url == url)
    changed = statement.values(disabled_at=now, disabled_reason=reason).returning(ours.team)
    return session.execute(changed).first() is not None


def enable(session: Session, *, team: str, destination: str) -> bool:
    """Enable a destination. False if it was not disabled."""
    ours = _destinations.c
    statement = update(_destinations).where(ours.team == team, ours.name == destination, ours.disabled_at.is_not(None))
    changed = statement.values(disabled_at=None, disabled_reason=None).returning(ours.team)
    return session.execute(changed).first() is not None


def disabled_since(session: Session, *, team: str, destination: str) -> datetime | None:
    """The time when it was disabled; None for one that is enabled."""
    named = (Destination.team == team, Destination.name == destination)
    return session.scalar(select(Destination.disabled_at).where(*named))


def try_at_once(session: Session, *, team: str, destination: str, now: datetime) -> None:
    """Make a failing destination's probe due now, after a change of its address."""
    named = (_health.c.team == team, _health.c.destination == destination)
    failing = update(_health).where(*named, _health.c.failing_since.is_not(None))
    session.execute(failing.values(probe_at=now, probes=0))


def forget_failures(session: Session, *, team: str, destination: str) -> None:
    """Close the breaker and reset its counts."""
    named = (_health.c.team == team, _health.c.destination == destination)
    closed = {"succeeded": 0, "failed": 0, "failing_since": None, "probe_at": None, "probes": 0}
    session.execute(update(_health).where(*named).values(**closed))


def kind_of(session: Session, *, team: str, destination: str) -> str | None:
    """`celery` or `http`; None for one that does not exist."""
    return session.scalar(select(Destination.kind).where(Destination.team == team, Destination.name == destination))


def waiting_jobs(session: Session, *, team: str, destination: str) -> list[UUID]:
    """The ids of up to COUNTED undelivered jobs: due ones first, the longest due in front, then parked ones."""
    found: list[UUID] = []
    for which in (READY, PARKED):  # an index has each
        mine = select(Job.id).where(which, Job.team == team, Job.destination == destination)
        found += session.scalars(mine.order_by(Job.next_at).limit(COUNTED - len(found)))
    return found
