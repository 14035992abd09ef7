"""The trace that an event belongs to.

The release before stores events and repeats without one, and reads neither column.
"""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("events", "repeats")
    for table in ("events", "repeats"):
        op.add_column(table, sa.Column("traceparent", sa.Text(), nullable=True))
