"""Retry failed events, and replay a stored event through the routes.

Events are matched with no transaction open, and replayed in the caller's transaction.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, documents, job_actions
from app.db import event_actions as rows
from app.db import events as event_rows
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.event_actions import ChosenEvent, EventFilters, ExistingJob
from app.db.models import Event
from app.domain.job_actions import TAKES, JobAction, why_left_alone
from app.domain.route_index import RouteKey
from app.domain.routing import Matched, RouteSet, RoutingDecision
from app.domain.states import EventState, JobState
from app.errors import Conflict, NotFound
from app.ids import EVENT, show
from app.services.bulk_actions import Audited, in_chunks
from app.services.routing.cache import compiled
from app.services.routing.router import job_row

UNDECIDED: Final = "it would take too much work to decide"


class Routes(StrEnum):
    """The routes of a replay."""

    NOW = "now"  # those in force
    THEN = "then"  # those of the event's route set


class ReplayOutcome(StrEnum):
    """The effect of a replay on a matching route's job."""

    NEW = "new"  # the job is created
    RETRIED = "retried"  # a discarded, cancelled or waiting job is due
    REDELIVERED = "redelivered"  # a completed job is due again
    LEFT_ALONE = "left_alone"


_OUTCOMES: Final[Mapping[JobAction, ReplayOutcome]] = {
    JobAction.RETRY: ReplayOutcome.RETRIED,
    JobAction.REDELIVER: ReplayOutcome.REDELIVERED,
}


@dataclass(frozen=True, slots=True)
class Step:
    """A matching route and the outcome for its job. `job_id` is None while the job does not exist."""

    decision: RoutingDecision
    outcome: ReplayOutcome
    job_id: UUID | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of an event. suppressed: why the event was not announced when it was processed, or None."""

    event_id: UUID
    route_set: int
    suppressed: str | None
    steps: tuple[Step, ...]

    @property
    def due(self) -> list[UUID]:
        """Ids of the jobs that are due now, for hints to workers."""
        return [step.job_id for step in self.steps if step.job_id and step.outcome is not ReplayOutcome.LEFT_ALONE]

    def counts(self) -> dict[str, int]:
        return {outcome: sum(step.outcome is outcome for step in self.steps) for outcome in ReplayOutcome}


@dataclass(frozen=True, slots=True)
class Matching:
    """A stored event's document and the routes of one set that take it."""

    event_id: UUID
    by: Routes
    route_set: int
    document: Any
    matched: Matched


def retry(
    database: Database,
    events: Sequence[ChosenEvent],
    *,
    asked: Mapping[str, Any],
    actor: str,
    clock: Callable[[], datetime],
) -> Generator[list[UUID], None, None]:
    """Retry the failed ones of these events; yields each chunk's ids after its commit."""
    subject = show(EVENT, events[0].id) if len(events) == 1 else "events"
    audited = Audited(actor, "event.retried", subject, asked)
    return in_chunks(database, [event.id for event in events], _revive, audited, clock=clock)


def described(filters: EventFilters) -> dict[str, Any]:
    """The filters as a JSON object for the audit."""
    used = {name: value for name, value in asdict(filters).items() if value is not None}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in used.items()}


def match(database: Database, event_id: UUID, by: Routes, current: RouteSet) -> Matching:
    """Match a stored event against the routes in force (`current`) or those of its route set, no transaction open.

    Raises NotFound, and Conflict for an event that was never routed.
    """
    with database.read() as session:
        event, document = _routed(session, event_rows.get(session, event_id), event_id)
        version = event.route_set or 0
        rows_then = route_rows.of_set(session, version) if by is Routes.THEN else []
    routes = current if by is Routes.NOW else compiled(version, rows_then)
    return Matching(event_id, by, routes.version, document, routes.match(document))


def preview(session: Session, matching: Matching, *, again: bool, route: RouteKey | None = None) -> Replay:
    """The effect of a replay through all routes or one, without carrying it out.

    Raises NotFound, and Conflict for an event that was never routed.
    """
    event, document = _routed(session, event_rows.get(session, matching.event_id), matching.event_id)
    return _plan(session, event, document, matching, again=again, route=route)


