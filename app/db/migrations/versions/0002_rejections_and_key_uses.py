"""Tables for what web refuses and for which signing keys are used; indexes to find what failed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "rejections",
        sa.Column("minute", TIME, nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("peak", sa.BigInteger(), nullable=False),
        sa.Column("window_at", TIME, nullable=False),
        sa.Column("window_count", sa.BigInteger(), nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("last_peer", sa.Text(), nullable=False),
        sa.Column("last_detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "environment", "cause", name=op.f("pk_rejections")),
    )
    op.create_table(
        "signing_key_uses",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", TIME, nullable=False),
        sa.Column("live_at", TIME, nullable=False),
        sa.Column("last_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("environment", "key", name=op.f("pk_signing_key_uses")),
    )
    # PostgreSQL lets nobody write to the table while it builds an index here. Where a table is large, make the index
    # beforehand by hand, with CONCURRENTLY (docs/operations.md, Upgrade): then there is nothing left to do.
    for name, table, state in (
        ("ix_events_failed", "events", "failed"),
        ("ix_jobs_discarded", "jobs", "discarded"),
    ):
        where = sa.text(f"state = '{state}'")
        op.create_index(name, table, ["id"], postgresql_where=where, sqlite_where=where, if_not_exists=True)
