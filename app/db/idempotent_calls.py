"""Statements on calls of the API that were made with an idempotency key."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, tuple_, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import IdempotentCall


@dataclass(frozen=True, slots=True)
class CallKey:
    """caller: the actor's name in the audit; key: as the caller chose it."""

    caller: str
    key: str


@dataclass(frozen=True, slots=True)
class BegunCall:
    """A recorded call. status: None while no answer is recorded. answer: None where it is not kept."""

    fingerprint: bytes
    began_at: datetime
    held_until: datetime
    status: int | None
    answer: str | None


def begin(session: Session, call: CallKey, *, fingerprint: bytes, now: datetime, until: datetime) -> bool:
    """Record that a call begins. False where one with this key is recorded."""
    row = bulk.insert_for(session, IdempotentCall).values(
        caller=call.caller, key=call.key, fingerprint=fingerprint, began_at=now, held_until=until
    )
    added = row.on_conflict_do_nothing().returning(IdempotentCall.key)
    return session.execute(added).first() is not None


def get(session: Session, call: CallKey) -> BegunCall | None:
    """The recorded call."""
    columns = (getattr(IdempotentCall, one.name) for one in fields(BegunCall))
    row = session.execute(select(*columns).where(*_this(call))).first()
    return BegunCall(*row) if row else None


def answered(session: Session, call: CallKey, *, status: int, answer: str | None) -> None:
    """Record the answer. None: it is not kept."""
    session.execute(update(IdempotentCall).where(*_this(call)).values(status=status, answer=answer))


def forget(session: Session, call: CallKey) -> None:
    """Delete the record of a call that did nothing, so that its key can be used again."""
    session.execute(delete(IdempotentCall).where(*_this(call)))


def forget_answers(session: Session) -> None:
    """Delete all kept answers, which may name a person. The calls stay recorded."""
    session.execute(update(IdempotentCall).where(IdempotentCall.answer.is_not(None)).values(answer=None))


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` calls that began before that time. Returns their number."""
    old = select(IdempotentCall.caller, IdempotentCall.key).where(IdempotentCall.began_at < before).limit(limit)
    rows = [tuple(row) for row in session.execute(old)]
    if rows:
        these = tuple_(IdempotentCall.caller, IdempotentCall.key).in_(rows)
        session.execute(delete(IdempotentCall).where(these).execution_options(synchronize_session=False))
    return len(rows)


def _this(call: CallKey) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return IdempotentCall.caller == call.caller, IdempotentCall.key == call.key
