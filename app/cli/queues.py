"""`waylink queues`: jobs and hints that wait, by destination and internal queue."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE, Broker
from app.cli.opening import open_current
from app.cli.options import as_table
from app.cli.output import print_list, print_rows
from app.clock import utc_now
from app.config.loading import load_brokers, load_database
from app.errors import BrokerUnavailable
from app.services.delivery import queues as service


@click.command()
@click.option("--team", help="Of this team.")
@as_table
def queues(*, team: str | None, as_json: bool) -> None:
    """Show the jobs that wait for each destination, and the internal queues. Counted to 10,000 (`capped`)."""
    brokers = load_brokers() if team is None and not as_json else None
    with closing(open_current(brokers or load_database())) as database, database.read() as session:
        rows = service.queues(session, now=utc_now(), team=team)
    if as_json:
        print_list(rows, (), as_json=True)
        return
    columns = (
        *("team", "destination", "kind", "available", "running", "retryable", "parked"),
        *("discarded_by_team", "discarded_by_us", "oldest_due_at", "disabled", "failing_since", "capped"),
    )
    print_list(rows, columns, as_json=False)
    if brokers is not None:
        print_rows(list(_internal(brokers.broker)), ("queue", "messages"), as_json=False)


def _internal(url: str) -> Iterator[dict[str, Any]]:
    """The lengths of the internal queues: hints that no worker has taken; their rows are in the database."""
    with closing(Broker.at("internal", url)) as broker:
        for queue in (EVENTS_QUEUE, IO_QUEUE):
            try:
                yield {"queue": queue, "messages": broker.queue_length(queue)}
            except BrokerUnavailable as away:
                click.echo(f"{queue}: {away}", err=True)
                return


@click.command("summary")
@click.option("--team", help="Of this team.")
@as_table
def summary(*, team: str | None, as_json: bool) -> None:
    """Count unfinished and discarded jobs, by destination, state and fault. Counted to 10,000."""
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = service.summary(session, team=team)
    columns = ("team", "destination", "state", "blocked_by", "fault", "count", "capped", "oldest_at")
    print_list(rows, columns, as_json=as_json)
