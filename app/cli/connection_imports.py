"""`waylink connections import`."""

from typing import Any

import click

from app.cli.connection_operations import operations_in
from app.cli.json_input import json_object_from
from app.cli.options import AS_JSON, read_pairs
from app.cli.output import print_one
from app.services.connections import importing
from app.services.connections.importing import ConnectionDraft
from app.services.connections.sessions import SessionOwner


@click.command("import")
@click.argument("integration")
@click.argument("credentials", metavar="FILE|-")
@click.option("--environment", default="default", show_default=True, help="In this environment.")
@click.option("--connection-id", help="Nango's id; without it, Nango makes one up. An existing one is replaced.")
@click.option("--tag", "tagged", multiple=True, metavar="K=V", help="A tag of the connection; may be repeated.")
@click.option("--user", metavar="ID", help="Whom it will belong to, by the application's own id.")
@click.option("--user-email", help="The user's e-mail.")
@click.option("--organization", metavar="ID", help="The organization, by the application's own id.")
@AS_JSON
def import_connection(
    *,
    integration: str,
    credentials: str,
    environment: str,
    connection_id: str | None,
    tagged: tuple[str, ...],
    user: str | None,
    user_email: str | None,
    organization: str | None,
    as_json: bool,
) -> None:
    """Make a connection at Nango from credentials: a file of JSON, or `-` for standard input.

    They have the form of Nango's import, such as {"type": "API_KEY", "apiKey": "…"}, and are not stored here.
    """
    wanted = read_pairs(tagged)
    owner = SessionOwner(user_id=user, user_email=user_email, organization_id=organization)
    with operations_in(environment) as (operations, actor):
        draft = ConnectionDraft(
            integration=integration,
            credentials=json_object_from(credentials, "credentials", inline=False),
            connection_id=connection_id,
            tags=wanted,
            owner=owner,
        )
        made = importing.import_connection(operations, environment, draft, actor=actor)
    shown: dict[str, Any] = {
        "environment": environment,
        "integration": made.integration,
        "connection_id": made.connection_id,
        "provider": made.provider,
        "tags": dict(made.tags),
    }
    print_one(shown, as_json=as_json)
