"""Hand jobs over to teams: claim, publish, record. At least once, with the job's id as the task id (promise 10)."""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw
from sqlalchemy.orm import Session

from app.broker import Broker, Message
from app.db import bulk
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.jobs import ClaimedJob
from app.db.models import Attempt, Job
from app.deadlines import BATCH, JOB_LEASE, MAX_CLAIMS
from app.domain.retrying import GiveUp, after_failure
from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.ids import JOB, show
from app.services.suspects import Suspects
from app.telemetry import JOBS, get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one call."""

    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Handover:
    """One try for some jobs: it went well for all of them, or for none."""

    jobs: Sequence[ClaimedJob]
    started_at: datetime
    latency_ms: float
    error: str | None


@dataclass(slots=True)
class Deliverer:
    """What a worker needs to deliver jobs; made once per process."""

    database: Database
    teams: Broker
    clock: Callable[[], datetime]
    _suspects: Suspects = field(init=False)

    def __post_init__(self) -> None:
        self._suspects = Suspects(self.clock)

    def deliver(self, ids: Collection[UUID], *, limit: int = BATCH) -> Delivered:
        """Hand over the hinted jobs that are due, and other due ones, up to `limit`; suspects one at a time."""
        done = [self._deliver(ids, limit, suspects=False), *self._suspects.each(self._deliver_suspect)]
        return Delivered(sum(one.completed for one in done), sum(one.failed for one in done))

    def _deliver_suspect(self) -> Delivered | None:
        delivered = self._deliver((), 1, suspects=True)
        return None if delivered == Delivered() else delivered

    def _deliver(self, ids: Collection[UUID], limit: int, *, suspects: bool) -> Delivered:
        with self.database.write() as session:
            now = self.clock()
            claimed = job_rows.claim(session, ids, limit=limit, now=now, lease=JOB_LEASE, suspects=suspects)
            jobs = [job for job in claimed if job.crashes <= MAX_CLAIMS]
            self._give_up(session, [job for job in claimed if job.crashes > MAX_CLAIMS], now)
            documents = job_rows.documents(session, {job.event_id for job in jobs})
            queues = {key: one.queue for key, one in route_rows.destinations(session).items()}
        if not jobs:
            return Delivered()
        messages = [
            Message(
                queue=queues[job.team, job.destination] or "",
                task=job.name,
                task_id=show(JOB, job.id),
                kwargs={"job": _document(job, documents[job.event_id])},
            )
            for job in jobs
        ]
        return self._record(self._hand_over(jobs, messages))

    def _hand_over(self, jobs: Sequence[ClaimedJob], messages: Sequence[Message]) -> _Handover:
        started_at, started = self.clock(), time.monotonic()
        error = None
        try:
            self.teams.send(messages)
        except BrokerUnavailable as unavailable:
            error = str(unavailable)
            log.warning("handover_failed", jobs=len(jobs), problem=error)
        return _Handover(jobs, started_at, (time.monotonic() - started) * 1000, error)

    def _give_up(self, session: Session, crashed: Sequence[ClaimedJob], now: datetime) -> None:
        problem = f"claimed {MAX_CLAIMS} times without a result"
        ended = {"state": JobState.DISCARDED, "finished_at": now, "problem": problem}
        bulk.update(session, Job, [{"id": job.id, **ended} for job in crashed])
        for job in crashed:
            log.error("job_discarded", job_id=show(JOB, job.id), problem=problem)

    def _record(self, handover: _Handover) -> Delivered:
        now = self.clock()
        with self.database.write() as session:
            ours = job_rows.lock_running(session, [job.id for job in handover.jobs])
            # Another attempt by now means that our lease ran out and somebody else has the job.
            jobs = [job for job in handover.jobs if ours.get(job.id) == job.attempts]
            results = [_result(job, handover.error, now) for job in jobs]
            bulk.update(session, Job, results)
            bulk.insert(session, Attempt, [_attempt(handover, *pair) for pair in zip(jobs, results, strict=True)])
        outcomes = Counter((job.team, result["state"]) for job, result in zip(jobs, results, strict=True))
        for (team, state), count in outcomes.items():
            JOBS.labels(team, state).inc(count)
        completed = sum(count for (_, state), count in outcomes.items() if state == JobState.COMPLETED)
        return Delivered(completed, len(jobs) - completed)


def _result(job: ClaimedJob, error: str | None, now: datetime) -> dict[str, Any]:
    """What becomes of a job after a try, as its columns."""
    tried = {"id": job.id, "crashes": 0, "problem": error}
    if error is None:
        return {**tried, "state": JobState.COMPLETED, "finished_at": now}
    follows = after_failure(job.attempts, now=now, chance=random.random())
    if isinstance(follows, GiveUp):
        problem = f"{follows.reason}; last: {error}"
        return {**tried, "state": JobState.DISCARDED, "finished_at": now, "problem": problem}
    return {**tried, "state": JobState.RETRYABLE, "next_at": follows.at}


def _attempt(handover: _Handover, job: ClaimedJob, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "number": job.attempts,
        "started_at": handover.started_at,
        "latency_ms": handover.latency_ms,
        "outcome": result["state"],
        "error": handover.error,
    }


def _document(job: ClaimedJob, event: Raw) -> dict[str, Any]:
    """A job as teams receive it (DESIGN 5)."""
    return {
        "id": show(JOB, job.id),
        "name": job.name,
        "attempt": job.attempts,
        "created_at": job.created_at.isoformat(),
        "route": {"name": job.route, "version": job.route_version},
        "event": event,
    }
