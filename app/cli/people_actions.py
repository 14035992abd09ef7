"""The actions of the commands on users and on organizations, which are the same."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import click

from app.cli.opening import cli_actor, open_current
from app.cli.output import print_one, print_page
from app.cli.paging import rows_of
from app.clock import utc_now
from app.config.loading import load_database, load_policy
from app.db import people as rows
from app.db.engine import Database
from app.db.people import PeopleFilters
from app.db.read import searching
from app.db.read.searching import Page
from app.domain.people import OwnerKind
from app.domain.people_files import ENDINGS, Format, lines_in, read
from app.errors import InvalidInput
from app.ids import parse
from app.runtime.wiring import linking_policy_of
from app.services.linking import waiting
from app.services.people import erasure, importer, records
from app.services.people.erasure import ErasureReport
from app.services.people.importer import REFUSED_SHOWN, ImportSummary
from app.services.people.records import MergeResult
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.telemetry import escape_control
from app.wording import counted

REFUSED_PRINTED: Final = 50
COLUMNS: Final = {
    OwnerKind.USER: ("id", "external_id", "email", "display_name", "organization", "connections"),
    OwnerKind.ORGANIZATION: ("id", "external_id", "name", "users", "connections"),
}


@contextmanager
def opened() -> Iterator[tuple[Database, Policy]]:
    """The database at this release's schema, and the policy for linking."""
    settings = load_policy()
    with closing(open_current(settings)) as database:
        yield database, linking_policy_of(settings)


@contextmanager
def opened_alone() -> Iterator[Database]:
    """The database alone, for actions that link nothing."""
    with closing(open_current(load_database())) as database:
        yield database


def list_them(kind: OwnerKind, *, as_json: bool, before: str | None, limit: int, **filters: Any) -> None:
    cursor = parse(rows.PREFIX[kind], before) if before else None
    wanted = PeopleFilters(search=searching.AT_MOST_COMPARED, **filters)
    with opened_alone() as database:

        def look(behind: UUID | None, count: int) -> Page:
            with database.read() as session:
                return rows.listing(session, kind, replace(wanted, before=behind, limit=count))

        found = rows_of(look, rows.PREFIX[kind], behind=cursor, count=limit + 1)
    print_page(found, COLUMNS[kind], limit=limit, as_json=as_json)


def show_one(kind: OwnerKind, who: str, *, as_json: bool) -> None:
    with opened_alone() as database, database.read() as session:
        print_one(rows.get(session, kind, records.find(session, kind, who)), as_json=as_json)


def add_one(kind: OwnerKind, given: dict[str, str | None], *, as_json: bool) -> None:
    fields = {name: value for name, value in given.items() if value is not None}
    with opened() as (database, policy):
        with database.write() as session:
            merged = records.add(session, kind, fields, actor=cli_actor(), now=utc_now())
        _finish(database, policy, kind, merged, as_json=as_json)


def change_one(kind: OwnerKind, who: str, given: dict[str, str | None], clear: Sequence[str], *, as_json: bool) -> None:
    fields = {name: value for name, value in given.items() if value is not None}
    if both := fields.keys() & set(clear):
        raise click.UsageError(f"{', '.join(sorted(both))}: either a new value or --clear")
    if not fields and not clear:
        raise click.UsageError("nothing to change: give an option")
    with opened() as (database, policy):
        with database.write() as session:
            id_ = records.find(session, kind, who)
            merged = records.change(session, kind, id_, fields | dict.fromkeys(clear), actor=cli_actor(), now=utc_now())
        _finish(database, policy, kind, merged, as_json=as_json)


def _finish(database: Database, policy: Policy, kind: OwnerKind, merged: MergeResult, *, as_json: bool) -> None:
    """After the commit, link the waiting connections and print the row."""
    linked = waiting.link_appeared(database, RouteCache(), policy, merged.appeared, clock=utc_now)
    [outcome] = merged.outcomes
    if outcome.id is None:
        raise InvalidInput("nobody was written")
    with database.read() as session:
        shown = rows.get(session, kind, outcome.id)
    print_one({"result": outcome.result, **shown, "linked": linked}, as_json=as_json)


