"""Hand jobs over to teams: claim, publish, record. At least once, with the job's id as the task id (promise 10)."""

import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.broker import Broker, Message
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.models import Attempt, Job
from app.deadlines import BATCH, JOB_LEASE, MAX_CLAIMS, SUSPECTS_SECONDS
from app.domain.retrying import GiveUp, after_failure
from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.ids import JOB, show
from app.services.judging import job_document
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

    jobs: Sequence[Job]
    started_at: datetime
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Deliverer:
    """What a worker needs to deliver jobs; made once per process."""

    database: Database
    teams: Broker
    clock: Callable[[], datetime]

    def deliver(self, ids: Collection[UUID], *, limit: int = BATCH) -> Delivered:
        """Hand over the hinted jobs that are due, and other due ones, up to `limit`; suspects one at a time."""
        done = [self._deliver(ids, limit, suspects=False)]
        ends_at = time.monotonic() + SUSPECTS_SECONDS
        while time.monotonic() < ends_at:
            suspect = self._deliver((), 1, suspects=True)
            if suspect == Delivered():
                break
            done.append(suspect)
        return Delivered(sum(one.completed for one in done), sum(one.failed for one in done))

    def _deliver(self, ids: Collection[UUID], limit: int, *, suspects: bool) -> Delivered:
        with self.database.write() as session:
            claimed = job_rows.claim(session, ids, limit=limit, now=self.clock(), lease=JOB_LEASE, suspects=suspects)
            jobs = [job for job in claimed if not self._crashed(job)]
            documents = job_rows.documents(session, {job.event_id for job in jobs})
            queues = {key: one.queue for key, one in route_rows.destinations(session).items()}
        if not jobs:
            return Delivered()
        messages = [
            Message(
                queue=queues[job.team, job.destination] or "",
                task=job.name,
                task_id=show(JOB, job.id),
                kwargs={"job": job_document(job, documents[job.event_id])},
            )
            for job in jobs
        ]
        return self._record(self._hand_over(jobs, messages))

    def _hand_over(self, jobs: Sequence[Job], messages: Sequence[Message]) -> _Handover:
        started_at, started = self.clock(), time.monotonic()
        error = None
        try:
            self.teams.send(messages)
        except BrokerUnavailable as unavailable:
            error = str(unavailable)
            log.warning("handover_failed", jobs=len(jobs), problem=error)
        return _Handover(jobs, started_at, (time.monotonic() - started) * 1000, error)

    def _crashed(self, job: Job) -> bool:
        if job.crashes <= MAX_CLAIMS:
            return False
        job.state, job.finished_at = JobState.DISCARDED, self.clock()
        job.problem = f"claimed {MAX_CLAIMS} times without a result"
        log.error("job_discarded", job_id=show(JOB, job.id), problem=job.problem)
        return True

    def _record(self, handover: _Handover) -> Delivered:
        numbers = {job.id: job.attempts for job in handover.jobs}
        completed = failed = 0
        with self.database.write() as session:
            for job in job_rows.lock(session, numbers):
                if job.attempts != numbers[job.id] or job.state != JobState.RUNNING:
                    continue  # our lease ran out and somebody else has it now
                job.crashes = 0
                self._settle(job, handover.error)
                session.add(
                    Attempt(
                        job_id=job.id,
                        number=job.attempts,
                        started_at=handover.started_at,
                        latency_ms=handover.latency_ms,
                        outcome=job.state,
                        error=handover.error,
                    )
                )
                JOBS.labels(job.team, job.state).inc()
                completed += job.state == JobState.COMPLETED
                failed += job.state != JobState.COMPLETED
        return Delivered(completed, failed)

    def _settle(self, job: Job, error: str | None) -> None:
        now = self.clock()
        job.problem = error
        if error is None:
            job.state, job.finished_at = JobState.COMPLETED, now
            return
        follows = after_failure(job.attempts, now=now, chance=random.random())
        if isinstance(follows, GiveUp):
            job.state, job.finished_at, job.problem = JobState.DISCARDED, now, f"{follows.reason}; last: {error}"
        else:
            job.state, job.next_at = JobState.RETRYABLE, follows.at
