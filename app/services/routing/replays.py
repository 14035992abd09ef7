"""Take failed events up again, and give a stored event to the routes once more.

Events are matched with no transaction open, and replayed in the caller's.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, job_actions
from app.db import event_actions as rows
from app.db import events as event_rows
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.event_actions import ChosenEvent, EventFilters, ExistingJob
from app.db.models import Event
from app.domain.job_actions import TAKES, JobAction, why_left_alone
from app.domain.routing import Decision, Matched, RouteSet
from app.domain.states import EventState, JobState
from app.errors import Conflict, NotFound
from app.ids import EVENT, show
from app.services.bulk_actions import Audited, in_chunks
from app.services.routing.cache import compiled
from app.services.routing.router import decision_row, job_row

MAX_EVENTS: Final = 100_000  # that one act may touch; their ids are held meanwhile


UNDECIDED: Final = "it would take too much work to decide"


class Routes(StrEnum):
    """Which routes a replay goes through."""

    NOW = "now"  # those in force
    THEN = "then"  # those that the event was judged by


class Outcome(StrEnum):
    """What a replay does for a route that matches."""

    NEW = "new"  # makes the job
    RETRIED = "retried"  # hands the job over that was given up, cancelled or waits
    REDELIVERED = "redelivered"  # hands the job over again that was completed
    LEFT_ALONE = "left_alone"


_OUTCOMES: Final[Mapping[JobAction, Outcome]] = {
    JobAction.RETRY: Outcome.RETRIED,
    JobAction.REDELIVER: Outcome.REDELIVERED,
}


@dataclass(frozen=True, slots=True)
class Step:
    """A route that matches, and what becomes of its job. `job_id` is None for a job that is not made yet."""

    decision: Decision
    outcome: Outcome
    job_id: UUID | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """`untold`: why teams were not told of the event when it came."""

    event_id: UUID
    route_set: int
    untold: str | None
    steps: tuple[Step, ...]

    @property
    def due(self) -> list[UUID]:
        """The jobs that workers may be told of."""
        return [one.job_id for one in self.steps if one.job_id and one.outcome is not Outcome.LEFT_ALONE]

    def counts(self) -> dict[str, int]:
        return {outcome: sum(one.outcome is outcome for one in self.steps) for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Matching:
    """A stored event, and which of a set's routes take it."""

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
    """Take these events up again, and yield those that failed until now, chunk by chunk, each after its commit."""
    subject = show(EVENT, events[0].id) if len(events) == 1 else "events"
    audited = Audited(actor, "event.retried", subject, asked)
    return in_chunks(database, [one.id for one in events], _revive, audited, clock=clock)


def described(filters: EventFilters) -> dict[str, Any]:
    """The filters as the audit keeps them."""
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}


def match(database: Database, event_id: UUID, by: Routes, current: RouteSet) -> Matching:
    """Judge a stored event by the routes in force, which are `current`, or those of its time, with no transaction open.

    Raises NotFound, and Conflict for an event that was not judged.
    """
    with database.read() as session:
        event = _judged(event_rows.get(session, event_id), event_id)
        version = event.route_set or 0
        rows_then = route_rows.of_set(session, version) if by is Routes.THEN else []
    routes = current if by is Routes.NOW else compiled(version, rows_then)
    return Matching(event_id, by, routes.version, event.document, routes.match(event.document))


def preview(session: Session, found: Matching, *, again: bool, route: tuple[str, str] | None = None) -> Replay:
    """What a replay would do, through all routes or one, by team and name.

    Raises NotFound, and Conflict for an event that was not judged.
    """
    event = _judged(event_rows.get(session, found.event_id), found.event_id)
    return _plan(session, event, found, again=again, route=route)


