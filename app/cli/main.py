"""The `waylink` command. Exit 0: done; 1: the answer is no; 2: wrong use or bad input. Never a traceback."""

import sys

import click
from sqlalchemy.exc import DBAPIError

from app.cli.audit import audit
from app.cli.check import check
from app.cli.connections import connections
from app.cli.explaining import explain_event, test_pattern
from app.cli.listings import events, jobs
from app.cli.people import orgs, users
from app.cli.reconcile import reconcile
from app.cli.rejections import rejections
from app.cli.routes import destinations, routes
from app.cli.running import beat, migrate, web, worker
from app.cli.sandbox import sandbox
from app.cli.send import send
from app.cli.status import status
from app.cli.tokens import token
from app.cli.up import up
from app.errors import BrokerUnavailable, Conflict, NangoError, NotFound, WaylinkError, refuse
from app.telemetry import configure_logs


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="waylink")
def waylink() -> None:
    """Turns Nango's webhooks into linked connections, routed jobs and fresh tokens."""


COMMANDS = (
    *(up, web, worker, beat, migrate, check, sandbox, send),
    *(events, connections, users, orgs, routes, destinations, jobs, reconcile, rejections, status, token, audit),
)
for command in COMMANDS:
    waylink.add_command(command)
for command in (explain_event, test_pattern):
    routes.add_command(command)


def main() -> None:
    """Entry point of the command."""
    # Standard output is the command's answer; what services warn of meanwhile goes to standard error.
    configure_logs(style="auto", level="warning")
    try:
        sys.exit(waylink.main(standalone_mode=False))
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(wrong.exit_code if isinstance(wrong, click.UsageError) else 2)
    except click.Abort:
        sys.exit(130)
    except BrokerUnavailable as away:
        click.echo(f"error: {away}", err=True)
        sys.exit(1)
    except (NotFound, Conflict, NangoError) as missing:
        refuse(missing)
        sys.exit(1)
    except WaylinkError as refused:
        sys.exit(refuse(refused))
    except DBAPIError as away:
        reason = str(away.orig).strip().partition("\n")[0] if away.orig else "no answer"
        click.echo(f"error: the database cannot be used: {reason}", err=True)
        sys.exit(1)
    except OSError as failed:
        click.echo(f"error: {failed}", err=True)
        sys.exit(1)
