"""`waylink jobs retry`, `cancel` and `redeliver`: acts on jobs by their ids, or on all that options mean."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import click

from app.brokers.hints import Hints
from app.cli import bulk_runs
from app.cli.bulk_actions import require_consent
from app.cli.hinting import open_hints
from app.cli.opening import cli_actor
from app.cli.options import AS_JSON, choice, moment_option
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_brokers
from app.db import job_actions as rows
from app.db.engine import Database, connect
from app.db.job_actions import ChosenJob, JobFilters
from app.db.schema_version import require_current
from app.domain.bulk_runs import OF_JOBS, BulkState
from app.domain.event import EventType
from app.domain.job_actions import PAST, TAKES, JobAction, is_as_wanted, why_left_alone
from app.domain.states import Fault, JobState
from app.errors import NotFound
from app.ids import EVENT, JOB, parse, show
from app.qualified_names import within
from app.services.bulk_runs import row_acts
from app.services.bulk_runs.run_requests import RunWanted
from app.services.delivery import job_actions
from app.services.delivery.job_actions import Preview
from app.wording import counted

Command = TypeVar("Command", bound=Callable[..., Any])


def _filters(command: Command) -> Command:
    """The job filters of these options."""
    for option in (
        moment_option("--created-until", "Made before then."),
        moment_option("--created-since", "Made since then: 7d ago, or a time with its zone."),
        click.option("--event", "event_id", metavar="ID", help="Of this event."),
        click.option("--event-type", type=choice(EventType), help="Of events of this type."),
        click.option("--name", help="Of this name, such as crm.import_contacts."),
        click.option("--route", metavar="TEAM/NAME", help="Of this route."),
        click.option("--destination", metavar="TEAM/NAME", help="For this destination."),
        click.option("--team", help="Of this team."),
    ):
        command = option(command)
    return command


def _action_options(command: Command) -> Command:
    """The arguments and options of every action."""
    for option in (
        AS_JSON,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Say how many, and change nothing."),
        click.option("--reason", help="Recorded in the audit."),
        click.option("--limit", type=click.IntRange(min=1), help="Of those that the options mean, so many at most."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


@click.command()
@_action_options
@_filters
@click.option("--state", type=choice(sorted(TAKES[JobAction.RETRY])), help="In this state; else discarded.")
@click.option("--fault", type=choice(Fault), help="Discarded by this one's fault.")
@moment_option("--ended-since", "Discarded since then.")
@moment_option("--ended-until", "Discarded until then.")
@click.option("--all", "everything", is_flag=True, help="All that are discarded.")
def retry(*, state: str | None, everything: bool, **given: Any) -> None:
    """Deliver jobs again that were discarded or cancelled, or that wait for their next attempt.

    By their ids, or all that the options mean. A job keeps its id; its schedule begins anew.
    """
    _act(JobAction.RETRY, states=[JobState(state)] if state else [], everything=everything, **given)


@click.command()
@_action_options
@_filters
@click.option("--state", type=choice(sorted(TAKES[JobAction.CANCEL])), help="In this state; else both.")
@click.option("--all", "everything", is_flag=True, help="All that are unfinished.")
def cancel(*, state: str | None, everything: bool, **given: Any) -> None:
    """Stop jobs that are not delivered yet. What a worker is delivering cannot be called back."""
    _act(JobAction.CANCEL, states=[JobState(state)] if state else [], everything=everything, **given)


@click.command()
@_action_options
@_filters
@moment_option("--since", "Delivered since then.")
@moment_option("--until", "Delivered until then; else until now.")
def redeliver(*, since: datetime | None, until: datetime | None, destination: str | None, **given: Any) -> None:
    """Hand completed jobs over again, with the same ids: what a team's broker lost.

    By their ids, or all of --destination since a time.
    """
    if not given["ids"] and (since is None or destination is None):
        raise click.UsageError("name jobs, or a --destination and --since when it lost them")
    _act(JobAction.REDELIVER, states=[], destination=destination, ended_since=since, ended_until=until, **given)


def _act(
    action: JobAction,
    *,
    ids: Sequence[str],
    limit: int | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    states: Sequence[JobState],
    team: str | None,
    destination: str | None,
    route: str | None,
    event_id: str | None,
    everything: bool = False,
    **filters: Any,
) -> None:
    owner, target = within(team, "destination", destination)
    owner, named = within(owner, "route", route)
    event = parse(EVENT, event_id) if event_id else None
    wanted = JobFilters(states, team=owner, destination=target, route=named, event_id=event, **filters)
    is_filtered = any((states, owner, target, named, event, *filters.values()))
    if bool(ids) + (is_filtered or everything) != 1:
        raise click.UsageError(f"{action} what? Either ids, or options that say which" + _or_all(action))
    settings = load_brokers()
    with closing(connect(settings.database)) as database, open_hints(settings) as hints:
        require_current(database)
        if ids:
            keys = [parse(JOB, job_id) for job_id in ids]
            sys.exit(_by_ids(database, hints, action, keys, reason=reason, dry_run=dry_run, as_json=as_json))
        wanted = job_actions.completed_filters(action, wanted, now=utc_now())
        with database.read() as session:
            found = job_actions.preview(session, wanted)
        count = found.count if limit is None else min(found.count, limit)
        more = found.count > count
        _tell(action, found, wanted, count)
        if dry_run:
            facts: dict[str, Any] = {"dry_run": True, "count": count, "more": more}
            groups = [asdict(group) for group in found.groups]
            print_one(facts | ({"groups": groups} if as_json else {}), as_json=as_json)
            return
        run, stopped = None, False
        if count:
            require_consent(f"{str(action).capitalize()} {counted(count, 'job')}?", yes=yes)
            run, stopped = bulk_runs.carry_out(database, hints, _run_of(action, wanted, count, reason))
    print_one(bulk_runs.result(run, PAST[action], more=more, stopped=stopped), as_json=as_json)
    sys.exit(1 if stopped or (run and run.state != BulkState.DONE) else 0)


def _run_of(action: JobAction, wanted: JobFilters, count: int, reason: str | None) -> RunWanted:
    return RunWanted(
        act=OF_JOBS[action],
        chosen=row_acts.written(wanted),
        shown=job_actions.described(wanted),
        counted=count,
        reason=reason,
        actor=cli_actor(),
    )


def _by_ids(
    database: Database,
    hints: Hints,
    action: JobAction,
    ids: Sequence[UUID],
    *,
    reason: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    with database.read() as session:
        found = rows.get_many(session, list(dict.fromkeys(ids)))
    missing = [job_id for job_id in ids if job_id not in {job.id for job in found}]
    if missing:
        raise NotFound("job", show(JOB, missing[0]))
    taken: set[UUID] = set()
    if not dry_run:
        asked: dict[str, Any] = {"ids": [show(JOB, job.id) for job in found][:100]}
        asked |= {} if reason is None else {"reason": reason}
        for changed in job_actions.carry_out(database, action, found, asked=asked, actor=cli_actor(), clock=utc_now):
            taken.update(changed)
            if action is not JobAction.CANCEL:
                hints.of_jobs(changed)
        with database.read() as session:
            found = rows.get_many(session, [job.id for job in found])
    results = [_result(action, job, taken, dry_run=dry_run) for job in found]
    print_rows(results, ("id", "result", "state", "why"), as_json=as_json)
    refused = [job for job in found if job.id not in taken and not is_as_wanted(action, JobState(job.state))]
    return 1 if refused and not dry_run else 0


def _result(action: JobAction, job: ChosenJob, taken: set[UUID], *, dry_run: bool) -> dict[str, Any]:
    state = JobState(job.state)
    would = dry_run and state in TAKES[action]
    result = PAST[action] if job.id in taken else f"would be {PAST[action]}" if would else "left alone"
    why = None if job.id in taken or would else why_left_alone(action, state)
    return {"id": show(JOB, job.id), "result": result, "state": job.state, "why": why}


def _tell(action: JobAction, found: Preview, filters: JobFilters, count: int) -> None:
    """Print on standard error what the action would change."""
    told = counted(count, "job") + (f" of {found.count} that match" if found.count > count else "")
    until = (
        f", handed over until {filters.ended_until.isoformat()}"
        if action is JobAction.REDELIVER and filters.ended_until
        else ""
    )
    click.echo(f"{told}{until}", err=True)
    for group in found.groups:
        fault = f", fault: {group.fault}" if group.fault else ""
        click.echo(f"  {group.count} {group.state} for {group.team}/{group.destination}{fault}", err=True)


def _or_all(action: JobAction) -> str:
    return "" if action is JobAction.REDELIVER else ", or --all"
