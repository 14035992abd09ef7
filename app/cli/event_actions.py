"""`waylink events retry` and `waylink events replay`."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import click

from app.brokers.hints import Hints
from app.cli import bulk_runs
from app.cli.bulk_actions import require_consent
from app.cli.hinting import open_hints
from app.cli.opening import cli_actor
from app.cli.options import AS_JSON, choice, connection_filters, moment_option
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_brokers
from app.db import event_actions as rows
from app.db.engine import Database, connect
from app.db.event_actions import ChosenEvent, EventFilters
from app.db.schema_version import require_current
from app.domain.bulk_runs import BulkAct, BulkState
from app.domain.event import EventType
from app.domain.states import EventState, Origin
from app.errors import NotFound
from app.ids import EVENT, JOB, parse, show
from app.qualified_names import split_target
from app.services.bulk_runs import row_acts
from app.services.bulk_runs.row_acts import ReplayedEvents
from app.services.bulk_runs.run_requests import RunWanted
from app.services.bulk_runs.showing import shown_filter
from app.services.routing import replays
from app.services.routing.cache import RouteCache
from app.services.routing.replays import Replay, Routes, Step
from app.wording import counted

FAILURES = choice(["not_confirmed", "error", "crashed"])


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--failure", type=FAILURES, help="Failed for this reason.")
@click.option("--type", "type", type=choice(EventType), help="Of this type.")
@click.option("--origin", type=choice(Origin), help="From here.")
@connection_filters
@moment_option("--since", "Received since then: 7d ago, or a time with its zone.")
@moment_option("--until", "Received before then.")
@click.option("--all", "everything", is_flag=True, help="All that failed.")
@click.option("--limit", type=click.IntRange(min=1), help="Of those that the options mean, so many at most.")
@click.option("--reason", help="Recorded in the audit.")
@click.option("--dry-run", is_flag=True, help="Say how many, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def retry(
    ids: Sequence[str],
    *,
    everything: bool,
    limit: int | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Take failed events up again, as if they had just come: by their ids, or all that the options mean."""
    if bool(ids) + (any(filters.values()) or everything) != 1:
        raise click.UsageError("retry what? Either ids, or options that say which, or --all")
    settings = load_brokers()
    with closing(connect(settings.database)) as database, open_hints(settings) as hints:
        require_current(database)
        if ids:
            sys.exit(_retry_named(database, hints, ids, reason=reason, dry_run=dry_run, as_json=as_json))
        wanted = EventFilters(**filters)
        run = _run_of(BulkAct.RETRY_EVENTS, row_acts.written(wanted), replays.described(wanted), reason)
        sys.exit(_on_matching(database, hints, wanted, run, limit=limit, dry_run=dry_run, yes=yes, as_json=as_json))


