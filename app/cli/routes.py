"""`waylink routes`: list and show, manage those that waylink.toml does not define, and backfill."""

import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any, Final, TypeVar

import click

from app.cli.bulk_actions import follow, require_consent
from app.cli.explaining import pattern_text
from app.cli.lazy import Listing
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, ROUTE, as_table, moment_option
from app.cli.orphaned_definitions import print_marked
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_database
from app.db import routes as route_rows
from app.db.engine import Database, connect
from app.db.read.definitions import shown_route
from app.db.schema_version import require_current
from app.domain.routing import Route
from app.errors import NotFound
from app.ids import EVENT, show
from app.qualified_names import split_target
from app.services.definitions import routes as route_definitions
from app.services.definitions.editor import Editor
from app.services.routing import backfills
from app.services.routing.backfills import MAX_JOBS, PER_SECOND, BackfillScan, Span
from app.wording import counted

ACTS: Final = {
    "apply": (
        "app.cli.applying:apply_routes",
        "Make the teams, destinations and routes of waylink.toml those in force.",
    ),
    "explain": (
        "app.cli.explaining:explain_event",
        "Explain why each route matched an event or did not: every condition, what it expected and what it found.",
    ),
    "plan": (
        "app.cli.applying:plan_routes",
        "Show what `waylink routes apply` would change, removals included, and change nothing.",
    ),
    "test": ("app.cli.explaining:test_pattern", "Try a pattern: JSON, or a file of it."),
}


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@click.option("--team", help="Of this team.")
@as_table
@click.pass_context
def routes(context: click.Context, /, *, team: str | None, as_json: bool) -> None:
    """List the routes in force; see what the file changes, why an event matched, what a pattern would match."""
    if context.invoked_subcommand:
        return
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = [shown_route(route) for route in route_rows.live(session) if team in {None, route.team}]
    columns = ("team", "name", "version", "enabled", "destination", "job", "pattern", "source")
    print_marked(rows, columns, kind="routes", as_json=as_json)


@routes.command("show")
@ROUTE
@AS_JSON
def show_route(route: str, *, as_json: bool) -> None:
    """All versions of a route, newest first, with the route sets each was in force for."""
    team, name = split_target("route", route)
    with closing(open_current(load_database())) as database, database.read() as session:
        versions = [shown_route(version) for version in route_rows.versions(session, team=team, name=name)]
    if not versions:
        raise NotFound("route", route)
    print_one(
        {"team": team, "name": name, "in_force": versions[0]["until_set"] is None, "versions": versions},
        as_json=as_json,
    )


Command = TypeVar("Command", bound=Callable[..., Any])

_VERSION = click.option(
    "--version", type=click.IntRange(min=1), help="The version this is about: refused where another is there by now."
)


def _facts(*, required: bool) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option, metavar, told in (
            ("--pattern", "JSON|FILE", "The events it takes: JSON, a file of it, or `-`."),
            ("--job", "NAME", "The name of the job, which is the team's Celery task."),
            ("--destination", "NAME", "Where the team takes it."),
        ):
            command = click.option(option, metavar=metavar, required=required, help=told)(command)
        return command

    return add


@routes.command("add")
@ROUTE
@_facts(required=True)
@click.option("--disabled", is_flag=True, help="Make no jobs yet.")
@AS_JSON
def add_route(route: str, *, pattern: str, disabled: bool, as_json: bool, **facts: str) -> None:
    """Put a route of a team in force. `routes test` tries its pattern before."""
    team, name = split_target("route", route)
    fields = {"team": team, "name": name, **facts, "pattern": pattern_text(pattern), "enabled": not disabled}
    draft = route_definitions.drafted(fields)
    with closing(open_current(load_database())) as database, database.write() as session:
        made = shown_route(route_definitions.add(session, draft, editor=Editor(cli_actor()), now=utc_now()))
    print_one(made, as_json=as_json)


@routes.command("change")
@ROUTE
@_facts(required=False)
@_VERSION
@AS_JSON
def change_route(route: str, *, pattern: str | None, version: int | None, as_json: bool, **facts: str | None) -> None:
    """Change a route, by a new version. What is not given stays as it is; its team and name always do."""
    fields = {field: value for field, value in facts.items() if value is not None}
    if pattern is not None:
        fields["pattern"] = pattern_text(pattern)
    if not fields:
        raise click.UsageError("nothing to change: give an option")
    _change(route, fields, version, as_json=as_json)


@routes.command("enable")
@ROUTE
@AS_JSON
def enable_route(route: str, *, as_json: bool) -> None:
    """Let a route make jobs again."""
    _change(route, {"enabled": True}, None, as_json=as_json)


