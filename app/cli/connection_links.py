"""`waylink connections explain|unlink|relink`."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

import click

from app.cli.bulk_actions import require_consent
from app.cli.connection_operations import on_connection
from app.cli.connection_target import Target
from app.cli.opening import cli_actor
from app.cli.options import AS_JSON
from app.cli.output import print_one
from app.cli.people_actions import opened
from app.clock import utc_now
from app.db.engine import Database
from app.errors import NotFound
from app.ids import CONNECTION, show
from app.services.linking import by_hand, explaining
from app.services.routing.cache import RouteCache


@click.command("explain")
@on_connection
@AS_JSON
def explain_connection(*, as_json: bool, **target: Any) -> None:
    """Explain why a connection is linked or not, and what repairs it. Exit 1 where it is not linked."""
    with opened() as (database, policy):
        ref = _known(database, target)
        with database.read() as session:
            found = explaining.explain(session, ref, policy)
    shown = {"connection": show(CONNECTION, ref), **asdict(found), "repairs": list(found.repairs)}
    print_one(shown, as_json=as_json)
    if not found.linked:
        raise SystemExit(1)


@click.command("unlink")
@on_connection
@click.option("--reason", help="Why, for the audit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def unlink_connection(*, reason: str | None, yes: bool, as_json: bool, **target: Any) -> None:
    """Close a connection's link. It stays so until its tags name another owner, or `relink` is called."""
    with opened() as (database, policy):
        ref = _known(database, target)
        with database.read() as session:
            before = explaining.explain(session, ref, policy)
        if before.linked:
            require_consent(f"Close the link of {show(CONNECTION, ref)}? {before.why.replace('`', '')}", yes=yes)
        by_hand.unlink(database, RouteCache(), policy, ref, reason=reason, actor=cli_actor(), clock=utc_now)
    print_one({"connection": show(CONNECTION, ref), "linked": False}, as_json=as_json)


@click.command("relink")
@on_connection
@AS_JSON
def relink_connection(*, as_json: bool, **target: Any) -> None:
    """Decide the owner anew by the stored tags, and link it, a held change included. Exit 1 where it is not linked."""
    with opened() as (database, policy):
        ref = _known(database, target)
        done = by_hand.relink(database, RouteCache(), policy, ref, actor=cli_actor(), clock=utc_now)
    print_one({"connection": show(CONNECTION, ref), **asdict(done)}, as_json=as_json)
    if not done.linked and not done.asked:
        raise SystemExit(1)


def _known(database: Database, target: dict[str, Any]) -> UUID:
    """The connection's row id. Raises NotFound."""
    found = Target(**target).known(database)
    if found is None:
        raise NotFound("connection", str(target["connection"]))
    return found
