"""Statements on repeated deliveries: the reports of web processes on their answers, and what the repeats are."""

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
from app.domain.repeats import Answer
from app.domain.states import EventState, Origin
from app.ids import first_id

PER_LOOK: Final = 20  # repeats of one event that are looked at together: more wait for the next look

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
    """Write a web process's report on its answers."""
    bulk.insert(session, LostAnswer, [{"id": one} for one in sorted(lost)], skip_existing=True)
    row = bulk.insert_for(session, WebProcess).values(id=process, settled_before=settled_before)
    session.execute(
        row.on_conflict_do_update(index_elements=["id"], set_={"settled_before": row.excluded.settled_before})
    )


def answers(session: Session, deliveries: Mapping[UUID, UUID]) -> dict[UUID, Answer]:
    """The ends of the answers to these deliveries, each given with the web process that took it.

    A process of an earlier release does not report, so its answers count as lost.
    """
    if not deliveries:
        return {}
    # In this order: a lost answer is committed together with the id before which it counts as settled.
    reported = select(_processes.c.id, _processes.c.settled_before).where(_among(session, _processes.c.id))
    found = session.execute(reported, bulk.keys(set(deliveries.values())))
    settled = {row.id: row.settled_before for row in found}
    lost = set(session.scalars(select(_lost.c.id).where(_among(session, _lost.c.id)), bulk.keys(deliveries)))
    ends = {
        one: Answer.WHOLE if one < settled.get(by, NO_PROCESS) else Answer.UNKNOWN for one, by in deliveries.items()
    }
    return ends | {one: Answer.LOST for one, by in deliveries.items() if by == NO_PROCESS or one in lost}


def of_events(session: Session, event_ids: Collection[UUID]) -> dict[UUID, list[RepeatRow]]:
    """The first PER_LOOK repeats of each of these events, in their order: the last decided one, and those after it.

    Of events that are locked: a repeat comes with a change of its event.
    """
    found: dict[UUID, list[RepeatRow]] = {}
    for row in session.execute(_first_of_each(bulk.dialect(session)), bulk.keys(event_ids)):
        one = RepeatRow(*row)
        found.setdefault(one.event_id, []).append(one)
    return found


@cache
def _first_of_each(dialect: str) -> Select[Any]:
    place = func.row_number().over(partition_by=_repeats.c.event_id, order_by=_repeats.c.number).label("place")
    columns = bulk.columns(Repeat, RepeatRow)
    ours = select(*columns, _repeats.c.number, place).where(bulk.among(dialect, _repeats.c.event_id)).subquery()
    return select(*(ours.c[one.name] for one in columns)).where(ours.c.place <= PER_LOOK).order_by(ours.c.number)


def make_events(session: Session, ids: Collection[UUID], *, now: datetime) -> None:
    """Make events of these repeats, with the bytes of the first: received and due, as if each had come by itself."""
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
    }
    source = select(*row.values()).join_from(_repeats, _events, _events.c.id == _repeats.c.event_id)
    source = source.where(_among(session, _repeats.c.id)).order_by(_repeats.c.number)
    # The same delivery may have become an event by a commit that was tried twice.
    made = bulk.insert_for(session, Event).from_select(list(row), source).on_conflict_do_nothing()
    session.execute(made, {**bulk.keys(ids), "now": now})


def keep_decided(session: Session, belongs_to: Mapping[UUID, UUID]) -> None:
    """Note what these repeats are."""
    bulk.update(session, Repeat, [{"id": one, "belongs_to": event_id} for one, event_id in belongs_to.items()])


def forget(session: Session, ids: Collection[UUID]) -> None:
    """These repeats are needed no more."""
    if ids:
        session.execute(delete(_repeats).where(_among(session, _repeats.c.id)), bulk.keys(ids))


def forget_of(session: Session, event_ids: Collection[UUID]) -> None:
    """The repeats of these events are needed no more."""
    if event_ids:
        session.execute(delete(_repeats).where(_among(session, _repeats.c.event_id)), bulk.keys(event_ids))


def revive(session: Session, event_ids: Collection[UUID], *, now: datetime) -> None:
    """A duplicate came of these: those that failed are due again. One that another worker holds is being tried."""
    if not event_ids:
        return
    failed = select(_events.c.id).where(_among(session, _events.c.id), _events.c.state == EventState.FAILED)
    again = update(_events).where(_events.c.id.in_(failed.with_for_update(skip_locked=True)))
    session.execute(
        again.values(state=EventState.RECEIVED, failure=None, attempts=0, looks=0, next_at=now), bulk.keys(event_ids)
    )


def look_again(session: Session, *, before: datetime, now: datetime) -> int:
    """Make the settled events due whose repeats came before then and are still undecided; how many there are.

    A worker of the release before settles an event and knows of no repeats.
    """
    undecided = select(_repeats.c.event_id).where(_repeats.c.belongs_to.is_(None), _repeats.c.received_at < before)
    settled = select(_events.c.id).where(_events.c.id.in_(undecided), _events.c.state == EventState.PROCESSED)
    again = update(_events).where(_events.c.id.in_(settled.with_for_update(skip_locked=True)))
    found = session.execute(again.values(state=EventState.RECEIVED, next_at=now).returning(_events.c.id))
    return len(found.all())


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Forget decided repeats of windows that ended, at most `limit` of them. An undecided one is judged by them."""
    others = _repeats.alias()
    open_ = select(others.c.id).where(others.c.event_id == _repeats.c.event_id, others.c.belongs_to.is_(None)).exists()
    old = _repeats.c.id < first_id(before), _repeats.c.belongs_to.is_not(None), ~open_
    return _prune(session, _repeats.c.id, *old, limit=limit)


def prune_answers(session: Session, *, before: datetime, limit: int) -> int:
    """Forget reports of before then, at most `limit` rows of each kind."""
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
