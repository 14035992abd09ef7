"""Statements on acknowledgements: the dead letters and failed events that an operator has looked at."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Acknowledgement
from app.domain.acknowledging import AckKind, AckScope

SINGLE_AT_MOST: Final = 1000  # acknowledged ids of one kind


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An acknowledgement: its rows, up to a moment."""

    scope: AckScope
    until: datetime
    at: datetime
    actor: str
    note: str | None


def write(session: Session, acknowledged: Acknowledged) -> None:
    """Write it in place of the earlier one of the same scope. One of everything replaces those of single ids."""
    scope = acknowledged.scope
    values = {
        "kind": scope.kind,
        "subject": scope.subject,
        "until_at": acknowledged.until,
        "at": acknowledged.at,
        "actor": acknowledged.actor,
        "note": acknowledged.note,
    }
    statement = bulk.insert_for(session, Acknowledgement).values(values)
    new = statement.excluded
    changed = {name: getattr(new, name) for name in ("until_at", "at", "actor", "note")}
    session.execute(statement.on_conflict_do_update(index_elements=["kind", "subject"], set_=changed))
    if scope.is_everything:
        single = _is_single(scope.kind), Acknowledgement.until_at <= acknowledged.until
        session.execute(delete(Acknowledgement).where(*single).execution_options(synchronize_session=False))


def newest(session: Session, *, limit: int) -> list[Acknowledged]:
    """Acknowledgements in force, newest first."""
    order = Acknowledgement.at.desc(), Acknowledgement.kind, Acknowledgement.subject
    rows = session.scalars(select(Acknowledgement).order_by(*order).limit(limit))
    return [
        Acknowledged(AckScope(AckKind(row.kind), row.subject), row.until_at, row.at, row.actor, row.note)
        for row in rows
    ]


def count_single(session: Session, kind: AckKind) -> int:
    """Number of single ids that are acknowledged."""
    return session.scalar(select(func.count()).select_from(Acknowledgement).where(_is_single(kind))) or 0


def until(session: Session, scope: AckScope) -> datetime | None:
    """The moment up to which this scope is acknowledged; None: it is not."""
    row: Any = session.get(Acknowledgement, (scope.kind, scope.subject))
    return row.until_at if row is not None else None


def single(session: Session, kind: AckKind) -> dict[str, datetime]:
    """The acknowledged ids in their public form, each with its moment."""
    columns = Acknowledgement.subject, Acknowledgement.until_at
    rows = session.execute(select(*columns).where(_is_single(kind)).limit(SINGLE_AT_MOST))
    return {row[0]: row[1] for row in rows}


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` acknowledgements of single ids made before then: those rows are gone. Returns how many."""
    key = (Acknowledgement.kind, Acknowledgement.subject)
    either = _is_single(AckKind.JOBS) | _is_single(AckKind.EVENTS)
    rows = session.execute(select(*key).where(Acknowledgement.at < before, either).limit(limit)).all()
    for kind, subject in rows:
        gone = delete(Acknowledgement).where(Acknowledgement.kind == kind, Acknowledgement.subject == subject)
        session.execute(gone)
    return len(rows)


def _is_single(kind: AckKind) -> ColumnElement[bool]:
    return (Acknowledgement.kind == kind) & (Acknowledgement.subject != "") & ~Acknowledgement.subject.contains("/")
