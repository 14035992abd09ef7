"""Record the results of attempts, many at once: jobs, attempts, and the health of destinations."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import attempts as attempt_rows
from app.db import jobs as job_rows
from app.db.jobs import ClaimedJob
from app.domain import canary
from app.domain.definitions import DestinationKey
from app.domain.destination_breaker import HealthState, Tally, next_health
from app.domain.retrying import AnswerClass, GiveUp, after_failure, classify, fault_of, problem_of, retry_after
from app.domain.states import Block, DestinationTransition, Fault, JobState
from app.services.definitions import destination_states
from app.services.definitions.destination_alerts import Alerts, ChangedDestination, DiscardedJob
from app.services.delivery.in_flight import AttemptResult

EXCERPT: Final = 1024  # characters of an answer's body that are kept
GONE: Final = "answered 410: it wants no more jobs"
INTERRUPTED: Final = "the worker was told to stop before an answer came"


@dataclass(slots=True)
class RecordedResults:
    """Numbers of recorded attempts by team, destination and job state, and tallies by destination."""

    states: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    tallies: dict[DestinationKey, Tally] = field(default_factory=dict)
    gone: list[DestinationKey] = field(default_factory=list)  # disabled, as they answered 410

    def states_in(self, state: JobState) -> int:
        return sum(count for (_, _, found), count in self.states.items() if found == state)


def record(session: Session, alerts: Alerts, results: Sequence[AttemptResult], *, now: datetime) -> RecordedResults:
    """Record results. Those of jobs whose lease ended and that were claimed again are left out."""
    recorded = RecordedResults()
    first = [result for result in results if _is_first_accepted(result)]
    _record_first(session, recorded, first, now)
    others = [result for result in results if not _is_first_accepted(result)] if len(first) < len(results) else []
    if not others:
        return recorded
    changed = [(result, _columns(result, now)) for result in others]
    ours = job_rows.record_results(session, [columns for _, columns in changed])
    kept = [(result, columns) for result, columns in changed if (columns["id"], columns["attempts"]) in ours]
    attempt_rows.insert(session, [_attempt(result, columns) for result, columns in kept])
    by_destination: dict[DestinationKey, list[AttemptResult]] = {}
    for result, columns in kept:
        recorded.states[*result.attempt.job.key, columns["state"]] += 1
        by_destination.setdefault(result.attempt.job.key, []).append(result)
    for key, of_it in by_destination.items():
        recorded.tallies[key] = recorded.tallies.get(key, Tally()) + _tally(of_it, now)
    recorded.gone += _disable(session, alerts, [result for result, _ in kept], now)
    discarded = [(result, columns) for result, columns in kept if columns["state"] == JobState.DISCARDED]
    alerts.jobs_discarded(session, [_discarded(result.attempt.job, columns) for result, columns in discarded], now=now)
    return recorded


def _is_first_accepted(result: AttemptResult) -> bool:
    """Whether a broker accepted the job at its first attempt, which then is kept in the job's row."""
    answer, attempt = result.answer, result.attempt
    is_plain = answer.error is None and answer.status is None and not (result.interrupted or attempt.probe)
    return is_plain and attempt.job.attempts == 1


def _record_first(session: Session, recorded: RecordedResults, results: Sequence[AttemptResult], now: datetime) -> None:
    """Complete jobs that were accepted at their first attempt: one statement for all that were published together."""
    together: dict[tuple[datetime, float], dict[UUID, DestinationKey]] = {}
    for result in results:
        job = result.attempt.job
        together.setdefault((result.started_at, result.answer.latency_ms), {})[job.id] = job.key
    for (started_at, latency_ms), keys in together.items():
        ids = sorted(keys, key=attrgetter("int"))
        completed = job_rows.complete_first_attempts(
            session, ids, started_at=started_at, latency_ms=latency_ms, now=now
        )
        for key, count in Counter(keys[job_id] for job_id in completed).items():
            recorded.states[*key, JobState.COMPLETED] += count
            recorded.tallies[key] = recorded.tallies.get(key, Tally()) + Tally(succeeded=count)


def give_up(session: Session, alerts: Alerts, jobs: Sequence[ClaimedJob], problem: str, *, now: datetime) -> None:
    """Discard claimed jobs without an attempt, as Waylink's fault."""
    ended = {"state": JobState.DISCARDED, "finished_at": now, "problem": problem, "fault": Fault.OURS}
    job_rows.change(session, [{"id": job.id, **ended} for job in jobs])
    told = [_discarded(job, ended) for job in jobs if job.key != canary.KEY]
    alerts.jobs_discarded(session, told, now=now)


