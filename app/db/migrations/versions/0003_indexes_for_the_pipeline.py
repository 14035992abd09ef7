"""Indexes that the pipeline reads, and none that it only writes: each costs every event."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # As in 0002: where the tables are large, make these beforehand by hand, with CONCURRENTLY.
    _create("ix_events_suspects", "events", ["next_at"], "state = 'received' AND attempts > 0")
    unfinished = "state IN ('available', 'running', 'retryable')"
    _create("ix_jobs_suspects", "jobs", ["next_at"], f"{unfinished} AND crashes > 0")
    _create("ix_events_of_connection", "events", ["connection_ref", "id"], "connection_ref IS NOT NULL")
    op.drop_index("ix_events_connection", "events")
    op.drop_index("ix_events_received_at", "events")


def _create(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where, if_not_exists=True)
