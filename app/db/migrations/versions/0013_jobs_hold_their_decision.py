"""Jobs hold the decision that made them, and the first attempt where a broker accepted it.

The release before goes on writing rows of `decisions` and `attempts`, and leaves the new columns empty.
"""

import sqlalchemy as sa
from alembic import op

from app.db.migrations import locks

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    locks.take("jobs")
    op.add_column("jobs", sa.Column("matched_version", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("conditions", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("latency_ms", sa.Double(), nullable=True))
