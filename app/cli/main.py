"""The `waylink` command. Exit 0: done; 1: the answer is no; 2: wrong use or bad input. Never a traceback."""

import sys
from importlib import import_module
from typing import Final

import click
from sqlalchemy.exc import DBAPIError

from app.domain.tags import is_storable
from app.errors import BrokerUnavailable, Conflict, NangoError, NotFound, WaylinkError, refuse
from app.telemetry import configure_logs

# Where each command is. A module is loaded with its command: all of them together would take a second at every start.
COMMANDS: Final = {
    "audit": "app.cli.audit:audit",
    "beat": "app.cli.background:beat",
    "check": "app.cli.check:check",
    "connections": "app.cli.connections:connections",
    "destinations": "app.cli.destinations:destinations",
    "events": "app.cli.events:events",
    "jobs": "app.cli.jobs:jobs",
    "migrate": "app.cli.migrating:migrate",
    "orgs": "app.cli.people:orgs",
    "queues": "app.cli.queues:queues",
    "reconcile": "app.cli.reconcile:reconcile",
    "rejections": "app.cli.rejections:rejections",
    "routes": "app.cli.routes:routes",
    "sandbox": "app.cli.sandbox:sandbox",
    "secrets": "app.cli.secrets:secrets",
    "send": "app.cli.send:send",
    "status": "app.cli.status:status",
    "teams": "app.cli.teams:teams",
    "token": "app.cli.tokens:token",
    "up": "app.cli.up:up",
    "users": "app.cli.people:users",
    "web": "app.cli.web:web",
    "worker": "app.cli.background:worker",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="waylink")
def waylink() -> None:
    """Turns Nango's webhooks into linked connections, routed jobs and fresh tokens."""


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
    except UnicodeEncodeError:
        # Python keeps bytes of an argument that are no text as lone surrogates, which no database takes.
        numbers = [str(number) for number, one in enumerate(sys.argv[1:], start=1) if not is_storable(one)]
        if not numbers:
            raise
        click.echo(f"error: argument {' and '.join(numbers)} is not UTF-8 text", err=True)
        sys.exit(2)
    except OSError as failed:
        click.echo(f"error: {failed}", err=True)
        sys.exit(1)