@click.command()
@click.argument("event_id", metavar="[EVENT]", required=False)
@moment_option("--since", "In place of an event, all that were received since then and routed: 7d ago, or a time.")
@moment_option("--until", "Of those, received before then.")
@click.option("--type", "type", type=choice(EventType), help="Of those, of this type.")
@click.option("--origin", type=choice(Origin), help="Of those, from here.")
@connection_filters
@click.option("--limit", type=click.IntRange(min=1), help="Of those, so many at most.")
@click.option("--reason", help="Of those, recorded in the audit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--as-then", is_flag=True, help="Through the routes of its time, instead of those in force now.")
@click.option("--again", is_flag=True, help="Jobs that are there already go out again, too.")
@click.option("--route", metavar="TEAM/NAME", help="This route alone.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@AS_JSON
def replay(
    event_id: str | None, *, as_then: bool, again: bool, route: str | None, dry_run: bool, as_json: bool, **many: Any
) -> None:
    """Give a stored event to the routes once more. Routes that match and have no job of it get one.

    A job that is there keeps its id. It goes out again with --again, or with --as-then where it was discarded. What was
    decided then stays as it was. Exit 1 if no route matches. With --since in place of an event all are replayed, as a
    bulk run.
    """
    if (event_id is None) is (many["since"] is None):
        raise click.UsageError("replay what? Either an event, or --since and options that say which")
    if event_id is None:
        if route is not None:
            raise click.UsageError("--route goes with one event")
        _replay_many(Routes.THEN if as_then else Routes.NOW, again=again, dry_run=dry_run, as_json=as_json, **many)
        return
    if any(many.values()):
        raise click.UsageError("an event is replayed by its id alone: leave the options for many out")
    event, by = parse(EVENT, event_id), Routes.THEN if as_then else Routes.NOW
    only = None if route is None else split_target("route", route)
    settings = load_brokers()
    with closing(connect(settings.database)) as database, open_hints(settings) as hints:
        require_current(database)
        matching = replays.match(database, event, by, RouteCache().current(database))
        if dry_run:
            with database.read() as session:
                found = replays.preview(session, matching, again=again, route=only)
        else:
            with database.write() as session:
                found = replays.replay(session, matching, again=again, route=only, actor=cli_actor(), now=utc_now())
            hints.of_jobs(found.due)
    _print(found, by, dry_run=dry_run, as_json=as_json)
    sys.exit(0 if found.steps else 1)


def _replay_many(
    by: Routes,
    *,
    again: bool,
    dry_run: bool,
    as_json: bool,
    limit: int | None,
    reason: str | None,
    yes: bool,
    **filters: Any,
) -> None:
    wanted, settings = EventFilters(**filters), load_brokers()
    with closing(connect(settings.database)) as database, open_hints(settings) as hints:
        require_current(database)
        chosen = row_acts.written(ReplayedEvents(filters=wanted, routes=by, again=again))
        run = _run_of(BulkAct.REPLAY_EVENTS, chosen, shown_filter(chosen), reason)
        sys.exit(_on_matching(database, hints, wanted, run, limit=limit, dry_run=dry_run, yes=yes, as_json=as_json))


def _run_of(act: BulkAct, chosen: str, shown: Mapping[str, Any], reason: str | None) -> RunWanted:
    """A run whose events are not counted yet."""
    return RunWanted(act=act, chosen=chosen, shown=shown, counted=0, reason=reason, actor=cli_actor())


def _on_matching(
    database: Database,
    hints: Hints,
    wanted: EventFilters,
    asked: RunWanted,
    *,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Count the events, ask, and follow a run on them. Returns the exit code."""
    verb, past = ("Retry", "retried") if asked.act is BulkAct.RETRY_EVENTS else ("Replay", "replayed")
    with database.read() as session:
        matching = rows.count(session, wanted, failed=asked.act is BulkAct.RETRY_EVENTS)
    count = matching if limit is None else min(matching, limit)
    if dry_run:
        print_one({"dry_run": True, "count": count, "more": matching > count}, as_json=as_json)
        return 0
    run, stopped = None, False
    if count:
        require_consent(f"{verb} {counted(count, 'event')}?", yes=yes)
        run, stopped = bulk_runs.carry_out(database, hints, replace(asked, counted=count))
    print_one(bulk_runs.result(run, past, more=matching > count, stopped=stopped), as_json=as_json)
    return 1 if stopped or (run and run.state != BulkState.DONE) else 0


def _retry_named(
    database: Database, hints: Hints, ids: Sequence[str], *, reason: str | None, dry_run: bool, as_json: bool
) -> int:
    found = _named(database, ids)
    failed = [event for event in found if event.state == EventState.FAILED]
    if dry_run:
        print_one({"dry_run": True, "count": len(failed), "more": False}, as_json=as_json)
        return 0
    asked: dict[str, Any] = {"ids": list(ids[:100])} if reason is None else {"ids": list(ids[:100]), "reason": reason}
    done = 0
    for changed in replays.retry(database, failed, asked=asked, actor=cli_actor(), clock=utc_now):
        done += len(changed)
        hints.of_events(changed)
    print_one({"retried": done, "left_alone": len(found) - done}, as_json=as_json)
    return 1 if any(event.state == EventState.PROCESSED for event in found) else 0


def _named(database: Database, ids: Sequence[str]) -> list[ChosenEvent]:
    wanted = list(dict.fromkeys(parse(EVENT, event_id) for event_id in ids))
    with database.read() as session:
        found = rows.get_many(session, wanted)
    known = {event_id.id for event_id in found}
    for event_id in wanted:
        if event_id not in known:
            raise NotFound("event", show(EVENT, event_id))
    return found


def _print(found: Replay, by: Routes, *, dry_run: bool, as_json: bool) -> None:
    steps = [_shown(step) for step in found.steps]
    if as_json:
        facts = {"event_id": show(EVENT, found.event_id), "dry_run": dry_run, "routes": str(by)}
        print_one({**facts, "route_set": found.route_set, "untold": found.suppressed, "steps": steps}, as_json=True)
        return
    if found.suppressed:
        click.echo(f"teams were not told of it when it came: {found.suppressed}", err=True)
    print_rows(steps, ("team", "route", "version", "destination", "job", "outcome", "job_id", "why"), as_json=False)


def _shown(step: Step) -> dict[str, Any]:
    route = step.decision.route
    named = {"team": route.team, "route": route.name, "version": route.version, "destination": route.destination}
    job_id = show(JOB, step.job_id) if step.job_id else None
    return {**named, "job": route.job, "outcome": str(step.outcome), "job_id": job_id, "why": step.why}
