"""Statements on the audit: actions of operators and applications."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.orm import Session

from app.db.models import Audit
from app.db.read import searching
from app.db.read.searching import Page, Place
from app.domain.states import AuditOutcome
from app.ids import AUDIT, first_id, new_id, show


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Exact matches; None is any. `before` continues a list after the row with that id."""

    limit: int = 50
    before: UUID | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    outcome: AuditOutcome | None = None
    since: datetime | None = None
    search: int | None = None  # rows that a page looks at (`app.db.read.searching`); None: as many as it takes


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
    outcome: AuditOutcome = AuditOutcome.DONE,
) -> UUID:
    """Record an action, in the action's own transaction where it has one. Returns the row's id.

    action: `<noun>.<past participle>`, such as `token.created`. subject: a public id. detail: JSON without secrets.
    outcome: `begun` while another system is asked, until `conclude` records the result.
    """
    row_id = new_id()
    session.execute(
        insert(Audit).values(
            id=row_id,
            at=now,
            actor=actor,
            action=action,
            subject=subject,
            detail=dict(detail or {}),
            outcome=outcome,
        )
    )
    return row_id


def conclude(session: Session, row_id: UUID, outcome: AuditOutcome, detail: Mapping[str, Any] | None = None) -> None:
    """Record the result of an action that was begun; `detail`, where given, replaces the earlier one."""
    values = {"outcome": outcome} | ({"detail": dict(detail)} if detail is not None else {})
    session.execute(update(Audit).where(Audit.id == row_id).values(**values))


def add_result(session: Session, row_id: UUID, outcome: AuditOutcome, result: Mapping[str, Any]) -> None:
    """Record the result of an action that was begun, beside its detail. Nothing where its row is pruned."""
    row = session.get(Audit, row_id)
    if row is not None:
        conclude(session, row_id, outcome, {**row.detail, **result})


def listed(session: Session, filters: AuditFilters) -> Page:
    """The page in the public form, after looking at `filters.search` rows at most."""
    indexed = filters.subject is not None or filters.outcome == AuditOutcome.BEGUN
    place = Place(before=filters.before, limit=filters.limit, search=None if indexed else filters.search)
    return searching.page_of(
        session,
        _newest(filters),
        Audit.id,
        AUDIT,
        place=place,
        read=lambda bounded: [shown(entry) for entry in session.scalars(bounded)],
    )


def newest(session: Session, filters: AuditFilters) -> list[Audit]:
    """Rows, newest first."""
    return list(session.scalars(_newest(filters)))


def _newest(filters: AuditFilters) -> Select[Any]:
    statement = select(Audit).order_by(Audit.id.desc()).limit(filters.limit)
    for column, value in (
        (Audit.actor, filters.actor),
        (Audit.action, filters.action),
        (Audit.subject, filters.subject),
        (Audit.outcome, filters.outcome),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if filters.since is not None:
        statement = statement.where(Audit.id >= first_id(filters.since))
    if filters.before is not None:
        statement = statement.where(Audit.id < filters.before)
    return statement


def shown(entry: Audit) -> dict[str, Any]:
    """A row of the audit in its public form."""
    return {
        "id": show(AUDIT, entry.id),
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "outcome": entry.outcome,
        "detail": entry.detail,
    }


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` rows of actions before that time."""
    old = list(session.scalars(select(Audit.id).where(Audit.id < first_id(before)).limit(limit)))
    if old:
        session.execute(delete(Audit).where(Audit.id.in_(old)).execution_options(synchronize_session=False))
    return len(old)
