"""Acknowledgements of dead letters and failed events, and indexes by which those that are new are found."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_events_failed_at", "events", ["processed_at"], "state = 'failed'"),
    ("ix_jobs_discarded_at", "jobs", ["team", "destination", "finished_at"], "state = 'discarded'"),
    ("ix_refreshes_late", "refreshes", ["deadline_at"], "finished_at IS NULL AND next_at > deadline_at"),
)


def upgrade() -> None:
    op.create_table(
        "acknowledgements",
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('jobs', 'events')", name=op.f("ck_acknowledgements_kind")),
    )
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, columns, if_not_exists=True, postgresql_where=where, sqlite_where=where)
