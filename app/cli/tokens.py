"""`waylink token`: make, list and revoke tokens for the API."""

from contextlib import closing
from datetime import timedelta
from typing import Final

import click

from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, as_table, choice, read_duration
from app.cli.output import print_list, print_one
from app.clock import utc_now
from app.config.loading import load_database
from app.db import tokens as rows
from app.db.engine import Database
from app.domain.access import Scope
from app.ids import TOKEN, show
from app.services import tokens

MOST: Final = 10_000  # rows of a list


@click.group()
def token() -> None:
    """Make, list and revoke tokens for the REST API."""


@token.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=choice(Scope),
    help="What it may do; repeatable.",
)
@click.option("--team", help="For this team's own routes, destinations, events and jobs alone.")
@click.option("--expires", callback=read_duration, default="90d", show_default=True, help="How long it lives.")
@AS_JSON
def create_token(name: str, *, scopes: tuple[str, ...], team: str | None, expires: timedelta, as_json: bool) -> None:
    """Make a token. It is shown this once and kept nowhere: what is stored cannot be turned back into it.

    `viewer` reads everything but credentials, `operator` also changes things, `credentials` may read the live
    credentials of connections. A team's token reads what is the team's; with `--scope operator` it changes that, too.
    """
    wanted = {Scope(scope) for scope in scopes}
    with closing(_open()) as database, database.write() as session:
        made = tokens.issue(session, name, scopes=wanted, team=team, lifetime=expires, actor=cli_actor(), now=utc_now())
    print_one(made.shown, as_json=as_json)


@token.command("list")
@click.option("--revoked", is_flag=True, help="Those that were revoked, too.")
@as_table
def list_tokens(*, revoked: bool, as_json: bool) -> None:
    """List tokens, newest first. When one was last used is known to ten minutes."""
    with closing(_open()) as database, database.read() as session:
        found = [rows.shown(token, now=utc_now()) for token in rows.newest(session, limit=MOST, revoked=revoked)]
    columns = ("name", "team", "scopes", "expires_at", "last_used_at", "id", *(("revoked_at",) if revoked else ()))
    print_list(found, columns, as_json=as_json)


@token.command("revoke")
@click.argument("name")
@AS_JSON
def revoke_token(name: str, *, as_json: bool) -> None:
    """End a token at once, by its name or its tok_… id."""
    with closing(_open()) as database, database.write() as session:
        ended = tokens.revoke(session, name, actor=cli_actor(), now=utc_now())
    if as_json:
        print_one({"id": show(TOKEN, ended.id), "name": ended.name, "revoked": True}, as_json=True)
    else:
        click.echo(f"{show(TOKEN, ended.id)} {ended.name}: revoked")


def _open() -> Database:
    return open_current(load_database())
