"""Actions on many rows: a chunk per short transaction, together with the audit.

The caller gets the rows of each chunk after its commit, to hint workers, and may stop there. If the process is killed
at any moment, the audit has the number of changed rows.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit
from app.db.engine import Database
from app.deadlines import BATCH
from app.domain.states import AuditOutcome

CHUNK: Final = BATCH  # rows of one transaction, which has to stay under 100 ms on SQLite


@dataclass(frozen=True, slots=True)
class Audited:
    """The audit's facts on an action: actor, action, subject, and the request."""

    actor: str
    action: str
    subject: str
    asked: Mapping[str, Any]


def in_chunks(
    database: Database,
    ids: Sequence[UUID],
    take: Callable[[Session, Sequence[UUID], datetime], list[UUID]],
    audited: Audited,
    *,
    clock: Callable[[], datetime],
    size: int | None = None,
    ready: Callable[[Sequence[UUID]], int] | None = None,
) -> Generator[list[UUID], None, None]:
    """Yields the rows that `take` changed, a chunk of `size` (CHUNK) at a time, each after its commit.

    ready: called before each transaction with the next rows, for computations outside of it; returns how many of them
    the transaction takes, at least one.

    The audit's row is `begun` until the last chunk, and `failed` where the action was stopped; it has the count so far.
    """
    row_id: UUID | None = None
    count, is_over = 0, False
    try:
        size = size or CHUNK
        start = 0
        while start < len(ids):
            chunk = ids[start : start + size]
            if ready is not None:
                chunk = chunk[: ready(chunk)]
            start += len(chunk)
            is_last = start >= len(ids)
            began = time.monotonic()
            with database.write() as session:
                now = clock()
                taken = take(session, chunk, now)
                count += len(taken)
                outcome = AuditOutcome.DONE if is_last else AuditOutcome.BEGUN
                row_id = _note(session, row_id, audited, count=count, outcome=outcome, now=now)
            is_over = is_last
            yield taken
            if not is_last:
                yield_write_lock(database, time.monotonic() - began)
    finally:
        if row_id is not None and not is_over:
            with database.write() as session:
                _note(session, row_id, audited, count=count, outcome=AuditOutcome.FAILED, now=clock())


def yield_write_lock(database: Database, seconds: float) -> None:
    """On SQLite, where all writers wait for one lock: sleep as long as the transaction took, at most 0.1 s."""
    if database.is_sqlite:
        time.sleep(min(seconds, 0.1))


def _note(
    session: Session, row_id: UUID | None, audited: Audited, *, count: int, outcome: AuditOutcome, now: datetime
) -> UUID:
    detail = {**audited.asked, "count": count}
    if row_id is not None:
        audit.conclude(session, row_id, outcome, detail)
        return row_id
    return audit.record(
        session,
        actor=audited.actor,
        action=audited.action,
        subject=audited.subject,
        detail=detail,
        outcome=outcome,
        now=now,
    )
