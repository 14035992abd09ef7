"""Record what came of hand-overs, many at once: jobs, attempts, and how their destinations do."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import jobs as job_rows
from app.db.jobs import ClaimedJob, Key
from app.domain.destination_health import Health, Tally
from app.domain.destination_health import judge as judge_health
from app.domain.retrying import GiveUp, Verdict, after_failure, fault_of, judge, problem_of, wish_of
from app.domain.states import Block, DestinationChange, Fault, JobState
from app.services.definitions import destination_states
from app.services.definitions.alerts import Alerts, ChangedDestination, DiscardedJob
from app.services.delivery.dispatch import Outcome

EXCERPT: Final = 1024  # characters of an answer that are kept
GONE: Final = "answered 410: it wants no more jobs"
INTERRUPTED: Final = "the worker was told to stop before an answer came"


@dataclass(slots=True)
class Recorded:
    """What was recorded: hand-overs by team, destination and state, and what to judge destinations by."""

    states: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    tallies: dict[Key, Tally] = field(default_factory=dict)
    gone: list[Key] = field(default_factory=list)  # disabled, since they answered 410

    def states_in(self, state: JobState) -> int:
        return sum(count for (_, _, found), count in self.states.items() if found == state)


def record(session: Session, alerts: Alerts, outcomes: Sequence[Outcome], *, now: datetime) -> Recorded:
    """Outcomes of jobs that are ours no more are left out: their lease ran out, and somebody else has them."""
    recorded = Recorded()
    if not outcomes:
        return recorded
    told = [(one, _result(one, now)) for one in outcomes]
    settled = job_rows.settle(session, [result for _, result in told])
    ours = [(one, result) for one, result in told if (result["id"], result["attempts"]) in settled]
    job_rows.insert_attempts(session, [_attempt(one, result) for one, result in ours])
    by_line: dict[Key, list[Outcome]] = {}
    for one, result in ours:
        recorded.states[*one.handover.job.key, result["state"]] += 1
        by_line.setdefault(one.handover.job.key, []).append(one)
    recorded.tallies |= {key: _tally(of_it, now) for key, of_it in by_line.items()}
    recorded.gone += _disable(session, alerts, [one for one, _ in ours], now)
    dead = [_dead(one.handover.job, result) for one, result in ours if result["state"] == JobState.DISCARDED]
    alerts.jobs_discarded(session, dead, now=now)
    return recorded


def give_up(session: Session, alerts: Alerts, jobs: Sequence[ClaimedJob], problem: str, *, now: datetime) -> None:
    """End claimed jobs that are not handed over, by a fault of ours."""
    ended = {"state": JobState.DISCARDED, "finished_at": now, "problem": problem, "fault": Fault.OURS}
    job_rows.change(session, [{"id": job.id, **ended} for job in jobs])
    alerts.jobs_discarded(session, [_dead(job, ended) for job in jobs], now=now)


def judge_destinations(
    session: Session, alerts: Alerts, before: Mapping[Key, Health], tallies: Mapping[Key, Tally], *, now: datetime
) -> dict[Key, Health]:
    """Move the breakers by what came of hand-overs since the last time. How each does now; their rows are locked."""
    after = {
        key: judge_health(before[key], tally, now=now, chance=random.random()) for key, tally in sorted(tallies.items())
    }
    changed = (_change(key, before[key], health) for key, health in after.items())
    alerts.destinations_changed(session, [change for change in changed if change], now=now)
    return {**before, **after}


def _change(key: Key, before: Health, after: Health) -> ChangedDestination | None:
    if (before.failing_since is None) == (after.failing_since is None):
        return None
    change = DestinationChange.RECOVERED if after.failing_since is None else DestinationChange.FAILING
    decided = {"failed": after.failed, "succeeded": after.succeeded} if after.failing_since is not None else {}
    return ChangedDestination(
        team=key[0],
        destination=key[1],
        change=change,
        reason=after.last_error or "",
        since=after.failing_since or before.failing_since,
        counts=decided,
    )


def _result(one: Outcome, now: datetime) -> dict[str, Any]:
    """What becomes of a job after a try, as its columns."""
    job, verdict = one.handover.job, judge(one.answer)
    problem = INTERRUPTED if one.interrupted else problem_of(one.answer)
    result = {"id": job.id, "attempts": job.attempts, "crashes": 0, "problem": problem}
    if one.interrupted:
        return result | _waiting(job, now, block=None)
    if verdict is Verdict.ACCEPTED:
        return result | {"state": JobState.COMPLETED, "finished_at": now}
    if verdict is Verdict.GONE:
        return result | _waiting(job, now, block=Block.DISABLED)
    if one.handover.probe and verdict is Verdict.FAILED:
        # Last in line, so that the next probe is another job: one alone must not keep the breaker open.
        return result | _waiting(job, now, block=Block.BREAKER)
    attempts = job.attempts - job.schedule_from
    follows = after_failure(attempts, now=now, chance=random.random(), wish=wish_of(one.answer, now=now))
    if isinstance(follows, GiveUp):
        ended = {"state": JobState.DISCARDED, "finished_at": now, "fault": fault_of(one.answer)}
        return result | ended | {"problem": f"{follows.reason}; last: {problem}"}
    return result | {"state": JobState.RETRYABLE, "next_at": follows.at}


def _waiting(job: ClaimedJob, now: datetime, *, block: Block | None) -> dict[str, Any]:
    """A try that does not use up the schedule: it was about the destination, or about this process."""
    return {
        "state": JobState.RETRYABLE,
        "next_at": now,
        "blocked_by": block,
        "schedule_from": job.schedule_from + 1,
    }


def _attempt(one: Outcome, result: dict[str, Any]) -> dict[str, Any]:
    answer = one.answer
    return {
        "job_id": one.handover.job.id,
        "number": one.handover.job.attempts,
        "started_at": one.started_at,
        "latency_ms": answer.latency_ms,
        "outcome": result["state"],
        "status": answer.status,
        "error": INTERRUPTED if one.interrupted else problem_of(answer),
        "response_excerpt": answer.excerpt[:EXCERPT] if answer.excerpt else None,
    }


def _tally(outcomes: Iterable[Outcome], now: datetime) -> Tally:
    """What outcomes say of their destination."""
    judged = [(one, judge(one.answer)) for one in outcomes if not one.interrupted]
    failed = [one for one, verdict in judged if verdict is Verdict.FAILED]
    probes = [
        verdict is not Verdict.FAILED for one, verdict in judged if one.handover.probe if verdict is not Verdict.GONE
    ]
    return Tally(
        succeeded=sum(verdict is Verdict.ACCEPTED for _, verdict in judged),
        failed=len(failed),
        error=problem_of(failed[-1].answer) if failed else None,
        probe=probes[-1] if probes else None,
        wish=max((wish for one, _ in judged if (wish := wish_of(one.answer, now=now)) is not None), default=None),
    )


def _disable(session: Session, alerts: Alerts, outcomes: Sequence[Outcome], now: datetime) -> list[Key]:
    """Those that answered 410, unless their URL was changed meanwhile."""
    gone = {one.handover.job.key: one.handover.target.url for one in outcomes if judge(one.answer) is Verdict.GONE}
    disable = partial(destination_states.disable, session, alerts, reason=GONE, now=now)
    return [key for key, url in sorted(gone.items()) if disable(team=key[0], destination=key[1], url=url)]


def _dead(job: ClaimedJob, ended: dict[str, Any]) -> DiscardedJob:
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