def replay(
    session: Session,
    found: Matching,
    *,
    again: bool,
    route: tuple[str, str] | None = None,
    actor: str,
    now: datetime,
) -> Replay:
    """Give an event to the routes once more: each that matches has one job of it in the end.

    A job that is there keeps its id, and goes out again where `again` is given, or where it was discarded and the
    routes are those of then. What was decided then is not overwritten: what matches now for the first time is noted
    beside it. Raises NotFound, and Conflict for an event that was not judged, or that changed since it was matched.
    """
    event_id, by = found.event_id, found.by
    event = _judged(rows.hold(session, event_id), event_id)
    plan = _plan(session, event, found, again=again, route=route)
    new = [one for one in plan.steps if one.outcome is Outcome.NEW]
    jobs = [job_row(event_id, one.decision.route, now=now) for one in new]
    made = set(rows.add_jobs(session, [decision_row(event_id, one.decision, now=now) for one in new], jobs))
    ids = {(row["team"], row["route"]): row["id"] for row in jobs if row["id"] in made}
    for action, outcome in _OUTCOMES.items():
        job_actions.take(
            session, action, [one.job_id for one in plan.steps if one.outcome is outcome and one.job_id], now=now
        )
    if by is Routes.NOW:
        job_rows.change(session, [_as_now(step) for step in plan.steps if step.outcome in _OUTCOMES.values()])
    done = replace(plan, steps=tuple(_with_id(one, ids) for one in plan.steps))
    detail = {"routes": str(by), "again": again, "route": "/".join(route) if route else None, **done.counts()}
    audit.record(session, actor=actor, action="event.replayed", subject=show(EVENT, event_id), detail=detail, now=now)
    return done


def _plan(session: Session, event: Event, found: Matching, *, again: bool, route: tuple[str, str] | None) -> Replay:
    if event.document != found.document:  # such as by an erasure
        raise Conflict(f"{show(EVENT, event.id)} changed meanwhile: try again")
    existing = rows.jobs_of(session, event.id)
    matched = [one for one in found.matched.decisions if route in {None, one.route.key}]
    steps = [_step(one, existing.get(one.route.key), by=found.by, again=again) for one in matched]
    undecided = [one for one in found.matched.undecided if route in {None, one.key}]
    steps += [Step(Decision(one, False, ()), Outcome.LEFT_ALONE, None, UNDECIDED) for one in undecided]
    return Replay(event.id, found.route_set, event.untold, tuple(steps))


def _step(decision: Decision, job: ExistingJob | None, *, by: Routes, again: bool) -> Step:
    if job is None:
        return Step(decision, Outcome.NEW)
    state = JobState(job.state)
    if not again and not (by is Routes.THEN and state is JobState.DISCARDED):
        return Step(decision, Outcome.LEFT_ALONE, job.id, f"it has a job, which is {state}")
    action = JobAction.REDELIVER if state is JobState.COMPLETED else JobAction.RETRY
    if state in TAKES[action]:
        return Step(decision, _OUTCOMES[action], job.id)
    return Step(decision, Outcome.LEFT_ALONE, job.id, why_left_alone(action, state))


def _with_id(step: Step, made: Mapping[tuple[str, str], UUID]) -> Step:
    """A job that somebody else made meanwhile is not ours to tell of."""
    return replace(step, job_id=made.get(step.decision.route.key)) if step.outcome is Outcome.NEW else step


def _as_now(step: Step) -> dict[str, Any]:
    """The job goes where the route of today says."""
    route = step.decision.route
    return {"id": step.job_id, "route_version": route.version, "destination": route.destination, "name": route.job}


def _judged(event: Event | None, event_id: UUID) -> Event:
    if event is None:
        raise NotFound("event", show(EVENT, event_id))
    if event.document is None or event.route_set is None:
        failed = event.state == EventState.FAILED
        why = f"it failed ({event.failure}): retry it" if failed else "it waits to be processed"
        raise Conflict(f"{show(EVENT, event_id)} was never judged by routes: {why}", found={"state": event.state})
    return event


def _revive(session: Session, ids: Sequence[UUID], now: datetime) -> list[UUID]:
    return rows.revive(session, ids, now=now)
