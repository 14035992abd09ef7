"""Statements on repeated deliveries, and on the web processes' reports of their answers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, literal, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.ingest import NO_PROCESS
from app.db.models import Event, LostAnswer, Repeat, WebProcess
from app.domain.repeats import AnswerEnd
from app.domain.states import EventState, Origin
from app.ids import first_id

PER_CHECK: Final = 20  # repeats of one event that are decided together; further ones wait for the next check

_events: Final = bulk.table(Event)
_repeats: Final = bulk.table(Repeat)
_processes: Final = bulk.table(WebProcess)
_lost: Final = bulk.table(LostAnswer)


@dataclass(frozen=True, slots=True)
class RepeatRow:
    """A repeated delivery. Columns: models.Repeat."""

    id: UUID
    event_id: UUID
    first_by: UUID
    taken_by: UUID
    received_at: datetime
    belongs_to: UUID | None


def record_answers(session: Session, process: UUID, *, settled_before: UUID, lost: Collection[UUID]) -> None:
    """Write a web process's report: all answers before an id are whole, except the lost ones."""
    bulk.insert(session, LostAnswer, [{"id": delivery_id} for delivery_id in sorted(lost)], skip_existing=True)
    row = bulk.insert_for(session, WebProcess).values(id=process, settled_before=settled_before)
    session.execute(
        row.on_conflict_do_update(index_elements=["id"], set_={"settled_before": row.excluded.settled_before})
    )


def answers(session: Session, deliveries: Mapping[UUID, UUID]) -> dict[UUID, AnswerEnd]:
    """The ends of the answers to deliveries, given with the web process that received each.

    Answers of processes of an earlier release, which do not report, count as lost.
    """
    if not deliveries:
        return {}
    # In this order: a lost answer is committed together with the id before which it is reported.
    reported = select(_processes.c.id, _processes.c.settled_before).where(_among(session, _processes.c.id))
    rows = session.execute(reported, bulk.keys(set(deliveries.values())))
    reported_before = {row.id: row.settled_before for row in rows}
    lost = set(session.scalars(select(_lost.c.id).where(_among(session, _lost.c.id)), bulk.keys(deliveries)))
    ends = {
        delivery_id: AnswerEnd.WHOLE if delivery_id < reported_before.get(process, NO_PROCESS) else AnswerEnd.UNKNOWN
        for delivery_id, process in deliveries.items()
    }
    return ends | {
        delivery_id: AnswerEnd.LOST
        for delivery_id, process in deliveries.items()
        if process == NO_PROCESS or delivery_id in lost
    }


def of_events(session: Session, event_ids: Collection[UUID]) -> dict[UUID, list[RepeatRow]]:
    """The first PER_CHECK repeats of each event, in order: the last decided one, and those after it.

    The caller has locked the events: a repeat is added with a change of its event.
    """
    repeats: dict[UUID, list[RepeatRow]] = {}
    for row in session.execute(_first_of_each(bulk.dialect(session)), bulk.keys(event_ids)):
        repeat = RepeatRow(*row)
        repeats.setdefault(repeat.event_id, []).append(repeat)
    return repeats


@cache
def _first_of_each(dialect: str) -> Select[Any]:
    place = func.row_number().over(partition_by=_repeats.c.event_id, order_by=_repeats.c.number).label("place")
    columns = bulk.columns(Repeat, RepeatRow)
    ours = select(*columns, _repeats.c.number, place).where(bulk.among(dialect, _repeats.c.event_id)).subquery()
    return select(*(ours.c[column.name] for column in columns)).where(ours.c.place <= PER_CHECK).order_by(ours.c.number)


