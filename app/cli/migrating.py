"""`waylink migrate`: the schema, and what waylink.toml defines."""

from contextlib import closing

import click

from app.cli.applying import apply
from app.configuration import load
from app.db.engine import Database, connect
from app.db.upgrading import upgrade
from app.services.configuring import Changes
from app.settings import Settings


@click.command()
def migrate() -> None:
    """Bring the database up to date, then record the teams and routes of waylink.toml."""
    settings = load()
    with closing(connect(settings.database)) as database:
        revision, changes = prepare(database, settings)
    click.echo(f"database at revision {revision}")
    for kind, verb, names in changes.parts():
        click.echo(f"{kind} {verb}: {', '.join(names)}")


def prepare(database: Database, settings: Settings) -> tuple[str, Changes]:
    """Migrate and apply the configuration file."""
    revision = upgrade(database)
    with database.write() as session:
        changes = apply(session, settings)
    return revision, changes
