"""`waylink operator`: add, list and change operators, and end their sessions."""

from contextlib import closing
from datetime import timedelta
from typing import Final

import click
from sqlalchemy.orm import Session

from app.cli.opening import cli_actor, open_database
from app.cli.options import AS_JSON, as_table, choice, read_duration
from app.cli.output import print_list, print_one
from app.cli.web_address import console_origin
from app.clock import utc_now
from app.config.loading import load_console_place
from app.db import operator_sessions
from app.db import operators as rows
from app.db.models import Operator
from app.domain.access import Rights, Role
from app.services.operators import accounts, links

NAME: Final = click.argument("name")
ROLE: Final = click.option("--role", type=choice(Role), required=True, help="What the operator may do.")
TEAM: Final = click.option("--team", help="The team, for the role `team`.")
CREDENTIALS: Final = click.option(
    "--credentials", is_flag=True, help="The operator may read live credentials of connections."
)
YES: Final = click.option("--yes", is_flag=True, help="Also where it is the last enabled operator of that role.")
EXPIRES: Final = click.option(
    "--expires", callback=read_duration, default="24h", show_default=True, help="How long the link lives, 7d at most."
)
COLUMNS: Final = ("name", "role", "team", "credentials", "signs_in_by", "signed_in_at", "disabled_at", "id")
SESSION_COLUMNS: Final = ("id", "method", "address", "seen_at", "expires_at", "browser")


@click.group()
def operator() -> None:
    """Add, list and change operators, who sign in at the console."""


@operator.command("add")
@NAME
@ROLE
@TEAM
@CREDENTIALS
@EXPIRES
@AS_JSON
def add_operator(
    name: str, *, role: str, team: str | None, credentials: bool, expires: timedelta, as_json: bool
) -> None:
    """Add an operator, and print the link with which they set a password. It works once.

    `viewer` reads everything but credentials, `operator` also changes things, `team` reads and changes what is one
    team's.
    """
    rights, origin = Rights(Role(role), team, credentials), console_origin(load_console_place())
    with closing(open_database()) as database, database.write() as session:
        row = accounts.add(session, name, rights, actor=cli_actor(), now=utc_now())
        path = _link(session, row, expires)
    _print_link(row, origin + path, as_json=as_json)


@operator.command("list")
@as_table
def list_operators(*, as_json: bool) -> None:
    """List operators, by name."""
    with closing(open_database()) as database, database.read() as session:
        found = [rows.shown(row) for row in rows.all_operators(session)]
    print_list(found, COLUMNS, as_json=as_json)


@operator.command("role")
@NAME
@ROLE
@TEAM
@CREDENTIALS
@YES
@AS_JSON
def change_role(name: str, *, role: str, team: str | None, credentials: bool, yes: bool, as_json: bool) -> None:
    """Give an operator other rights, which ends all of their sessions."""
    rights = Rights(Role(role), team, credentials)
    with closing(open_database()) as database, database.write() as session:
        row = accounts.find(session, name)
        accounts.change_rights(session, row, rights, actor=cli_actor(), now=utc_now(), yes=yes)
        _print(row, f"the role {rights.role}", as_json=as_json)


@operator.command("disable")
@NAME
@YES
@AS_JSON
def disable_operator(name: str, *, yes: bool, as_json: bool) -> None:
    """Keep an operator out, at once: sessions and links end."""
    with closing(open_database()) as database, database.write() as session:
        row = accounts.find(session, name)
        accounts.disable(session, row, actor=cli_actor(), now=utc_now(), yes=yes)
        _print(row, "disabled", as_json=as_json)


@operator.command("enable")
@NAME
@AS_JSON
def enable_operator(name: str, *, as_json: bool) -> None:
    """Let a disabled operator sign in again."""
    with closing(open_database()) as database, database.write() as session:
        row = accounts.find(session, name)
        accounts.enable(session, row, actor=cli_actor(), now=utc_now())
        _print(row, "enabled", as_json=as_json)


@operator.command("link")
@NAME
@EXPIRES
@AS_JSON
def link_operator(name: str, *, expires: timedelta, as_json: bool) -> None:
    """Print a new link with which an operator sets a password. It works once, and ends the former one."""
    origin = console_origin(load_console_place())
    with closing(open_database()) as database, database.write() as session:
        row = accounts.find(session, name)
        path = _link(session, row, expires)
    _print_link(row, origin + path, as_json=as_json)


@operator.command("remove")
@NAME
@YES
@AS_JSON
def remove_operator(name: str, *, yes: bool, as_json: bool) -> None:
    """Remove an operator, at once. The audit keeps the name."""
    with closing(open_database()) as database, database.write() as session:
        row = accounts.find(session, name)
        accounts.remove(session, row, actor=cli_actor(), now=utc_now(), yes=yes)
        _print(row, "removed", as_json=as_json)


@operator.command("sessions")
@NAME
@as_table
def list_sessions(name: str, *, as_json: bool) -> None:
    """List the browsers in which an operator is signed in, newest first."""
    with closing(open_database()) as database, database.read() as session:
        found = operator_sessions.of_operator(session, accounts.find(session, name).id)
    print_list([operator_sessions.shown(row) for row in found], SESSION_COLUMNS, as_json=as_json)


@operator.command("sign-out")
@NAME
@AS_JSON
def sign_out(name: str, *, as_json: bool) -> None:
    """Sign an operator out of all browsers."""
    with closing(open_database()) as database, database.write() as session:
        row = accounts.find(session, name)
        ended = accounts.sign_out(session, row, actor=cli_actor(), now=utc_now())
        _print(row, f"{ended} session{'' if ended == 1 else 's'} ended", as_json=as_json)


def _link(session: Session, row: Operator, life: timedelta) -> str:
    """The path of a new link."""
    return f"{links.PATH}/{links.issue(session, row, life=life, actor=cli_actor(), now=utc_now())}"


def _print_link(row: Operator, url: str, *, as_json: bool) -> None:
    if as_json:
        print_one(rows.shown(row) | {"link": url}, as_json=True)
    else:
        click.echo(f"{row.name} sets a password, once, at\n{url}")


def _print(row: Operator, done: str, *, as_json: bool) -> None:
    if as_json:
        print_one(rows.shown(row), as_json=True)
    else:
        click.echo(f"{row.name}: {done}")
