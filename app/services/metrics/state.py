"""The values of the installation's gauges. They come from the database and the broker, not from a process's memory."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE, Broker
from app.db import key_uses, reconciliations
from app.db.read import canary, figures, processes, queue_figures, refresh_health
from app.db.read.refresh_health import LateGroup
from app.domain.budget import Bucket
from app.domain.liveness import ProcessKind, ProcessState, Work
from app.errors import BrokerUnavailable
from app.services.metrics import gauges
from app.services.metrics.gauges import StateGauge
from app.services.policy import Policy
from app.services.refreshing.lateness import lateness

MOST: Final = 200  # integrations of one gauge, the most overdue first

Reading = tuple[StateGauge, tuple[str, ...], float]
Readings = Mapping[StateGauge, Mapping[tuple[str, ...], float]]


def collected(readings: Iterator[Reading]) -> Readings:
    """The readings by gauge; of two with the same labels the first one."""
    found: dict[StateGauge, dict[tuple[str, ...], float]] = defaultdict(dict)
    for gauge, labels, value in readings:
        found[gauge].setdefault(labels, value)
    return found


def of_database(session: Session, policy: Policy, *, now: datetime) -> Iterator[Reading]:
    """Readings of the tables; each is bounded."""
    yield from _queues(session, now)
    yield from _destinations(session, now)
    yield from _refreshes(session, policy, now)
    yield gauges.NEEDING_RECONNECT, (), figures.needing_reconnect(session)
    for environment in sorted(policy.environments)[:MOST]:
        last = reconciliations.last(session, environment, completed=True)
        if last is not None and last.finished_at is not None:
            yield gauges.RECONCILED_AT, (environment,), last.finished_at.timestamp()
    for use in key_uses.all_uses(session)[:MOST]:
        if use.last_at is not None:
            yield gauges.KEY_USED_AT, (use.environment, use.key), use.last_at.timestamp()


def of_processes(session: Session, *, now: datetime) -> Iterator[Reading]:
    """Readings of the processes' reports, and of the canary."""
    for stage in canary.stages(session, now=now):
        if stage.passed is not None:
            yield gauges.CANARY_AGE, (stage.stage,), stage.passed
    seen = [one for one in processes.all_processes(session, now=now) if not one.replaced]
    for kind in ProcessKind:
        mine = [one for one in seen if one.kind is kind and one.state is not ProcessState.STOPPED]
        for state in (ProcessState.RUNNING, ProcessState.STANDING_STILL, ProcessState.SILENT):
            yield gauges.PROCESSES, (kind, state), sum(one.state is state for one in mine)
        if mine:
            yield gauges.HEARTBEAT_AGE, (kind,), min(one.seen_seconds for one in mine)
    for work in Work:
        if (age := processes.last_done(seen, work)) is not None:
            yield gauges.WORK_AGE, (work,), age


def of_broker(broker: Broker, bucket_of: Callable[[str], Bucket | None], policy: Policy) -> Iterator[Reading]:
    """Readings of the internal broker; none while it is away. bucket_of: the request budget of an account."""
    try:
        for queue in (EVENTS_QUEUE, IO_QUEUE):
            yield gauges.BROKER_MESSAGES, (queue,), broker.queue_length(queue)
    except BrokerUnavailable:
        return
    for account in sorted({one.account for one in policy.environments.values() if one.has_api}):
        if (bucket := bucket_of(account)) is not None:
            yield gauges.BUDGET_USED, (account,), bucket.used
            yield gauges.BUDGET_LIMIT, (account,), bucket.limit


def _queues(session: Session, now: datetime) -> Iterator[Reading]:
    events = figures.events(session, now=now)
    jobs = figures.jobs(session, now=now)
    refreshes = queue_figures.refreshes(session, now=now)
    for queue, count, oldest in (
        ("events", events.waiting, events.oldest_due),
        ("jobs", sum(jobs.unfinished.values()), jobs.oldest_due),
        ("refreshes", refreshes.count, refreshes.oldest_due),
    ):
        yield gauges.BACKLOG, (queue,), count
        yield gauges.OLDEST_DUE, (queue,), _age(oldest, now)
    for state in ("available", "running", "retryable"):
        yield gauges.JOBS_UNFINISHED, (state,), jobs.unfinished.get(state, 0)
    yield gauges.JOBS_UNFINISHED, ("parked",), sum(jobs.parked.values())


def _destinations(session: Session, now: datetime) -> Iterator[Reading]:
    for queue in queue_figures.destinations(session, now=now):
        names = (queue.team, queue.destination)
        yield gauges.DESTINATION_JOBS, (*names, "waiting"), queue.waiting
        yield gauges.DESTINATION_JOBS, (*names, "parked"), queue.parked
        yield gauges.DESTINATION_OLDEST_DUE, names, _age(queue.oldest_due, now)
        for state in ("delivering", "failing", "disabled"):
            yield gauges.DESTINATION_STATE, (*names, state), state == queue.state


def _refreshes(session: Session, policy: Policy, now: datetime) -> Iterator[Reading]:
    found = lateness(session, policy, now=now)
    yield from _counts(gauges.REFRESHES_OVERDUE, found.overdue)
    yield from _counts(gauges.TOKENS_LAPSED, found.lapsed)
    for group in found.overdue[:MOST]:  # the most overdue of an integration's groups comes first
        yield gauges.REFRESH_PLANNED, (group.environment, group.integration), group.since.timestamp()
    for names in found.paused[:MOST]:
        yield gauges.REFRESHES_PAUSED, names, 1
    for environment, integration, renewed, failed in refresh_health.results(session, now=now, limit=MOST):
        yield gauges.REFRESH_RESULTS, (environment, integration, "renewed"), renewed
        yield gauges.REFRESH_RESULTS, (environment, integration, "failed"), failed
    if found.tick is not None:
        yield gauges.REFRESH_TICK, (), found.tick.timestamp()


def _counts(gauge: StateGauge, groups: Sequence[LateGroup]) -> Iterator[Reading]:
    counts: Counter[tuple[str, str]] = Counter()
    for group in groups:
        counts[group.environment, group.integration] += group.count
    for names, count in list(counts.items())[:MOST]:
        yield gauge, names, count


def _age(since: datetime | None, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0) if since else 0.0
