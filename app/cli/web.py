"""`waylink web`: serve, in one process or in several on one socket."""

import socket
import sys
from contextlib import ExitStack, closing

import click

from app.cli.web_address import require_free, require_metrics_free
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
@click.option("--metrics-listener", type=int, hidden=True, help="The same for the address of the metrics.")
def web(*, processes: int | None, listener: int | None, metrics_listener: int | None) -> None:
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
        app = create_app(settings, metrics_on=None if metrics_listener is None else _inherited(metrics_listener))
        serve(app, host=host, port=port, listener=_inherited(listener))
        return
    require_free(host, port)
    require_metrics_free(settings.metrics_listen)
    count = processes or settings.web_processes
    with ExitStack() as opened:
        metrics_on = None
        if settings.metrics_listen is not None:
            metrics_on = opened.enter_context(_bound(*settings.metrics_listen))
        if count == 1:
            serve(create_app(settings, metrics_on=metrics_on), host=host, port=port)
        else:
            listening = opened.enter_context(_bound(host, port))
            sys.exit(_serve_together(listening, metrics_on, count))


def _serve_together(listener: socket.socket, metrics_on: socket.socket | None, count: int) -> int:
    """Run several web processes on one socket, bound here: connections that wait in it survive a process's end."""
    argv = [sys.executable, "-m", "app.cli", "web", "--listener", str(listener.fileno())]
    inherits = [listener.fileno()]
    if metrics_on is not None:
        argv += ["--metrics-listener", str(metrics_on.fileno())]
        inherits.append(metrics_on.fileno())
    children = [Child(f"web {number}", argv, inherits=inherits, plain=True) for number in range(1, count + 1)]
    return Supervisor(children, log=log, grace=STOP_SECONDS + 1).run()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _inherited(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)
