"""`waylink audit`: what people and programs did through Waylink."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import click

from app.cli import following
from app.cli.following import FOLLOW
from app.cli.options import as_table, choice, read_duration
from app.cli.output import print_page
from app.cli.paging import rows_of
from app.clock import utc_now
from app.config.loading import load_database
from app.db import audit as rows
from app.db.audit import AuditFilters
from app.db.engine import connect
from app.db.read import searching
from app.db.read.searching import Page
from app.db.schema_version import require_current
from app.domain.states import AuditOutcome
from app.ids import AUDIT, parse


@click.command()
@click.option("--actor", help="By this one: token:NAME or cli:USER.")
@click.option("--action", help="Of this kind, such as token.created.")
@click.option("--subject", help="On what has this id.")
@click.option("--outcome", type=choice(AuditOutcome), help="With this outcome.")
@click.option("--since", callback=read_duration, default="365d", show_default=True, help="Not longer ago.")
@FOLLOW
@click.option("--before", metavar="ID", help="Go on after this row: older ones only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
@as_table
def audit(
    *,
    actor: str | None,
    action: str | None,
    subject: str | None,
    outcome: str | None,
    since: timedelta,
    before: str | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """List who did what, newest first. It is kept for a year."""
    filters = AuditFilters(
        search=searching.AT_MOST,
        actor=actor,
        action=action,
        subject=subject,
        outcome=AuditOutcome(outcome) if outcome else None,
        since=utc_now() - since,
    )
    with closing(connect(load_database().database)) as database:
        require_current(database)

        def look(behind: UUID | None, count: int) -> Page:
            with database.read() as session:
                return rows.listed(session, replace(filters, before=behind, limit=count))

        columns = ("at", "action", "outcome", "actor", "subject", "detail", "id")
        if follow:
            newest = partial(look, None)
            following.follow(newest, columns, state=("id", "outcome"), limit=limit, as_json=as_json, before=before)
        else:
            behind = parse(AUDIT, before) if before else None
            found = rows_of(look, AUDIT, behind=behind, count=limit + 1)
            print_page(found, columns, limit=limit, as_json=as_json)
