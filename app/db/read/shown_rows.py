"""Events, jobs and attempts as plain objects, as lists and pages show them."""

from datetime import datetime
from typing import Any

from app.db.attempts import StoredAttempt
from app.db.models import Event, Job
from app.domain.states import UNFINISHED_JOBS
from app.ids import EVENT, JOB, show


def shown_event(event: Event) -> dict[str, Any]:
    return {
        "id": show(EVENT, event.id),
        "type": event.type,
        "origin": event.origin,
        "environment": event.environment or None,
        "integration": event.integration,
        "connection_id": event.connection_id,
        "state": event.state,
        "confirmed": event.confirmed,
        "duplicates": event.duplicates,
        "recurrence_of": show(EVENT, event.recurrence_of) if event.recurrence_of else None,
        "tags": event.tags,
        "failure": event.failure,
        "problem": event.problem,
        "received_at": shown_time(event.received_at),
    }


def shown_job(job: Job) -> dict[str, Any]:
    return {
        "id": show(JOB, job.id),
        "name": job.name,
        "team": job.team,
        "destination": job.destination,
        "state": job.state,
        "attempts": job.attempts,
        "event_id": show(EVENT, job.event_id),
        "route": job.route,
        "route_version": job.route_version,
        "backfill": job.backfill,
        "blocked_by": job.blocked_by,
        "fault": job.fault,
        "problem": job.problem,
        "next_at": shown_time(job.next_at) if job.state in UNFINISHED_JOBS else None,
        "created_at": shown_time(job.created_at),
        "finished_at": shown_time(job.finished_at),
    }


def shown_attempt(attempt: StoredAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": shown_time(attempt.started_at),
        "latency_ms": round(attempt.latency_ms, 1),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": attempt.error,
        "response_excerpt": attempt.response_excerpt,
    }


def shown_time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
