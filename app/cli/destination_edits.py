"""What people do with destinations that waylink.toml does not define."""

import sys
from collections.abc import Callable
from contextlib import closing
from typing import IO, Any, Final, TypeVar

import click

from app.cli.actors import cli_actor
from app.cli.opening import open_current
from app.cli.options import AS_JSON, DESTINATION, choice
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_database, load_sealing
from app.db.read.definitions import shown_destination
from app.runtime.wiring import means_of
from app.services.definitions import destinations as defining
from app.services.definitions.alerts import Alerts
from app.services.definitions.editor import Editor
from app.targets import split_target

Command = TypeVar("Command", bound=Callable[..., Any])

_CLEARED: Final = {"broker": "broker_url", "rate": "rate_per_second", "timeout": "timeout_seconds"}


def _described(command: Command) -> Command:
    for option, kind, told in (
        ("--rate", click.FLOAT, "Jobs per second at most."),
        ("--timeout", click.FLOAT, "Seconds for one try, over HTTP."),
        ("--broker-url-file", click.File(), "Of Celery: a file with the URL of a broker of the team's own, or `-`."),
        ("--url", click.STRING, "Of HTTP: where hand-overs are posted to."),
        ("--queue", click.STRING, "Of Celery: the team's queue. Starts with `team.<team>.`."),
    ):
        command = click.option(option, type=kind, help=told)(command)
    return command


def _fields(
    *, queue: str | None, url: str | None, timeout: float | None, rate: float | None, broker_url_file: IO[str] | None
) -> dict[str, Any]:
    """What was given, as fields of a destination."""
    given = {"queue": queue, "url": url, "timeout_seconds": timeout, "rate_per_second": rate}
    fields = {field: value for field, value in given.items() if value is not None}
    if broker_url_file is not None:
        fields["broker_url"] = broker_url_file.read().strip()
    return fields


@click.command("add")
@DESTINATION
@_described
@AS_JSON
def add_destination(place: str, *, as_json: bool, **options: Any) -> None:
    """Add a destination of a team: over Celery with --queue, over HTTP with --url.

    One that takes HTTP gets the secret that its hand-overs are signed with. It is shown this once.
    """
    team, name = split_target("destination", place)
    fields = {"kind": "http" if options["url"] is not None else "celery", **_fields(**options)}
    settings = load_sealing()
    with closing(open_current(settings)) as database, database.write() as session:
        made = defining.add(
            session, means_of(settings), fields, team=team, name=name, editor=Editor(cli_actor()), now=utc_now()
        )
        shown = shown_destination(made.row) | ({"secret": made.secret} if made.secret else {})
    print_one(shown, as_json=as_json)


@click.command("change")
@DESTINATION
@_described
@click.option(
    "--clear", multiple=True, type=choice(sorted(_CLEARED)), help="Take the default, or the team broker, again."
)
@click.option(
    "--version", type=click.IntRange(min=1), help="The version this is about: refused where another is there by now."
)
@AS_JSON
def change_destination(
    place: str, *, clear: tuple[str, ...], version: int | None, as_json: bool, **options: Any
) -> None:
    """Change a destination. Jobs that wait go where it says from then on."""
    team, name = split_target("destination", place)
    fields = _fields(**options)
    cleared = {_CLEARED[one] for one in clear}
    if both := fields.keys() & cleared:
        raise click.UsageError(f"{', '.join(sorted(both))}: either a new value or --clear")
    fields |= dict.fromkeys(cleared)
    if not fields:
        raise click.UsageError("nothing to change: give an option")
    settings = load_sealing()
    with closing(open_current(settings)) as database, database.write() as session:
        changed = defining.change(
            session,
            means_of(settings),
            fields,
            team=team,
            name=name,
            version=version,
            editor=Editor(cli_actor()),
            now=utc_now(),
        )
        shown = shown_destination(changed)
    print_one(shown, as_json=as_json)


@click.command("enable")
@DESTINATION
@AS_JSON
def enable_destination(place: str, *, as_json: bool) -> None:
    """Let the jobs of a destination go out again, parked ones too."""
    team, name = split_target("destination", place)
    with closing(open_current(load_database())) as database, database.write() as session:
        one = defining.enable(session, Alerts(), team=team, name=name, editor=Editor(cli_actor()), now=utc_now())
        shown = shown_destination(one)
    print_one(shown, as_json=as_json)


@click.command("disable")
@DESTINATION
@click.option("--reason", help="Why, for whoever reads it later.")
@AS_JSON
def disable_destination(place: str, *, reason: str | None, as_json: bool) -> None:
    """Park the jobs of a destination until it is enabled. None is lost, and no attempt is used up."""
    team, name = split_target("destination", place)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database, database.write() as session:
        one = defining.disable(session, Alerts(), team=team, name=name, reason=reason, editor=editor, now=utc_now())
        shown = shown_destination(one)
    print_one(shown, as_json=as_json)


@click.command("remove")
@DESTINATION
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def remove_destination(place: str, *, yes: bool, as_json: bool) -> None:
    """Retire a destination that no route in force feeds. Jobs that are there are still handed over."""
    team, name = split_target("destination", place)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database:
        with database.read() as session:
            found = defining.get(session, team=team, name=name, editor=editor)
        if not yes and not click.confirm(f"Retire {place} ({found.kind}, version {found.version})?", err=True):
            sys.exit(1)
        with database.write() as session:
            gone = defining.remove(session, team=team, name=name, version=found.version, editor=editor, now=utc_now())
            shown = shown_destination(gone)
    print_one(shown, as_json=as_json)
