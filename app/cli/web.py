"""`waylink web`: serve, in one process or in several on one socket."""

import socket
import sys
from contextlib import closing

import click

from app.cli.web_address import require_free
from app.config.loading import load
from app.db import schema_version
from app.db.engine import connect
from app.errors import ConfigurationError, Problem
from app.main import create_app
from app.runtime.supervisor import Child, Supervisor
from app.telemetry import configure_logs, get_logger
from app.web.server import BACKLOG, STOP_SECONDS, serve

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
        schema_version.require_current_unless_away(database)  # logged when serving starts
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
    """Run several web processes on one socket, bound here: connections that wait in it survive a process's end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listener:
        argv = [sys.executable, "-m", "app.cli", "web", "--listener", str(listener.fileno())]
        children = [
            Child(f"web {number}", argv, inherits=(listener.fileno(),), plain=True) for number in range(1, count + 1)
        ]
        return Supervisor(children, log=log, grace=STOP_SECONDS + 1).run()
