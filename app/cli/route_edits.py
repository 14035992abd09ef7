"""`waylink routes add|change|enable|disable|remove`: the routes that waylink.toml does not define."""

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import click

from app.cli.bulk_acts import require_consent
from app.cli.explaining import pattern_text
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, ROUTE
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_database
from app.db.read.definitions import shown_route
from app.services.definitions import routes
from app.services.definitions.editor import Editor
from app.targets import split_target

Command = TypeVar("Command", bound=Callable[..., Any])

_VERSION = click.option(
    "--version", type=click.IntRange(min=1), help="The version this is about: refused where another is there by now."
)


def _facts(*, required: bool) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option, metavar, told in (
            ("--pattern", "JSON|FILE", "The events it takes: JSON, a file of it, or `-`."),
            ("--job", "NAME", "The name of the job, which is the team's Celery task."),
            ("--destination", "NAME", "Where the team takes it."),
        ):
            command = click.option(option, metavar=metavar, required=required, help=told)(command)
        return command

    return add


@click.command("add")
@ROUTE
@_facts(required=True)
@click.option("--disabled", is_flag=True, help="Make no jobs yet.")
@AS_JSON
def add_route(route: str, *, pattern: str, disabled: bool, as_json: bool, **facts: str) -> None:
    """Put a route of a team in force. `routes test` tries its pattern before."""
    team, name = split_target("route", route)
    fields = {"team": team, "name": name, **facts, "pattern": pattern_text(pattern), "enabled": not disabled}
    draft = routes.drafted(fields)
    with closing(open_current(load_database())) as database, database.write() as session:
        made = shown_route(routes.add(session, draft, editor=Editor(cli_actor()), now=utc_now()))
    print_one(made, as_json=as_json)


@click.command("change")
@ROUTE
@_facts(required=False)
@_VERSION
@AS_JSON
def change_route(route: str, *, pattern: str | None, version: int | None, as_json: bool, **facts: str | None) -> None:
    """Change a route, by a new version. What is not given stays as it is; its team and name always do."""
    fields = {field: value for field, value in facts.items() if value is not None}
    if pattern is not None:
        fields["pattern"] = pattern_text(pattern)
    if not fields:
        raise click.UsageError("nothing to change: give an option")
    _change(route, fields, version, as_json=as_json)


@click.command("enable")
@ROUTE
@AS_JSON
def enable_route(route: str, *, as_json: bool) -> None:
    """Let a route make jobs again."""
    _change(route, {"enabled": True}, None, as_json=as_json)


@click.command("disable")
@ROUTE
@AS_JSON
def disable_route(route: str, *, as_json: bool) -> None:
    """Keep a route from making jobs. Jobs that are there are still handed over."""
    _change(route, {"enabled": False}, None, as_json=as_json)


@click.command("remove")
@ROUTE
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def remove_route(route: str, *, yes: bool, as_json: bool) -> None:
    """End a route. Its versions and jobs stay on record, and a route of its name goes on counting."""
    team, name = split_target("route", route)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database:
        with database.read() as session:
            found = routes.get(session, team=team, name=name, editor=editor)
        place = f"{found.team}/{found.destination}"
        require_consent(f"End {route}, version {found.version}, which feeds {place}?", yes=yes)
        with database.write() as session:
            ended = routes.remove(session, team=team, name=name, version=found.version, editor=editor, now=utc_now())
            shown = shown_route(ended)
    print_one(shown, as_json=as_json)


def _change(route: str, fields: dict[str, Any], version: int | None, *, as_json: bool) -> None:
    team, name = split_target("route", route)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database:
        draft = routes.drafted_change(database, fields, team=team, name=name)
        with database.write() as session:
            changed = routes.change(session, draft, team=team, name=name, version=version, editor=editor, now=utc_now())
            shown = shown_route(changed)
    print_one(shown, as_json=as_json)
