"""Retry, cancel and redeliver jobs: one, many, or all that filters mean. First what it would touch, then the act."""

from collections import Counter
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
from app.db.job_actions import ChosenJob, JobFilters
from app.domain.job_actions import BY_FILTER, PAST, TAKES, JobAct
from app.domain.states import UNFINISHED_JOBS
from app.errors import Conflict, InvalidInput
from app.ids import EVENT, JOB, show
from app.services.bulk_actions import Audited, in_chunks

MAX_JOBS: Final = 100_000  # that one act may touch; their ids are held meanwhile


@dataclass(frozen=True, slots=True)
class Preview:
    """The jobs that an act would take, and whether more are meant than its limit lets through."""

    jobs: Sequence[ChosenJob]
    more: bool

    def groups(self) -> list[dict[str, Any]]:
        """How many they are of each destination, state and fault."""
        counts = Counter((one.team, one.destination, one.state, one.fault) for one in self.jobs)
        names = ("team", "destination", "state", "fault")
        ordered = sorted(counts.items(), key=lambda item: tuple(map(str, item[0])))
        return [dict(zip(names, key, strict=True)) | {"count": count} for key, count in ordered]


def completed_filters(act: JobAct, filters: JobFilters, *, now: datetime) -> JobFilters:
    """The filters with what the act says of itself. Raises InvalidInput for states that it does not take.

    Jobs that are redelivered are completed again soon, so there the time of ending is bounded by `now`: with that same
    bound, whoever was stopped half-way goes on and sends nothing a third time.
    """
    states = tuple(filters.states) or BY_FILTER[act]
    if wrong := sorted(set(states) - set(TAKES[act])):
        raise InvalidInput(f"{act} does not take jobs that are {', '.join(wrong)}")
    if (filters.ended_since or filters.ended_until) and set(states) & set(UNFINISHED_JOBS):
        raise InvalidInput("a time of ending is of completed, discarded and cancelled jobs only")
    until = filters.ended_until or (now if act is JobAct.REDELIVER else None)
    return replace(filters, states=states, ended_until=until)


def preview(session: Session, filters: JobFilters, *, limit: int) -> Preview:
    """What an act with these filters, which `completed_filters` made, would take.

    Raises InvalidInput for a team, destination or route that was never defined: a slip of the pen would mean no jobs.
    """
    route_rows.require_defined(session, team=filters.team, destination=filters.destination, route=filters.route)
    found = rows.choose(session, filters, limit=limit + 1)
    return Preview(found[:limit], more=len(found) > limit)


def require_expected(found: Preview, expected: int) -> None:
    """Raises Conflict where more jobs are meant than whoever asks has seen."""
    if len(found.jobs) > expected:
        count = len(found.jobs)
        raise Conflict(f"{count} jobs are meant by now, not {expected}: look again", found={"count": count})


def carry_out(
    database: Database,
    act: JobAct,
    jobs: Sequence[ChosenJob],
    *,
    asked: Mapping[str, Any],
    actor: str,
    clock: Callable[[], datetime],
) -> Generator[list[UUID], None, None]:
    """Do it with these jobs, and yield those that were touched, chunk by chunk, each after its commit.

    A job that changed meanwhile is left alone. What is stopped half-way is simply done again. asked: for the audit.
    """
    subject = show(JOB, jobs[0].id) if len(jobs) == 1 else "jobs"
    audited = Audited(actor, f"job.{PAST[act]}", subject, asked)
    return in_chunks(database, rows.ids_of(jobs), partial(_take, act), audited, clock=clock)


def described(filters: JobFilters) -> dict[str, Any]:
    """The filters as the audit keeps them."""
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    shown: dict[str, Any] = {name: _plain(value) for name, value in given.items()}
    return shown


def _take(act: JobAct, session: Session, ids: Sequence[UUID], now: datetime) -> list[UUID]:
    return rows.take(session, act, ids, now=now)


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return show(EVENT, value)
        case str():
            return value
    return [str(one) for one in value]
