"""`waylink web|worker|beat|migrate`: one process each, for machines with a process manager of their own."""

import os
import sys
from contextlib import closing

import click
import uvicorn

from app.cli.places import require_free
from app.clock import utc_now
from app.configuration import load
from app.db import schema
from app.db.engine import Database, connect
from app.errors import ConfigurationError, Problem
from app.main import create_app
from app.services.configuring import Changes, apply_file
from app.settings import Settings
from app.telemetry import configure_logs
from app.wiring import destinations_of, routes_of


@click.command()
def web() -> None:
    """Serve webhooks, health and console."""
    settings = load()
    configure_logs(style=settings.log_format, level=settings.log_level)
    if not settings.environments:
        missing = "no Nango environment is configured, so every webhook would be refused; `waylink up` brings a sandbox"
        raise ConfigurationError([Problem("WAYLINK_NANGO_SIGNING_KEYS", missing, "new-key,old-key")])
    with closing(connect(settings.database)) as database:
        schema.require_current(database)
    require_free(settings.host, settings.port)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=20,
    )


@click.command()
@click.argument("kind", type=click.Choice(["events", "io"]))
def worker(kind: str) -> None:
    """Run background work: `events` (the database) or `io` (deliveries, refreshes, upkeep). Run several for more."""
    _become("workers", kind)


@click.command()
def beat() -> None:
    """Send the ticks for sweep, refreshes and pruning. Run exactly one."""
    _become("workers", "beat")


@click.command()
def migrate() -> None:
    """Bring the database up to date, then record the teams and routes of waylink.toml."""
    settings = load()
    with closing(connect(settings.database)) as database:
        revision, changes = prepare(database, settings)
    click.echo(f"database at revision {revision}")
    for verb, names in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        if names:
            click.echo(f"routes {verb}: {', '.join(names)}")


def prepare(database: Database, settings: Settings) -> tuple[str, Changes]:
    """Migrate and apply the configuration file."""
    revision = schema.upgrade(database)
    with database.write() as session:
        changes = apply_file(session, destinations=destinations_of(settings), routes=routes_of(settings), now=utc_now())
    return revision, changes


def _become(module: str, *arguments: str) -> None:
    """Replace this process. Nothing in app imports workers; and a process manager's signals reach the right one."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606
