"""Checks of events and jobs that wait to be worked on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db.read import figures
from app.db.read.figures import AT_MOST, EventFigures, HeldEvents, JobFigures
from app.deadlines import EVENT_LEASE
from app.domain.status import Check, CheckKind, Level, red_if
from app.errors import NangoBudgetSpent, NangoRateLimited
from app.services.status.wording import bounded, first_line, moment, span

OVERDUE: Final = timedelta(seconds=60)  # due work that no worker took for so long
HELD: Final = timedelta(seconds=20)  # events whose lookup was not answered
RATE_LIMITED: Final = timedelta(minutes=5)  # those that the rate limit holds back, which lifts once a minute
UNFINISHED: Final = (
    (CheckKind.JOBS_AVAILABLE, "available"),
    (CheckKind.JOBS_RUNNING, "running"),
    (CheckKind.JOBS_RETRYABLE, "retryable"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """Figures of events and jobs."""

    events: EventFigures
    held: Sequence[HeldEvents]
    jobs: JobFigures


def read(session: Session, *, now: datetime) -> Work:
    """Read the figures, each from an index."""
    return Work(figures.events(session, now=now), figures.held_events(session), figures.jobs(session, now=now))


def checks(work: Work, *, now: datetime) -> Iterator[Check]:
    """Judge them."""
    yield from _event_checks(work.events, now)
    yield _held_check(work.held, now)
    yield from _job_checks(work.jobs, now)


def _event_checks(found: EventFigures, now: datetime) -> Iterator[Check]:
    late = now - found.oldest_due if found.oldest_due else timedelta(0)
    repair = "waylink events --state received" if late > OVERDUE else ""
    told, level = _due("event", found.oldest_due, now), red_if(late > OVERDUE)
    yield Check(CheckKind.EVENTS_WAITING, level, bounded(found.waiting), told, repair)
    # Running workers hold leases. A killed worker's leases last until they end.
    if late > EVENT_LEASE and not found.leased:
        cause = "due events lie still: no events worker takes them, or none runs"
        yield Check(CheckKind.EVENTS_WORKER, Level.RED, "stands still", cause, "waylink worker events")
    else:
        yield Check(CheckKind.EVENTS_WORKER, Level.OK, "working" if found.leased else "nothing to do")


def _held_check(held: Sequence[HeldEvents], now: datetime) -> Check:
    count = sum(group.count for group in held)
    late = [group for group in held if now - group.since > _bound(group.problem)]
    if not late:
        return Check(CheckKind.EVENTS_HELD, Level.OK, count)
    cause = f"events wait since {moment(late[0].since)}: {first_line(late[0].problem)}"
    return Check(CheckKind.EVENTS_HELD, Level.RED, count, cause, "waylink check")


def _bound(problem: str) -> timedelta:
    is_limited = NangoRateLimited.what in problem or NangoBudgetSpent.what in problem
    return RATE_LIMITED if is_limited else HELD


def _job_checks(found: JobFigures, now: datetime) -> Iterator[Check]:
    late = now - found.oldest_due if found.oldest_due else timedelta(0)
    capped = sum(found.unfinished.values()) > AT_MOST
    for kind, state in UNFINISHED:
        count = found.unfinished.get(state, 0)
        value = f"{count}+" if capped else count
        if kind is not CheckKind.JOBS_AVAILABLE:
            yield Check(kind, Level.OK, value)
        elif late > OVERDUE:
            cause = f"no io worker delivers them: {_due('job', found.oldest_due, now)}"
            yield Check(kind, Level.RED, value, cause, "waylink worker io")
        else:
            yield Check(kind, Level.OK, value, _due("job", found.oldest_due, now))
    for reason, count in sorted(found.parked.items()):
        cause = "they wait for their destinations, and no attempt is counted"
        yield Check(CheckKind.JOBS_PARKED, Level.HINT, bounded(count), cause, "waylink queues", subject=reason)


def _due(noun: str, oldest: datetime | None, now: datetime) -> str:
    return f"the oldest {noun} is due since {moment(oldest)}, for {span(now - oldest)}" if oldest else ""