def remove_one(kind: OwnerKind, who: str, *, force: bool, as_json: bool) -> None:
    with opened_alone() as database:
        with database.read() as session:
            id_ = records.find(session, kind, who)
        removed = records.remove(database, kind, id_, force=force, actor=cli_actor(), clock=utc_now)
    print_one(
        {
            "removed": rows.shown_id(kind, removed.id),
            "links_closed": removed.links_closed,
            "users_released": removed.users_released,
            "history_kept": removed.kept,
        },
        as_json=as_json,
    )


def erase_one(who: str, *, dry_run: bool, yes: bool, force: bool, as_json: bool) -> None:
    with opened_alone() as database:
        with database.read() as session:
            id_ = records.find(session, OwnerKind.USER, who)
        found = erasure.preview(database, id_)
        if dry_run:
            print_one(shown_report(found, erased=False), as_json=as_json)
            return
        rows_named = ", ".join(
            counted(count, table.removesuffix("s")) for table, count in sorted(found.named.items()) if count
        )
        if not yes and not click.confirm(f"Erase {found.user} from {rows_named or 'its own row alone'}?", err=True):
            sys.exit(1)
        report = erasure.erase(database, id_, force=force, actor=cli_actor(), clock=utc_now)
    print_one(shown_report(report, erased=True), as_json=as_json)


def import_file(kind: OwnerKind, file: str, *, format_: str | None, dry_run: bool, strict: bool, as_json: bool) -> None:
    chosen = Format(format_) if format_ else ENDINGS.get(Path(file).suffix.lower())
    if chosen is None:
        raise click.UsageError(f"{file}: say by --format what it is; endings: {', '.join(ENDINGS)}")
    if strict and file == "-":
        raise click.UsageError("--strict reads the input twice, so it needs a file")
    with opened() as (database, policy):

        def run(*, dry_run: bool) -> ImportSummary:
            # A line that is not UTF-8 is refused alone, not with the whole file.
            with click.open_file(file, encoding="utf-8-sig", errors="surrogateescape") as text:
                lines = read(kind, chosen, lines_in(text))
                return importer.run(
                    database, policy, RouteCache(), kind, lines, dry_run=dry_run, actor=cli_actor(), clock=utc_now
                )

        summary = run(dry_run=dry_run or strict)
        written = not dry_run and not (strict and summary.refused)
        if strict and written:
            summary = run(dry_run=False)
    _print_summary(summary, written=written, as_json=as_json)
    sys.exit(1 if summary.refused else 0)


def shown_report(report: ErasureReport, *, erased: bool) -> dict[str, Any]:
    return {
        "user": report.user,
        "erased": erased,
        "rows": {table: count for table, count in sorted(report.named.items()) if count},
        "links_closed": report.links_closed,
        "stays": {what: count for what, count in sorted(report.stays.items()) if count},
    }


def _print_summary(summary: ImportSummary, *, written: bool, as_json: bool) -> None:
    if as_json:
        print_one({"written": written, **asdict(summary)}, as_json=True)
        return
    for refused in summary.refused_lines[:REFUSED_PRINTED]:
        field = f"{refused['field']}: " if refused["field"] else ""
        click.echo(escape_control(f"line {refused['line']}: {field}{refused['reason']}"), err=True)
    if summary.refused > REFUSED_PRINTED:
        click.echo(
            f"and more, of {counted(summary.refused, 'refused line')}; --json names {REFUSED_SHOWN} faults", err=True
        )
    counts = {"added": summary.added, "changed": summary.changed, "unchanged": summary.unchanged}
    print_one({"written": written, **counts, "refused": summary.refused, "linked": summary.linked}, as_json=False)
