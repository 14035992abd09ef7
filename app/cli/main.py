"""The `waylink` command. Exit 0: done; 1: the answer is no; 2: wrong use or bad input. Never a traceback."""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from app.cli.lazy import LazyGroup, Places, importing
from app.domain.tags import is_storable
from app.errors import BrokerUnavailable, Conflict, InvalidInput, NangoError, NotFound, WaylinkError, refuse
from app.outage_causes import of_database
from app.runtime.private_files import create_privately

# Where each command is, and the first sentence of its help, as `waylink --help` lists them. A module is loaded with its
# command only: all of them together take 2.5 s of CPU on a slow machine, click and this module 0.1 s.
COMMANDS: Final[Mapping[str, Places]] = {
    "Run it": {
        "up": (
            "app.cli.up:up",
            "Run web, workers and Beat together; by default with SQLite and a bundled Valkey in the data folder.",
        ),
        "web": ("app.cli.web:web", "Serve webhooks, health and console."),
        "worker": (
            "app.cli.background:worker",
            "Run background work: `events` (the database) or `io` (deliveries, refreshes, upkeep).",
        ),
        "beat": ("app.cli.background:beat", "Send the ticks for sweep, refreshes and pruning."),
        "migrate": (
            "app.cli.migrating:migrate",
            "Bring the database up to date, then add and change what waylink.toml defines.",
        ),
        "sandbox": (
            "app.cli.sandbox:sandbox",
            "Serve a local Nango: same API, same signed webhooks, no real providers.",
        ),
        "send": (
            "app.cli.send:send",
            "Post a signed webhook: a FILE byte for byte, or a SAMPLE with a fresh connection id.",
        ),
    },
    "Watch and repair": {
        "status": (
            "app.cli.status:status",
            "Show what needs a person, with its cause and the command that repairs it.",
        ),
        "ack": (
            "app.cli.acknowledging:ack",
            "Acknowledge dead letters and failed events, so that what `waylink status` shows red is new.",
        ),
        "check": ("app.cli.check:check", "Check configuration, database, brokers and each Nango environment."),
        "healthz": (
            "app.cli.healthz:healthz",
            "Say whether this host's processes of a kind make progress: exit 0, or 1 with the cause.",
        ),
        "queues": ("app.cli.queues:queues", "Show the jobs that wait for each destination, and the internal queues."),
        "processes": (
            "app.cli.processes:processes",
            "List the processes of the last day, with what they did last and do now.",
        ),
        "bulk-runs": (
            "app.cli.bulk_runs:bulk_runs",
            "List acts on many rows that workers carry out, newest first; pause, resume and cancel them.",
        ),
        "figures": (
            "app.cli.figures:figures",
            "Show what was counted over time, a bar for each span; with `--json` by its labels, too.",
        ),
        "rejections": (
            "app.cli.rejections:rejections",
            "List refused webhooks, newest first: a row per minute, environment and cause.",
        ),
        "audit": ("app.cli.audit:audit", "List who did what, newest first."),
        "notify": (
            "app.cli.notify:notify",
            "List the channels of notifications; `waylink notify test` sends a message to them.",
        ),
    },
    "Connections, and what comes of them": {
        "connections": (
            "app.cli.connections:connections",
            "List connections, newest first; `waylink connections show ID` tells all about one.",
        ),
        "events": ("app.cli.events:events", "List events, newest first; `waylink events show ID` tells all about one."),
        "jobs": ("app.cli.jobs:jobs", "List jobs, newest first; `waylink jobs show ID` tells all about one."),
        "refreshes": ("app.cli.refreshes:refreshes", "List planned and past renewals of tokens."),
        "reconcile": ("app.cli.reconcile:reconcile", "Compare Nango's list of connections with ours now."),
        "integrations": (
            "app.cli.integrations:integrations",
            "List the integrations that an environment has at Nango.",
        ),
        "users": ("app.cli.people:users", "List users, newest first; `waylink users show ID` tells all about one."),
        "orgs": (
            "app.cli.people:orgs",
            "List organizations, newest first; `waylink orgs show ID` tells all about one.",
        ),
    },
    "Teams, and what they are handed": {
        "teams": ("app.cli.teams:teams", "List teams; add and remove those that waylink.toml does not define."),
        "destinations": (
            "app.cli.destinations:destinations",
            "List where teams take their jobs; add, change and remove those that waylink.toml does not define.",
        ),
        "routes": (
            "app.cli.routes:routes",
            "List the routes in force; see what the file changes, why an event matched, what a pattern would match.",
        ),
    },
    "Set up": {
        "settings": ("app.cli.settings:settings", "Show the settings in force, without secrets."),
        "operator": ("app.cli.operators:operator", "Add, list and change operators, who sign in at the console."),
        "token": ("app.cli.tokens:token", "Make, list and revoke tokens for the REST API."),
        "secrets": (
            "app.cli.secrets:secrets",
            "Say with which of the keys in WAYLINK_SECRET_KEY teams' secrets are encrypted.",
        ),
        "completion": (
            "app.cli.completing:completion",
            "Print the script by which a shell completes waylink's commands, options and values.",
        ),
    },
}


@click.group(
    cls=LazyGroup, sections=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="waylink")
@click.pass_context
def waylink(context: click.Context) -> None:
    """Turns Nango's webhooks into linked connections, routed jobs and fresh tokens."""
    if context.invoked_subcommand == "healthz":
        return  # it logs nothing, and runs every few seconds
    # Loaded here, since it takes 0.2 s that help does not need.
    with importing():
        from app.telemetry import configure_logs  # noqa: PLC0415

    # Standard output is the command's answer; what services warn of meanwhile goes to standard error.
    configure_logs(style="auto", level="warning")


def main() -> None:
    """Entry point of the command."""
    create_privately()
    _write_any_text()
    try:
        _require_no_empty(sys.argv[1:])
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
    except UnicodeEncodeError:
        # Python keeps bytes of an argument that are no text as lone surrogates, which no database takes.
        numbers = [str(number) for number, argument in enumerate(sys.argv[1:], start=1) if not is_storable(argument)]
        if not numbers:
            raise
        click.echo(f"error: argument {' and '.join(numbers)} is not UTF-8 text", err=True)
        sys.exit(2)
    except OSError as failed:
        click.echo(f"error: {failed}", err=True)
        sys.exit(1)
    except Exception as failed:
        reason = _of_database(failed)
        if reason is None:
            raise
        click.echo(f"error: the database cannot be used: {reason}", err=True)
        sys.exit(1)


def _write_any_text() -> None:
    """Write characters that standard output or error cannot encode as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _require_no_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument, as an unset variable of a script leaves one: it would mean all where one was meant."""
    for number, argument in enumerate(arguments, start=1):
        option, equals, value = argument.partition("=")
        if not argument.strip() or (option.startswith("--") and equals and not value.strip()):
            named = f" ({option})" if equals else ""
            raise InvalidInput(f"argument {number}{named} is empty: leave it out, or say what is meant")


def _of_database(failed: Exception) -> str | None:
    """The reason why the database cannot be used; None where something else has failed."""
    # Loaded here, since it takes 0.3 s that not every command needs.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    if not isinstance(failed, DBAPIError):
        return None
    return of_database(failed)
