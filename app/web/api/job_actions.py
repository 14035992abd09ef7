"""Endpoints to retry, cancel and redeliver jobs: one by its path, or many by ids or a filter."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct

from app.db import job_actions as rows
from app.db.job_actions import ChosenJob, JobFilters
from app.domain.access import Scope
from app.domain.bulk_runs import OF_JOBS
from app.domain.event import EventType
from app.domain.job_actions import TAKES, JobAction, is_as_wanted, why_left_alone
from app.domain.states import Fault, JobState
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import EVENT, JOB, show
from app.qualified_names import within
from app.services.bulk_runs import row_acts
from app.services.bulk_runs.run_requests import RunWanted
from app.services.delivery import job_actions
from app.timestamp_input import moment
from app.web.api.bulk_runs import BulkRun, carry_out
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.expected import require_expected
from app.web.api.problems import INVALID_INPUT
from app.web.api.reading import identity

When = Annotated[str, Meta(description="A time with its zone, or how long ago: `7d`.", max_length=64)]
Text = Annotated[str, Meta(max_length=255)]


class JobFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions on jobs, all of which have to hold. With a team's token, only that team's jobs."""

    state: Annotated[JobState | None, Meta(description="One that the act takes; else those it takes by itself.")] = None
    team: Text | None = None
    destination: Annotated[Text, Meta(description="`TEAM/NAME`.")] | None = None
    route: Annotated[Text, Meta(description="`TEAM/NAME`.")] | None = None
    name: Text | None = None
    fault: Fault | None = None
    event: Annotated[Text, Meta(description="The `evt_…` id.")] | None = None
    event_type: EventType | None = None
    created_since: When | None = None
    created_until: When | None = None
    ended_since: Annotated[When, Meta(description="Completed or discarded since then.")] | None = None
    ended_until: When | None = None
    parked: Annotated[bool | None, Meta(description="Parked because of their destination, or not.")] = None


class JobsToActOn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `ids` or `filter`. A filter is tried with `dry_run` first; the call that follows repeats its count in
    `expected`.
    """

    ids: Annotated[list[Text], Meta(min_length=1, max_length=1000)] | None = None
    filter: JobFilter | None = None
    limit: Annotated[int, Meta(ge=1, description="Jobs of a filter at most; else all.")] | None = None
    dry_run: Annotated[bool, Meta(description="Count, show samples, and change nothing.")] = False
    expected: (
        Annotated[int, Meta(ge=0, description="The `count` of the dry run: where more are meant by now, a 409.")] | None
    ) = None
    reason: Annotated[str, Meta(max_length=500, description="Recorded in the audit.")] | None = None


class JobLeftAlone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    state: str
    why: str


class JobGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    team: str
    destination: str
    state: str
    fault: str | None
    count: int


class JobSample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    name: str
    team: str
    route: str
    state: str
    attempts: int
    event_id: str
    problem: str | None
    created_at: str


class JobsActedOn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Selected jobs of an action, and its result. `count` jobs are selected; all that match are in `groups`, with some
    as samples; `more`: beyond the limit there are others. `changed` of them were changed by the end of the call.
    `ended_until`: of a redelivery. `run`: of a filter, the bulk run that carries it out: it may go on after the answer.
    """

    act: str
    dry_run: bool
    count: int
    more: bool
    changed: int
    left_alone: list[JobLeftAlone]
    groups: list[JobGroup]
    samples: list[JobSample]
    ended_until: str | None
    run: BulkRun | None


