"""`waylink connections tags|metadata|connect|reconnect`."""

from typing import Any

import click

from app.cli.bulk_actions import require_consent
from app.cli.connection_operations import on_connection, operations_in, operations_on
from app.cli.json_input import json_object_from
from app.cli.options import AS_JSON, read_pairs
from app.cli.output import print_one
from app.ids import CONNECTION, show
from app.services.connections import metadata as metadata_operations
from app.services.connections import sessions
from app.services.connections import tags as tag_operations
from app.services.connections.sessions import ConnectOptions, OpenedSession, SessionOwner
from app.services.connections.tags import TagChange
from app.telemetry import escape_control


@click.group()
def tags() -> None:
    """Set, add and remove tags of a connection, at Nango and then here."""


@tags.command("set")
@on_connection
@click.argument("tags", nargs=-1, metavar="[K=V]...")
@click.option("--clear", is_flag=True, help="Remove all tags, instead of setting others.")
@click.option("--yes", is_flag=True, help="With --clear: do not ask.")
@AS_JSON
def set_tags(*, tags: tuple[str, ...], clear: bool, yes: bool, as_json: bool, **target: Any) -> None:
    """Replace all tags by these. To have none, say --clear: it names what goes, and asks."""
    if bool(tags) is clear:
        raise click.UsageError("give the tags that it shall have as K=V, or --clear to remove all, and not both")
    wanted = read_pairs(tags)
    with operations_on(target) as (operations, ref, actor):
        if clear:
            connection = operations.find(ref)
            present = ", ".join(f"{key}={value}" for key, value in sorted(connection.tags.items()))
            named = escape_control(present or "none that is known")
            what = f"Remove all tags of {connection.shown} ({named}), at Nango too?"
            require_consent(what, yes=yes)
        done = tag_operations.set_tags(operations, ref, wanted, actor=actor)
    _print_tags(done, as_json=as_json)


@tags.command("add")
@on_connection
@click.argument("tags", nargs=-1, required=True, metavar="K=V...")
@AS_JSON
def add_tags(*, tags: tuple[str, ...], as_json: bool, **target: Any) -> None:
    """Add or change these tags, and leave the others."""
    wanted = read_pairs(tags)
    with operations_on(target) as (operations, ref, actor):
        done = tag_operations.add_tags(operations, ref, wanted, actor=actor)
    _print_tags(done, as_json=as_json)


@tags.command("remove")
@on_connection
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@AS_JSON
def remove_tags(*, keys: tuple[str, ...], as_json: bool, **target: Any) -> None:
    """Remove these tags, and leave the others."""
    with operations_on(target) as (operations, ref, actor):
        done = tag_operations.remove_tags(operations, ref, keys, actor=actor)
    _print_tags(done, as_json=as_json)


@click.command("restore-tags")
@on_connection
@AS_JSON
def restore_tags(*, as_json: bool, **target: Any) -> None:
    """Put the tags back that carried the link of a connection in drift."""
    with operations_on(target) as (operations, ref, actor):
        done = tag_operations.restore_tags(operations, ref, actor=actor)
    _print_tags(done, as_json=as_json)


@click.group()
def metadata() -> None:
    """Get, set and update a connection's metadata, which is at Nango alone."""


@metadata.command("get")
@on_connection
@AS_JSON
def get_metadata(*, as_json: bool, **target: Any) -> None:
    """Print the metadata."""
    with operations_on(target) as (operations, ref, _):
        print_one(metadata_operations.get_metadata(operations, ref), as_json=as_json)


@metadata.command("set")
@on_connection
@click.argument("metadata", metavar="JSON|FILE|-", required=False)
@click.option("--clear", is_flag=True, help="Remove all metadata, instead of setting other.")
@click.option("--yes", is_flag=True, help="With --clear: do not ask.")
def set_metadata(*, metadata: str | None, clear: bool, yes: bool, **target: Any) -> None:
    """Replace the metadata by this object: JSON, a file with it, or `-` for standard input.

    An object without members is refused: to have none, say --clear.
    """
    if (metadata is None) is not clear:
        raise click.UsageError("give the metadata that it shall have, or --clear to remove all, and not both")
    wanted = json_object_from(metadata, "metadata") if metadata is not None else {}
    if not wanted and not clear:
        raise click.UsageError("an object without members would remove all metadata: say --clear")
    with operations_on(target) as (operations, ref, actor):
        if clear:
            found = ", ".join(sorted(metadata_operations.get_metadata(operations, ref))) or "none"
            what = f"Remove all metadata of {show(CONNECTION, ref)} at Nango ({escape_control(found)})?"
            require_consent(what, yes=yes)
        metadata_operations.set_metadata(operations, ref, wanted, actor=actor)
    click.echo("metadata removed" if clear else "metadata replaced")


@metadata.command("update")
@on_connection
@click.argument("metadata", metavar="JSON|FILE|-")
def update_metadata(*, metadata: str, **target: Any) -> None:
    """Merge this object into the metadata, on its first level."""
    wanted = json_object_from(metadata, "metadata")
    with operations_on(target) as (operations, ref, actor):
        metadata_operations.update_metadata(operations, ref, wanted, actor=actor)
    click.echo("metadata updated")


@click.command("connect")
@click.option("--environment", default="default", show_default=True, help="In this environment.")
@click.option("--integration", "integrations", multiple=True, help="To choose from; may be repeated. None: all.")
@click.option("--tag", "tagged", multiple=True, metavar="K=V", help="A tag of the connection; may be repeated.")
@click.option("--user", metavar="ID", help="Whom it will belong to, by the application's own id.")
@click.option("--user-email", help="The user's e-mail.")
@click.option("--organization", metavar="ID", help="The organization, by the application's own id.")
@AS_JSON
def connect(
    *,
    environment: str,
    integrations: tuple[str, ...],
    tagged: tuple[str, ...],
    user: str | None,
    user_email: str | None,
    organization: str | None,
    as_json: bool,
) -> None:
    """Open a session with which an end user connects. Its link is a secret for 30 minutes."""
    owner = SessionOwner(user_id=user, user_email=user_email, organization_id=organization)
    wanted = read_pairs(tagged)
    with operations_in(environment) as (operations, actor):
        made = sessions.connect(
            operations,
            environment,
            tags=wanted,
            owner=owner,
            allowed_integrations=integrations,
            options=ConnectOptions(),
            actor=actor,
        )
    _print_session(made, as_json=as_json)


@click.command("reconnect")
@on_connection
@click.option("--tag", "tagged", multiple=True, metavar="K=V", help="Instead of its own tags; may be repeated.")
@AS_JSON
def reconnect(*, tagged: tuple[str, ...], as_json: bool, **target: Any) -> None:
    """Open a session with which an end user authorizes a connection again. It keeps its tags."""
    wanted = read_pairs(tagged) if tagged else None
    with operations_on(target) as (operations, ref, actor):
        made = sessions.reconnect(operations, ref, tags=wanted, options=ConnectOptions(), actor=actor)
    _print_session(made, as_json=as_json)


def _print_tags(done: TagChange, *, as_json: bool) -> None:
    shown = {"tags": dict(done.tags), "changed": done.changed, "changed_elsewhere": done.elsewhere}
    print_one(shown, as_json=as_json)


def _print_session(made: OpenedSession, *, as_json: bool) -> None:
    shown = {
        "connect_link": made.connect_link,
        "token": made.token,
        "expires_at": made.expires_at.isoformat() if made.expires_at else None,
        "tags": dict(made.tags),
    }
    print_one(shown, as_json=as_json)
