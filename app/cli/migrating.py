"""`waylink migrate`: the schema, and what waylink.toml defines."""

from contextlib import closing
from dataclasses import dataclass

import click

from app.cli.applying import apply
from app.config.loading import Definitions, load_definitions
from app.config.settings_groups import SealingSettings
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.services.definitions.config_plan import Changes
from app.services.definitions.orphans import Orphans, orphans


@click.command()
def migrate() -> None:
    """Bring the database up to date, then add and change what waylink.toml defines. Removes nothing."""
    settings, defined = load_definitions()
    with closing(connect(settings.database)) as database:
        prepared = prepare(database, settings, defined)
    click.echo(f"database at revision {prepared.revision}")
    for kind, verb, names in prepared.changes.parts():
        click.echo(f"{kind} {verb}: {', '.join(names)}")
    if prepared.orphaned:
        click.echo(str(prepared.orphaned), err=True)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of `prepare`."""

    revision: str
    changes: Changes
    orphaned: Orphans


def prepare(database: Database, settings: SealingSettings, defined: Definitions) -> Prepared:
    """Migrate, and record what waylink.toml defines; what it no longer has stays in force."""
    revision = upgrade(database)
    with database.write() as session:
        changes = apply(session, settings, defined)
        return Prepared(revision, changes, orphans(session, defined.file.names, defined.path))
