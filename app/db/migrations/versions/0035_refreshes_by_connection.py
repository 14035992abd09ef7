"""Refreshes that are over have an index by connection without open plans, which claims rewrite."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("refreshes")  # at once: to wait for more later, with the lock of the new index, could be a deadlock
    where = sa.text("finished_at IS NOT NULL")
    op.create_index(
        "ix_refreshes_over",
        "refreshes",
        ["connection_ref", "id"],
        if_not_exists=True,
        postgresql_where=where,
        sqlite_where=where,
    )
    op.drop_index("ix_refreshes_connection_ref", table_name="refreshes", if_exists=True)