@routes.command("disable")
@ROUTE
@AS_JSON
def disable_route(route: str, *, as_json: bool) -> None:
    """Keep a route from making jobs. Jobs that are there are still delivered."""
    _change(route, {"enabled": False}, None, as_json=as_json)


@routes.command("remove")
@ROUTE
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def remove_route(route: str, *, yes: bool, as_json: bool) -> None:
    """End a route. Its versions and jobs stay on record, and a route of its name goes on counting."""
    team, name = split_target("route", route)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database:
        with database.read() as session:
            found = route_definitions.get(session, team=team, name=name, editor=editor)
        place = f"{found.team}/{found.destination}"
        require_consent(f"End {route}, version {found.version}, which feeds {place}?", yes=yes)
        with database.write() as session:
            ended = route_definitions.remove(
                session, team=team, name=name, version=found.version, editor=editor, now=utc_now()
            )
            shown = shown_route(ended)
    print_one(shown, as_json=as_json)


def _change(route: str, fields: dict[str, Any], version: int | None, *, as_json: bool) -> None:
    team, name = split_target("route", route)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database:
        draft = route_definitions.drafted_change(database, fields, team=team, name=name)
        with database.write() as session:
            changed = route_definitions.change(
                session, draft, team=team, name=name, version=version, editor=editor, now=utc_now()
            )
            shown = shown_route(changed)
    print_one(shown, as_json=as_json)


@routes.command("backfill")
@ROUTE
@moment_option("--since", "Events received since then: 7d ago, or a time with its zone.", required=True)
@moment_option("--until", "Events received before then; else until now.")
@click.option("--limit", type=click.IntRange(1, MAX_JOBS), default=1000, show_default=True, help="Jobs at most.")
@click.option("--newest-first", is_flag=True, help="Begin with the newest events, instead of the oldest.")
@click.option(
    "--per-second",
    type=click.FloatRange(0.01, 1000),
    default=PER_SECOND,
    show_default=True,
    help="Jobs that become due per second, so that live ones find room between them.",
)
@click.option("--dry-run", is_flag=True, help="Say how many, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def backfill(
    route: str,
    *,
    since: datetime,
    until: datetime | None,
    limit: int,
    newest_first: bool,
    per_second: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the jobs of stored events that match a route now and have no job of it.

    They say `"backfill": true`. Run again, it goes on with the events that are left.
    """
    team, name = split_target("route", route)
    with closing(connect(load_database().database)) as database:
        require_current(database)
        with database.read() as session:
            live = backfills.live_route(session, team=team, name=name)
        found = _look(database, live, Span(since, until or utc_now(), newest_first), limit)
        facts = _counts(found)
        if dry_run:
            print_one({"route": route, "dry_run": True, **facts}, as_json=as_json)
            return
        count = len(found.event_ids)
        click.echo(
            f"{facts['matched']} of {counted(facts['looked_at'], 'event')} match, {count} without a job", err=True
        )
        if found.event_ids:
            minutes = f"{count / per_second / 60:.0f} min" if count / per_second > 90 else f"{count / per_second:.0f} s"
            place = f"{live.team}/{live.destination}"
            require_consent(f"Make {counted(count, 'job')} {live.job!a} for {place}, within {minutes}?", yes=yes)
        asked = {"since": since.isoformat(), "until": (until or utc_now()).isoformat(), "limit": limit}
        steps = backfills.fill(
            database, live, found, per_second=per_second, asked=asked, actor=cli_actor(), clock=utc_now
        )
        made, stopped = follow(steps, count, None)
    print_one({"route": route, "made": made, "stopped": stopped, **facts}, as_json=as_json)
    sys.exit(1 if stopped else 0)


def _look(database: Database, route: Route, span: Span, limit: int) -> BackfillScan:
    found = BackfillScan()
    shows_progress = sys.stderr.isatty()
    for found in backfills.scan(database, route, span, limit=limit):
        if shows_progress:
            click.echo(f"\r{counted(found.scanned, 'event')}, {len(found.event_ids)} to make", err=True, nl=False)
    if shows_progress:
        click.echo(err=True)
    return found


def _counts(found: BackfillScan) -> dict[str, Any]:
    return {
        "looked_at": found.scanned,
        "matched": found.matched,
        "undecided": found.undecided,
        "had_job": found.had_job,
        "to_make": len(found.event_ids),
        "complete": found.complete,
        "samples": [show(EVENT, sample.id) for sample in found.samples],
    }
