"""`waylink teams`: portals, the links that open them, and their sessions."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import click

from app.cli.opening import cli_actor, open_current, open_database
from app.cli.options import AS_JSON, as_table, choice, read_duration
from app.cli.output import print_list, print_one
from app.cli.web_address import console_origin
from app.clock import utc_now
from app.config.loading import load_console_place, load_database
from app.db import team_portals as rows
from app.ids import SESSION, TEAM_LINK, parse
from app.services.definitions import teams
from app.services.definitions.editor import Editor
from app.services.operators import team_portals
from app.services.operators.team_portals import MAX_USES, NewLink

MOST: Final = 10_000  # rows of a list
TEAM: Final = click.argument("team")


@click.command("link")
@TEAM
@click.option(
    "--expires-in",
    "--expires",
    "life",
    callback=read_duration,
    default="1h",
    show_default=True,
    help="How long the link works, 7d at most.",
)
@click.option(
    "--uses", type=click.IntRange(1, MAX_USES), default=1, show_default=True, help="How many sessions it opens."
)
@click.option(
    "--embed", metavar="ORIGIN", help="The origin of the pages that may embed it, one that the portal allows."
)
@click.option("--note", help="Whom it is for.")
@AS_JSON
def make_link(team: str, *, life: timedelta, uses: int, embed: str | None, note: str | None, as_json: bool) -> None:
    """Print a link that opens a team's portal: the console for that team, without an account.

    It is shown this once. A session that it opens ends after 12 hours, or when the link is revoked.
    """
    origin = console_origin(load_console_place())
    with closing(open_database()) as database, database.write() as session:
        made = team_portals.issue(session, team, NewLink(life, uses, embed, note), actor=cli_actor(), now=utc_now())
        shown = rows.shown_link(made.row, 0)
    url = origin + made.path
    if as_json:
        print_one(shown | {"link": url}, as_json=True)
    else:
        click.echo(f"{shown['id']} opens the portal of {team} until {shown['expires_at']}\n{url}")


@click.command("links")
@TEAM
@as_table
def list_links(team: str, *, as_json: bool) -> None:
    """List the links that open a team's portal, newest first, without their secrets."""
    with closing(open_current(load_database())) as database, database.read() as session:
        teams.get(session, team, Editor(cli_actor()))
        found = [rows.shown_link(row, number) for row, number in rows.links(session, team=team, limit=MOST)]
    columns = ("id", "note", "made_by", "uses_left", "sessions", "embed", "expires_at")
    print_list(found, columns, as_json=as_json)


@click.command("revoke-link")
@TEAM
@click.argument("link_id", metavar="ID")
@AS_JSON
def revoke_link(team: str, link_id: str, *, as_json: bool) -> None:
    """End a link to a team's portal, and the sessions that it opened, at once."""
    wanted = parse(TEAM_LINK, link_id)
    with closing(open_current(load_database())) as database, database.write() as session:
        ended = team_portals.revoke(session, team, wanted, actor=cli_actor(), now=utc_now())
    if as_json:
        print_one({"id": link_id, "sessions": ended}, as_json=True)
    else:
        click.echo(f"{link_id}: revoked, {ended} session{'' if ended == 1 else 's'} ended")


@click.command("sessions")
@TEAM
@as_table
def list_sessions(team: str, *, as_json: bool) -> None:
    """List the browsers in which a team's portal is open, newest first."""
    with closing(open_current(load_database())) as database, database.read() as session:
        teams.get(session, team, Editor(cli_actor()))
        found = [rows.shown_session(row) for row in rows.sessions(session, team=team, limit=MOST)]
    print_list(found, ("id", "link", "address", "seen_at", "expires_at", "browser"), as_json=as_json)


@click.command("end-session")
@TEAM
@click.argument("session_id", metavar="ID")
@AS_JSON
def end_session(team: str, session_id: str, *, as_json: bool) -> None:
    """End one session of a team's portal at once."""
    wanted = parse(SESSION, session_id)
    with closing(open_current(load_database())) as database, database.write() as session:
        team_portals.end_session(session, team, wanted, actor=cli_actor(), now=utc_now())
    if as_json:
        print_one({"id": session_id, "ended": True}, as_json=True)
    else:
        click.echo(f"{session_id}: ended")


@click.command("portal")
@TEAM
@click.option("--title", help="The name shown in place of Waylink's.")
@click.option("--color", metavar="#RRGGBB", help="The colour of the bar.")
@click.option(
    "--origin", "origins", multiple=True, help="Whose pages may embed it, in place of those before; repeatable."
)
@click.option(
    "--clear", multiple=True, type=choice(["color", "origins", "title"]), help="Set it to nothing; repeatable."
)
@AS_JSON
def portal(
    team: str,
    *,
    title: str | None,
    color: str | None,
    origins: tuple[str, ...],
    clear: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a team's portal, or change its name, its colour and the origins whose pages may embed it."""
    options: dict[str, Any] = {"title": title, "color": color, "origins": origins}
    given = {name: value for name, value in options.items() if value}
    if both := given.keys() & set(clear):
        raise click.UsageError(f"{', '.join(sorted(both))}: either a new value or --clear")
    given |= {name: () if name == "origins" else None for name in clear}
    with closing(open_current(load_database())) as database:
        if given:
            with database.write() as session:
                look = replace(team_portals.look(session, team), **given)
                team_portals.change_look(session, team, look, actor=cli_actor(), now=utc_now())
        else:
            with database.read() as session:
                look = team_portals.look(session, team)
    shown = {"team": team, "title": look.title, "color": look.color, "origins": list(look.origins)}
    print_one(shown, as_json=as_json)
