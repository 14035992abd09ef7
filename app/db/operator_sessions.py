"""Statements on operators' sessions. Only the SHA-256 of a secret is stored."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.db.models import Operator, OperatorSession
from app.ids import SESSION, show

PRUNED_AT_ONCE = 100


def add(session: Session, row: OperatorSession) -> None:
    session.add(row)


def live(session: Session, digest: bytes) -> tuple[OperatorSession, Operator] | None:
    """The session of this hash with its enabled operator. The caller checks its times."""
    statement = (
        select(OperatorSession, Operator)
        .join(Operator, Operator.id == OperatorSession.operator_id)
        .where(OperatorSession.hash == digest, Operator.disabled_at.is_(None))
    )
    found = session.execute(statement).one_or_none()
    return None if found is None else (found[0], found[1])


def of_operator(session: Session, operator_id: UUID) -> list[OperatorSession]:
    """Sessions of an operator, newest first."""
    mine = OperatorSession.operator_id == operator_id
    return list(session.scalars(select(OperatorSession).where(mine).order_by(OperatorSession.id.desc())))


def note_seen(session: Session, session_id: UUID, *, now: datetime) -> None:
    session.execute(update(OperatorSession).where(OperatorSession.id == session_id).values(seen_at=now))


def end(session: Session, digest: bytes) -> UUID | None:
    """Delete the session of this hash. Returns its operator; None where there is none."""
    return session.scalar(
        delete(OperatorSession).where(OperatorSession.hash == digest).returning(OperatorSession.operator_id)
    )


def end_all(session: Session, operator_id: UUID, *, but: UUID | None = None) -> int:
    """Delete an operator's sessions, but for one. Returns their number."""
    mine = delete(OperatorSession).where(OperatorSession.operator_id == operator_id)
    if but is not None:
        mine = mine.where(OperatorSession.id != but)
    return len(session.scalars(mine.returning(OperatorSession.id)).all())


def prune(session: Session, *, now: datetime, seen_before: datetime) -> None:
    """Delete some sessions that have ended by their time."""
    over = (OperatorSession.expires_at <= now) | (OperatorSession.seen_at <= seen_before)
    ended = session.scalars(select(OperatorSession.id).where(over).limit(PRUNED_AT_ONCE)).all()
    if ended:
        session.execute(delete(OperatorSession).where(OperatorSession.id.in_(ended)))


def shown(row: OperatorSession) -> dict[str, Any]:
    """A session in its public form."""
    return {
        "id": show(SESSION, row.id),
        "method": row.method,
        "address": row.address,
        "browser": row.browser,
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "seen_at": row.seen_at.isoformat(timespec="minutes"),
        "expires_at": row.expires_at.isoformat(timespec="seconds"),
    }