def update_health(
    session: Session,
    alerts: Alerts,
    before: Mapping[DestinationKey, HealthState],
    tallies: Mapping[DestinationKey, Tally],
    *,
    now: datetime,
) -> dict[DestinationKey, HealthState]:
    """The health of destinations after these tallies, and alerts for breakers that opened or closed.

    `before`: all destinations' states, from locked rows. Writing the new ones is left to the caller.
    """
    after = {
        key: next_health(before[key], tally, now=now, chance=random.random()) for key, tally in sorted(tallies.items())
    }
    changed = (_change(key, before[key], health) for key, health in after.items())
    alerts.destinations_changed(session, [change for change in changed if change], now=now)
    return {**before, **after}


def _change(key: DestinationKey, before: HealthState, after: HealthState) -> ChangedDestination | None:
    if (before.failing_since is None) == (after.failing_since is None):
        return None
    change = DestinationTransition.RECOVERED if after.failing_since is None else DestinationTransition.FAILING
    decided = {"failed": after.failed, "succeeded": after.succeeded} if after.failing_since is not None else {}
    return ChangedDestination(
        team=key[0],
        destination=key[1],
        change=change,
        reason=after.last_error or "",
        since=after.failing_since or before.failing_since,
        counts=decided,
    )


def _columns(result: AttemptResult, now: datetime) -> dict[str, Any]:
    """The job's new columns."""
    job, answer_class = result.attempt.job, classify(result.answer)
    problem = INTERRUPTED if result.interrupted else problem_of(result.answer)
    columns = {"id": job.id, "attempts": job.attempts, "crashes": 0, "problem": problem}
    if result.interrupted:
        return columns | _waiting(job, now, block=None)
    if answer_class is AnswerClass.ACCEPTED:
        return columns | {"state": JobState.COMPLETED, "finished_at": now}
    if answer_class is AnswerClass.GONE:
        return columns | _waiting(job, now, block=Block.DISABLED)
    if result.attempt.probe and answer_class is AnswerClass.FAILED:
        # To the end of the queue, so that the next probe is another job: one job alone must not keep the breaker open.
        return columns | _waiting(job, now, block=Block.BREAKER)
    attempts = job.attempts - job.schedule_from
    wait = retry_after(result.answer, now=now)
    follows = after_failure(attempts, now=now, chance=random.random(), retry_after=wait)
    if isinstance(follows, GiveUp):
        ended = {"state": JobState.DISCARDED, "finished_at": now, "fault": fault_of(result.answer)}
        return columns | ended | {"problem": f"{follows.reason}; last: {problem}"}
    return columns | {"state": JobState.RETRYABLE, "next_at": follows.at}


def _waiting(job: ClaimedJob, now: datetime, *, block: Block | None) -> dict[str, Any]:
    """Columns of a job whose attempt does not count on its schedule: the destination or this process was the cause."""
    return {
        "state": JobState.RETRYABLE,
        "next_at": now,
        "blocked_by": block,
        "schedule_from": job.schedule_from + 1,
    }


def _attempt(result: AttemptResult, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of the attempt's row."""
    answer = result.answer
    return {
        "job_id": result.attempt.job.id,
        "number": result.attempt.job.attempts,
        "started_at": result.started_at,
        "latency_ms": answer.latency_ms,
        "outcome": columns["state"],
        "status": answer.status,
        "error": INTERRUPTED if result.interrupted else problem_of(answer),
        "response_excerpt": answer.excerpt[:EXCERPT] if answer.excerpt else None,
    }


def _tally(results: Iterable[AttemptResult], now: datetime) -> Tally:
    """The tally of one destination's results, without interrupted ones."""
    answered = [(result, classify(result.answer)) for result in results if not result.interrupted]
    failed = [result for result, answer_class in answered if answer_class is AnswerClass.FAILED]
    probes = [
        answer_class is not AnswerClass.FAILED
        for result, answer_class in answered
        if result.attempt.probe and answer_class is not AnswerClass.GONE
    ]
    waits = (retry_after(result.answer, now=now) for result, _ in answered)
    return Tally(
        succeeded=sum(answer_class is AnswerClass.ACCEPTED for _, answer_class in answered),
        failed=len(failed),
        error=problem_of(failed[-1].answer) if failed else None,
        probe=probes[-1] if probes else None,
        retry_after=max((wait for wait in waits if wait is not None), default=None),
    )


def _disable(session: Session, alerts: Alerts, results: Sequence[AttemptResult], now: datetime) -> list[DestinationKey]:
    """Disable the destinations that answered 410, except those whose URL was changed since. Their keys."""
    gone = {
        result.attempt.job.key: result.attempt.target.url
        for result in results
        if classify(result.answer) is AnswerClass.GONE
    }
    disable = partial(destination_states.disable, session, alerts, reason=GONE, now=now)
    return [key for key, url in sorted(gone.items()) if disable(team=key[0], destination=key[1], url=url)]


def _discarded(job: ClaimedJob, ended: dict[str, Any]) -> DiscardedJob:
    return DiscardedJob(
        id=job.id,
        event_id=job.event_id,
        team=job.team,
        destination=job.destination,
        route=job.route,
        name=job.name,
        attempts=job.attempts,
        fault=ended["fault"],
        problem=ended["problem"],
    )
