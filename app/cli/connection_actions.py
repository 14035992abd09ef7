"""`waylink connections show|refresh|delete|supersede`."""

import sys
from contextlib import closing
from typing import Any
from uuid import UUID

import click
import msgspec

from app.cli.connection_operations import on_connection, operations_on
from app.cli.connection_target import Target
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON
from app.cli.output import print_one
from app.cli.people_actions import opened
from app.clock import utc_now
from app.config.loading import load_database
from app.db.engine import Database
from app.db.read import connection_listing
from app.errors import InvalidInput
from app.ids import CONNECTION, show
from app.services.connections import credentials, deletion
from app.services.linking import supersede_existing as standing
from app.services.routing.cache import RouteCache
from app.wording import counted


@click.command("show")
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
    if not with_credentials:
        with closing(open_current(load_database())) as database:
            ref = Target(**target).known(database)
            if ref is not None:
                print_one(_shown(database, ref), as_json=as_json)
                return
    with operations_on(target) as (operations, ref, actor):  # it asks Nango for a connection that is not stored
        live = {}
        if with_credentials:
            found = credentials.get_credentials(
                operations, ref, actor=actor, force_refresh=force_refresh, refresh_token=refresh_token
            )
            live = {"credentials": msgspec.to_builtins(found.credentials)}
        print_one(_shown(operations.database, ref) | live, as_json=as_json)


def _shown(database: Database, ref: UUID) -> dict[str, Any]:
    with database.read() as session:
        return connection_listing.connection(session, ref)


@click.command("refresh")
@on_connection
@AS_JSON
def refresh_connection(*, as_json: bool, **target: Any) -> None:
    """Let Nango renew the credentials now, whenever they expire."""
    with operations_on(target) as (operations, ref, actor):
        done = credentials.refresh(operations, ref, actor=actor)
    expires_at = done.expires_at.isoformat() if done.expires_at else None
    print_one({"outcome": done.outcome, "expires_at": expires_at}, as_json=as_json)


@click.command("delete")
@on_connection
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def delete_connection(*, yes: bool, as_json: bool, **target: Any) -> None:
    """Delete a connection in Nango and here. Nothing is revoked at the provider."""
    with operations_on(target) as (operations, ref, actor):
        if not yes:
            shown = _shown(operations.database, ref)
            owner = shown["user"] or shown["organization"] or "nobody"
            what = f"{shown['integration']} connection {shown['connection_id']!a} of {owner!a}"
            if not click.confirm(f"Delete the {what}, in Nango too?", err=True):
                click.echo("nothing was deleted", err=True)
                sys.exit(1)
        done = deletion.delete(operations, ref, actor=actor)
    print_one({"id": show(CONNECTION, ref), "deleted": True, "was_gone": done.was_gone}, as_json=as_json)


@click.command("supersede")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would be closed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def supersede_connections(*, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Close older links of owners with several connections, where the policy of [duplicates] is `supersede`.

    The policy acts whenever a link opens; this is for links that stood when it was chosen. Nothing is deleted in Nango.
    """
    with opened() as (database, policy):
        found = standing.count(database, policy)
        what = f"{counted(found.links.total(), 'link')} of {counted(found.owners, 'owner')}"
        if dry_run or not found.owners:
            done, closed = found, False
        elif yes or click.confirm(f"Close {what}?", err=True):
            done, closed = standing.supersede(database, policy, RouteCache(), actor=cli_actor(), clock=utc_now), True
        else:
            sys.exit(1)
    print_one({"closed": closed, "owners": done.owners, "links": dict(done.links)}, as_json=as_json)
