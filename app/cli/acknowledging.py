"""`waylink ack`: what an operator has looked at is red in `waylink status` no more."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeVar

import click

from app.cli.bulk_actions import require_consent
from app.cli.opening import cli_actor, open_database
from app.cli.options import AS_JSON, as_table
from app.cli.output import print_list, print_rows
from app.clock import utc_now
from app.db.engine import Database
from app.domain.acknowledging import AckKind, AckScope
from app.services.status import acknowledging
from app.services.status.acknowledging import LONGEST_NOTE, Preview
from app.wording import counted

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def ack() -> None:
    """Acknowledge dead letters and failed events, so that what `waylink status` shows red is new.

    They stay as they are: `waylink jobs retry` and `waylink events retry` take them up again.
    """


def _options(command: Command) -> Command:
    for option in (
        AS_JSON,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Say how many, and change nothing."),
        click.option("--note", help=f"A text of up to {LONGEST_NOTE} characters that is kept with it."),
    ):
        command = option(command)
    return command


@ack.command("all")
@_options
def ack_all(**options: Any) -> None:
    """Acknowledge all dead letters and failed events that there are now."""
    _acknowledge([AckScope(AckKind.JOBS), AckScope(AckKind.EVENTS)], **options)


@ack.command("jobs")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--destination", metavar="TEAM/NAME", help="All of this destination.")
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@_options
def ack_jobs(*, ids: Sequence[str], destination: str | None, everything: bool, **options: Any) -> None:
    """Acknowledge dead letters: by their ids, of a destination, or all."""
    if bool(ids) + bool(destination) + everything != 1:
        raise click.UsageError("acknowledge what? Either ids, or --destination, or --all")
    if destination:
        scopes = [acknowledging.scope_of_destination(destination)]
    else:
        scopes = [acknowledging.scope_of_id(one, AckKind.JOBS) for one in ids] or [AckScope(AckKind.JOBS)]
    _acknowledge(scopes, **options)


@ack.command("events")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All failed events.")
@_options
def ack_events(*, ids: Sequence[str], everything: bool, **options: Any) -> None:
    """Acknowledge failed events: by their ids, or all."""
    if bool(ids) + everything != 1:
        raise click.UsageError("acknowledge what? Either ids, or --all")
    scopes = [acknowledging.scope_of_id(one, AckKind.EVENTS) for one in ids] or [AckScope(AckKind.EVENTS)]
    _acknowledge(scopes, **options)


@ack.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
@as_table
def list_acknowledgements(*, limit: int, as_json: bool) -> None:
    """List the acknowledgements in force, newest first. The audit has the earlier ones."""
    with closing(open_database()) as database, database.read() as session:
        rows = acknowledging.listed(session, limit=limit)
    print_list(rows, ("kind", "subject", "until", "actor", "note", "age:at"), as_json=as_json)


def _acknowledge(scopes: Sequence[AckScope], *, note: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    with closing(open_database()) as database:
        now = utc_now()
        with database.read() as session:
            found = [acknowledging.preview(session, scope, now=now) for scope in dict.fromkeys(scopes)]
        for one in found:
            click.echo(one.described(), err=True)
        new = [one for one in found if one.count]
        if new and not dry_run:
            require_consent(f"Acknowledge {' and '.join(_told(new))}?", yes=yes)
        done = {} if dry_run else {one.scope: _write(database, one, note) for one in found}
    rows = [_row(one, None if dry_run else done[one.scope]) for one in found]
    print_rows(rows, ("kind", "subject", "count", "acknowledged", "until"), as_json=as_json)


def _told(new: Sequence[Preview]) -> list[str]:
    return [one.described() for one in new] if len(new) <= 2 else [counted(len(new), "row")]


def _write(database: Database, found: Preview, note: str | None) -> int:
    return acknowledging.acknowledge(database, found, note=note, actor=cli_actor(), now=utc_now())


def _row(found: Preview, acknowledged: int | None) -> dict[str, Any]:
    return {
        "kind": str(found.scope.kind),
        "subject": found.scope.subject or None,
        "count": found.count,
        "capped": found.capped,
        "acknowledged": acknowledged,
        "until": found.until.isoformat() if found.until else None,
    }
