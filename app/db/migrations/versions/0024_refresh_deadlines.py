"""Refreshes know their deadline, by which they are claimed, when Nango was asked, and the grant's clock."""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_MOMENTS = (
    "deadline_at", "urgent_at", "asked_at", "answered_at", "previous_grant_expires_at", "grant_expires_at"
)  # fmt: skip


def upgrade() -> None:
    locks.take("refreshes")
    for name in _MOMENTS:
        op.add_column("refreshes", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("refreshes", sa.Column("keeps", sa.Text(), nullable=True))
    # An index of no row at first: plans of the release before have no deadline.
    where = sa.text("finished_at IS NULL AND urgent_at IS NOT NULL")
    op.create_index("ix_refreshes_urgent", "refreshes", ["urgent_at"], postgresql_where=where, sqlite_where=where)
