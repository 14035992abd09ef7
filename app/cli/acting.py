"""What commands that act on a connection share: which one is meant, and the desk to act from."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import click

from app.cli.actors import cli_actor
from app.clock import utc_now
from app.configuration import load
from app.db import connection_listing
from app.db.engine import connect
from app.db.schema import require_current
from app.errors import NotFound
from app.ids import CONNECTION, parse
from app.services.operations import finding
from app.services.operations.desk import Desk
from app.wiring import open_clients, policy_of

Command = TypeVar("Command", bound=Callable[..., Any])

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True, slots=True)
class Target:
    """The connection that a command names, as `con_…` or by Nango's id."""

    connection: str
    integration: str | None
    environment: str | None

    def find(self, desk: Desk) -> UUID:
        """Our id of it.

        Raises NotFound, also when Nango's id means several, Conflict where only Nango has it, and NangoError where it
        is not known and Nango could not be asked.
        """
        if self.connection.startswith(f"{CONNECTION}_"):
            return parse(CONNECTION, self.connection)
        named = {"integration": self.integration, "environment": self.environment}
        try:
            with desk.database.read() as session:
                return connection_listing.find_connection(session, self.connection, **named)
        except NotFound as unknown:
            if unknown.kind == "connection":  # and not that there are several
                finding.bring_in(desk, self.connection, **named, actor=cli_actor())
            raise


def on_connection(command: Command) -> Command:
    """The argument and options that name a connection."""
    for option in (
        click.option("--environment", help="Of this environment, where Nango's id is given."),
        click.option("--integration", help="Of this integration, where Nango's id is given."),
        click.argument("connection", metavar="ID"),
    ):
        command = option(command)
    return command


@contextmanager
def desk_for_acting() -> Iterator[tuple[Desk, str]]:
    """What operations need, and who acts."""
    settings = load()
    with closing(connect(settings.database)) as database, open_clients(settings) as clients:
        require_current(database)
        yield Desk(database, policy_of(settings), clients, utc_now), cli_actor()
