"""`waylink refreshes`: list renewals of tokens, and what is known of providers' tokens."""

from contextlib import closing
from datetime import timedelta
from typing import Any, Final

import click

from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import AS_JSON, BEFORE, LIMIT, as_table, connection_filters
from app.cli.output import print_one, print_page, print_rows
from app.config.provider_catalogue import shipped_catalogue
from app.db.read import listing
from app.db.read.listing import ListFilters
from app.domain.refreshing.catalogue import ProviderLine
from app.errors import NotFound
from app.ids import REFRESH, parse

COLUMNS: Final = ("connection_id", "refresh_at", "outcome", "integration", "reason", "forced")
CATALOGUE_COLUMNS: Final = ("provider", "access_life", "refresh_life", "idle_limit", "rotates", "renews")


@click.group(cls=Listing, invoke_without_command=True)
@click.option("--open/--finished", "is_open", default=None, help="Only planned ones, or only past ones.")
@connection_filters
@BEFORE
@LIMIT
@as_table
@click.pass_context
def refreshes(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
    before: str | None,
    is_open: bool | None,
    **filters: Any,
) -> None:
    """List planned and past renewals of tokens, newest first."""
    if context.invoked_subcommand:
        return
    state = {None: None, True: "open", False: "finished"}[is_open]
    wanted = ListFilters(limit=limit + 1, before=parse(REFRESH, before) if before else None, state=state, **filters)
    with closing(open_database()) as database, database.read() as session:
        rows = listing.refreshes(session, wanted)
    print_page(rows, COLUMNS, limit=limit, as_json=as_json)


@refreshes.command()
@click.argument("provider", required=False)
@AS_JSON
def catalogue(*, provider: str | None, as_json: bool) -> None:
    """Show what PROVIDER documents of its tokens' lives, with the source; without PROVIDER, of all."""
    known = shipped_catalogue()
    if provider is None:
        rows = [_row(line) for line in known.lines]
        print_rows(rows, CATALOGUE_COLUMNS, as_json=as_json)
        return
    line = known.of(provider)
    if line is None:
        raise NotFound("provider in the catalogue", provider)
    row = _row(line)
    print_one(row if as_json else row | {"provider": provider, "names": ", ".join(line.names)}, as_json=as_json)


def _row(line: ProviderLine) -> dict[str, Any]:
    more = f" +{len(line.names) - 1}" if len(line.names) > 1 else ""
    return {
        "provider": line.names[0] + more,
        "names": list(line.names),
        "access_life": _shown(line.access_life),
        "refresh_life": _shown(line.refresh_life),
        "idle_limit": _shown(line.idle_limit),
        "rotates": line.rotates,
        "reuse": line.reuse,
        "renews": line.renews,
        "nango_margin": _shown(line.nango_margin),
        "note": line.note,
        "source": line.source,
        "read": line.read.isoformat(),
    }


def _shown(span: timedelta | None) -> str | None:
    """A span as waylink.toml has it, such as `12h`."""
    if span is None:
        return None
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
