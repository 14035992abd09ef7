"""`waylink migrate`: the schema, and what waylink.toml defines."""

from contextlib import closing

import click

from app.clock import utc_now
from app.configuration import load
from app.db.engine import Database, connect
from app.db.upgrading import upgrade
from app.services.configuring import Changes, apply_file
from app.settings import Settings
from app.wiring import destinations_of, routes_of


@click.command()
def migrate() -> None:
    """Bring the database up to date, then record the teams and routes of waylink.toml."""
    settings = load()
    with closing(connect(settings.database)) as database:
        revision, changes = prepare(database, settings)
    click.echo(f"database at revision {revision}")
    for kind, parts in (("destinations", changes.of_destinations), ("routes", changes.of_routes)):
        for verb, names in zip(("added", "changed", "removed"), parts, strict=True):
            if names:
                click.echo(f"{kind} {verb}: {', '.join(names)}")


def prepare(database: Database, settings: Settings) -> tuple[str, Changes]:
    """Migrate and apply the configuration file."""
    revision = upgrade(database)
    with database.write() as session:
        changes = apply_file(session, destinations=destinations_of(settings), routes=routes_of(settings), now=utc_now())
    return revision, changes
