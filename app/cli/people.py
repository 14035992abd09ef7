"""`waylink users` and `waylink orgs`: the owners of connections, as people manage them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from app.cli.actors import cli_actor
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.configuration import load
from app.db import people as rows
from app.db.engine import Database, connect
from app.db.people import Filters
from app.db.schema import require_current
from app.domain.people import Kind
from app.domain.people_files import ENDINGS, Format, read
from app.errors import InvalidInput
from app.ids import parse
from app.services import erasing, importing, people, waiting
from app.services.erasing import Report
from app.services.importing import REFUSED_SHOWN, Summary
from app.services.people import Merged
from app.services.policy import Policy
from app.services.route_cache import RouteCache
from app.telemetry import escape_control
from app.wiring import policy_of

Command = TypeVar("Command", bound=Callable[..., Any])

REFUSED_PRINTED: Final = 50
COLUMNS: Final = {
    Kind.USER: ("id", "external_id", "email", "display_name", "organization", "connections"),
    Kind.ORGANIZATION: ("id", "external_id", "name", "users", "connections"),
}
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WHO: Final = click.argument("who", metavar="ID")
_FORCE: Final = click.option("--force", is_flag=True, help="Close the links of their connections.")


@contextmanager
def opened() -> Iterator[tuple[Database, Policy]]:
    """The database, up to date, and what the configuration says."""
    settings = load()
    with closing(connect(settings.database)) as database:
        require_current(database)
        yield database, policy_of(settings)


def listing_options(command: Command) -> Command:
    for option in (
        _JSON,
        click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most."),
        click.option("--before", metavar="ID", help="Go on after this row: older ones only."),
        click.option("--removed", is_flag=True, help="Those who were removed and have a history."),
        click.option("--external-id", help="With this id in your application."),
    ):
        command = option(command)
    return command


def user_options(command: Command) -> Command:
    for option in (
        click.option("--organization", metavar="EXTERNAL_ID", help="The organization they belong to."),
        click.option("--name", "display_name", help="Display name."),
        click.option("--email", help="E-mail address."),
    ):
        command = option(command)
    return command


def import_options(command: Command) -> Command:
    for option in (
        _JSON,
        click.option("--strict", is_flag=True, help="Write nothing at all when a line is refused."),
        click.option("--dry-run", is_flag=True, help="Write nothing, say what would happen."),
        click.option(
            "--format",
            "format_",
            type=click.Choice([str(one) for one in Format]),
            help="Otherwise the file's ending says it.",
        ),
        click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True)),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.pass_context
def users(context: click.Context) -> None:
    """The users that connections belong to. Without a command: list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_users)


@users.command("list")
@listing_options
@click.option("--email", help="With this e-mail address, in any case.")
@click.option("--organization", metavar="EXTERNAL_ID", help="Of this organization.")
def list_users(*, as_json: bool, **filters: Any) -> None:
    """List users, newest first."""
    _list(Kind.USER, as_json=as_json, **filters)


@users.command("show")
@_WHO
@_JSON
def show_user(who: str, *, as_json: bool) -> None:
    """One user with their links, of now and before. ID: usr_… or the external id."""
    _show(Kind.USER, who, as_json=as_json)


@users.command("add")
@click.argument("external_id")
@user_options
@_JSON
def add_user(*, as_json: bool, **given: str | None) -> None:
    """Add a user. Connections that wait for them are linked at once."""
    _add(Kind.USER, given, as_json=as_json)


@users.command("change")
@_WHO
@click.option("--external-id", help="Their new id in your application.")
@user_options
@click.option("--clear", multiple=True, type=click.Choice(["email", "name", "organization"]), help="Empty this field.")
@_JSON
def change_user(who: str, *, clear: tuple[str, ...], as_json: bool, **given: str | None) -> None:
    """Change a user. What is not given stays as it is. ID: usr_… or the external id."""
    cleared = ["display_name" if name == "name" else name for name in clear]
    _change(Kind.USER, who, given, cleared, as_json=as_json)


@users.command("remove")
@_WHO
@_FORCE
@_JSON
def remove_user(who: str, *, force: bool, as_json: bool) -> None:
    """Remove a user. Past links stay, and nothing is deleted in Nango. ID: usr_… or the external id."""
    _remove(Kind.USER, who, force=force, as_json=as_json)