class JobActedOn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`changed` is false where the job was in the wanted state already; `why` says so."""

    id: str
    changed: bool
    state: str
    why: str | None


@endpoint("POST /jobs/{job_id}/retry", scope=Scope.OPERATOR, teams=True)
def retry_job(call: Call, job_id: str) -> JobActedOn:
    """Deliver a job again that was discarded or cancelled, or that waits for its next attempt.

    It keeps its id, and its schedule begins anew.
    """
    return _one(call, JobAction.RETRY, job_id)


@endpoint("POST /jobs/{job_id}/cancel", scope=Scope.OPERATOR, teams=True)
def cancel_job(call: Call, job_id: str) -> JobActedOn:
    """Stop a job that is not delivered yet. One that a worker is delivering cannot be recalled: a 409."""
    return _one(call, JobAction.CANCEL, job_id)


@endpoint("POST /jobs/{job_id}/redeliver", scope=Scope.OPERATOR, teams=True)
def redeliver_job(call: Call, job_id: str) -> JobActedOn:
    """Deliver a completed job again, with the same id."""
    return _one(call, JobAction.REDELIVER, job_id)


@endpoint("POST /jobs/retry", scope=Scope.OPERATOR, teams=True, problems=(INVALID_INPUT,))
def retry_jobs(call: Call, body: JobsToActOn) -> JobsActedOn:
    """Deliver jobs again that were discarded or cancelled, or that wait for their next attempt.

    A filter selects discarded ones unless it names another state.
    """
    return _many(call, JobAction.RETRY, body)


@endpoint("POST /jobs/cancel", scope=Scope.OPERATOR, teams=True, problems=(INVALID_INPUT,))
def cancel_jobs(call: Call, body: JobsToActOn) -> JobsActedOn:
    """Stop jobs that are not delivered yet; those that a worker is delivering are left alone."""
    return _many(call, JobAction.CANCEL, body)


@endpoint("POST /jobs/redeliver", scope=Scope.OPERATOR, teams=True, problems=(INVALID_INPUT,))
def redeliver_jobs(call: Call, body: JobsToActOn) -> JobsActedOn:
    """Deliver completed jobs again, with the same ids, such as those that a team's broker lost.

    A filter needs `destination` and `ended_since`. If a call was interrupted, repeat it with the `ended_until` of its
    answer, and nothing is delivered a third time.
    """
    return _many(call, JobAction.REDELIVER, body)


def _one(call: Call, action: JobAction, job_id: str) -> JobActedOn:
    [job] = _named(call, [job_id])
    changed = _carry_out(call, action, [job], {"id": show(JOB, job.id)})
    [job] = _named(call, [job_id])
    why = None if changed else why_left_alone(action, JobState(job.state))
    if not changed and not is_as_wanted(action, JobState(job.state)):
        raise Conflict(f"{show(JOB, job.id)} is {job.state}: {why}", found={"state": job.state})
    return JobActedOn(id=show(JOB, job.id), changed=bool(changed), state=job.state, why=why)


def _many(call: Call, action: JobAction, body: JobsToActOn) -> JobsActedOn:
    if (body.ids is None) is (body.filter is None):
        raise InvalidInput("give either `ids` or a `filter`")
    if body.ids is not None:
        return _by_ids(call, action, body, body.ids)
    now = call.context.clock()
    filters = job_actions.completed_filters(action, _filters(call, action, body.filter), now=now)
    with call.context.database.read() as session:
        found = job_actions.preview(session, filters)
    count = found.count if body.limit is None else min(found.count, body.limit)
    run = None
    if not body.dry_run:
        require_expected(count, body.expected, noun="job")
    if count and not body.dry_run:
        wanted = RunWanted(
            act=OF_JOBS[action],
            chosen=row_acts.written(filters),
            shown=job_actions.described(filters),
            counted=count,
            reason=body.reason,
            actor=call.actor,
            team=call.team,
        )
        run = carry_out(call, wanted, now=now)
    return JobsActedOn(
        act=action,
        dry_run=body.dry_run,
        count=count,
        more=found.count > count,
        changed=run.done if run else 0,
        left_alone=[],
        groups=[_group(group) for group in found.groups],
        samples=[_sample(job) for job in found.samples],
        ended_until=filters.ended_until.isoformat() if filters.ended_until and action is JobAction.REDELIVER else None,
        run=run,
    )


def _by_ids(call: Call, action: JobAction, body: JobsToActOn, ids: Sequence[str]) -> JobsActedOn:
    jobs = _named(call, ids)
    taken = [job for job in jobs if job.state in TAKES[action]]
    asked: dict[str, Any] = {"ids": ids[:100]} if body.reason is None else {"ids": ids[:100], "reason": body.reason}
    changed = [] if body.dry_run else _carry_out(call, action, taken, asked)
    counts = Counter((job.team, job.destination, job.state, job.fault) for job in taken)
    ordered = sorted(counts.items(), key=lambda item: tuple(map(str, item[0])))
    return JobsActedOn(
        act=action,
        dry_run=body.dry_run,
        count=len(taken),
        more=False,
        changed=len(changed),
        left_alone=[_left_alone(action, job) for job in jobs if job.state not in TAKES[action]],
        groups=[_group(rows.JobGroup(*key, count)) for key, count in ordered],
        samples=[_sample(job) for job in taken[: job_actions.SAMPLES]],
        ended_until=None,
        run=None,
    )


def _group(group: rows.JobGroup) -> JobGroup:
    return JobGroup(
        team=group.team, destination=group.destination, state=group.state, fault=group.fault, count=group.count
    )


def _carry_out(call: Call, action: JobAction, jobs: Sequence[ChosenJob], asked: dict[str, Any]) -> list[UUID]:
    """Change the jobs, hinting workers after each commit. Returns the changed ids."""
    context, changed = call.context, list[UUID]()
    if not jobs:
        return changed
    for some in job_actions.carry_out(
        context.database, action, jobs, asked=asked, actor=call.actor, clock=context.clock
    ):
        changed += some
        if action is not JobAction.CANCEL:
            context.hints.of_jobs(some)
    return changed


def _named(call: Call, ids: Sequence[str]) -> list[ChosenJob]:
    """The jobs with these ids. Raises NotFound for the first that is unknown or not the caller's."""
    wanted = list(dict.fromkeys(identity(JOB, shown) for shown in ids))
    with call.context.database.read() as session:
        found = [job for job in rows.get_many(session, wanted) if call.team in {None, job.team}]
    known = {job.id for job in found}
    for job_id in wanted:
        if job_id not in known:
            raise NotFound("job", show(JOB, job_id))
    return found