def replay(
    session: Session,
    matching: Matching,
    *,
    again: bool,
    route: RouteKey | None = None,
    actor: str,
    now: datetime,
) -> Replay:
    """Replay an event: each matching route has one job of it afterwards.

    An existing job keeps its id; it is delivered again with `again`, or where it was discarded and the routes are those
    of the event's route set. Its decision stays the one that made it. Raises NotFound, and
    Conflict for an event that was never routed, or that changed since it was matched.
    """
    done = carry_out(session, matching, again=again, route=route, now=now)
    named = "/".join(route) if route else None
    detail = {"routes": str(matching.by), "again": again, "route": named, **done.counts()}
    subject = show(EVENT, matching.event_id)
    audit.record(session, actor=actor, action="event.replayed", subject=subject, detail=detail, now=now)
    return done


def carry_out(
    session: Session, matching: Matching, *, again: bool, route: RouteKey | None = None, now: datetime
) -> Replay:
    """`replay` without its entry in the audit. Where it raises, nothing is written."""
    event_id, by = matching.event_id, matching.by
    event, document = _routed(session, rows.hold(session, event_id), event_id)
    plan = _plan(session, event, document, matching, again=again, route=route)
    new = [step for step in plan.steps if step.outcome is ReplayOutcome.NEW]
    jobs = [job_row(event_id, step.decision, now=now) for step in new]
    made = set(rows.add_jobs(session, jobs))
    ids = {(row["team"], row["route"]): row["id"] for row in jobs if row["id"] in made}
    for action, outcome in _OUTCOMES.items():
        job_actions.take(
            session, action, [step.job_id for step in plan.steps if step.outcome is outcome and step.job_id], now=now
        )
    if by is Routes.NOW:
        job_rows.change(session, [_current_route(step) for step in plan.steps if step.outcome in _OUTCOMES.values()])
    return replace(plan, steps=tuple(_with_id(step, ids) for step in plan.steps))


def _plan(
    session: Session,
    event: Event,
    document: Mapping[str, Any],
    matching: Matching,
    *,
    again: bool,
    route: RouteKey | None,
) -> Replay:
    if document != matching.document:  # such as by an erasure
        raise Conflict(f"{show(EVENT, event.id)} changed meanwhile: try again")
    existing = rows.jobs_of(session, event.id)
    decisions = [decision for decision in matching.matched.decisions if route in {None, decision.route.key}]
    steps = [_step(decision, existing.get(decision.route.key), by=matching.by, again=again) for decision in decisions]
    undecided = [RoutingDecision(left, False, ()) for left in matching.matched.undecided if route in {None, left.key}]
    steps += [Step(decision, ReplayOutcome.LEFT_ALONE, None, UNDECIDED) for decision in undecided]
    return Replay(event.id, matching.route_set, event.untold, tuple(steps))


def _step(decision: RoutingDecision, job: ExistingJob | None, *, by: Routes, again: bool) -> Step:
    if job is None:
        return Step(decision, ReplayOutcome.NEW)
    state = JobState(job.state)
    if not again and not (by is Routes.THEN and state is JobState.DISCARDED):
        return Step(decision, ReplayOutcome.LEFT_ALONE, job.id, f"it has a job, which is {state}")
    action = JobAction.REDELIVER if state is JobState.COMPLETED else JobAction.RETRY
    if state in TAKES[action]:
        return Step(decision, _OUTCOMES[action], job.id)
    return Step(decision, ReplayOutcome.LEFT_ALONE, job.id, why_left_alone(action, state))


def _with_id(step: Step, made: Mapping[RouteKey, UUID]) -> Step:
    """The step with its new job's id; None where another transaction made the job meanwhile."""
    return replace(step, job_id=made.get(step.decision.route.key)) if step.outcome is ReplayOutcome.NEW else step


def _current_route(step: Step) -> dict[str, Any]:
    """The change of a job's row to the version, destination and name of the route in force."""
    route = step.decision.route
    return {"id": step.job_id, "route_version": route.version, "destination": route.destination, "name": route.job}


def _routed(session: Session, event: Event | None, event_id: UUID) -> tuple[Event, dict[str, Any]]:
    if event is None:
        raise NotFound("event", show(EVENT, event_id))
    document = documents.of(session, event)
    if document is None or event.route_set is None:
        failed = event.state == EventState.FAILED
        why = f"it failed ({event.failure}): retry it" if failed else documents.why_none(event)
        raise Conflict(f"{show(EVENT, event_id)} was never judged by routes: {why}", found={"state": event.state})
    return event, document


def _revive(session: Session, ids: Sequence[UUID], now: datetime) -> list[UUID]:
    return rows.revive(session, ids, now=now)
