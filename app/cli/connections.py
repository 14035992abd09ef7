"""`waylink connections`: list and show what is known, and act on connections at Nango."""

from contextlib import closing
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import click

from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import BEFORE, LIMIT, as_table, filters_of_connections, read_pairs
from app.cli.output import print_page
from app.cli.paging import rows_of
from app.db.read import connection_listing, connection_search, searching
from app.db.read.listing import ListFilters
from app.db.read.searching import Page
from app.domain import tags as tag_rules
from app.domain.states import ConnectionStatus
from app.ids import CONNECTION, parse

ACTS: Final = {
    "bulk": (
        "app.cli.connection_bulk_acts:act_on_connections",
        "Act on many connections: refresh, add-tags, remove-tags, unlink or delete them.",
    ),
    "connect": ("app.cli.connection_edits:connect", "Open a session with which an end user connects."),
    "delete": ("app.cli.connection_actions:delete_connection", "Delete a connection in Nango and here."),
    "explain": (
        "app.cli.connection_links:explain_connection",
        "Explain why a connection is linked or not, and what repairs it.",
    ),
    "get": (
        "app.cli.connection_actions:show_connection",
        "All about one connection, by our `con_…` id or by Nango's: links, refreshes, errors.",
    ),
    "import": (
        "app.cli.connection_imports:import_connection",
        "Make a connection at Nango from credentials: a file of JSON, or `-` for standard input.",
    ),
    "metadata": (
        "app.cli.connection_edits:metadata",
        "Get, set and update a connection's metadata, which is at Nango alone.",
    ),
    "reconnect": (
        "app.cli.connection_edits:reconnect",
        "Open a session with which an end user authorizes a connection again.",
    ),
    "refresh": (
        "app.cli.connection_actions:refresh_connection",
        "Let Nango renew the credentials now, whenever they expire.",
    ),
    "relink": (
        "app.cli.connection_links:relink_connection",
        "Decide the owner anew by the stored tags, and link it, a held change included.",
    ),
    "repairs": (
        "app.cli.repair_times:list_repairs",
        "Show how long end users take to reconnect, by integration.",
    ),
    "restore-tags": (
        "app.cli.connection_edits:restore_tags",
        "Put the tags back that carried the link of a connection in drift.",
    ),
    "show": (
        "app.cli.connection_actions:show_connection",
        "All about one connection, by our `con_…` id or by Nango's: links, refreshes, errors.",
    ),
    "supersede": (
        "app.cli.connection_actions:supersede_connections",
        "Close older links of owners with several connections, where the policy of [duplicates] is `supersede`.",
    ),
    "tags": ("app.cli.connection_edits:tags", "Set, add and remove tags of a connection, at Nango and then here."),
    "unlink": ("app.cli.connection_links:unlink_connection", "Close a connection's link."),
}

COLUMNS: Final = (
    *("connection_id", "status", "user", "integration", "organization"),
    *("expires_at", "grant_expires_at", "tags", "refresh_at", "linked_by"),
)
CLOCKS: Final = ("expires_at", "grant_expires_at")  # shown before the others where they are asked for
FAILING: Final = ("age:failing_since", "failures", "last_error_type")  # as these


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@click.option("--needs-reconnect", is_flag=True, help="Only those whose end user has to reconnect.")
@filters_of_connections
@BEFORE
@LIMIT
@as_table
@click.pass_context
def connections(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
    before: str | None,
    status: str | None,
    needs_reconnect: bool,
    tagged: tuple[str, ...],
    q: str | None,
    **filters: Any,
) -> None:
    """List connections, newest first; `waylink connections show ID` tells all about one."""
    if context.invoked_subcommand:
        return
    if needs_reconnect and status not in {None, ConnectionStatus.NEEDS_RECONNECT}:
        raise click.UsageError(f"--needs-reconnect and --status {status} leave nothing: give one of them")
    wanted = ListFilters(
        search=searching.AT_MOST,
        status=ConnectionStatus.NEEDS_RECONNECT if needs_reconnect else status,
        tags=tag_rules.normalize(read_pairs(tagged)),
        **filters,
    )
    cursor = parse(CONNECTION, before) if before else None
    with closing(open_database()) as database:
        if q is not None:
            with database.read() as session:
                wanted = replace(wanted, query=connection_search.read(session, q))

        def look(behind: UUID | None, count: int) -> Page:
            with database.read() as session:
                return connection_listing.connections(session, replace(wanted, before=behind, limit=count))

        rows = rows_of(look, CONNECTION, behind=cursor, count=limit + 1)
    print_page(rows, _columns(wanted), limit=limit, as_json=as_json)


def _columns(filters: ListFilters) -> list[str]:
    """The columns, with those that were asked for behind the connection."""
    asked = (
        (filters.expires_before, filters.expires_after),
        (filters.grant_before, filters.grant_after),
    )
    clocks = [name for name, bounds in zip(CLOCKS, asked, strict=True) if any(bounds)]
    clocks += FAILING if filters.failing else ()
    return [COLUMNS[0], *clocks, *(name for name in COLUMNS[1:] if name not in clocks)]