@users.command("erase")
@_WHO
@click.option("--dry-run", is_flag=True, help="Only say what names them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even while their connections live in Nango.")
@_JSON
def erase_user(who: str, *, dry_run: bool, yes: bool, force: bool, as_json: bool) -> None:
    """Remove a person's data from all that is stored, after saying how much names them. ID: usr_… or the external id.

    Delete their connections first: while they live in Nango, the next event brings their tags back. What teams were
    handed, logs and backups are out of reach.
    """
    with opened() as (database, _):
        with database.read() as session:
            id_ = people.find(session, Kind.USER, who)
        found = erasing.preview(database, id_)
        if dry_run:
            print_one(_report(found, erased=False), as_json=as_json)
            return
        rows_named = ", ".join(f"{count} {table}" for table, count in sorted(found.named.items()) if count)
        if not yes and not click.confirm(f"Erase {found.user} from {rows_named or 'its own row alone'}?", err=True):
            sys.exit(1)
        report = erasing.erase(database, id_, force=force, actor=cli_actor(), clock=utc_now)
    print_one(_report(report, erased=True), as_json=as_json)


@users.command("import")
@import_options
def import_users(file: str, **options: Any) -> None:
    r"""Add and change users from FILE (`-`: standard input), by external id.

    CSV with a header line, of external_id, email, display_name, organization (the organization's external id, which
    has to be there already); or a JSON object with these members per line. An empty cell or an absent member leaves
    the value as it is; \N or null clears it. Exit 1 when lines were refused, 2 when the file cannot be read.
    """
    _import(Kind.USER, file, **options)


