"""`waylink connections`: list and show what is known, and act on connections at Nango."""

import sys
from contextlib import closing
from typing import Any

import click
import msgspec

from app.cli.acting import Target, desk_for_acting, on_connection, pairs
from app.cli.actors import cli_actor
from app.cli.connection_edits import connect, metadata, reconnect, restore_tags, tags
from app.cli.listings import AS_JSON, BEFORE, LIMIT, Listing, choice, connection_filters, open_database
from app.cli.output import print_one, print_rows
from app.cli.people_acts import opened
from app.clock import utc_now
from app.db import connection_listing
from app.db.listing import Filters
from app.domain import tags as tag_rules
from app.domain.states import ConnectionStatus
from app.errors import InvalidInput
from app.ids import CONNECTION, parse
from app.services import superseding_standing as standing
from app.services.operations import credentials, deleting
from app.services.route_cache import RouteCache


@click.group(cls=Listing, invoke_without_command=True)
@click.option("--status", type=choice(ConnectionStatus), help="In this status.")
@click.option("--unlinked", is_flag=True, help="Only those without an owner.")
@click.option("--needs-reconnect", is_flag=True, help="Only those whose end user has to reconnect.")
@click.option("--drift", is_flag=True, help="Only those whose tags no longer carry their link.")
@click.option(
    "--duplicates", is_flag=True, help="Only those whose owner has several live connections to the integration."
)
@click.option("--user", help="Of the user with this id of the application's.")
@click.option("--organization", help="Of the organization with this id of the application's.")
@click.option("--tag", "tagged", multiple=True, metavar="K=V", help="With this tag; may be repeated, all must match.")
@connection_filters
@BEFORE
@LIMIT
@AS_JSON
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
    **filters: Any,
) -> None:
    """List connections, newest first; `waylink connections show ID` tells all about one."""
    if context.invoked_subcommand:
        return
    if needs_reconnect and status not in {None, ConnectionStatus.NEEDS_RECONNECT}:
        raise click.UsageError(f"--needs-reconnect and --status {status} leave nothing: give one of them")
    wanted = Filters(
        limit=limit,
        before=parse(CONNECTION, before) if before else None,
        status=ConnectionStatus.NEEDS_RECONNECT if needs_reconnect else status,
        tags=tag_rules.normalize(pairs(tagged)),
        **filters,
    )
    with closing(open_database()) as database, database.read() as session:
        rows = connection_listing.connections(session, wanted)
    columns = ("integration", "connection_id", "status", "user", "organization", "linked_by", "tags", "refresh_at")
    print_rows(rows, columns, as_json=as_json)


@connections.command("show")
@on_connection
@click.option("--credentials", "with_credentials", is_flag=True, help="And its live credentials, from Nango. Audited.")
@click.option("--force-refresh", is_flag=True, help="With --credentials: renew them first.")
@click.option("--refresh-token", is_flag=True, help="With --credentials: refresh tokens, too.")
@AS_JSON
def show_connection(
    *, as_json: bool, with_credentials: bool, force_refresh: bool, refresh_token: bool, **target: Any
) -> None:
    """All about one connection, by our `con_…` id or by Nango's: links, refreshes, errors."""
    if (force_refresh or refresh_token) and not with_credentials:
        raise InvalidInput("--force-refresh and --refresh-token go with --credentials")
    with desk_for_acting() as (desk, actor):
        ref = Target(**target).find(desk)
        live = {}
        if with_credentials:
            found = credentials.get_credentials(
                desk, ref, actor=actor, force_refresh=force_refresh, refresh_token=refresh_token
            )
            live = {"credentials": msgspec.to_builtins(found)}
        with desk.database.read() as session:
            print_one(connection_listing.connection(session, ref) | live, as_json=as_json)


@connections.command("refresh")
@on_connection
@AS_JSON
def refresh_connection(*, as_json: bool, **target: Any) -> None:
    """Let Nango renew the credentials now, whenever they expire."""
    with desk_for_acting() as (desk, actor):
        done = credentials.refresh(desk, Target(**target).find(desk), actor=actor)
    expires_at = done.expires_at.isoformat() if done.expires_at else None
    print_one({"outcome": done.outcome, "expires_at": expires_at}, as_json=as_json)


@connections.command("delete")
@on_connection
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def delete_connection(*, yes: bool, as_json: bool, **target: Any) -> None:
    """Delete a connection in Nango and here. Nothing is revoked at the provider."""
    with desk_for_acting() as (desk, actor):
        ref = Target(**target).find(desk)
        subject = desk.subject(ref)
        with desk.database.read() as session:
            shown = connection_listing.connection(session, ref)
        if not yes:
            owner = shown["user"] or shown["organization"] or "nobody"
            what = f"{subject.integration} connection {subject.connection_id!a} of {owner!a}"
            if not click.confirm(f"Delete the {what}, in Nango too?", err=True):
                click.echo("nothing was deleted", err=True)
                sys.exit(1)
        done = deleting.delete(desk, ref, actor=actor)
    print_one({"id": subject.shown, "deleted": True, "was_gone": done.was_gone}, as_json=as_json)


@connections.command("supersede")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would be closed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def supersede_connections(*, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Close older links of owners with several connections, where the policy of [duplicates] is `supersede`.

    The policy acts whenever a link opens; this is for links that stood when it was chosen. Nothing is deleted in Nango.
    """
    with opened() as (database, policy):
        found = standing.count(database, policy)
        what = f"{found.links.total()} links of {found.owners} owners"
        if dry_run or not found.owners:
            done, closed = found, False
        elif yes or click.confirm(f"Close {what}?", err=True):
            done, closed = standing.supersede(database, policy, RouteCache(), actor=cli_actor(), clock=utc_now), True
        else:
            sys.exit(1)
    print_one({"closed": closed, "owners": done.owners, "links": dict(done.links)}, as_json=as_json)


for command in (tags, restore_tags, metadata, connect, reconnect):
    connections.add_command(command)
connections.add_command(show_connection, "get")
