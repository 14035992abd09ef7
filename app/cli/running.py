"""`waylink web|worker|beat|migrate`: one process each, for machines with a process manager of their own."""

import os
import socket
import sys
from contextlib import closing

import click

from app.cli.places import require_free
from app.clock import utc_now
from app.configuration import load
from app.db import schema
from app.db.engine import Database, connect
from app.errors import ConfigurationError, Problem
from app.main import create_app
from app.services.configuring import Changes, apply_file
from app.settings import Settings
from app.supervisor import Child, Supervisor
from app.telemetry import configure_logs, get_logger
from app.web.server import BACKLOG, STOP_SECONDS, serve
from app.wiring import destinations_of, routes_of

log = get_logger("web")


@click.command()
@click.option(
    "--processes", type=click.IntRange(1, 64), help="How many serve; otherwise WAYLINK_WEB_PROCESSES says it."
)
@click.option("--listener", type=int, hidden=True, help="File descriptor of the socket that several processes share.")
def web(*, processes: int | None, listener: int | None) -> None:
    """Serve webhooks, health and console."""
    settings = load()
    configure_logs(style=settings.log_format, level=settings.log_level)
    if not settings.environments:
        missing = "no Nango environment is configured, so every webhook would be refused; `waylink up` brings a sandbox"
        raise ConfigurationError([Problem("WAYLINK_NANGO_SIGNING_KEYS", missing, "new-key,old-key")])
    with closing(connect(settings.database)) as database:
        schema.require_current_unless_away(database)  # told of when serving starts
    host, port = settings.host, settings.port
    if listener is not None:
        serve(create_app(settings), host=host, port=port, listener=socket.socket(fileno=listener))
        return
    require_free(host, port)
    count = processes or settings.web_processes
    if count == 1:
        serve(create_app(settings), host=host, port=port)
    else:
        sys.exit(_serve_together(host, port, count))


def _serve_together(host: str, port: int, count: int) -> int:
    """Several web processes on one socket, bound here: what waits to be accepted survives a process that dies."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listener:
        argv = [sys.executable, "-m", "app.cli", "web", "--listener", str(listener.fileno())]
        children = [
            Child(f"web {number}", argv, inherits=(listener.fileno(),), plain=True) for number in range(1, count + 1)
        ]
        return Supervisor(children, log=log, grace=STOP_SECONDS + 1).run()


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
    for kind, parts in (("destinations", changes.of_destinations), ("routes", changes.of_routes)):
        for verb, names in zip(("added", "changed", "removed"), parts, strict=True):
            if names:
                click.echo(f"{kind} {verb}: {', '.join(names)}")


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
