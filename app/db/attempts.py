"""Statements on the attempts to deliver a job.

An attempt is a row, except for the first one where a broker accepted it: of this one, all there is to know is in the
job's own row (`started_at`, `latency_ms`), as most jobs never have another. Later attempts leave these columns alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Attempt, Job
from app.domain.states import JobState


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """An attempt and its result. outcome: the state that it left the job in. status: of an HTTP answer."""

    number: int
    started_at: datetime
    latency_ms: float
    outcome: str
    status: int | None = None
    error: str | None = None
    response_excerpt: str | None = None


def insert(session: Session, attempts: Sequence[bulk.Row]) -> None:
    """Add attempts as rows."""
    bulk.insert(session, Attempt, attempts)


def of_job(session: Session, job: Job) -> list[StoredAttempt]:
    """A job's attempts, in order."""
    rows = select(*bulk.columns(Attempt, StoredAttempt)).where(Attempt.job_id == job.id).order_by(Attempt.number)
    apart = [StoredAttempt(*row) for row in session.execute(rows)]
    if job.started_at is None:
        return apart
    return [StoredAttempt(1, job.started_at, job.latency_ms or 0.0, JobState.COMPLETED.value), *apart]