@click.group(invoke_without_command=True)
@click.pass_context
def orgs(context: click.Context) -> None:
    """The organizations that connections belong to. Without a command: list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_orgs)


@orgs.command("list")
@listing_options
def list_orgs(*, as_json: bool, **filters: Any) -> None:
    """List organizations, newest first."""
    _list(Kind.ORGANIZATION, as_json=as_json, **filters)


@orgs.command("show")
@_WHO
@_JSON
def show_org(who: str, *, as_json: bool) -> None:
    """One organization with its links, of now and before. ID: org_… or the external id."""
    _show(Kind.ORGANIZATION, who, as_json=as_json)


@orgs.command("add")
@click.argument("external_id")
@click.option("--name", help="Name.")
@_JSON
def add_org(*, as_json: bool, **given: str | None) -> None:
    """Add an organization. Connections that wait for it are linked at once."""
    _add(Kind.ORGANIZATION, given, as_json=as_json)


@orgs.command("change")
@_WHO
@click.option("--external-id", help="Its new id in your application.")
@click.option("--name", help="Name.")
@click.option("--clear", multiple=True, type=click.Choice(["name"]), help="Empty this field.")
@_JSON
def change_org(who: str, *, clear: tuple[str, ...], as_json: bool, **given: str | None) -> None:
    """Change an organization. What is not given stays as it is. ID: org_… or the external id."""
    _change(Kind.ORGANIZATION, who, given, clear, as_json=as_json)


@orgs.command("remove")
@_WHO
@_FORCE
@_JSON
def remove_org(who: str, *, force: bool, as_json: bool) -> None:
    """Remove an organization. With --force its users belong to none. ID: org_… or the external id."""
    _remove(Kind.ORGANIZATION, who, force=force, as_json=as_json)


@orgs.command("import")
@import_options
def import_orgs(file: str, **options: Any) -> None:
    r"""Add and change organizations from FILE (`-`: standard input), by external id.

    CSV with a header line, of external_id and name; or a JSON object with these members per line. An empty cell or an
    absent member leaves the value as it is; \N or null clears it. Exit 1 when lines were refused, 2 when the file
    cannot be read.
    """
    _import(Kind.ORGANIZATION, file, **options)


def _list(kind: Kind, *, as_json: bool, before: str | None, **filters: Any) -> None:
    cursor = parse(rows.PREFIX[kind], before) if before else None
    with opened() as (database, _), database.read() as session:
        found = rows.listing(session, kind, Filters(before=cursor, **filters))
    print_rows(found, COLUMNS[kind], as_json=as_json)


def _show(kind: Kind, who: str, *, as_json: bool) -> None:
    with opened() as (database, _), database.read() as session:
        print_one(rows.one(session, kind, people.find(session, kind, who)), as_json=as_json)


def _add(kind: Kind, given: dict[str, str | None], *, as_json: bool) -> None:
    fields = {name: value for name, value in given.items() if value is not None}
    with opened() as (database, policy):
        with database.write() as session:
            merged = people.add(session, kind, fields, actor=cli_actor(), now=utc_now())
        _finish(database, policy, kind, merged, as_json=as_json)


def _change(
    kind: Kind, who: str, given: dict[str, str | None], clear: tuple[str, ...] | list[str], *, as_json: bool
) -> None:
    fields = {name: value for name, value in given.items() if value is not None}
    if both := fields.keys() & set(clear):
        raise click.UsageError(f"{', '.join(sorted(both))}: either a new value or --clear")
    if not fields and not clear:
        raise click.UsageError("nothing to change: give an option")
    with opened() as (database, policy):
        with database.write() as session:
            id_ = people.find(session, kind, who)
            merged = people.change(session, kind, id_, fields | dict.fromkeys(clear), actor=cli_actor(), now=utc_now())
        _finish(database, policy, kind, merged, as_json=as_json)


def _finish(database: Database, policy: Policy, kind: Kind, merged: Merged, *, as_json: bool) -> None:
    """After the commit: link who waited, then show what stands."""
    linked = waiting.link_appeared(database, RouteCache(), policy, merged.appeared, clock=utc_now)
    [outcome] = merged.outcomes
    if outcome.id is None:
        raise InvalidInput("nobody was written")
    with database.read() as session:
        shown = rows.one(session, kind, outcome.id)
    print_one({"result": outcome.result, **shown, "linked": linked}, as_json=as_json)


def _remove(kind: Kind, who: str, *, force: bool, as_json: bool) -> None:
    with opened() as (database, _):
        with database.read() as session:
            id_ = people.find(session, kind, who)
        removed = people.remove(database, kind, id_, force=force, actor=cli_actor(), clock=utc_now)
    print_one(
        {
            "removed": rows.shown_id(kind, removed.id),
            "links_closed": removed.links_closed,
            "users_released": removed.users_released,
            "history_kept": removed.kept,
        },
        as_json=as_json,
    )


def _import(kind: Kind, file: str, *, format_: str | None, dry_run: bool, strict: bool, as_json: bool) -> None:
    chosen = Format(format_) if format_ else ENDINGS.get(Path(file).suffix.lower())
    if chosen is None:
        raise click.UsageError(f"{file}: say by --format what it is; endings: {', '.join(ENDINGS)}")
    if strict and file == "-":
        raise click.UsageError("--strict reads the input twice, so it needs a file")
    with opened() as (database, policy):

        def run(*, dry_run: bool) -> Summary:
            # What is not UTF-8 is refused with its line, not with the whole file.
            with click.open_file(file, encoding="utf-8-sig", errors="surrogateescape") as text:
                lines = read(kind, chosen, text)
                return importing.run(
                    database, policy, RouteCache(), kind, lines, dry_run=dry_run, actor=cli_actor(), clock=utc_now
                )

        summary = run(dry_run=dry_run or strict)
        written = not dry_run and not (strict and summary.refused)
        if strict and written:
            summary = run(dry_run=False)
    _print_summary(summary, written=written, as_json=as_json)
    sys.exit(1 if summary.refused else 0)


def _report(report: Report, *, erased: bool) -> dict[str, Any]:
    return {
        "user": report.user,
        "erased": erased,
        "rows": {table: count for table, count in sorted(report.named.items()) if count},
        "links_closed": report.links_closed,
        "stays": {what: count for what, count in sorted(report.stays.items()) if count},
    }


def _print_summary(summary: Summary, *, written: bool, as_json: bool) -> None:
    if as_json:
        print_one({"written": written, **asdict(summary)}, as_json=True)
        return
    for refused in summary.refused_lines[:REFUSED_PRINTED]:
        field = f"{refused['field']}: " if refused["field"] else ""
        click.echo(escape_control(f"line {refused['line']}: {field}{refused['reason']}"), err=True)
    if summary.refused > REFUSED_PRINTED:
        click.echo(f"and more: {summary.refused} lines were refused; --json names {REFUSED_SHOWN} faults", err=True)
    counts = {"added": summary.added, "changed": summary.changed, "unchanged": summary.unchanged}
    print_one({"written": written, **counts, "refused": summary.refused, "linked": summary.linked}, as_json=False)
