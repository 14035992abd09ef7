"""`waylink destinations`: signing secrets of those that take jobs over HTTP."""

from contextlib import closing
from datetime import timedelta
from typing import Any

import click

from app.cli.actors import cli_actor
from app.cli.opening import open_current
from app.cli.options import AS_JSON, DESTINATION, read_duration
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_database, load_sealing
from app.db.models import DestinationSecret
from app.ids import SECRET, show
from app.runtime.wiring import sealer_of
from app.services.definitions import signing_secrets
from app.targets import split_target


@click.command("rotate-secret")
@DESTINATION
@click.option(
    "--overlap", callback=read_duration, default="24h", show_default=True, help="How long older secrets sign on."
)
@AS_JSON
def rotate_secret(place: str, *, overlap: timedelta, as_json: bool) -> None:
    """Make a new signing secret. It is shown this once; hand-overs are signed with the older ones, too, meanwhile.

    One that waylink.toml names is set again by the next `waylink migrate`: change it there instead.
    """
    team, name = split_target("destination", place)
    settings = load_sealing()
    sealer = sealer_of(settings)
    with closing(open_current(settings)) as database, database.write() as session:
        made = signing_secrets.rotate(
            session, sealer, team=team, destination=name, actor=cli_actor(), now=utc_now(), overlap=overlap
        )
    shown = {
        "destination": place,
        "id": show(SECRET, made.id),
        "replaces": [show(SECRET, one) for one in made.replaced],
        "overlap_ends_at": made.overlap_ends_at.isoformat(timespec="seconds") if made.overlap_ends_at else None,
        "secret": made.value,
    }
    print_one(shown, as_json=as_json)


@click.command("secrets")
@DESTINATION
@AS_JSON
def list_secrets(place: str, *, as_json: bool) -> None:
    """List the signing secrets of a destination, newest first: ids and times, never what they are."""
    team, name = split_target("destination", place)
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = [_shown(one) for one in signing_secrets.listed(session, team=team, destination=name)]
    print_rows(rows, ("id", "in_force", "created_at", "expires_at"), as_json=as_json)


@click.command("expire-secret")
@DESTINATION
@click.argument("secret_id", metavar="ID")
@AS_JSON
def expire_secret(place: str, secret_id: str, *, as_json: bool) -> None:
    """End a signing secret at once, such as one that leaked."""
    team, name = split_target("destination", place)
    with closing(open_current(load_database())) as database, database.write() as session:
        ended = signing_secrets.expire(
            session, secret_id, team=team, destination=name, actor=cli_actor(), now=utc_now()
        )
    print_one({"destination": place, "id": show(SECRET, ended), "expired": True}, as_json=as_json)


def _shown(one: DestinationSecret) -> dict[str, Any]:
    return {
        "id": show(SECRET, one.id),
        "in_force": one.expires_at is None or one.expires_at > utc_now(),
        "created_at": one.created_at.isoformat(timespec="seconds"),
        "expires_at": one.expires_at.isoformat(timespec="seconds") if one.expires_at else None,
    }
