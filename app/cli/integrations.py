"""`waylink integrations`: the integrations of an environment at Nango."""

import click

from app.cli.connection_operations import operations_in
from app.cli.options import as_table
from app.cli.output import print_list
from app.services.connections import integrations as service

COLUMNS = ("integration", "provider", "display_name", "forward_webhooks", "created_at", "updated_at")


@click.command()
@click.option("--environment", default="default", show_default=True, help="Of this environment.")
@as_table
def integrations(*, environment: str, as_json: bool) -> None:
    """List the integrations that an environment has at Nango."""
    with operations_in(environment) as (operations, _):
        rows = service.integrations(operations, environment)
    print_list(rows, COLUMNS, as_json=as_json)
