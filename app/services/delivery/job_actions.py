"""Retry, cancel and redeliver jobs by their ids, and preview what an act on all that match filters would take.

A bulk run carries out the latter (`app.services.bulk_runs`).
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import job_actions as rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.job_actions import ChosenJob, JobFilters, JobGroup
from app.domain.job_actions import BY_FILTER, PAST, TAKES, JobAction
from app.domain.states import UNFINISHED_JOBS
from app.errors import InvalidInput
from app.ids import EVENT, JOB, show
from app.services.bulk_actions import Audited, in_chunks

SAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Preview:
    """The jobs that an action would take: their numbers by destination, state and fault, and the first as samples."""

    groups: Sequence[JobGroup]
    samples: Sequence[ChosenJob]

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)


def completed_filters(action: JobAction, filters: JobFilters, *, now: datetime) -> JobFilters:
    """The filters with the action's defaults. Raises InvalidInput for states that it does not take.

    Redelivered jobs complete again soon, so the time of completion is bounded by `now`: an interrupted redelivery that
    is repeated with the same bound sends no job a third time.
    """
    states = tuple(filters.states) or BY_FILTER[action]
    if wrong := sorted(set(states) - set(TAKES[action])):
        raise InvalidInput(f"{action} does not take jobs that are {', '.join(wrong)}")
    if (filters.ended_since or filters.ended_until) and set(states) & set(UNFINISHED_JOBS):
        raise InvalidInput("a time of ending is of completed, discarded and cancelled jobs only")
    until = filters.ended_until or (now if action is JobAction.REDELIVER else None)
    return replace(filters, states=states, ended_until=until)


def preview(session: Session, filters: JobFilters) -> Preview:
    """The jobs that an action with these `completed_filters` would take.

    Raises InvalidInput for a team, destination or route that was never defined, so that a typo does not mean no jobs.
    """
    route_rows.require_defined(session, team=filters.team, destination=filters.destination, route=filters.route)
    return Preview(rows.count(session, filters), rows.choose(session, filters, limit=SAMPLES))


def carry_out(
    database: Database,
    action: JobAction,
    jobs: Sequence[ChosenJob],
    *,
    asked: Mapping[str, Any],
    actor: str,
    clock: Callable[[], datetime],
) -> Generator[list[UUID], None, None]:
    """Apply the action to jobs; yield the ids of those changed, chunk by chunk, each after its commit.

    Jobs that changed since are left alone. An interrupted call can be repeated. `asked`: recorded in the audit.
    """
    subject = show(JOB, jobs[0].id) if len(jobs) == 1 else "jobs"
    audited = Audited(actor, f"job.{PAST[action]}", subject, asked)
    return in_chunks(database, rows.ids_of(jobs), partial(_take, action), audited, clock=clock)


def described(filters: JobFilters) -> dict[str, Any]:
    """The filters as the audit records them."""
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    shown: dict[str, Any] = {name: _plain(value) for name, value in given.items()}
    return shown


def _take(action: JobAction, session: Session, ids: Sequence[UUID], now: datetime) -> list[UUID]:
    return rows.take(session, action, ids, now=now)


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return show(EVENT, value)
        case str() | bool():
            return value
    return [str(state) for state in value]