def make_events(session: Session, ids: Collection[UUID], *, now: datetime) -> None:
    """Add events for these repeats, with the body of the first delivery: received, and due."""
    row = {
        "id": _repeats.c.id,
        "environment": _events.c.environment,
        "origin": literal(Origin.WEBHOOK.value),
        "state": literal(EventState.RECEIVED.value),
        "received_at": _repeats.c.received_at,
        "last_seen_at": _repeats.c.received_at,
        "duplicates": literal(0),
        "body": _events.c.body,
        "next_at": bindparam("now", type_=_events.c.next_at.type),
        "attempts": literal(0),
        "looks": literal(0),
        "traceparent": _repeats.c.traceparent,
    }
    source = select(*row.values()).join_from(_repeats, _events, _events.c.id == _repeats.c.event_id)
    source = source.where(_among(session, _repeats.c.id)).order_by(_repeats.c.number)
    # A commit that was tried twice may have added the event already.
    made = bulk.insert_for(session, Event).from_select(list(row), source).on_conflict_do_nothing()
    session.execute(made, {**bulk.keys(ids), "now": now})


def save_decided(session: Session, belongs_to: Mapping[UUID, UUID]) -> None:
    """Store decisions: event ids by repeat id."""
    rows = [{"id": repeat_id, "belongs_to": event_id} for repeat_id, event_id in belongs_to.items()]
    bulk.update(session, Repeat, rows)


def delete_many(session: Session, ids: Collection[UUID]) -> None:
    """Delete repeats by id."""
    if ids:
        session.execute(delete(_repeats).where(_among(session, _repeats.c.id)), bulk.keys(ids))


def delete_of_events(session: Session, event_ids: Collection[UUID]) -> None:
    """Delete all repeats of these events."""
    if event_ids:
        session.execute(delete(_repeats).where(_among(session, _repeats.c.event_id)), bulk.keys(event_ids))


def revive(session: Session, event_ids: Collection[UUID], *, now: datetime) -> None:
    """Make the failed ones of these events due again, except those that another worker holds."""
    if not event_ids:
        return
    failed = select(_events.c.id).where(_among(session, _events.c.id), _events.c.state == EventState.FAILED)
    again = update(_events).where(_events.c.id.in_(failed.with_for_update(skip_locked=True)))
    session.execute(
        again.values(state=EventState.RECEIVED, failure=None, attempts=0, looks=0, next_at=now), bulk.keys(event_ids)
    )


def recheck(session: Session, *, before: datetime, now: datetime) -> int:
    """Make processed events due whose repeats from before then are undecided. Returns their count.

    A worker of an earlier release processes an event without its repeats.
    """
    undecided = select(_repeats.c.event_id).where(_repeats.c.belongs_to.is_(None), _repeats.c.received_at < before)
    processed = select(_events.c.id).where(_events.c.id.in_(undecided), _events.c.state == EventState.PROCESSED)
    again = update(_events).where(_events.c.id.in_(processed.with_for_update(skip_locked=True)))
    due = session.execute(again.values(state=EventState.RECEIVED, next_at=now).returning(_events.c.id))
    return len(due.all())


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` decided repeats from before then, except of events with undecided repeats."""
    others = _repeats.alias()
    open_ = select(others.c.id).where(others.c.event_id == _repeats.c.event_id, others.c.belongs_to.is_(None)).exists()
    old = _repeats.c.id < first_id(before), _repeats.c.belongs_to.is_not(None), ~open_
    return _prune(session, _repeats.c.id, *old, limit=limit)


def prune_answers(session: Session, *, before: datetime, limit: int) -> int:
    """Delete reports from before then, up to `limit` rows of each table. Returns the larger count."""
    since = first_id(before)
    processes = _prune(session, _processes.c.id, _processes.c.settled_before < since, limit=limit)
    return max(processes, _prune(session, _lost.c.id, _lost.c.id < since, limit=limit))


def _prune(session: Session, key: Any, *conditions: ColumnElement[bool], limit: int) -> int:
    old = list(session.scalars(select(key).where(*conditions).limit(limit)))
    if old:
        session.execute(delete(key.table).where(_among(session, key), *conditions), bulk.keys(old))
    return len(old)


def _among(session: Session, column: ColumnElement[Any]) -> ColumnElement[bool]:
    return bulk.among(bulk.dialect(session), column)