def _filters(call: Call, action: JobAction, given: JobFilter | None) -> JobFilters:
    assert given is not None  # noqa: S101 - checked by the caller
    if action is JobAction.REDELIVER and (given.destination is None or given.ended_since is None):
        raise InvalidInput("a redelivery needs `destination` and `ended_since`: what lost the jobs, and since when")
    team, destination = within(given.team, "destination", given.destination)
    team, route = within(team, "route", given.route)
    if call.team is not None and team not in {None, call.team}:
        raise NotFound("team", str(team))
    now = call.context.clock()
    times = ("created_since", "created_until", "ended_since", "ended_until")
    return JobFilters(
        states=[given.state] if given.state else [],
        team=call.team or team,
        destination=destination,
        route=route,
        name=given.name,
        fault=given.fault,
        parked=given.parked,
        event_type=given.event_type,
        event_id=identity(EVENT, given.event) if given.event is not None else None,
        **{name: moment(text, now=now) for name in times if (text := getattr(given, name)) is not None},
    )


def _left_alone(action: JobAction, job: ChosenJob) -> JobLeftAlone:
    return JobLeftAlone(id=show(JOB, job.id), state=job.state, why=why_left_alone(action, JobState(job.state)))


def _sample(job: ChosenJob) -> JobSample:
    return JobSample(
        id=show(JOB, job.id),
        name=job.name,
        team=job.team,
        route=job.route,
        state=job.state,
        attempts=job.attempts,
        event_id=show(EVENT, job.event_id),
        problem=job.problem,
        created_at=job.created_at.isoformat(),
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    retry_job,
    cancel_job,
    redeliver_job,
    retry_jobs,
    cancel_jobs,
    redeliver_jobs,
)
