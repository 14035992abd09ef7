"""`waylink users` and `waylink orgs`: the owners of connections, listed and managed."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from app.cli import people_actions as acts
from app.cli.lazy import Listing
from app.cli.options import AS_JSON, as_table, choice
from app.domain.people import OwnerKind
from app.domain.people_files import Format

Command = TypeVar("Command", bound=Callable[..., Any])

_WHO: Final = click.argument("who", metavar="ID")
_FORCE: Final = click.option("--force", is_flag=True, help="Close the links of their connections.")


def listing_options(command: Command) -> Command:
    for option in (
        as_table,
        click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most."),
        click.option("--before", metavar="ID", help="Go on after this row: older ones only."),
        click.option("--unconnected", is_flag=True, help="Those to whom no connection belongs."),
        click.option("--removed", is_flag=True, help="Those who were removed and have a history."),
        click.option("--external-id", help="With this id in your application."),
    ):
        command = option(command)
    return command


def user_options(command: Command) -> Command:
    for option in (
        click.option("--organization", metavar="EXTERNAL_ID", help="The organization they belong to."),
        click.option("--name", "display_name", help="Display name."),
        click.option("--email", help="E-mail address."),
    ):
        command = option(command)
    return command


def import_options(command: Command) -> Command:
    for option in (
        AS_JSON,
        click.option("--strict", is_flag=True, help="Write nothing at all when a line is refused."),
        click.option("--dry-run", is_flag=True, help="Write nothing, say what would happen."),
        click.option(
            "--format",
            "format_",
            type=choice(Format),
            help="Otherwise the file's ending says it.",
        ),
        click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True)),
    ):
        command = option(command)
    return command


@click.group(cls=Listing, invoke_without_command=True)
@listing_options
@click.option("--email", help="With this e-mail address, in any case.")
@click.option("--organization", metavar="EXTERNAL_ID", help="Of this organization.")
@click.pass_context
def users(context: click.Context, /, *, as_json: bool, **filters: Any) -> None:
    """List users, newest first; `waylink users show ID` tells all about one."""
    if context.invoked_subcommand is None:
        acts.list_them(OwnerKind.USER, as_json=as_json, **filters)


@users.command("show")
@_WHO
@AS_JSON
def show_user(who: str, *, as_json: bool) -> None:
    """One user with their links, of now and before. ID: usr_… or the external id."""
    acts.show_one(OwnerKind.USER, who, as_json=as_json)


@users.command("add")
@click.argument("external_id")
@user_options
@AS_JSON
def add_user(*, as_json: bool, **given: str | None) -> None:
    """Add a user. Connections that wait for them are linked at once."""
    acts.add_one(OwnerKind.USER, given, as_json=as_json)


@users.command("change")
@_WHO
@click.option("--external-id", help="Their new id in your application.")
@user_options
@click.option("--clear", multiple=True, type=choice(["email", "name", "organization"]), help="Empty this field.")
@AS_JSON
def change_user(who: str, *, clear: tuple[str, ...], as_json: bool, **given: str | None) -> None:
    """Change a user. What is not given stays as it is. ID: usr_… or the external id."""
    cleared = ["display_name" if name == "name" else name for name in clear]
    acts.change_one(OwnerKind.USER, who, given, cleared, as_json=as_json)


@users.command("remove")
@_WHO
@_FORCE
@AS_JSON
def remove_user(who: str, *, force: bool, as_json: bool) -> None:
    """Remove a user. Past links stay, and nothing is deleted in Nango. ID: usr_… or the external id."""
    acts.remove_one(OwnerKind.USER, who, force=force, as_json=as_json)


@users.command("erase")
@_WHO
@click.option("--dry-run", is_flag=True, help="Only say what names them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even while their connections live in Nango.")
@AS_JSON
def erase_user(who: str, *, dry_run: bool, yes: bool, force: bool, as_json: bool) -> None:
    """Remove a person's data from all that is stored, after saying how much names them. ID: usr_… or the external id.

    Delete their connections first: while they live in Nango, the next event brings their tags back. What teams were
    handed, logs and backups are out of reach.
    """
    acts.erase_one(who, dry_run=dry_run, yes=yes, force=force, as_json=as_json)


@users.command("import")
@import_options
def import_users(file: str, **options: Any) -> None:
    r"""Add and change users from FILE (`-`: standard input), by external id.

    CSV with a header line, of external_id, email, display_name, organization (the organization's external id, which
    has to be there already); or a JSON object with these members per line. An empty cell or an absent member leaves
    the value as it is; \N or null clears it. Exit 1 when lines were refused, 2 when the file cannot be read.
    """
    acts.import_file(OwnerKind.USER, file, **options)


@click.group(cls=Listing, invoke_without_command=True)
@listing_options
@click.pass_context
def orgs(context: click.Context, /, *, as_json: bool, **filters: Any) -> None:
    """List organizations, newest first; `waylink orgs show ID` tells all about one."""
    if context.invoked_subcommand is None:
        acts.list_them(OwnerKind.ORGANIZATION, as_json=as_json, **filters)


@orgs.command("show")
@_WHO
@AS_JSON
def show_org(who: str, *, as_json: bool) -> None:
    """One organization with its links, of now and before. ID: org_… or the external id."""
    acts.show_one(OwnerKind.ORGANIZATION, who, as_json=as_json)


@orgs.command("add")
@click.argument("external_id")
@click.option("--name", help="Name.")
@AS_JSON
def add_org(*, as_json: bool, **given: str | None) -> None:
    """Add an organization. Connections that wait for it are linked at once."""
    acts.add_one(OwnerKind.ORGANIZATION, given, as_json=as_json)


@orgs.command("change")
@_WHO
@click.option("--external-id", help="Its new id in your application.")
@click.option("--name", help="Name.")
@click.option("--clear", multiple=True, type=choice(["name"]), help="Empty this field.")
@AS_JSON
def change_org(who: str, *, clear: tuple[str, ...], as_json: bool, **given: str | None) -> None:
    """Change an organization. What is not given stays as it is. ID: org_… or the external id."""
    acts.change_one(OwnerKind.ORGANIZATION, who, given, clear, as_json=as_json)


@orgs.command("remove")
@_WHO
@_FORCE
@AS_JSON
def remove_org(who: str, *, force: bool, as_json: bool) -> None:
    """Remove an organization. With --force its users belong to none. ID: org_… or the external id."""
    acts.remove_one(OwnerKind.ORGANIZATION, who, force=force, as_json=as_json)


@orgs.command("import")
@import_options
def import_orgs(file: str, **options: Any) -> None:
    r"""Add and change organizations from FILE (`-`: standard input), by external id.

    CSV with a header line, of external_id and name; or a JSON object with these members per line. An empty cell or an
    absent member leaves the value as it is; \N or null clears it. Exit 1 when lines were refused, 2 when the file
    cannot be read.
    """
    acts.import_file(OwnerKind.ORGANIZATION, file, **options)
